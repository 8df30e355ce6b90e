"""A door whose streams a test holds in its hands."""

from __future__ import annotations

from wellhead.wire.streams import Buffer, HeadKind, Sink, Stream, StreamKind


class FakeStream:
    """Fits ``wire.streams.Stream``; notes what is sent."""

    def __init__(self, kind: StreamKind, envelope: bytes, sink: Sink, data: Buffer, end: bool) -> None:
        self.kind = kind
        self.envelope = envelope
        self.sink = sink
        self.sent = bytes(data)
        self.ended = end
        self.trailers = b""
        self.resets: list[int] = []
        self.credit = 0
        self.full = False  # what send answers: True means stop
        self.interactive = False
        self.queued = 0

    def head(self, kind: HeadKind, head: bytes, data: Buffer = b"", end: bool = False) -> bool:
        assert not self.ended and not self.resets
        self.trailers = head
        self.ended = end
        return True

    def send(self, data: Buffer, end: bool = False) -> bool:
        assert not self.ended and not self.resets
        self.sent += bytes(data)
        self.ended = end
        return not self.full

    def reset(self, reason: int) -> None:
        self.resets.append(reason)

    def consumed(self, count: int) -> None:
        self.credit += count

    def reply(self, head: bytes, data: bytes = b"", end: bool = True) -> None:
        """Answer as an agent does."""
        self.sink.on_head(HeadKind.REPLY, head, data, end)


class FakeDoor:
    """Opens ``FakeStream``s; the last is ``stream``. ``refuses``: resets them at once, for this reason."""

    def __init__(self) -> None:
        self.opened: list[FakeStream] = []
        self.refuses: int | None = None
        self.usable = True
        self.load = 0
        self.held = 0
        self.own_certificate = False
        self.carrier = "mux"

    @property
    def stream(self) -> FakeStream:
        return self.opened[-1]

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
        self.opened.append(FakeStream(kind, envelope, sink, data, end))
        self.stream.interactive = interactive
        if self.refuses is not None:
            sink.on_reset(self.refuses)
        return self.stream

    def open_late(self, kind: StreamKind, envelope: bytes, sink: Sink) -> Stream:
        return self.open(kind, envelope, sink, b"", True)
