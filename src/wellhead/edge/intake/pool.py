"""The intakes that an agent has parked, and what waits for the next one.

Never both: who comes meets the longest parked intake, and an intake that is parked whoever waited longest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from wellhead.edge.intake import answers
from wellhead.edge.intake.terms import IntakeTerms
from wellhead.wire.h2 import H2Stream
from wellhead.wire.hpack import Fields
from wellhead.wire.streams import Buffer, Reason


class Waiter(Protocol):
    """What waits for an intake."""

    def handed(self, intake: H2Stream) -> None:
        """Here is one."""

    def failed(self, reason: Reason) -> None:
        """There was none in time."""


class Pool:
    """Of one session. It is the sink of its parked intakes: what is told there is that one was given up.

    ``soon`` calls something in the next turn of the loop. ``slots``: parked, in the order that they were;
    ``waiting``: since when, and who, in their order.
    """

    __slots__ = ("_soon", "_terms", "slots", "waiting")

    def __init__(self, terms: IntakeTerms, soon: Callable[[Callable[[], None]], object]) -> None:
        self.slots: deque[H2Stream] = deque()
        self.waiting: deque[tuple[float, Waiter]] = deque()
        self._terms = terms
        self._soon = soon

    def park(self, intake: H2Stream) -> bool:
        """The agent asks for work; True: it got some."""
        intake.sink = self
        if not self.waiting:  # fast path
            self.slots.append(intake)
            return False
        self.waiting.popleft()[1].handed(intake)
        return True

    def hand(self, waiter: Waiter, now: float) -> None:
        """Hand something over as soon as there is an intake: now, it may be."""
        slots = self.slots
        if slots:
            waiter.handed(slots.popleft())
        elif len(self.waiting) >= self._terms.max_waiting:
            # Whoever opens a stream does not expect an answer before it is open.
            self._soon(lambda: waiter.failed(Reason.NO_SLOT))
        else:
            self.waiting.append((now, waiter))

    def unwait(self, waiter: Waiter) -> None:
        """It waits no longer, if it did."""
        for entry in self.waiting:
            if entry[1] is waiter:
                self.waiting.remove(entry)
                return

    def shed(self, reason: Reason) -> None:
        """What waits gets no intake here."""
        while self.waiting:
            self.waiting.popleft()[1].failed(reason)

    def end(self, answer: Fields) -> None:
        """Answer every parked intake with a head alone."""
        while self.slots:
            self.slots.popleft().headers(answer, True)

    def junk(self, count: int) -> bool:
        """Answer an intake with bytes that mean nothing; False: there is none, or no room for them."""
        if not self.slots:
            return False
        intake = self.slots.popleft()
        intake.headers(answers.DONE)
        if intake.whole(bytes(count), True):
            return True
        intake.data(b"", True)
        return False

    def tick(self, now: float) -> None:
        """Refuse who waited too long; end intakes that were parked so long that others forget about them."""
        terms, waiting, slots = self._terms, self.waiting, self.slots
        while waiting and now - waiting[0][0] >= terms.wait_seconds:
            waiting.popleft()[1].failed(Reason.NO_SLOT)
        if terms.idle_answer == "off":
            return
        while slots and now - slots[0].born >= terms.idle_seconds:
            answer = answers.IDLE if terms.idle_answer == "408" else answers.DONE
            slots.popleft().headers(answer, True)

    # H2Sink, of parked intakes: they are complete

    def on_headers(self, fields: Fields, end: bool) -> None:
        """Never: see ``park``."""

    def on_data(self, data: Buffer, end: bool) -> None:
        """Never."""

    def on_reset(self, code: int) -> None:
        """The agent gave one up."""
        left = [intake for intake in self.slots if not intake.over]
        self.slots.clear()
        self.slots.extend(left)

    def on_writable(self) -> None:
        """Nothing was said on them."""
