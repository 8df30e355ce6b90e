"""The machine's processes: which belong together, since when each runs, what they take.

From ``/proc``, and from ``ps`` where there is none.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wellhead.errors import HostError

MARK = "WELLHEAD_SANDBOX"  # in the environment of a sandbox's processes: its id
KILL_SECONDS = 10.0  # for killed processes to be gone
_ROUNDS = 100  # of stopping what was forked while others were stopped

PROC = Path("/proc")
_HAS_PROC = (PROC / "self" / "stat").exists()
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_clock = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)").fullmatch


@dataclass(frozen=True, slots=True)
class Process:
    """``born``: what tells it from another that gets the same number later. ``cpu_seconds``: with those of
    its children that ended, where that is told. ``memory_bytes``: what it shares with others as well.
    """

    pid: int
    parent: int
    born: str
    state: str
    cpu_seconds: float
    memory_bytes: int

    @property
    def is_over(self) -> bool:
        """It ended, and waits for its parent to ask how."""
        return self.state in ("Z", "X")

    @property
    def is_stopped(self) -> bool:
        return self.state in ("T", "t")


def born(pid: int) -> str | None:
    """What tells the process from a later one with its number; None when it is not there or has ended."""
    found = _of_proc(pid) if _HAS_PROC else _of_ps(["-p", str(pid)]).get(pid)
    return found.born if found is not None and not found.is_over else None


def table() -> dict[int, Process]:
    """Every process by its number."""
    if not _HAS_PROC:
        return _of_ps(["-ax"])
    return {each.pid: each for pid in _numbers() if (each := _of_proc(pid)) is not None}


def own_memory(process: Process) -> int:
    """Bytes that it has for itself; with what it shares with others where that is not told."""
    try:
        pages = (PROC / str(process.pid) / "statm").read_text().split()
    except OSError:
        return process.memory_bytes if not _HAS_PROC else 0
    return (int(pages[1]) - int(pages[2])) * _PAGE


def tree(root: int, mark: str) -> dict[int, Process]:
    """A process and all that descend from it, parents first; those with the mark once it is gone itself.

    While it lives, nothing gets away from it: it takes over what loses its parent (PR_SET_CHILD_SUBREAPER).
    """
    every = table()
    children: dict[int, list[int]] = {}
    for each in every.values():
        children.setdefault(each.parent, []).append(each.pid)
    found: dict[int, Process] = {}
    lives = root in every and not every[root].is_over
    waiting = [root] if lives else [pid for pid in every if _is_marked(pid, mark)]
    while waiting:
        pid = waiting.pop()
        if pid in every and pid not in found:
            found[pid] = every[pid]
            waiting += children.get(pid, ())
    return {pid: each for pid, each in sorted(found.items()) if not each.is_over}


def stop_tree(root: int, mark: str) -> list[int]:
    """Stop all of a tree; gives back those that were stopped before.

    Raises:
        HostError: it forks faster than it can be stopped.
    """
    already: list[int] | None = None
    for _ in range(_ROUNDS):
        there = tree(root, mark)
        going = [pid for pid, each in there.items() if not each.is_stopped]
        if already is None:
            already = [pid for pid in there if pid not in going]
        if not going:
            return already
        _signal(going, signal.SIGSTOP)
    raise HostError(f"the processes of {mark} fork faster than they can be stopped")


def continue_tree(root: int, mark: str, but: Iterable[int] = ()) -> None:
    """Let a stopped tree go on, children before their parents, but for some."""
    but = set(but)
    _signal([pid for pid in reversed(tree(root, mark)) if pid not in but], signal.SIGCONT)


def kill_tree(root: int, mark: str) -> None:
    """Kill all of a tree, stopped or not, and see that it is gone.

    Raises:
        HostError: something of it lives after KILL_SECONDS.
    """
    with contextlib.suppress(HostError):  # then it is killed as it runs
        stop_tree(root, mark)
    end = time.monotonic() + KILL_SECONDS
    pause = 0.001
    while there := tree(root, mark):
        _signal(there, signal.SIGKILL)
        if time.monotonic() > end:
            raise HostError(f"processes of {mark} live after SIGKILL: {', '.join(map(str, there))}")
        time.sleep(pause)
        pause = min(0.05, pause * 2)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _is_marked(pid: int, mark: str) -> bool:
    try:
        variables = (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return False
    return f"{MARK}={mark}".encode() in variables.split(b"\0")


def _numbers() -> Iterator[int]:
    return (int(name) for name in os.listdir(PROC) if name.isdecimal())


def _of_proc(pid: int) -> Process | None:
    """Source: proc(5), /proc/pid/stat and statm."""
    try:
        stat = (PROC / str(pid) / "stat").read_text("utf-8", "replace")
    except OSError:
        return None
    # Behind the name, which may hold blanks and brackets: state is the third field.
    fields = stat[stat.rindex(")") + 2 :].split()
    ticks = sum(int(each) for each in fields[11:15])
    return Process(
        pid=pid, parent=int(fields[1]), born=f"{_boot()}:{fields[19]}", state=fields[0],
        cpu_seconds=ticks / _TICKS, memory_bytes=int(fields[21]) * _PAGE,
    )  # fmt: skip


def _boot() -> str:
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _of_ps(which: list[str]) -> dict[int, Process]:
    columns = "pid=,ppid=,state=,rss=,time=,lstart="
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(["ps", *which, "-o", columns], capture_output=True, text=True, env=environment)
    found = {}
    for line in done.stdout.splitlines():
        pid, parent, state, memory, used, since = line.split(None, 5)
        found[int(pid)] = Process(
            pid=int(pid), parent=int(parent), born=since.strip(), state=state[0],
            cpu_seconds=_seconds(used), memory_bytes=int(memory) * 1024,
        )  # fmt: skip
    return found


def _seconds(clock: str) -> float:
    """``[days-][hours:]minutes:seconds``."""
    found = _clock(clock)
    if found is None:
        return 0.0
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
