"""Sinks of streams that nobody listens to any more."""

from __future__ import annotations

from wellhead.wire.streams import Buffer, HeadKind, Stream


class Deaf:
    """Of a stream whose exchange is over; what its queue still does concerns nobody."""

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None: ...
    def on_data(self, data: Buffer, end: bool) -> None: ...
    def on_reset(self, reason: int) -> None: ...
    def on_writable(self) -> None: ...


DEAF = Deaf()


class Dropping(Deaf):
    """Of a stream whose reply is complete: the rest of the request is taken and dropped.

    A reset would overtake the reply, and unread bytes would hold up the visitor.
    """

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def on_data(self, data: Buffer, end: bool) -> None:
        if data:
            self._stream.consumed(len(data))
