"""What sandboxes took of CPU, memory and disk: the last ten minutes finely, the last day coarsely."""

from __future__ import annotations

import asyncio
from array import array
from typing import NamedTuple

from wellhead.errors import HostError, HostInvalid
from wellhead.host.runtime.runtime import Runtime, Usage
from wellhead.host.table import Table
from wellhead.logs import Log
from wellhead.model.sandboxes import SandboxId, SandboxStatus
from wellhead.model.text import shown

SAMPLE_SECONDS = 0.5
TIERS = ((SAMPLE_SECONDS, 600.0), (30.0, 7200.0), (300.0, 86400.0))
"""Seconds between points, and for how long they are kept."""
RANGES = {
    "5m": 300.0, "10m": 600.0, "1h": 3600.0, "2h": 7200.0, "6h": 21600.0, "12h": 43200.0, "24h": 86400.0,
}  # fmt: skip
_EARLY = 0.01  # part of a period by which a sample may be early and still be its point

_log = Log("wellhead.host")


class Point(NamedTuple):
    """``at``: seconds since 1970. ``cpu_percent``: of one CPU, since the point before."""

    at: float
    cpu_percent: float
    memory_bytes: int
    disk_bytes: int


class Ring:
    """The last ``size`` points of one sandbox, ``seconds`` apart: 32 bytes each."""

    def __init__(self, seconds: float, size: int) -> None:
        self._seconds = seconds
        self._size = size
        self._kept = array("d")
        self._next = 0  # the point that is overwritten next, once there are all
        self._last: tuple[float, float] | None = None  # when, and the CPU seconds then

    def add(self, at: float, usage: Usage) -> None:
        if self._last is None:
            self._last = at, usage.cpu_seconds
            return
        passed = at - self._last[0]
        if passed < self._seconds * (1 - _EARLY):
            return
        cpu = max(0.0, usage.cpu_seconds - self._last[1]) / passed * 100
        self._last = at, usage.cpu_seconds
        point = array("d", (at, cpu, usage.memory_bytes, usage.disk_bytes))
        if len(self._kept) < 4 * self._size:
            self._kept.extend(point)
        else:
            self._kept[4 * self._next : 4 * self._next + 4] = point
            self._next = (self._next + 1) % self._size

    def points(self, since: float) -> list[Point]:
        """Those after ``since``, the oldest first."""
        count = len(self._kept) // 4
        points = (self._point((self._next + number) % count) for number in range(count))
        return [point for point in points if point.at > since]

    def latest(self) -> Point | None:
        count = len(self._kept) // 4
        return self._point((self._next - 1) % count) if count else None

    def _point(self, number: int) -> Point:
        at, cpu, memory, disk = self._kept[4 * number : 4 * number + 4]
        return Point(at, cpu, int(memory), int(disk))


class _Record:
    def __init__(self) -> None:
        self.rings = [Ring(seconds, int(kept / seconds)) for seconds, kept in TIERS]
        self.usage: Usage | None = None


class Metrics:
    def __init__(self, table: Table, runtime: Runtime) -> None:
        self._table = table
        self._runtime = runtime
        self._records: dict[SandboxId, _Record] = {}

    async def run(self) -> None:
        """Sample until it is cancelled."""
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            try:
                await self.sample()
            except Exception as error:
                _log.error("measuring sandboxes failed", error=error)

    async def sample(self) -> None:
        """Once, every sandbox that runs; one that stands still takes nothing new."""
        entries = self._table.all()
        for entry in entries:
            if entry.status is not SandboxStatus.RUNNING:
                continue
            try:
                usage = await self._runtime.usage(entry.id)
            except HostError as error:
                _log.debug("sandbox not measured", sandbox=entry.id, error=error)
                continue
            record = self._records.setdefault(entry.id, _Record())
            record.usage = usage
            at = self._table.wall()
            for ring in record.rings:
                ring.add(at, usage)
        there = {entry.id for entry in entries}
        for sandbox in self._records.keys() - there:
            del self._records[sandbox]

    def usage(self, sandbox: SandboxId) -> Usage | None:
        """What it took when it was last looked at; None where it was not yet."""
        record = self._records.get(sandbox)
        return None if record is None else record.usage

    def latest(self, sandbox: SandboxId) -> Point | None:
        """Its last sample; None where there is none yet."""
        record = self._records.get(sandbox)
        return None if record is None else record.rings[0].latest()

    def points(self, sandbox: str, span: str) -> list[Point]:
        """Those of the last ``span``, the oldest first: 5m, 10m, 1h, 2h, 6h, 12h or 24h.

        Raises:
            HostInvalid: another word.
            HostNotFound: no such sandbox here.
        """
        if (seconds := RANGES.get(span)) is None:
            raise HostInvalid(f"range {shown(span)} is none of {', '.join(RANGES)}")
        entry = self._table.entry(sandbox)
        record = self._records.get(entry.id)
        if record is None:
            return []
        tier = next(number for number, (_, kept) in enumerate(TIERS) if seconds <= kept)
        return record.rings[tier].points(self._table.wall() - seconds)
