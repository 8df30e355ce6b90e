"""How long something took, without what the machine added to it: for a bound that a promise has."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import psutil

from tests.kit.programs import Program, kept_waiting

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Stopwatch:
    """Runs from when it is made.

    Taken off is the time in which this process, one of ``programs`` or a child of theirs was ready to run and
    had no processor, and what other virtual machines took.
    """

    def __init__(self, *programs: Program) -> None:
        self._pids: list[int | str] = ["self"]
        for program in programs:
            with contextlib.suppress(psutil.NoSuchProcess):
                children = psutil.Process(program.pid).children(recursive=True)
                self._pids += [program.pid, *(child.pid for child in children)]
        self._lost = dict.fromkeys([*self._pids, "stolen"], 0.0)
        self._lost_before = self._look()
        self._began = time.monotonic()

    def seconds(self) -> float:
        return self.wall() - self.starved()

    def starved(self) -> float:
        """What is taken off."""
        return self._look() - self._lost_before

    def wall(self) -> float:
        """All of it, for a bound below."""
        return time.monotonic() - self._began

    def _look(self) -> float:
        for pid in self._pids:
            with contextlib.suppress(OSError):  # it has ended: what it lost until the last look counts
                self._lost[pid] = kept_waiting(pid)
        # Source: proc_stat(5), the eighth number of the first line
        self._lost["stolen"] = int(Path("/proc/stat").read_text().split(None, 9)[8]) / _TICKS_PER_SECOND
        return sum(self._lost.values())
