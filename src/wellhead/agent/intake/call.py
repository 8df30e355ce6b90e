"""A stream of ours to the edge, opened as soon as it may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from wellhead.wire.h2 import Fields, H2Sink, H2Stream
from wellhead.wire.h2_frames import ErrorCode
from wellhead.wire.streams import Buffer

HIGH_WATER = 64 * 1024  # bytes kept for a stream that is not open yet, above which the writer is stopped


Open = Callable[[Fields, bool, H2Sink, Fields | None], H2Stream]
"""Opens a stream; the last argument is the rest of its head, a list that may come again."""


class Opener(Protocol):
    """The session, as a call knows it."""

    def open_for(self, call: Call) -> None:
        """Have ``call.opens`` called, now or when there is room; ``call.given_up`` where there is no way."""

    open: Open


class Call:
    """What is said before the stream is open is kept; made by whoever listens to its answer."""

    __slots__ = ("_blocked", "_early", "_fields", "_more", "_over", "_waiting", "ended", "stream")

    def __init__(self, fields: Fields, more: Fields | None = None) -> None:
        self.stream: H2Stream | None = None
        self.ended = False  # our half
        self._fields = fields
        self._more = more
        self._early: list[Buffer] = []
        self._waiting = 0  # bytes of them
        self._blocked = False  # the writer was told to stop
        self._over = False

    # H2Sink

    def on_headers(self, fields: Fields, end: bool) -> None:
        raise NotImplementedError

    def on_data(self, data: Buffer, end: bool) -> None:
        raise NotImplementedError

    def on_reset(self, code: int) -> None:
        raise NotImplementedError

    def on_writable(self) -> None:
        raise NotImplementedError

    def given_up(self) -> None:
        """It will never be open."""
        raise NotImplementedError

    # For the session

    def opens(self, session: Opener) -> None:
        """There is room."""
        if self._over:
            return
        early, self._early = self._early, []
        self._waiting = 0
        at_once = self.ended and not early
        stream = self.stream = session.open(self._fields, at_once, self, self._more)
        last = len(early) - 1
        for number, data in enumerate(early):
            stream.data(data, self.ended and number == last)
        if self._blocked and stream.queued <= HIGH_WATER:
            self._blocked = False
            self.on_writable()

    # For whoever speaks

    @property
    def queued(self) -> int:
        """Bytes that were said and have not left."""
        return self._waiting if self.stream is None else self.stream.queued

    def begin(self, session: Opener, data: Buffer = b"", end: bool = False) -> bool:
        """Open it, with what was said before and these bytes. Returns as ``send`` does."""
        if data:
            self._early.append(data)
            self._waiting += len(data)
        self.ended = self.ended or end
        session.open_for(self)
        stream = self.stream
        return self._has_room() if stream is None else stream.queued <= HIGH_WATER

    def send(self, data: Buffer, end: bool = False) -> bool:
        """Queue bytes; False means: stop until ``on_writable``."""
        if self._over or self.ended:
            return True
        self.ended = end
        if self.stream is not None:
            return self.stream.data(data, end)
        if data:
            self._early.append(data)
            self._waiting += len(data)
        return self._has_room()

    def reset(self, code: int = ErrorCode.CANCEL) -> None:
        """Give it up. Idempotent."""
        self._over = True
        self._early = []
        self._waiting = 0
        if self.stream is not None:
            self.stream.reset(code)

    def _has_room(self) -> bool:
        self._blocked = self._waiting > HIGH_WATER
        return not self._blocked
