"""Two muxes joined in memory: what one takes, the other receives, chopped as a test likes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from wellhead.wire.mux import Mux, MuxStream, Role
from wellhead.wire.streams import Buffer, HeadKind, StreamKind
from wellhead.wire.window import INITIAL_WINDOW

ROOM = 256 * 1024


@dataclass(eq=False)
class RecordingSink:
    """Writes down what a stream tells; consumes body bytes at once unless ``lazy``."""

    stream: MuxStream | None = None
    lazy: bool = False
    heads: list[tuple[HeadKind, bytes]] = field(default_factory=list)
    pieces: list[Buffer] = field(default_factory=list)
    ended: int = 0
    resets: list[int] = field(default_factory=list)
    writable: int = 0

    @property
    def data(self) -> bytes:
        """All body bytes so far."""
        return b"".join(self.pieces)

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        self.heads.append((kind, head))
        self._take(data, end)

    def on_data(self, data: Buffer, end: bool) -> None:
        self._take(data, end)

    def on_reset(self, reason: int) -> None:
        self.resets.append(reason)

    def on_writable(self) -> None:
        self.writable += 1

    def _take(self, data: Buffer, end: bool) -> None:
        if len(data):
            self.pieces.append(data)
        self.ended += end
        if not self.lazy and self.stream is not None and len(data):
            self.stream.consumed(len(data))


@dataclass(eq=False)
class Accepted:
    """A stream that the peer opened."""

    stream: MuxStream
    sink: RecordingSink
    kind: StreamKind
    envelope: bytes


class End:
    """One mux of a pair, with what its peer opened."""

    def __init__(
        self, role: Role, *, lazy: bool, window: int, window_max: int | None, max_streams: int
    ) -> None:
        self.lazy = lazy
        self.wakes = 0
        self.accepted: list[Accepted] = []
        self.on_accept: Callable[[Accepted, Buffer, bool], None] | None = None
        self.mux = Mux(
            role,
            self._opened,
            self._woken,
            window=window,
            window_max=window_max or 4 * 1024 * 1024,
            max_streams=max_streams,
        )

    def open(
        self,
        envelope: bytes = b"",
        data: Buffer = b"",
        end: bool = False,
        *,
        kind: StreamKind = StreamKind.HTTP,
        interactive: bool = False,
    ) -> tuple[MuxStream, RecordingSink]:
        sink = RecordingSink(lazy=self.lazy)
        stream = self.mux.open(kind, envelope, sink, data, end, interactive=interactive)
        sink.stream = stream
        return stream, sink

    def take(self, room: int = ROOM) -> bytes:
        """What the mux writes in one go."""
        return b"".join(self.mux.take(room))

    def take_all(self) -> bytes:
        """What the mux writes as long as it has something."""
        out = bytearray()
        while self.mux.pending:
            out += self.take()
        return bytes(out)

    def _woken(self) -> None:
        self.wakes += 1

    def _opened(self, stream: MuxStream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
        sink = RecordingSink(stream, self.lazy)
        stream.sink = sink
        accepted = Accepted(stream, sink, kind, envelope)
        self.accepted.append(accepted)
        sink._take(data, end)
        if self.on_accept is not None:
            self.on_accept(accepted, data, end)


class MuxPair:
    """A dialler and an acceptor, their hello already over. ``lazy`` sinks consume nothing by themselves."""

    def __init__(
        self,
        *,
        lazy: bool = False,
        window: int = INITIAL_WINDOW,
        window_max: int | None = None,
        max_streams: int = 65536,
    ) -> None:
        self.dialler, self.acceptor = (
            End(role, lazy=lazy, window=window, window_max=window_max, max_streams=max_streams)
            for role in Role
        )
        for end in (self.dialler, self.acceptor):
            end.mux.start(window)

    @property
    def ends(self) -> tuple[End, End]:
        return self.dialler, self.acceptor

    def carry(self, source: End, room: int = ROOM, chop: int = 0) -> int:
        """Move what ``source`` takes at once, in reads of ``chop`` bytes (0: one read); returns its size."""
        data = source.take(room)
        target = self.acceptor if source is self.dialler else self.dialler
        if data:
            for start in range(0, len(data), chop or len(data)):
                target.mux.receive(data[start : start + (chop or len(data))])
        return len(data)

    def settle(self, chop: int = 0) -> None:
        """Carry both ways until neither end has anything to write."""
        while any(end.mux.pending for end in self.ends):
            for end in self.ends:
                self.carry(end, chop=chop)
