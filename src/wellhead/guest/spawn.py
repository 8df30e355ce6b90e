"""Starting a program: what a forked child does before it becomes another program, and how a failure is told.

The child has its own session, the descriptors it is given and no others, signals as they are by default, and
the rights of its user. What goes wrong in it comes back through a pipe that closes by itself when the program
begins.
"""

from __future__ import annotations

import fcntl
import os
import resource
import termios
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from wellhead.guest.child import become, fork, go_before_the_guest
from wellhead.guest.refusal import Refusal, refusal, refused
from wellhead.guest.terms import PATH, GuestTerms
from wellhead.guest.tree import Tree
from wellhead.guest.users import User
from wellhead.guest.waiting import readable
from wellhead.model.text import shown

_FDS_END = 1 << 20  # no descriptor is as high


@dataclass(frozen=True, slots=True)
class Program:
    """What is to run. ``cwd``: None for the user's home, or ``/`` where that is missing."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str | None
    user: User


def environment(user: User, terms: GuestTerms, given: Mapping[str, str]) -> dict[str, str]:
    """What a program finds in its environment; what is given for it alone goes over what is for all."""
    own = {"PATH": PATH, "HOME": user.home, "USER": user.name, "LOGNAME": user.name, "SHELL": user.shell}
    return {**own, **terms.env, **given}


def place(path: str, user: User) -> str:
    """A path as the user means it: absolute, in the home behind ``~``, or relative to the home."""
    if path == "~" or path.startswith("~/"):
        path = path[2:]
    return os.path.join(user.home, path)


@dataclass(frozen=True, slots=True)
class Streams:
    """A program's descriptors 0, 1 and 2; ``terminal``: they are one, its controlling terminal to be."""

    input: int
    output: int
    errors: int
    terminal: bool = False


class Starter:
    """Starts programs. ``descriptors``: how many each may open, soft and hard."""

    def __init__(self, terms: GuestTerms, descriptors: tuple[int, int]) -> None:
        self._terms = terms
        self._descriptors = descriptors

    async def start(
        self, program: Program, tree: Tree, streams: Streams, watch: Callable[[int], None]
    ) -> int:
        """The pid of the program, which has begun, in its tree.

        ``watch`` is told the pid before anything can become of the child.

        Raises:
            Refusal: no such program or directory; not for this user; no more processes.
        """
        told, tell = os.pipe()
        entrance = None
        try:
            entrance = tree.entrance()
            tree.leader = fork(partial(self._become, program, tree.env, entrance, streams, tell))
        except OSError as error:
            os.close(told)
            raise refused(error, "a new process") from error
        finally:
            os.close(tell)
            if entrance is not None:
                os.close(entrance)
        watch(tree.leader)
        try:
            await readable(told)
            failure = os.read(told, 64).decode()
        finally:
            os.close(told)
        if failure:
            raise _failure(failure, program)
        return tree.leader

    def _become(
        self, program: Program, mark: Mapping[str, str], entrance: int | None, streams: Streams, tell: int
    ) -> NoReturn:
        """In the child, and never back."""
        step = "cgroup"
        try:
            if entrance is not None:
                os.write(entrance, b"0")
            step = "session"
            os.setsid()
            _take_streams(streams, tell)
            go_before_the_guest()
            resource.setrlimit(resource.RLIMIT_NOFILE, self._descriptors)
            step = "user"
            become(program.user, self._terms)
            step = "cwd"
            _enter(program)
            step = "program"
            os.execvpe(program.argv[0], list(program.argv), {**program.env, **mark})
        except OSError as error:
            os.write(tell, f"{step} {error.errno or 0}".encode())
        os._exit(127)


def _failure(told: str, program: Program) -> Refusal:
    step, _, number = told.partition(" ")
    what = {
        "cwd": f"working directory {shown(program.cwd or program.user.home)}",
        "program": f"program {shown(program.argv[0])}",
        "user": f"user {shown(program.user.name)}",
    }
    return refusal(int(number), os.strerror(int(number)), what.get(step, step))


def _take_streams(streams: Streams, kept: int) -> None:
    """Be left with 0, 1, 2 and ``kept``, which closes with the next program."""
    for number, fd in enumerate((streams.input, streams.output, streams.errors)):
        os.dup2(fd, number)
    os.closerange(3, kept)
    os.closerange(kept + 1, _FDS_END)
    if streams.terminal:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _enter(program: Program) -> None:
    if program.cwd is not None:
        os.chdir(program.cwd)
        return
    try:
        os.chdir(program.user.home)
    except OSError:
        os.chdir("/")
