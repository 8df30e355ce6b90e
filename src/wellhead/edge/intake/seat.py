"""What the sessions of one tunnel share: the requests that agents took, and who may take the seat.

A reply names its request, not its connection: one that moved to another connection answers there. So what
waits for an answer belongs to the tunnel, and outlives the connection it was handed over on.
"""

from __future__ import annotations

import secrets
from collections import deque
from typing import Protocol

from wellhead.wire.h2 import H2Sink, H2Stream
from wellhead.wire.intake import ReplyRead
from wellhead.wire.streams import Reason


class Pending(Protocol):
    """A request that an agent took and has not answered."""

    @property
    def request_id(self) -> bytes: ...
    @property
    def method(self) -> bytes: ...
    @property
    def answer_by(self) -> float:
        """Loop time, 0: no answer is due, or its own clock runs."""

    def replied(self, read: ReplyRead, stream: H2Stream, end: bool) -> H2Sink:
        """The agent's answer; returns the sink of its body. ``end``: there is none."""

    def failed(self, reason: Reason) -> None:
        """There will be no answer."""


class Seat:
    """``pending``: by request id. ``welcomed``: the number of the last hello that was let in."""

    __slots__ = ("_next", "_prefix", "_takeovers", "pending", "sessions", "welcomed")

    def __init__(self) -> None:
        self.pending: dict[bytes, Pending] = {}
        self.sessions = 0  # live ones
        self.welcomed = 0
        self._takeovers: deque[float] = deque()  # when, youngest last
        self._prefix = secrets.token_hex(8).encode()
        self._next = 0

    def request_id(self) -> bytes:
        """A new id: 64 random bits and a number, safe in a path."""
        self._next += 1
        return b"%b%x" % (self._prefix, self._next)

    def was_mine(self, request_id: bytes) -> bool:
        """Whether this looks like one of our ids: late then, and not unknown."""
        return request_id.startswith(self._prefix)

    def expire(self, now: float) -> None:
        """Fail what was not answered in time."""
        for pending in [each for each in self.pending.values() if 0 < each.answer_by <= now]:
            if self.pending.pop(pending.request_id, None) is not None:
                pending.failed(Reason.TIMEOUT)

    @property
    def is_empty(self) -> bool:
        return not (self.sessions or self.pending)

    # Takeovers

    def may_take_over(self, now: float, most: int) -> bool:
        """Whether there were less than ``most`` takeovers in the last minute."""
        times = self._takeovers
        while times and times[0] <= now - 60:
            times.popleft()
        return len(times) < most

    def took_over(self, now: float) -> None:
        self._takeovers.append(now)

    def has_memory(self, now: float) -> bool:
        """Whether something has to be known when the next agent comes."""
        return not self.may_take_over(now, 1)
