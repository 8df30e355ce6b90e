"""A process and all that came of it, to be killed as one.

Where there is a cgroup for it, the kernel knows who belongs to it, and kills them all in one go, whatever
they did to get away. Elsewhere each program carries a mark in its environment, which its children inherit,
and the tables in ``/proc`` are walked until nobody is found any more.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

MARK = "WELLHEAD_TREE"
_ROUNDS = 50  # of looking for those who were born while others were killed
_PROC = Path("/proc")


class Tree:
    """One tree to be; ``leader`` is set when it begins. ``parent``: descriptor of the cgroups' place."""

    def __init__(self, parent: int | None) -> None:
        self.leader = 0
        self._parent = parent
        self._name = f"tree-{secrets.token_hex(4)}"
        if parent is not None:
            os.mkdir(self._name, dir_fd=parent)

    @property
    def env(self) -> dict[str, str]:
        """What its first program needs in its environment."""
        return {} if self._parent is not None else {MARK: self._name}

    def entrance(self) -> int | None:
        """A descriptor: who writes 0 to it belongs to the tree. None where nothing need be written."""
        return None if self._parent is None else self._open("cgroup.procs")

    def kill(self) -> None:
        if self._parent is not None:
            with contextlib.suppress(OSError):
                fd = self._open("cgroup.kill")
                try:
                    os.write(fd, b"1")
                finally:
                    os.close(fd)
                return
        for _ in range(_ROUNDS):
            found = self._members()  # before anybody dies: who then has no parent is known by the mark alone
            if self.leader:
                kill_group(self.leader)
            if not _kill_all(found):
                return

    def release(self) -> bool:
        """Give its directory back; False while there is somebody in it."""
        if self._parent is not None:
            try:
                os.rmdir(self._name, dir_fd=self._parent)
            except FileNotFoundError:
                return True
            except OSError:
                return False
        return True

    def _open(self, name: str) -> int:
        return os.open(f"{self._name}/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._parent)

    def _members(self) -> set[int]:
        parents = dict(_parents())
        marked = {pid for pid in parents if _is_marked(pid, f"{MARK}={self._name}".encode())}
        return with_descendants(marked | ({self.leader} if self.leader in parents else set()), parents)


def kill_group(leader: int) -> None:
    """What also serves where there is no ``/proc``."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def kill_descendants(root: int) -> None:
    """Kill all that came of a process, and not itself."""
    for _ in range(_ROUNDS):
        if not _kill_all(with_descendants({root}) - {root}):
            return


def _kill_all(pids: set[int]) -> bool:
    """Whether somebody was killed."""
    killed = False
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
            killed = True
    return killed


def with_descendants(found: set[int], parents: dict[int, int] | None = None) -> set[int]:
    """These processes, and all that came of them and live; ``parents``: where they are known already."""
    parents = dict(_parents()) if parents is None else parents
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found = found | more
        grown = bool(more)
    return found


def _parents() -> Iterator[tuple[int, int]]:
    """Each living process and its parent; those that are dead and not yet reaped are left out."""
    with contextlib.suppress(FileNotFoundError), os.scandir(_PROC) as entries:
        for entry in entries:
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    stat = (_PROC / entry.name / "stat").read_bytes()
                    state, parent = stat[stat.rindex(b")") + 2 :].split(b" ", 2)[:2]
                    if state not in b"ZX":
                        yield int(entry.name), int(parent)


def _is_marked(pid: int, mark: bytes) -> bool:
    try:
        return mark in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
