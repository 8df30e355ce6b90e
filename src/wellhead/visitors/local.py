"""A door to what lives beside a house: it opens streams as a session does, without a wire."""

from __future__ import annotations

from collections.abc import Callable

from wellhead.wire.pair import join
from wellhead.wire.streams import Buffer, Sink, Stream, StreamKind

Accept = Callable[[Stream, StreamKind, bytes, Buffer, bool], None]


class LocalDoor:
    """Opens streams on a program in this process; ``accept`` takes their far ends."""

    carrier = ""

    def __init__(self, accept: Accept) -> None:
        self._accept = accept

    def open(
        self,
        kind: StreamKind,
        envelope: bytes,
        sink: Sink,
        data: Buffer = b"",
        end: bool = False,
        *,
        interactive: bool = False,
    ) -> Stream:
        near, far = join(len(data), end)
        near.sink = sink
        self._accept(far, kind, envelope, data, end)
        return near
