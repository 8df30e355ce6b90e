"""What the server does by itself: end what has run out. One task; what a failure leaves is done later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from datetime import datetime, timedelta

from wellhead.errors import Unavailable
from wellhead.logs import Log

TICK_SECONDS = 1.0
RELEASE_EVERY_SECONDS = 60.0
SIGHTING_SECONDS = 600.0  # between two sightings of what is over
JUMP = timedelta(seconds=5)  # what a wall clock that is put right little by little never differs by

_log = Log("wellhead.control")


class Sightings:
    """Believes that something is over when it was seen so all the time for ``gap_seconds``.

    A wall clock that jumps ahead would end a day's grace in a moment. So what looks over is looked at again
    a while later by the monotonic clock, which does not jump; a clock put right in between saves it. Nothing
    is kept at rest: after a restart it begins anew, late but safe.
    """

    def __init__(self, gap_seconds: float = SIGHTING_SECONDS) -> None:
        self._gap_seconds = gap_seconds
        self._first: dict[str, float] = {}  # id -> when it was first seen over, monotonic

    def over(self, seen: Collection[str], now: float) -> list[str]:
        """Of those that are seen over ``now`` (seconds, monotonic): which are to be believed."""
        self._first = {each: self._first.get(each, now) for each in seen}
        return [each for each, first in self._first.items() if now - first >= self._gap_seconds]


class SteadyClock:
    """The wall clock, of which a jump either way is believed when it has lasted for ``gap_seconds``.

    Until then time goes on from where it was, as fast as the monotonic clock goes. Nothing is kept at rest:
    what the wall clock says at a start is ``certain`` only that much later. It has to be looked at
    now and then.
    """

    def __init__(
        self,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        gap_seconds: float = SIGHTING_SECONDS,
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._gap_seconds = gap_seconds
        self._began = self._at = monotonic()
        self._time = clock()  # what is believed for the moment ``_at``
        self._jumped: tuple[float, timedelta] | None = None  # when that was seen first, and how far

    def now(self) -> datetime:
        wall, at = self._clock(), self._monotonic()
        steady = self._time + timedelta(seconds=at - self._at)
        if abs(wall - steady) <= JUMP:
            self._jumped = None
        else:
            if self._jumped is None or abs(wall - steady - self._jumped[1]) > JUMP:
                self._jumped = at, wall - steady
            if at - self._jumped[0] < self._gap_seconds:
                return steady
            self._jumped = None
        self._time, self._at = wall, at
        return wall

    def certain(self) -> datetime | None:
        """``now()``; None as long as it may be found wrong: shortly after a start, and while a jump lasts."""
        now = self.now()
        young = self._monotonic() - self._began < self._gap_seconds
        return None if young or self._jumped is not None else now


class Duty:
    """Calls ``often`` every tick and ``release(now)`` every RELEASE_EVERY_SECONDS, ``now`` monotonic."""

    def __init__(
        self,
        often: Callable[[], Awaitable[None]],
        release: Callable[[float], Awaitable[None]],
        monotonic: Callable[[], float] = time.monotonic,
        tick_seconds: float = TICK_SECONDS,
    ) -> None:
        self._often = often
        self._release = release
        self._monotonic = monotonic
        self._tick_seconds = tick_seconds
        self._closing = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="duty")

    async def close(self) -> None:
        """End after what is being done."""
        self._closing.set()
        await self._task

    async def _run(self) -> None:
        due = self._monotonic()
        while not self._closing.is_set():
            now = self._monotonic()
            try:
                await self._often()
                if now >= due:
                    due = now + RELEASE_EVERY_SECONDS
                    await self._release(now)
            except Unavailable as error:
                _log.warning("duty put off", error=str(error))
            except Exception as error:  # a bug here must not end the duty for good
                _log.error("duty failed", error)
            try:
                async with asyncio.timeout(self._tick_seconds):
                    await self._closing.wait()
            except TimeoutError:
                pass
