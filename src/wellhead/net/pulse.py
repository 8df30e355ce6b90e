"""Whether a peer lives, from what is heard of it: the clockwork of liveness, without clock or transport.

Any byte that comes proves it. A peer that was silent for ``ping_seconds`` is asked; one that was silent while
we had something to say is asked sooner; and one that does not answer in time is given up, unless bytes that
waited for it when it was asked are still leaving: its answer comes behind them. A program may be busy for
longer than a network may be gone: where its machine took the question, it has ``BUSY_SECONDS``.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from wellhead.net.session import Liveness

BUSY_SECONDS = 30.0  # as long as the official SDKs wait for us, at most


class Verdict(enum.Enum):
    ALIVE = "alive"
    ASK = "ask"  # now, with a PING
    DEAD = "dead"


def _unknown() -> bool:
    return False


class Pulse:
    """Of one peer. ``now`` is in seconds, monotonic; ``booted`` too, and goes on while the machine sleeps.

    ``owes``: set it when the peer was given something to answer; it is asked soon if it is silent then.
    """

    __slots__ = (
        "_answer_by",
        "_asked",
        "_booted",
        "_liveness",
        "_moves",
        "_patience",
        "_unsent",
        "heard",
        "owes",
    )

    def __init__(self, liveness: Liveness, now: float, booted: float) -> None:
        self.heard = now  # when the last bytes came
        self.owes = False
        self._liveness = liveness
        self._booted = booted
        self._answer_by = 0.0  # 0: nothing was asked
        self._asked = 0.0  # when
        self._patience = 0.0
        self._unsent = 0  # at the last look
        self._moves = False  # and it became less since the peer was asked

    def hear(self, now: float) -> None:
        """Bytes came."""
        self.heard = now
        self.owes = False
        self._answer_by = 0.0

    def wrote(self, now: float) -> Verdict:
        """Something was said to the peer: ASK, where it has been silent."""
        if self._answer_by or now - self.heard <= self._liveness.probe_after_seconds:
            return Verdict.ALIVE
        return self.probe(now)

    def probe(self, now: float) -> Verdict:
        """Ask at once, unless it was asked already."""
        return self._ask(now, self._liveness.probe_seconds)

    def excuse(self, now: float) -> None:
        """We ourselves stood still: what came meanwhile was not read yet."""
        if self._answer_by:
            self._answer_by = max(self._answer_by, now + self._patience)

    def look(
        self, now: float, booted: float, unsent: int, *, acknowledged: Callable[[], bool] = _unknown
    ) -> Verdict:
        """A look at the clock. ``unsent``: bytes that wait to leave; ``acknowledged``: the peer's machine
        took all others."""
        slept = booted - self._booted > 2 * self._liveness.ping_seconds
        self._booted = booted
        if slept:  # bytes may wait in the socket: an old deadline says nothing
            self._answer_by = 0.0
            return self.probe(now)
        if self._answer_by:
            self._moves = self._moves or unsent < self._unsent
            self._unsent = unsent
            if now < self._answer_by:
                return Verdict.ALIVE
            if self._moves:
                self._moves = False
                self._answer_by = now + self._patience
            elif now - self._asked < BUSY_SECONDS and acknowledged():
                self._answer_by = self._asked + BUSY_SECONDS
            else:
                return Verdict.DEAD
        elif self.owes and now - self.heard >= self._liveness.probe_after_seconds:
            return self.probe(now)
        elif now - self.heard >= self._liveness.ping_seconds:
            return self._ask(now, self._liveness.pong_seconds)
        return Verdict.ALIVE

    def _ask(self, now: float, patience: float) -> Verdict:
        if self._answer_by:
            return Verdict.ALIVE
        self._answer_by = now + patience
        self._asked = now
        self._patience = patience
        self._unsent = 0
        self._moves = False
        return Verdict.ASK
