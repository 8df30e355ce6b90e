"""``/api/v1/sandboxes/stats`` and ``/usage``: what an organization's sandboxes took."""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BeforeValidator, Field

from wellhead.control.access import Key, need_admin
from wellhead.control.store.store import Store
from wellhead.errors import InputError
from wellhead.model.text import shown
from wellhead.model.usage import Day, Timeline, by_day

PEAKS = dt.timedelta(days=30)
USAGE_DAYS = 30  # where nobody says from when
POINTS = 60  # of a series
_BACK_MAX = 400  # days


class Range(enum.Enum):
    MINUTES_5 = "5m"
    HOUR = "1h"
    HOURS_6 = "6h"
    HOURS_24 = "24h"
    DAYS_30 = "30d"


_LENGTHS = {
    Range.MINUTES_5: dt.timedelta(minutes=5),
    Range.HOUR: dt.timedelta(hours=1),
    Range.HOURS_6: dt.timedelta(hours=6),
    Range.HOURS_24: dt.timedelta(hours=24),
    Range.DAYS_30: PEAKS,
}


@dataclass(frozen=True, slots=True)
class Current:
    running_count: int
    vcpus_reserved: int
    memory_mb_reserved: int


@dataclass(frozen=True, slots=True)
class Peaks:
    """The most of each at once in the last 30 days."""

    running_count: int
    vcpus: int
    memory_mb: int


@dataclass(frozen=True, slots=True)
class Series:
    """Lists of one length: what there was at each of these times."""

    labels: list[dt.datetime]
    running: list[int]
    vcpus: list[int]
    memory_mb: list[int]


@dataclass(frozen=True, slots=True)
class Stats:
    range: Range
    current: Current
    peaks: Peaks
    series: Series


@dataclass(frozen=True, slots=True)
class Usage:
    """Dates in UTC, both counted; a day's CPUs and MiB of memory, times the minutes that sandboxes ran."""

    first: Annotated[dt.date, Field(serialization_alias="from")]
    to: dt.date
    points: list[Day]


def _date(given: object) -> object:
    if not isinstance(given, str) or re.fullmatch(r"\d{4}-\d\d-\d\d", given, re.ASCII) is None:
        raise InputError(f"{shown(str(given))} is not a date, expected YYYY-MM-DD")
    return given


Date = Annotated[dt.date, BeforeValidator(_date)]


def router(store: Store) -> APIRouter:
    routes = APIRouter(prefix="/sandboxes", tags=["sandboxes"])

    @routes.get("/stats", operation_id="sandbox_stats")
    async def sandbox_stats(
        key: Key, over: Annotated[Range, Query(alias="range", description="How far back.")] = Range.HOUR
    ) -> Stats:
        """How many of the organization's sandboxes run, and have run."""
        need_admin(key)
        now, length = store.clock(), _LENGTHS[over]
        running = await store.sandboxes.running(key.organization_id)
        runs = await store.sandboxes.runs.within(key.organization_id, now - PEAKS, now)
        timeline = await asyncio.to_thread(Timeline.of, runs)
        most = timeline.peaks()
        step = length / POINTS
        times = [now - step * (POINTS - number) for number in range(POINTS)]
        loads = [timeline.at(each) for each in times]
        return Stats(
            over,
            Current(running.running, running.vcpus, running.memory_mb),
            Peaks(most.running, most.vcpus, most.memory_mb),
            Series(
                times,
                [load.running for load in loads],
                [load.vcpus for load in loads],
                [load.memory_mb for load in loads],
            ),
        )

    @routes.get("/usage", operation_id="sandbox_usage")
    async def sandbox_usage(
        key: Key,
        first: Annotated[
            Date | None, Query(alias="from", description=f"The first day; absent: {USAGE_DAYS} days ago.")
        ] = None,
        to: Annotated[Date | None, Query(description="The last day; absent: today.")] = None,
    ) -> Usage:
        """What the organization's sandboxes took each day, of the last 400 days at most."""
        need_admin(key)
        now = store.clock()
        today = now.date()
        last = today if to is None else min(to, today)
        begin = max(
            last - dt.timedelta(days=USAGE_DAYS) if first is None else first,
            today - dt.timedelta(days=_BACK_MAX),
        )
        if begin > last:
            return Usage(begin, last, [])
        since = dt.datetime.combine(begin, dt.time(), dt.UTC)
        runs = await store.sandboxes.runs.within(key.organization_id, since, now)
        return Usage(begin, last, await asyncio.to_thread(by_day, runs, begin, last))

    return routes
