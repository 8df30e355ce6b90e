"""The slots of a session: intakes that wait at the edge, each for one envelope.

A slot whose intake has ended is parked again at once, whatever came of it; only one that brought nothing
too soon, or was refused, waits before it asks again. A slot never gets lost: what an envelope does to the
agent is not the slot's affair.

Source: docs/reference/h2-carrier.md, "Intakes".
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from wellhead.logs import Log
from wellhead.wire.h2 import Fields, H2Sink, H2Stream
from wellhead.wire.streams import Buffer

SOON_SECONDS = 1.0  # an intake that brings nothing within it was answered in haste
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 5.0
LONGEST_ASKED_SECONDS = 300.0  # by Retry-After

_log = Log("wellhead.agent")


class Parking(Protocol):
    """The session, as its slots know it."""

    @property
    def now(self) -> float:
        """Loop time."""

    def may_park(self) -> bool:
        """Whether a stream is to be had for an intake."""

    def park(self, fields: Fields, sink: H2Sink) -> H2Stream:
        """Open an intake."""

    def delivered(self, fields: Fields, intake: H2Stream, slot: Slot, end: bool) -> bool:
        """An intake was answered with 200: hand over what it holds; False: nothing."""

    def forgotten(self) -> None:
        """The edge does not know the session any more."""

    def taken(self) -> None:
        """Another agent has the tunnel."""


class Slots:
    """All slots of one session."""

    def __init__(
        self, parking: Parking, calls: list[Fields], uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._parking = parking
        self._uniform = uniform
        self._resting: list[Slot] = []
        self._told: set[tuple[bytes, bytes]] = set()  # refusals that were logged
        self.idle = [Slot(self, parking, fields) for fields in calls]  # to be parked as soon as may be
        self.idle.reverse()

    def fill(self) -> None:
        """Park what is idle, as far as there is room."""
        idle = self.idle
        while idle and self._parking.may_park():
            idle.pop().park()

    def tick(self, now: float) -> None:
        """Look whose rest is over."""
        if self._resting:
            rested = [slot for slot in self._resting if slot.due <= now]
            self._resting = [slot for slot in self._resting if slot.due > now]
            self.idle += rested
            self.fill()

    def rest(self, slot: Slot, seconds: float) -> None:
        slot.due = self._parking.now + seconds
        self._resting.append(slot)

    def pause(self, misses: int) -> float:
        """Seconds for a slot that came back with nothing so many times in a row."""
        pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(misses - 1, 16), LONGEST_PAUSE_SECONDS)
        return pause * self._uniform(0.75, 1.25)

    def refused(self, status: bytes, reason: bytes) -> None:
        """Told once: all slots of a session meet the same refusal."""
        if (status, reason) not in self._told and len(self._told) < 100:
            self._told.add((status, reason))
            _log.warning(
                "the edge refuses an intake", status=status.decode(), reason=reason.decode("latin-1") or "-"
            )


class Slot:
    """One slot, and the sink of its intake."""

    __slots__ = ("_fields", "_intake", "_misses", "_parking", "_since", "_slots", "due")

    def __init__(self, slots: Slots, parking: Parking, fields: Fields) -> None:
        self.due = 0.0  # when its rest is over
        self._slots = slots
        self._parking = parking
        self._fields = fields
        self._intake: H2Stream | None = None
        self._since = 0.0  # when it was parked
        self._misses = 0  # answers in a row that brought nothing too soon

    def park(self) -> None:
        self._since = self._parking.now
        self._intake = self._parking.park(self._fields, self)

    def freed(self) -> None:
        """Its intake has brought an envelope, and ended."""
        self._intake = None
        self._misses = 0
        if self._parking.may_park():
            self.park()
        else:
            self._slots.idle.append(self)

    # The intake's sink

    def on_headers(self, fields: Fields, end: bool) -> None:
        status = fields[0][1]
        intake = self._intake
        if intake is None or status[:1] == b"1":
            return
        if status == b"200":
            if not self._parking.delivered(fields, intake, self, end) and end:
                self._came_empty()
            return
        told = dict(fields)
        reason = told.get(b"inkbox-reason", b"")
        if not end:
            intake.sink = _Rest(intake)
        self._intake = None
        if reason == b"intake-superseded":
            self._parking.taken()
        elif status == b"401":
            self._parking.forgotten()
        elif status == b"408":
            self._came_empty()
        else:
            self._slots.refused(status, reason)
            self._misses += 1
            self._slots.rest(self, max(seconds_of(told), self._slots.pause(self._misses)))

    def on_data(self, data: Buffer, end: bool) -> None:
        """Of an answer that hands over nothing."""
        if self._intake is not None:
            self._intake.consumed(len(data))
        if end:
            self._came_empty()

    def on_reset(self, code: int) -> None:
        self._came_empty()

    def on_writable(self) -> None:
        """Nothing is sent there."""

    def _came_empty(self) -> None:
        """It is quiet, and asks again: at once, unless it is answered in haste."""
        self._intake = None
        if self._parking.now - self._since >= SOON_SECONDS:
            self._misses = 0
        else:
            self._misses += 1
        if self._misses > 1:
            self._slots.rest(self, self._slots.pause(self._misses - 1))
        else:
            self._slots.idle.append(self)


class _Rest:
    """The sink of what comes behind a refusal."""

    __slots__ = ("_intake",)

    def __init__(self, intake: H2Stream) -> None:
        self._intake = intake

    def on_headers(self, fields: Fields, end: bool) -> None: ...

    def on_data(self, data: Buffer, end: bool) -> None:
        self._intake.consumed(len(data))

    def on_reset(self, code: int) -> None: ...
    def on_writable(self) -> None: ...


def seconds_of(fields: dict[bytes, bytes]) -> float:
    """What Retry-After asks for, at most LONGEST_ASKED_SECONDS; 0: nothing that can be read."""
    value = fields.get(b"retry-after", b"")
    return min(float(value), LONGEST_ASKED_SECONDS) if value.isdigit() and len(value) < 10 else 0.0
