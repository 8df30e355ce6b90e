"""Whether an agent is there: any byte of it proves so, and one that is silent is asked.

Pure: time is an argument, in loop seconds; it is looked at four times a second. An agent that was given
something to do is asked soon. A program may be busy for longer than a network may be gone: where the kernel
of its machine took the question, it has ``BUSY_SECONDS`` for the answer.
"""

from __future__ import annotations

import enum

from wellhead.net.session import Liveness

LOOK_SECONDS = 0.25  # between two looks
BUSY_SECONDS = 30.0  # as long as the official SDKs wait for us, at most


class Verdict(enum.Enum):
    FINE = 1
    ASK = 2  # send a PING
    LOST = 3


class Pulse:
    """``heard(now)``: for every byte of the agent's; ``gave()``: for all that it is to do something about."""

    __slots__ = ("_answer_by", "_asked", "_gave", "_heard", "_liveness", "_unsent")

    def __init__(self, liveness: Liveness, now: float) -> None:
        self._liveness = liveness
        self._heard = now
        self._gave = False  # something, since it was heard
        self._asked = 0.0  # when
        self._answer_by = 0.0  # 0: it is not asked
        self._unsent = 0  # bytes that waited for it at the last look

    def heard(self, now: float) -> None:
        self._heard = now
        self._gave = False
        self._answer_by = 0.0

    def gave(self) -> None:
        self._gave = True

    def silent(self, now: float) -> float:
        """Seconds since it was last heard."""
        return now - self._heard

    def ask(self, now: float, *, soon: bool) -> None:
        """It is asked now, and has to answer ``soon``, or as an idle one."""
        self._asked = now
        self._answer_by = now + (self._liveness.probe_seconds if soon else self._liveness.pong_seconds)

    def look(self, now: float, unsent: int, acknowledged: bool) -> Verdict:
        """What is to be done. ``unsent`` bytes wait to be sent to it; ``acknowledged``: its machine took all
        others."""
        moved = unsent < self._unsent
        self._unsent = unsent
        liveness, silent = self._liveness, now - self._heard
        if self._answer_by:
            if now < self._answer_by:
                return Verdict.FINE
            if moved:  # the answer comes behind what is still on its way
                self._answer_by = now + liveness.probe_seconds
                return Verdict.FINE
            if acknowledged and now - self._asked < BUSY_SECONDS:
                self._answer_by = self._asked + BUSY_SECONDS
                return Verdict.FINE
            return Verdict.LOST
        if self._gave and silent >= liveness.probe_after_seconds - LOOK_SECONDS:
            self.ask(now, soon=True)
            return Verdict.ASK
        if silent >= liveness.ping_seconds:
            self.ask(now, soon=False)
            return Verdict.ASK
        return Verdict.FINE

    def stood_still(self, now: float) -> None:
        """The edge itself did nothing for a while: what came meanwhile was not read yet."""
        if self._answer_by:
            self._answer_by = max(self._answer_by, now + self._liveness.probe_seconds)
