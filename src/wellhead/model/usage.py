"""What sandboxes used, told from the times in which they ran. Pure."""

from __future__ import annotations

import bisect
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Run:
    """A time in which a sandbox ran, from ``began_at`` to before ``ended_at``."""

    vcpus: int
    memory_mb: int
    began_at: dt.datetime
    ended_at: dt.datetime


@dataclass(frozen=True, slots=True)
class Load:
    """How many sandboxes ran at a moment, and what they had."""

    running: int = 0
    vcpus: int = 0
    memory_mb: int = 0


@dataclass(frozen=True, slots=True)
class Day:
    date: dt.date
    cpu_minutes: float = 0.0
    ram_mb_minutes: float = 0.0


@dataclass(slots=True)
class Timeline:
    """Loads over time: ``loads[i]`` holds from ``times[i]`` on."""

    times: list[dt.datetime] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Timeline:
        steps = [(run.began_at, 1, run.vcpus, run.memory_mb) for run in runs]
        steps += [(run.ended_at, -1, -run.vcpus, -run.memory_mb) for run in runs]
        steps.sort()  # of one moment the ends come first: a run is over when the next begins
        sums = accumulate(
            steps,
            lambda load, step: Load(load.running + step[1], load.vcpus + step[2], load.memory_mb + step[3]),
            initial=Load(),
        )
        return cls([step[0] for step in steps], list(sums)[1:])

    def at(self, moment: dt.datetime) -> Load:
        place = bisect.bisect_right(self.times, moment)
        return self.loads[place - 1] if place else Load()

    def peaks(self) -> Load:
        """The most of each, not of one moment."""
        return Load(
            max((load.running for load in self.loads), default=0),
            max((load.vcpus for load in self.loads), default=0),
            max((load.memory_mb for load in self.loads), default=0),
        )


def by_day(runs: Sequence[Run], first: dt.date, last: dt.date) -> list[Day]:
    """What was used on each day, in UTC, from ``first`` to ``last``, both counted."""
    days = (last - first).days + 1
    cpu, memory = [0.0] * days, [0.0] * days
    for run in runs:
        begin = max(run.began_at, _midnight(first))
        while begin < run.ended_at and begin.date() <= last:
            end = min(run.ended_at, _midnight(begin.date() + dt.timedelta(days=1)))
            minutes, place = (end - begin).total_seconds() / 60, (begin.date() - first).days
            cpu[place] += minutes * run.vcpus
            memory[place] += minutes * run.memory_mb
            begin = end
    return [Day(first + dt.timedelta(days=n), round(cpu[n], 3), round(memory[n], 3)) for n in range(days)]


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)
