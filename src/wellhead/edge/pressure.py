"""Whether the edge may take on more: by the bytes it holds for others, and by how late its loop is.

Windows bound what one stream holds, and a session's bound what one tunnel does; this bounds what all of
them do together, so that a crowd of slow readers costs newcomers a 503 and not everybody the process.
A loop that stays late has more to do than it can: a part of the new requests is put off, a larger one
as long as that lasts, so that the others, and every session's PING, are served in time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from wellhead.visitors import pages
from wellhead.visitors.pages import Page

EASE = 0.9  # of the bound: what is shed below it is taken again
MORE, LESS = 0.2, 0.05  # by which the part that is put off grows and shrinks, at each look at the loop
MOST = 0.95  # of the requests: who asks on finds out when it is over


class Holder(Protocol):
    """A visitor's connection or an agent's session."""

    @property
    def held(self) -> int:
        """Bytes that came in and have not left."""


class Pressure:
    """``high``: some or all new requests are to be refused, ask ``refusal`` about each.

    Of the bytes all, from the bound until EASE of it. Of a loop that is late by ``max_lag_seconds`` or more
    (0: however late) at two looks in a row, a part.
    """

    __slots__ = ("_bound", "_full", "_late", "_max_lag", "_owed", "held", "high", "share")

    def __init__(self, max_bytes: int, max_lag_seconds: float) -> None:
        self._bound = max_bytes
        self._max_lag = max_lag_seconds
        self._full = False
        self._late = False  # at the last look
        self._owed = 0.0  # of a refusal, by the requests that were let in
        self.share = 0.0  # of the requests that are put off because the loop is late
        self.held = 0  # bytes, at the last count
        self.high = False

    def count(self, *groups: Iterable[Holder]) -> None:
        """Look at everything that holds bytes; asked at each sweep."""
        self.held = sum(holder.held for group in groups for holder in group)
        self._full = self.held >= self._bound * (EASE if self._full else 1)
        self.high = self._full or self.share > 0

    def lag(self, seconds: float) -> None:
        """The loop was so late; told four times a second, or as often as it turns."""
        if not self._max_lag:
            return
        late = seconds >= self._max_lag
        if not late:
            self.share = max(0.0, self.share - LESS)
        elif self._late:  # a single one is a pause, and over
            self.share = min(MOST, self.share + MORE)
        self._late = late
        self.high = self._full or self.share > 0

    def refusal(self) -> Page | None:
        """What the next request is answered with, where it is not let in."""
        if self._full:
            return pages.EDGE_HOLDS_TOO_MUCH
        self._owed += self.share
        if self._owed < 1:
            return None
        self._owed -= 1
        return pages.EDGE_IS_LATE
