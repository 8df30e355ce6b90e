"""A visitor's exchange with a port of a sandbox: its stream, and the sink of the host's.

It stands between the two to see the end, so that what is open of a sandbox is known.
"""

from __future__ import annotations

from wellhead.edge.registry import Live
from wellhead.visitors.memo import Memo
from wellhead.wire.streams import Buffer, HeadKind, Reason, Sink, Stream, StreamKind


class PortLine(Memo):
    """What is open of one sandbox: how many exchanges, and their streams."""

    __slots__ = ("streams",)

    def __init__(self) -> None:
        super().__init__()
        self.streams: set[PortStream] = set()

    def end(self) -> None:
        """End all of them in a way that their visitors can see."""
        for stream in list(self.streams):
            stream.end()


class PortStream:
    """Until ``start`` it is open to nobody: what becomes of it then is the exchange's to say."""

    __slots__ = ("_line", "_stream", "sink")

    def __init__(self, sink: Sink, line: PortLine) -> None:
        self.sink = sink
        self._line = line
        self._stream: Stream | None = None

    def start(
        self, session: Live, kind: StreamKind, envelope: bytes, data: Buffer, end: bool, *, interactive: bool
    ) -> None:
        self._line.streams.add(self)
        self._stream = session.open(kind, envelope, self, data, end, interactive=interactive)

    def end(self) -> None:
        """The sandbox is over."""
        self.reset(Reason.CANCELLED)
        self.sink.on_reset(Reason.REMOVED)

    # Stream

    @property
    def queued(self) -> int:
        return self._stream.queued if self._stream is not None else 0

    def head(self, kind: HeadKind, head: bytes, data: Buffer = b"", end: bool = False) -> bool:
        return self._stream is None or self._stream.head(kind, head, data, end)

    def send(self, data: Buffer, end: bool = False) -> bool:
        return self._stream is None or self._stream.send(data, end)

    def reset(self, reason: int) -> None:
        self._line.streams.discard(self)
        if self._stream is not None:
            self._stream.reset(reason)

    def consumed(self, count: int) -> None:
        if self._stream is not None:
            self._stream.consumed(count)

    # Sink

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        if end:
            self._line.streams.discard(self)
        self.sink.on_head(kind, head, data, end)

    def on_data(self, data: Buffer, end: bool) -> None:
        if end:
            self._line.streams.discard(self)
        self.sink.on_data(data, end)

    def on_reset(self, reason: int) -> None:
        self._line.streams.discard(self)
        self.sink.on_reset(reason)

    def on_writable(self) -> None:
        self.sink.on_writable()
