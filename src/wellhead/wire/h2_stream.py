"""One stream of an HTTP/2 connection: its two windows, its queue and its state.

``H2Connection`` and ``H2Stream`` are one mechanism in several files: each reaches into the other, because
a call less a frame is what their speed is made of.

Source: RFC 9113 sections 5.1, 5.2 and 8.1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from wellhead.errors import StateError
from wellhead.wire.h2_frames import DATA, END_STREAM, MAX_FRAME, ErrorCode, header
from wellhead.wire.h2_guard import H2Terms
from wellhead.wire.hpack import Fields
from wellhead.wire.streams import Buffer, NoSink, unheard
from wellhead.wire.window import is_due

READY_MAX = 64 * 1024  # body bytes made ready before streams have to queue

# Flags of a stream.
ENDING = 1  # our side called end
SENT_END = 2  # and END_STREAM is on its way
GOT_END = 4
OVER = 8  # reset, either way, or the connection is lost
BLOCKED = 16  # the writer was told to stop
HAS_TURN = 32  # waits for its turn
GOT_HEAD = 64  # the peer's final head came: trailers are next
LEAVING = 128  # reset with NO_ERROR as soon as what is queued has gone
HEAD_ONLY = 256  # answers a HEAD: a content-length in it promises nothing
_CLOSED_OUT = ENDING | OVER


class H2Sink(Protocol):
    """What a stream tells its owner. Called inside ``H2Connection.receive``; must not block.

    After an ``end`` flag no more data or headers come; after ``on_reset`` nothing comes at all.
    """

    def on_headers(self, fields: Fields, end: bool) -> None:
        """CLIENT: an interim head, the final head, or trailers (always with ``end``). SERVER: trailers.

        The list may be given out again for another stream: it must not be changed.
        """

    def on_data(self, data: Buffer, end: bool) -> None:
        """Body bytes; ``data`` is empty where only the end came. All of them have to be ``consumed``."""

    def on_reset(self, code: int) -> None:
        """The stream is over: an ``ErrorCode``, a number of another's, or LOST with the connection."""

    def on_writable(self) -> None:
        """After a ``data`` that returned False: the writer may go on."""


class _NoSink(NoSink):
    def on_headers(self, fields: Fields, end: bool) -> None:
        raise unheard()


NO_SINK = _NoSink()


class Owner(Protocol):
    """The connection of a stream, as far as the stream knows it."""

    terms: H2Terms
    held: int
    _streams: dict[int, H2Stream]
    _credit: int
    _ready: list[Buffer]
    _ready_size: int
    _woken: bool
    _wake_driver: Callable[[], None]

    def _wake(self) -> None: ...

    def _put_headers(
        self, stream_id: int, fields: Fields, end: bool, more: Fields | None = None, lead: bytes = b""
    ) -> None: ...

    def _put_credit(self, stream_id: int, count: int) -> None: ...

    def _give_turn(self, stream: H2Stream) -> None: ...

    def _was_reset(self, stream: H2Stream, code: int) -> None: ...

    def _stopped(self, stream_id: int) -> None: ...

    def _count_data(self, frames: int) -> None: ...


class H2Stream:
    """One stream. Made by ``H2Connection.open`` and by the peer only."""

    __slots__ = (
        "_connection",
        "_credit",
        "_flags",
        "_left",
        "_mark",
        "_moved",
        "_owed",
        "_queue",
        "_room",
        "_waiting_since",
        "born",
        "held",
        "id",
        "queued",
        "sink",
    )

    def __init__(
        self, connection: Owner, stream_id: int, sink: H2Sink, credit: int, room: int, now: float
    ) -> None:
        self.id = stream_id
        self.sink: H2Sink = sink
        self.queued = 0  # bytes accepted by ``data`` and not yet given out by ``take``
        self.held = 0  # bytes received and not yet consumed
        self.born = now
        self._connection = connection
        self._flags = 0
        self._credit = credit  # bytes we may send; negative after the peer made its windows smaller
        self._room = room  # bytes the peer may send
        self._owed = 0  # bytes consumed, credit not yet announced
        self._left = -1  # body bytes still to come by content-length; -1: not told
        self._queue: deque[Buffer | Fields] | None = None
        # Of the watch on stalls: what was queued has moved so far, and how far it had at the last look.
        self._moved = 0
        self._mark = 0
        self._waiting_since = 0.0

    def __repr__(self) -> str:
        return f"H2Stream({self.id}, held={self.held}, queued={self.queued}, credit={self._credit})"

    @property
    def over(self) -> bool:
        """Both halves have ended, or the stream was reset."""
        return self._flags & OVER != 0 or self._flags & (SENT_END | GOT_END) == SENT_END | GOT_END

    @property
    def credit(self) -> int:
        """Body bytes that the peer's window of this stream takes now; below zero after it made it smaller."""
        return self._credit

    def headers(
        self, fields: Fields, end: bool = False, more: Fields | None = None, lead: bytes = b""
    ) -> None:
        """Send a head, an interim head, or trailers (with ``end``). After a reset it does nothing.

        The same list may be sent again and then costs next to nothing; it must not be changed. Where only
        a part repeats, it is ``more`` and goes behind ``fields``; or the other part is a ``lead`` of a first
        head, in front of all fields (see ``hpack.spelled``).

        Raises:
            StateError: after the end.
        """
        flags = self._flags
        if flags & _CLOSED_OUT:
            if flags & OVER:
                return
            raise StateError(f"head sent on stream {self.id} after its end")
        if self._queue:
            self._queue.append(fields if more is None else fields + more)
            if end:
                self._flags = flags | ENDING
            return
        self._connection._put_headers(self.id, fields, end, more, lead)
        if end:
            self._flags = flags | ENDING
            self._sent_end()

    def data(self, data: Buffer, end: bool = False) -> bool:
        """Queue body bytes; False means: stop until ``on_writable`` (everything was taken).

        After a reset it does nothing and returns True.

        Raises:
            StateError: bytes after the end.
        """
        flags = self._flags
        size = len(data)
        connection = self._connection
        if (
            size > MAX_FRAME
            or size > self._credit
            or size > connection._credit
            or flags & _CLOSED_OUT
            or self._queue
            or connection._ready_size + size > READY_MAX
        ):
            return self._data_slowly(data, end)
        if not size and not end:
            return True
        ready = connection._ready
        ready.append(header(size << 8 | DATA, END_STREAM if end else 0, self.id))
        if size:
            ready.append(data)
            self._credit -= size
            connection._credit -= size
            connection._ready_size += size
        connection._count_data(1)
        if end:
            self._flags = flags | ENDING
            self._sent_end()
        if not connection._woken:
            connection._wake()
        return True

    def whole(self, data: Buffer, end: bool = False) -> bool:
        """Send all of ``data`` now, nothing between its frames; False: the windows do not take it, none went.

        For a peer that credits a message only when it has it all. After a reset it does nothing and
        returns True.

        Raises:
            StateError: after the end.
        """
        flags, size, connection = self._flags, len(data), self._connection
        if flags & _CLOSED_OUT:
            if flags & OVER:
                return True
            raise StateError(f"{size} bytes sent on stream {self.id} after its end")
        if self._queue or size > self._credit or size > connection._credit:
            return False
        ready = connection._ready
        last = max(0, size - 1) // MAX_FRAME * MAX_FRAME
        for at in range(0, last + 1, MAX_FRAME):
            piece = data[at : at + MAX_FRAME] if last else data
            ending = END_STREAM if end and at == last else 0
            ready += (header(len(piece) << 8 | DATA, ending, self.id), piece)
        self._credit -= size
        connection._credit -= size
        connection._ready_size += size
        connection._count_data(last // MAX_FRAME + 1)
        if end:
            self._flags = flags | ENDING
            self._sent_end()
        connection._wake()
        return True

    def reset(self, code: int) -> None:
        """Give the stream up at once, both ways; what is queued is dropped. Idempotent; the sink is not told.

        NO_ERROR behind an end of ours means: the reply is whole, the rest of the request is not wanted
        (RFC 9113 section 8.1). Then what is queued still goes out, and what comes in is thrown away.
        """
        flags = self._flags
        if flags & (OVER | LEAVING):
            return
        if code == ErrorCode.NO_ERROR and flags & (ENDING | SENT_END | GOT_END) == ENDING:
            self._flags = flags | LEAVING
            self._let_go()
            return
        was_over = self.over
        self._give_up()
        if not was_over:
            self._connection._was_reset(self, code)

    def consumed(self, count: int) -> None:
        """Tell that ``count`` received bytes have left our hands: credit for the peer.

        After a reset it does nothing.

        Raises:
            StateError: more bytes than are held.
        """
        if self._flags & (OVER | LEAVING):
            return
        if not 0 <= count <= self.held:
            raise StateError(f"{count} bytes consumed, {self.held} are held")
        self.held -= count
        connection = self._connection
        connection.held -= count
        if not self._flags & GOT_END:
            self._owe(count)

    def stopped(self) -> None:
        """The work behind a stream that was reset has really ended; idempotent.

        Until then, or for ``linger_seconds``, it counts as running: else a peer that opens and resets
        could keep far more work going than it may have streams.
        """
        self._connection._stopped(self.id)

    # What is not the common case

    def _owe(self, count: int) -> None:
        owed = self._owed = self._owed + count
        if owed and not self._flags & GOT_END and is_due(owed, self._connection.terms.window):
            self._owed = 0
            self._room += owed
            self._connection._put_credit(self.id, owed)

    def _sent_end(self) -> None:
        """END_STREAM is on its way."""
        flags = self._flags = self._flags | SENT_END
        if flags & GOT_END:
            self._connection._streams.pop(self.id, None)
            self.sink = NO_SINK  # most sinks know their stream: a circle that only a collection would free
        elif flags & LEAVING:
            self._give_up()
            self._connection._was_reset(self, ErrorCode.NO_ERROR)

    def _let_go(self) -> None:
        """Nobody will consume what is held."""
        self._connection.held -= self.held
        self.held = 0

    def _give_up(self) -> None:
        self._let_go()
        self._flags = self._flags & (HAS_TURN | LEAVING) | OVER
        self._queue = None
        self.queued = 0

    def _data_slowly(self, data: Buffer, end: bool) -> bool:
        flags = self._flags
        size = len(data)
        if flags & OVER or not (size or end):
            return True
        if flags & ENDING:
            if size:
                raise StateError(f"{size} bytes sent on stream {self.id} after its end")
            return True
        if end:
            self._flags = flags | ENDING
        queue = self._queue
        if queue is None:
            queue = self._queue = deque()
        if size:
            if not queue:
                self._waiting_since = 0.0
            queue.append(data)
            self.queued += size
        elif not queue:  # an end without bytes needs no window, not even one that is below zero
            self._connection._ready.append(header(DATA, END_STREAM, self.id))
            self._sent_end()
            self._connection._wake()
            return True
        if not self._flags & HAS_TURN and self._can_go():
            self._connection._give_turn(self)
        # Asked after the turn, which may already have written: the writer then never hears ``on_writable``.
        if self.queued <= self._connection.terms.high_water:
            return True
        self._flags |= BLOCKED
        return False

    def _can_go(self) -> bool:
        """Whether a turn would put something on the wire, as far as this stream's window is concerned."""
        queue = self._queue
        if not queue:
            return False
        return self._credit > 0 or isinstance(queue[0], list)

    def _take_turn(self, out: list[Buffer], budget: int) -> int:
        """Put frames into ``out``; returns how many body bytes, at most ``budget``."""
        queue = self._queue
        taken = frames = 0
        while queue:
            item = queue[0]
            ending = self._flags & ENDING and len(queue) == 1
            if isinstance(item, list):
                # Its block has to be the next one on the wire, so it goes by way of the ready frames.
                queue.popleft()
                self._connection._put_headers(self.id, item, bool(ending))
                out += self._connection._ready
                self._connection._ready.clear()
            else:
                size = min(len(item), budget - taken, MAX_FRAME)
                if size <= 0:
                    break
                if size < len(item):
                    view = memoryview(item)
                    item, queue[0] = view[:size], view[size:]
                    ending = 0
                else:
                    queue.popleft()
                out.append(header(size << 8 | DATA, END_STREAM if ending else 0, self.id))
                out.append(item)
                taken += size
                frames += 1
            if ending:
                self._sent_end()
        self._connection._count_data(frames)
        self._credit -= taken
        self._moved += taken
        if not self._flags & OVER:
            self.queued -= taken
        return taken
