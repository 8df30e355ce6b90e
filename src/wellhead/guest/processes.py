"""The table of what the guest has started: who lives, who ended a moment ago, and what became of each.

A process leaves the list when its leader exits, whoever else holds its pipes. The guest reaps every child it
has, its own and the orphans that come to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from wellhead.guest.output import Output
from wellhead.guest.pty import Pty
from wellhead.guest.refusal import Refusal, Word, refused
from wellhead.guest.source import Source
from wellhead.guest.spawn import Program, Starter, Streams
from wellhead.guest.terms import GuestTerms
from wellhead.guest.tree import Tree, kill_group
from wellhead.model.text import shown

PROCESSES_MAX = 512
ENDED_SECONDS = 60.0
ENDED_BYTES_MAX = 8 * 1024 * 1024  # of output that ended ones keep, all together; one more than that at most


class ProcessKind(enum.StrEnum):
    EXEC = "exec"
    BACKGROUND = "background"
    TERMINAL = "terminal"


@dataclass(frozen=True, slots=True)
class Label:
    """What a process is listed as."""

    kind: ProcessKind
    tag: str | None


@dataclass(slots=True, eq=False)
class Process:
    """One program that the guest started, and its output."""

    pid: int
    label: Label
    argv: list[str]
    user: str
    tree: Tree
    output: Output
    started_at: float = field(default_factory=time.time)  # Unix time
    sources: list[Source] = field(default_factory=list)
    status: int | None = None  # as waitpid gives it, once it is dead
    timed_out: bool = False
    pty: Pty | None = None  # of one at a terminal
    _clock: asyncio.TimerHandle | None = None

    @property
    def tag(self) -> str | None:
        return self.label.tag

    @property
    def alive(self) -> bool:
        return self.status is None

    def read_from(self, fd: int, channel: int = 0, *, hang_up: bool = False) -> None:
        """What comes from this descriptor, now the process's own, is its output."""
        self.sources.append(Source(fd, channel, self.output, self._source_over, hang_up=hang_up))
        self.output.on_room = self._resume

    def kill(self) -> None:
        """End all that came of it, unless it is dead: what lives on then was left behind on purpose."""
        if self.alive:
            self.tree.kill()

    def limit(self, seconds: float) -> None:
        """Kill it when it lives so long."""
        self._clock = asyncio.get_running_loop().call_later(seconds, self._time_out)

    def died(self, status: int) -> None:
        self.status = status
        if self._clock is not None:
            self._clock.cancel()
        for source in self.sources:
            source.settle()
        self._source_over()

    def record(self) -> dict[str, object]:
        return {
            "pid": self.pid,
            "tag": self.tag,
            "argv": self.argv,
            "kind": self.label.kind.value,
            "user": self.user,
            "started_at": self.started_at,
        }

    def exit(self) -> dict[str, object]:
        """How it ended, as the host is told."""
        assert self.status is not None
        code = os.waitstatus_to_exitcode(self.status)
        killed = code < 0
        return {
            "code": None if killed else code,
            "signal": -code if killed else None,
            "timed_out": self.timed_out,
        }

    def _time_out(self) -> None:
        if self.alive:
            self.timed_out = True
            self.tree.kill()

    def _resume(self) -> None:
        for source in self.sources:
            source.resume()

    def _source_over(self) -> None:
        if not self.alive and not self.output.over and all(source.over for source in self.sources):
            if self.pty is not None:
                self.pty.close()
            self.output.end()


class Processes:
    """All of them, and the guest's other children."""

    def __init__(self, terms: GuestTerms, starter: Starter, most: int = PROCESSES_MAX) -> None:
        self._cgroups = terms.cgroup
        self._starter = starter
        self._most = most
        self._living: dict[int, Process] = {}
        self._ended: dict[int, Process] = {}  # oldest first
        self._children: dict[int, Callable[[int], None]] = {}  # what is called with the status of whom
        self._emptying: list[Tree] = []  # others live in them, and their leaders are dead

    def __len__(self) -> int:
        return len(self._living)

    def records(self) -> list[dict[str, object]]:
        return [process.record() for process in self._living.values()]

    def count(self, kind: ProcessKind) -> int:
        return sum(process.label.kind is kind for process in self._living.values())

    def check_room(self, label: Label) -> None:
        """
        Raises:
            Refusal: too many live (busy), or the tag is another's who lives (exists).
        """
        if len(self._living) >= self._most:
            raise Refusal(Word.BUSY, f"{self._most} processes that were started here live, and no more may")
        if label.tag is not None and any(each.tag == label.tag for each in self._living.values()):
            raise Refusal(Word.EXISTS, f"the tag {shown(label.tag)} is that of a process that lives")

    async def start(self, program: Program, label: Label, streams: Streams, output: Output) -> Process:
        """A process that runs; what it writes is still to be read, see ``Process.read_from``.

        Raises:
            Refusal: it cannot be started.
        """
        self.check_room(label)
        try:
            tree = Tree(self._cgroups)
        except OSError as error:
            raise refused(error, "a cgroup for the process") from error
        dead: list[int] = []  # its status, if it ended before it is in the table
        begun = False

        def watch(pid: int) -> None:
            nonlocal begun
            begun = True
            self.watch(pid, dead.append)

        try:
            pid = await self._starter.start(program, tree, streams, watch)
        except BaseException:
            if begun and not dead:
                tree.kill()
            self._release(tree)
            raise
        process = Process(pid, label, list(program.argv), program.user.name, tree, output)
        self._living[pid] = process
        if dead:  # once whoever asked reads its output
            asyncio.get_running_loop().call_soon(self.ended, process, dead[0])
        else:
            self.watch(pid, partial(self.ended, process))
        return process

    def watch(self, pid: int, on_death: Callable[[int], None]) -> None:
        """Have this called with the status of a child, when it is dead."""
        self._children[pid] = on_death

    def reap(self) -> None:
        """Take leave of every child that is dead."""
        with contextlib.suppress(ChildProcessError):
            while (dead := os.waitpid(-1, os.WNOHANG))[0]:
                on_death = self._children.pop(dead[0], None)
                if on_death is not None:
                    on_death(dead[1])
        if self._emptying:
            self._emptying = [tree for tree in self._emptying if not tree.release()]

    def ended(self, process: Process, status: int) -> None:
        """Its leader is dead; ``status`` as waitpid gives it."""
        del self._living[process.pid]
        self._release(process.tree)
        process.died(status)
        if process.label.kind is ProcessKind.EXEC:
            return
        self._ended.pop(process.pid, None)
        self._ended[process.pid] = process
        asyncio.get_running_loop().call_later(ENDED_SECONDS, self._forget, process)
        while (
            len(self._ended) > 1 and sum(each.output.kept for each in self._ended.values()) > ENDED_BYTES_MAX
        ):
            del self._ended[next(iter(self._ended))]

    def living(self, selector: str) -> Process:
        """
        Raises:
            Refusal: nobody who lives has this pid or tag (not_found).
        """
        found = _find(selector, self._living.values())
        if found is None:
            raise Refusal(Word.NOT_FOUND, f"no process here is {shown(selector)}")
        return found

    def known(self, selector: str) -> Process:
        """One who lives, or who ended a moment ago and left its output.

        Raises:
            Refusal: nobody has this pid or tag (not_found).
        """
        found = _find(selector, self._living.values()) or _find(selector, reversed(self._ended.values()))
        if found is None:
            raise Refusal(Word.NOT_FOUND, f"no process here is or was {shown(selector)}")
        return found

    def signal(self, selector: str, name: str) -> None:
        """KILL goes to all that came of the process, every other signal to its leader's group.

        Raises:
            Refusal: no such process (not_found) or signal (invalid).
        """
        word = name.upper().removeprefix("SIG")
        number = signal.Signals.__members__.get(f"SIG{word}")
        if number is None:
            raise Refusal(Word.INVALID, f"there is no signal {shown(name)}")
        process = self.living(selector)
        if number is signal.SIGKILL:
            process.kill()
            return
        with contextlib.suppress(ProcessLookupError):  # dead, and the guest has not heard of it yet
            os.killpg(process.pid, number)

    def kill_groups(self) -> None:
        for pid in self._living:
            kill_group(pid)

    def _forget(self, process: Process) -> None:
        if self._ended.get(process.pid) is process:
            del self._ended[process.pid]

    def _release(self, tree: Tree) -> None:
        tree.leader = 0  # its pid may be another's soon
        if not tree.release():
            self._emptying.append(tree)


def _find(selector: str, processes: Iterable[Process]) -> Process | None:
    for process in processes:
        if selector == process.tag or selector == str(process.pid):
            return process
    return None
