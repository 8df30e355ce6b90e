"""One stream of a mux: its window, its queue and its state.

``Mux`` and ``MuxStream`` are one mechanism in two files: each reaches into the other, because a call
less a frame is what their speed is made of.

Source: docs/reference/wire.md, "Streams" and "Windows".
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Protocol

from wellhead.errors import StateError
from wellhead.wire.frames import END, MAX_HEAD, Kind
from wellhead.wire.streams import Buffer, HeadKind, NoSink, Sink

SMALL = 16 * 1024  # bytes; what is larger is never copied, and queued rather than made ready
READY_MAX = 64 * 1024  # body bytes made ready before streams have to queue
HIGH_WATER = 64 * 1024  # queued bytes of a stream above which its writer is asked to stop
LOW_WATER = 16 * 1024  # queued bytes at which it is asked to go on
EAGER_PIECES = 40  # ready pieces that are worth a write: the peer starts on them while we make more

HEADER = struct.Struct("!II").pack
HEADER_U32 = struct.Struct("!III").pack  # of a frame whose payload begins with a number
OPEN, OPEN_END = int(Kind.OPEN), Kind.OPEN | END
DATA, DATA_END = int(Kind.DATA), Kind.DATA | END
HEAD, HEAD_END = int(Kind.HEAD), Kind.HEAD | END
RESET_WORD = 4 << 8 | Kind.RESET

HEAD_KINDS = {  # u8 of the payload and END flag: an interim head never ends a half, trailers always do
    int(HeadKind.INTERIM): HeadKind.INTERIM,
    int(HeadKind.REPLY): HeadKind.REPLY,
    HeadKind.REPLY | END: HeadKind.REPLY,
    HeadKind.TRAILERS | END: HeadKind.TRAILERS,
}
REPLY = int(HeadKind.REPLY)
TRAILERS = int(HeadKind.TRAILERS)

# Flags of a stream.
ENDING = 1  # our side called end
SENT_END = 2  # and the END is on its way
GOT_END = 4
OVER = 8  # reset, either way, or the session is lost
BLOCKED = 16  # the writer was told to stop
HAS_TURN = 32  # waits for its turn
INTERACTIVE = 64
PEERS = 128  # opened by the peer
_CLOSED_OUT = ENDING | OVER

QueuedHead = tuple[HeadKind, bytes]


NO_SINK = NoSink()


class Owner(Protocol):
    """The mux of a stream, as far as the stream knows it."""

    streams: dict[int, MuxStream]
    held: int
    window: int
    _due: int
    _peer_window: int
    _ready: list[Buffer]
    _ready_size: int
    _resets: int
    _woken: bool
    _on_wake: Callable[[], None]

    def _wake(self) -> None: ...

    def _give_turn(self, stream: MuxStream) -> None: ...

    def _announce(self, stream: MuxStream) -> None: ...

    def _forget(self, stream: MuxStream) -> None: ...

    def _count_interactive(self, change: int) -> None: ...


class MuxStream:
    """One stream of a mux; fits ``wire.streams.Stream``. Made by ``Mux.open`` and by the peer only."""

    __slots__ = (
        "_credit",
        "_due",
        "_flags",
        "_mark",
        "_mux",
        "_owed",
        "_queue",
        "_queued",
        "_room",
        "_since",
        "_size",
        "_taken",
        "id",
        "sink",
    )

    def __init__(self, mux: Owner, stream_id: int, sink: Sink, flags: int) -> None:
        self.id = stream_id
        self.sink: Sink = sink
        self._mux = mux
        self._flags = flags
        self._credit = mux._peer_window  # bytes we may send
        self._size = self._room = mux.window  # our window, and what the peer may still send of it
        self._owed = 0  # bytes consumed, credit not yet announced
        self._due = mux._due  # as many of them are announced
        self._queue: deque[Buffer | QueuedHead] | None = None
        self._queued = 0  # body bytes in the queue
        self._mark = 0.0  # when counting of ``_since`` began
        self._since = 0  # bytes consumed since then
        self._taken = 0  # bytes consumed in all, as far as credit for them was announced

    def __repr__(self) -> str:
        return f"MuxStream({self.id}, held={self.held}, queued={self._queued}, credit={self._credit})"

    @property
    def held(self) -> int:
        """Bytes received and not yet consumed."""
        return self._size - self._room - self._owed

    @property
    def queued(self) -> int:
        """Body bytes that wait for credit or for their turn."""
        return self._queued

    @property
    def over(self) -> bool:
        """Both halves have ended, or the stream was reset."""
        return self._flags & OVER != 0 or self._flags & (SENT_END | GOT_END) == SENT_END | GOT_END

    def send(self, data: Buffer, end: bool = False) -> bool:
        """Queue body bytes; False means: stop until ``on_writable`` (everything was taken).

        After a reset it does nothing and returns True.

        Raises:
            StateError: bytes after the end.
        """
        flags = self._flags
        size = len(data)
        mux = self._mux
        if (
            size > SMALL
            or size > self._credit
            or flags & _CLOSED_OUT
            or self._queue
            or mux._ready_size + size > READY_MAX
        ):
            return self._send_slowly(data, end)
        ready = mux._ready
        if end:
            ready.append(HEADER(size << 8 | DATA_END, self.id))
            self._flags = flags | ENDING | SENT_END
            if flags & GOT_END:
                if flags & INTERACTIVE:
                    mux._forget(self)
                else:
                    del mux.streams[self.id]
        elif size:
            ready.append(HEADER(size << 8 | DATA, self.id))
        else:
            return True
        if size:
            ready.append(data)
            self._credit -= size
            mux._ready_size += size
        if not mux._woken or len(ready) > EAGER_PIECES:
            mux._woken = True
            mux._on_wake()
        return True

    def head(self, kind: HeadKind, head: bytes, data: Buffer = b"", end: bool = False) -> bool:
        """Send a message head with first body bytes. Returns as ``send`` does.

        Raises:
            StateError: after the end; a head that is too long; TRAILERS without ``end`` or INTERIM with it.
        """
        flags = self._flags
        length, size = len(head), len(data)
        mux = self._mux
        if (
            kind != REPLY
            or flags & _CLOSED_OUT
            or self._queue
            or length > MAX_HEAD
            or (size and (size > SMALL or size > self._credit or mux._ready_size + size > READY_MAX))
        ):
            return self._head_slowly(kind, head, data, end)
        ready = mux._ready
        if end:
            word = (4 + length + size) << 8 | HEAD_END
            self._flags = flags | ENDING | SENT_END
            if flags & GOT_END:
                if flags & INTERACTIVE:
                    mux._forget(self)
                else:
                    del mux.streams[self.id]
        else:
            word = (4 + length + size) << 8 | HEAD
        ready.append(HEADER_U32(word, self.id, kind << 24 | length))
        ready.append(head)
        if size:
            ready.append(data)
            self._credit -= size
            mux._ready_size += size
        if not mux._woken or len(ready) > EAGER_PIECES:
            mux._woken = True
            mux._on_wake()
        return True

    def reset(self, reason: int) -> None:
        """Give the stream up at once, both ways; what is queued is dropped. Idempotent.

        The sink is not told. On a stream whose halves have both ended it says nothing to the peer, and
        lets go of what was not consumed.
        """
        flags = self._flags
        if flags & OVER:
            return
        mux = self._mux
        was_over = self.over
        self._give_up()
        if was_over:
            return
        del mux.streams[self.id]
        mux._ready.append(HEADER_U32(RESET_WORD, self.id, reason))
        if flags & PEERS:
            mux._resets += 1
        mux._wake()

    def consumed(self, count: int) -> None:
        """Tell that ``count`` received bytes have left our hands: credit for the peer.

        Every received body byte is consumed once, those that came with or before an end too. After a
        reset it does nothing.

        Raises:
            StateError: more bytes than are held.
        """
        flags = self._flags
        if flags & OVER:
            return
        owed = self._owed + count
        if owed + self._room > self._size or count < 0:
            raise StateError(f"{count} bytes consumed, {self.held} are held")
        self._owed = owed
        mux = self._mux
        mux.held -= count
        if owed >= self._due and not flags & GOT_END:
            mux._announce(self)

    def mark_interactive(self) -> None:
        """Send before all streams that are not so marked, and make their turns short."""
        if not self._flags & (OVER | INTERACTIVE) and not self.over:
            self._flags |= INTERACTIVE
            self._mux._count_interactive(1)

    # What is not the common case

    def _give_up(self) -> None:
        self._mux.held -= self.held
        self._owed = self._size - self._room
        flags = self._flags
        if flags & INTERACTIVE:
            self._mux._count_interactive(-1)
        self._flags = flags & (HAS_TURN | PEERS) | OVER
        self._queue = None
        self._queued = 0

    def _send_slowly(self, data: Buffer, end: bool) -> bool:
        flags = self._flags
        if flags & OVER:
            return True
        if flags & ENDING:
            if len(data):
                raise StateError(f"{len(data)} bytes sent on stream {self.id} after its end")
            return True
        if end:
            self._flags = flags | ENDING
        return self._enqueue(data)

    def _head_slowly(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> bool:
        flags = self._flags
        if flags & OVER:
            return True
        if flags & ENDING:
            raise StateError(f"head sent on stream {self.id} after its end")
        if len(head) > MAX_HEAD:
            raise StateError(f"head of {len(head)} bytes, at most {MAX_HEAD} allowed")
        if (kind | END if end else kind) not in HEAD_KINDS:
            raise StateError(f"head of kind {kind} with end={end}")
        if kind == TRAILERS and len(data):
            raise StateError("body bytes beside trailers")
        if end:
            self._flags = flags | ENDING
        if self._queue is None:
            self._queue = deque()
        self._queue.append((kind, head))
        return self._enqueue(data)

    def _enqueue(self, data: Buffer) -> bool:
        """Queue ``data`` (perhaps nothing, behind a head or for an end) and see to a turn."""
        size = len(data)
        queue = self._queue
        if queue is None:
            queue = self._queue = deque()
        if size:
            queue.append(data)
            self._queued += size
        if not self._flags & HAS_TURN and self._can_go():
            self._mux._give_turn(self)
        # Asked after the turn, which may already have written: the writer then never hears ``on_writable``.
        queued = self._queued
        if queued <= HIGH_WATER and queued <= self._credit:
            return True
        self._flags |= BLOCKED
        return False

    def _can_go(self) -> bool:
        """Whether a turn would put something on the wire."""
        queue = self._queue
        if not queue:
            return False
        return self._credit > 0 or isinstance(queue[0], tuple)
