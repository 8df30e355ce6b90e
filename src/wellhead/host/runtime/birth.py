"""How a sandbox's first process comes to be: forked from the zygote, step by step shut in.

The zygote forks a midwife, which joins the control groups, makes the namespaces and forks the first process
of the new pid namespace; then the midwife ends, so that the sandbox has no parent that could take it along.
Each tells the host over a socket of its own: ``{"pid": n}``, then ``{"ready": true}``, or ``{"error":
"..."}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from wellhead.guest.terms import GuestTerms
from wellhead.host.runtime import linux, root, seccomp

IDS = 65536  # users and groups of a sandbox
_LAST_WORDS = 4000  # characters of an error
_TITLE = "wellhead-guest"
_OOM_SCORE = 100  # of 1000: where the machine's memory ends, a sandbox goes before the host


@dataclass(frozen=True, slots=True)
class Birth:
    """What the zygote is told of a sandbox to be.

    ``groups``: ``cgroup.procs`` files to join. ``delegated``: the directory of the cgroup v2 that the guest
    may divide among what it starts; "" where there is none.
    """

    root: root.RootPlan
    groups: Sequence[str]
    delegated: str
    files_max: int
    no_new_privs: bool
    user: str
    home: str
    env: Mapping[str, str]

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def read(text: bytes) -> Birth:
    members = json.loads(text)
    return Birth(**{**members, "root": root.RootPlan(**members["root"])})


def midwife(
    birth: Birth,
    told: socket.socket,
    listening: socket.socket,
    serve: Callable[[socket.socket, GuestTerms], int],
) -> None:
    """Make the namespaces and the first process in them. Ends the process it is called in."""
    with _told(told):
        os.setsid()
        for path in birth.groups:
            with open(path, "w") as file:
                file.write("0")
        delegated = os.open(birth.delegated, os.O_RDONLY | os.O_DIRECTORY) if birth.delegated else None
        users = user_namespace(birth.root.first_id)
        linux.unshare(
            linux.CLONE_NEWNS
            | linux.CLONE_NEWPID
            | linux.CLONE_NEWIPC
            | linux.CLONE_NEWUTS
            | linux.CLONE_NEWNET
            | linux.CLONE_NEWCGROUP
        )
        gone, held = os.pipe()
        if (pid := os.fork()) == 0:
            os.close(held)
            os.read(gone, 1)  # until the midwife has told of it, and ended
            _first(birth, told, listening, serve, users, delegated)
        _tell(told, {"pid": pid})
    os._exit(0)


def user_namespace(first_id: int) -> int:
    """A descriptor of a new user namespace whose user 0 is the machine's ``first_id``, and so on.

    Raises:
        OSError: user namespaces are not allowed here.
    """
    made, make = os.pipe()
    done, finish = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.close(finish)
            linux.unshare(linux.CLONE_NEWUSER)
            os.write(make, b"1")
            os.read(done, 1)
        finally:
            os._exit(0)
    os.close(make)
    os.close(done)
    try:
        if not os.read(made, 1):
            raise OSError(1, "user namespaces are not allowed on this machine")
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{pid}/{name}", "w") as file:
                file.write(f"0 {first_id} {IDS}")
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(finish)
        os.close(made)
        os.waitpid(pid, 0)


def why_not_numbered(first_id: int, directories: Sequence[str]) -> str:
    """Why the users of a sandbox cannot have numbers of their own with these directories; "" where they can.

    Forks: only for a process without threads.
    """
    try:
        users = user_namespace(first_id)
        try:
            for directory in directories:
                os.close(linux.cloned(directory, users))
        finally:
            os.close(users)
    except OSError as error:
        return str(error)
    return ""


def _first(
    birth: Birth, told: socket.socket, listening: socket.socket,
    serve: Callable[[socket.socket, GuestTerms], int], users: int, delegated: int | None,
) -> None:  # fmt: skip
    """Pid 1 of the sandbox."""
    with _told(told):
        os.umask(0)
        os.setsid()
        socket.sethostname(birth.root.hostname)
        root.build(birth.root, users if birth.root.first_id else None)
        _bound(birth)
        kept = {told.fileno(), listening.fileno(), users} | ({delegated} if delegated is not None else set())
        linux.close_all_but(kept)
        linux.show_as(f"{_TITLE} {birth.root.hostname}")
        _shut_in(birth, users)
        terms = GuestTerms(
            user=birth.user,
            home=birth.home,
            env=birth.env,
            cgroup=delegated,
            chrooted=True,
            isolated=True,
            no_new_privs=birth.no_new_privs,
        )
        _tell(told, {"ready": True})
        told.close()
    # An error of the guest itself has nobody to be told: the sandbox ends, and the host sees that.
    try:
        serve(listening, terms)
    finally:
        os._exit(0)


def _bound(birth: Birth) -> None:
    for descriptor in range(3):
        null = os.open("/dev/null", os.O_RDWR)
        if null != descriptor:
            os.dup2(null, descriptor)
            os.close(null)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = min(birth.files_max, most) if most != resource.RLIM_INFINITY else birth.files_max
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, files), files))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(_OOM_SCORE))


def _shut_in(birth: Birth, users: int) -> None:
    """Give up what a sandbox must not have; its order is the one in which each step is still allowed."""
    linux.setns(users, linux.CLONE_NEWUSER)
    os.close(users)
    os.setresgid(0, 0, 0)
    os.setgroups([])
    os.setresuid(0, 0, 0)
    linux.own_keyring()
    if birth.no_new_privs:
        linux.no_new_privileges()
    if rules := seccomp.program(linux.MACHINE):
        linux.filter_calls(rules)
    linux.drop_capabilities()
    linux.hide_memory()
    for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o022)


@contextlib.contextmanager
def _told(told: socket.socket) -> Iterator[None]:
    """Tell of what fails inside, and end this process."""
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(OSError):
            _tell(told, {"error": f"{type(error).__name__}: {error}"[:_LAST_WORDS]})
        os._exit(1)


def _tell(told: socket.socket, members: dict[str, object]) -> None:
    told.send(json.dumps(members).encode())
