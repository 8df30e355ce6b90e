"""Many streams over one connection: the native carrier, without I/O, clock or tasks.

A driver owns a ``Mux`` and a transport::

    mux = Mux(Role.ACCEPTOR, on_open, on_wake)
    mux.on_control = ...             hello, welcome and refused come and go as (kind, payload)
    mux.start(peer_window)           once the hello is accepted: streams may be opened both ways
    mux.now = clock()                before each receive, for the round-trip time
    mux.receive(data)                calls the sinks; raises ProtocolError when the peer broke the rules
    mux.take(room) -> list[Buffer]   what to write now, asked for after on_wake() and while ``pending``
    mux.lost(reason)                 the connection is over: every sink is told

What arrives goes from the parser into the sink in one call; what is small and allowed goes from ``send``
into the list of ready pieces in two appends. A stream has a queue only while it sends more than the peer
or the connection takes. Sinks may call anything of any stream, and open new ones, from inside ``receive``
and ``take``.

Order on the wire: control frames; ready frames as they were made; then queued data, one quantum per
stream in turn, streams marked interactive before the others.

Bounds: received and not consumed, per stream its window and in all ``held_max``; queued, what a writer
hands over before it heeds False; nothing is remembered of a stream that is over.

Source: docs/reference/wire.md.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable

from wellhead.errors import FlowError, FrameError, HelloError, ProtocolError, SessionLost, StateError
from wellhead.wire.frames import END, LIMITS, MAX_DATA, MAX_HEAD, MAX_MESSAGE, Kind, check_header
from wellhead.wire.messages import GoAway
from wellhead.wire.muxstream import (
    BLOCKED,
    DATA,
    DATA_END,
    EAGER_PIECES,
    ENDING,
    GOT_END,
    HAS_TURN,
    HEAD,
    HEAD_END,
    HEAD_KINDS,
    HEADER,
    HEADER_U32,
    INTERACTIVE,
    NO_SINK,
    OPEN,
    OPEN_END,
    OVER,
    PEERS,
    READY_MAX,
    RESET_WORD,
    SENT_END,
    SMALL,
    TRAILERS,
    MuxStream,
)
from wellhead.wire.streams import Buffer, Reason, Sink, StreamKind, tell_reset
from wellhead.wire.turns import Turns
from wellhead.wire.window import INITIAL_WINDOW, LARGEST_GROWN, due, fitted, granted, lag, may_grow

__all__ = ["HELD_MAX", "MAX_PONGS", "MAX_RESETS", "MAX_STREAMS", "Mux", "MuxStream", "Role", "is_answer"]

MAX_STREAMS = 65536  # live streams, opened by either side
HELD_MAX = 32 * 1024 * 1024  # bytes received and not consumed, all streams together
MAX_PONGS = 1000  # answers to PING that wait to be written
MAX_RESETS = 65536  # resets of the peer's streams that wait to be written
PROBE_SECONDS = 1.0  # between two measurements of the round-trip time while credit flows

_unpack = struct.Struct("!II").unpack_from
_unpack_3 = struct.Struct("!III").unpack_from
_unpack_u32 = struct.Struct("!I").unpack_from

_CREDIT_WORD = 4 << 8 | Kind.CREDIT
_PING_HEADER = HEADER(8 << 8 | Kind.PING, 0)
_PONG_HEADER = HEADER(8 << 8 | Kind.PONG, 0)
_PONG_WORD = _PONG_HEADER[:4]
_HELLOS = (Kind.HELLO, Kind.WELCOME, Kind.REFUSED)
_STREAM_KINDS = {int(kind): kind for kind in StreamKind}

_ID_MASK = 0xFFFFFFFF
_AHEAD = 0x80000000  # an id less than this ahead of another is later


class Role(enum.Enum):
    """Which end of the connection this is."""

    DIALLER = "dialler"  # opens odd stream ids; sends HELLO
    ACCEPTOR = "acceptor"  # opens even stream ids; answers WELCOME or REFUSED


OnOpen = Callable[[MuxStream, StreamKind, bytes, Buffer, bool], None]
OnControl = Callable[[int, bytes], None]
OnGoAway = Callable[[int, int, str], None]


class Mux:
    """One end of a session. Not for use from several threads.

    ``on_open(stream, kind, envelope, data, end)`` hears of every stream the peer opens, and sets its
    ``sink`` or resets it before it returns. ``on_wake()`` is called when there is something to write
    and nothing was announced since the last ``take``, and again when enough is ready to be worth a
    write of its own; it may call ``take`` at once, unless it is called
    inside ``receive`` and the driver rather writes when the read is used up.

    ``window`` is what we let the peer send on a new stream (announced in our hello or welcome),
    ``window_max`` what a window may grow to, ``max_streams`` how many streams may live before the
    peer's new ones are refused, ``held_max`` how many bytes all sinks together may hold before the
    stream that holds most is reset as OVERLOADED. All sizes in bytes.

    ``now`` is the driver's clock in seconds, monotonic; while it stays 0 no round trip is measured and
    no window grows. ``rtt_min`` is the smallest round trip seen, in seconds.
    """

    __slots__ = (
        "_control",
        "_due",
        "_failed",
        "_left",
        "_left_end",
        "_left_stream",
        "_limit",
        "_may_open",
        "_need",
        "_next_id",
        "_next_peer_id",
        "_on_open",
        "_on_wake",
        "_partial",
        "_peer_window",
        "_ping_payload",
        "_pinged",
        "_pongs",
        "_ready",
        "_ready_size",
        "_resets",
        "_resuming",
        "_sent_goaway",
        "_started",
        "_turns",
        "_woken",
        "held",
        "held_max",
        "is_lost",
        "max_streams",
        "now",
        "on_control",
        "on_goaway",
        "on_pong",
        "role",
        "rtt_min",
        "streams",
        "window",
        "window_max",
    )

    def __init__(
        self,
        role: Role,
        on_open: OnOpen,
        on_wake: Callable[[], None],
        *,
        window: int = INITIAL_WINDOW,
        window_max: int = LARGEST_GROWN,
        max_streams: int = MAX_STREAMS,
        held_max: int = HELD_MAX,
    ) -> None:
        self.role = role
        self.window = window
        self.window_max = max(window, window_max)
        self.max_streams = max_streams
        self.held_max = held_max
        self.streams: dict[int, MuxStream] = {}  # live ones, by id
        self.held = 0  # bytes received and not yet consumed, all streams
        self.now = 0.0
        self.rtt_min: float | None = None
        self.is_lost = False
        self.on_control: OnControl | None = None
        self.on_goaway: OnGoAway | None = None
        self.on_pong: Callable[[float], None] | None = None
        self._on_open = on_open
        self._on_wake = on_wake
        self._started = False
        self._may_open = False
        self._peer_window = INITIAL_WINDOW
        self._due = due(window, None)  # bytes owed at which a new stream announces credit
        self._next_id = 1 if role is Role.DIALLER else 2
        self._next_peer_id = 2 if role is Role.DIALLER else 1
        self._limit = -1  # live streams from which on an OPEN is looked at closely
        # Towards the network
        self._woken = False
        self._control: list[bytes] = []
        self._ready: list[Buffer] = []
        self._ready_size = 0  # body bytes among them
        self._turns = Turns()
        self._pongs = 0
        self._resets = 0
        self._sent_goaway = False
        self._pinged = 0.0
        self._ping_payload = b""
        # From the network
        self._resuming = False  # inside a frame, or failed
        self._failed = False
        self._partial = bytearray()  # the begin of a frame that has to be whole
        self._need = 0  # bytes of it to wait for
        self._left = 0  # bytes to come of a DATA frame that is handed on in pieces
        self._left_stream: MuxStream | None = None  # whose they are; None when nobody wants them
        self._left_end = False

    # What the program asks for

    @property
    def pending(self) -> bool:
        """Whether ``take`` would give something."""
        return bool(self._ready or self._control or self._turns)

    def start(self, peer_window: int) -> None:
        """The hello is accepted: streams may be opened, with ``peer_window`` bytes of credit each.

        The dialler calls it inside ``on_control`` for WELCOME, for an OPEN may follow in the same read.

        Raises:
            StateError: called twice.
        """
        if self._started:
            raise StateError("the session was started before")
        self._started = self._may_open = True
        self._peer_window = peer_window
        self._limit = self.max_streams
        if self.role is Role.DIALLER and self.now:
            self.ping(self.now)

    def open(
        self,
        kind: StreamKind,
        envelope: bytes,
        sink: Sink,
        data: Buffer = b"",
        end: bool = False,
        *,
        interactive: bool = False,
    ) -> MuxStream:
        """Open a stream; ``data`` are its first body bytes, ``end`` says that these are all.

        An ``interactive`` stream sends before all others, and makes their turns short.

        Raises:
            StateError: before ``start``, after ``goaway``, or an envelope that is too long.
            SessionLost: after ``lost``.
        """
        length, size = len(envelope), len(data)
        if not self._may_open or length > MAX_HEAD:
            raise self._why_not(length)
        stream_id = self._next_id
        streams = self.streams
        if stream_id in streams:  # after all ids were given once
            while stream_id in streams:
                stream_id = _id_after(stream_id)
        self._next_id = stream_id + 2 if stream_id < 0xFFFFFFFE else _id_after(stream_id)
        stream = MuxStream(self, stream_id, sink, 0)
        streams[stream_id] = stream
        if interactive:
            stream._flags = INTERACTIVE
            self._turns.interactive_open += 1
        ready = self._ready
        if size:
            if size > SMALL or size > stream._credit or self._ready_size + size > READY_MAX:
                ready.append(HEADER_U32((4 + length) << 8 | OPEN, stream_id, kind << 24 | length))
                ready.append(envelope)
                stream._send_slowly(data, end)
                self._wake()
                return stream
            stream._credit -= size
            self._ready_size += size
        if end:
            stream._flags |= ENDING | SENT_END
            word = (4 + length + size) << 8 | OPEN_END
        else:
            word = (4 + length + size) << 8 | OPEN
        ready.append(HEADER_U32(word, stream_id, kind << 24 | length))
        ready.append(envelope)
        if size:
            ready.append(data)
        if not self._woken or len(ready) > EAGER_PIECES:
            self._woken = True
            self._on_wake()
        return stream

    def open_late(self, kind: StreamKind, envelope: bytes, sink: Sink) -> MuxStream:
        """As ``open`` without a body, and after ``goaway`` too: for what belongs to a stream that runs.

        Raises:
            StateError: before ``start``, or an envelope that is too long.
            SessionLost: after ``lost``.
        """
        may_open, self._may_open = self._may_open, self._started and not self.is_lost
        try:
            return self.open(kind, envelope, sink, b"", True)
        finally:
            self._may_open = may_open

    def control(self, kind: int, payload: bytes) -> None:
        """Send HELLO, WELCOME or REFUSED."""
        if kind not in _HELLOS or len(payload) > LIMITS[kind]:
            raise StateError(f"{len(payload)} bytes of kind {kind} are no control frame")
        self._put_control(HEADER(len(payload) << 8 | kind, 0) + payload)

    def ping(self, now: float) -> None:
        """Ask the peer for a sign of life at ``now`` (seconds, monotonic); ``on_pong(rtt)`` hears of it."""
        self._pinged = now
        self._ping_payload = struct.pack("!d", now)
        self._put_control(_PING_HEADER + self._ping_payload)

    def goaway(self, reason: int, retry_after_ms: int = 0, text: str = "") -> None:
        """Say that we open no new streams and want none; what runs may finish."""
        self._sent_goaway = True
        self._may_open = False
        payload = GoAway(reason, retry_after_ms, text).encode()
        self._ready.append(HEADER(len(payload) << 8 | Kind.GOAWAY, 0) + payload)
        self._wake()

    def lost(self, reason: int = Reason.SESSION_LOST) -> None:
        """The connection is over: every live stream's sink hears ``on_reset(reason)``. Idempotent."""
        self.is_lost = self._failed = self._resuming = True
        self._may_open = False
        self._limit = -1
        streams = list(self.streams.values())
        self.streams.clear()
        for stream in streams:
            stream._give_up()
        self._control, self._ready = [], []
        self._ready_size = 0
        self._turns.clear()
        self._partial.clear()
        self._left_stream = None
        tell_reset((stream.sink for stream in streams), reason)

    # To the network

    def take(self, room: int) -> list[Buffer]:
        """What to write now, in order; empty when there is nothing.

        Control and ready frames come whole (of body bytes at most READY_MAX among them). Queued data
        follows until ``room`` bytes of it and of ready body bytes are taken; the last frame may pass
        ``room`` by SHORT_QUANTUM, or by as much again where that is less. Pieces over SMALL are the very
        objects that were sent, or views of them. Writers that waited hear ``on_writable`` before it
        returns; ask ``pending`` after it.
        """
        out: list[Buffer] = self._ready
        self._ready = []
        if self._control:
            out = [*self._control, *out]
            self._control = []
            self._pongs = 0
        self._resets = 0
        room -= self._ready_size
        self._ready_size = 0
        if self._turns:
            writable = self._turns.take(out, room)
            if writable:
                self._call_writers(writable)
        self._woken = False
        return out

    def _call_writers(self, writable: list[MuxStream]) -> None:
        on_wake, self._on_wake = self._on_wake, _nothing  # a take inside a take would be written before it
        try:
            for stream in writable:
                if stream._flags & (BLOCKED | OVER) == BLOCKED:
                    stream._flags &= ~BLOCKED
                    stream.sink.on_writable()
        finally:
            self._on_wake = on_wake

    def _give_turn(self, stream: MuxStream) -> None:
        self._turns.give(stream)
        self._wake()

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            self._on_wake()

    def _put_control(self, frame: bytes) -> None:
        self._control.append(frame)
        self._wake()

    def _forget(self, stream: MuxStream) -> None:
        """Both halves of ``stream`` have ended."""
        del self.streams[stream.id]
        if stream._flags & INTERACTIVE:
            stream._flags &= ~INTERACTIVE
            self._turns.interactive_open -= 1

    def _count_interactive(self, change: int) -> None:
        self._turns.interactive_open += change

    def _announce(self, stream: MuxStream) -> None:
        """Give the peer the credit that ``stream`` owes; more or less where its window does not fit."""
        now = self.now
        credit = stream._owed
        stream._since += credit
        stream._taken += credit
        rtt = self.rtt_min
        if rtt is not None and now - stream._mark >= rtt:
            if stream._mark:
                grows = self.held * 2 < self.held_max and may_grow(stream._taken, rtt)
                largest = self.window_max if grows else stream._size
                took = now - stream._mark
                delay = lag(stream._taken, rtt, len(self.streams) == 1)
                size = fitted(stream._size, stream._since, took, delay, self.window, largest)
                size = max(size, stream._size - credit + 1)  # credit of nothing is an error
                credit += size - stream._size
                stream._size = size
            stream._mark = now
            stream._since = 0
        stream._due = due(stream._size, rtt)
        stream._owed = 0
        stream._room += credit
        self._put_control(HEADER_U32(_CREDIT_WORD, stream.id, credit))
        if now and not self._ping_payload and (rtt is None or now - self._pinged >= PROBE_SECONDS):
            self.ping(now)

    def _why_not(self, length: int) -> StateError | SessionLost:
        if self.is_lost:
            return SessionLost("the session is over")
        if self._sent_goaway:
            return StateError("a stream opened after goaway")
        if not self._started:
            return StateError("a stream opened before the hello was accepted")
        return StateError(f"envelope of {length} bytes, at most {MAX_HEAD} allowed")

    # From the network

    def receive(self, data: bytes) -> None:
        """Take what the network brought, however it was chopped, and call the sinks.

        After it raised it ignores everything: the session has to end.

        Raises:
            ProtocolError: the peer broke the rules. Whatever else comes out of it came out of a sink.
        """
        try:
            self._parse(data, self._resume(data) if self._resuming else 0)
            if self.held > self.held_max:
                self._shed()
            if self._resets > MAX_RESETS:
                raise ProtocolError(f"{self._resets} resets wait to be written, at most {MAX_RESETS} allowed")
        except BaseException:
            self._failed = self._resuming = True
            raise

    def _parse(self, data: bytes, start: int) -> None:
        """Read frames from ``start`` on; keep what is not whole. The loop everything hangs on."""
        size = len(data)
        streams = self.streams
        find = streams.get
        first_bytes: Buffer
        first_word = 0
        while True:
            body = start + 8
            if body + 4 <= size:
                word, stream_id, first_word = _unpack_3(data, start)  # most payloads begin with a number
            elif body <= size:
                word, stream_id = _unpack(data, start)
            else:
                break
            kind = word & 0xFF
            length = word >> 8
            stop = body + length

            if kind == HEAD_END or kind == HEAD:
                if stop > size or length > MAX_MESSAGE:
                    break
                start = stop
                stream = find(stream_id)
                if stream is None:
                    self._check_was_opened(stream_id)
                    continue
                if length < 4:
                    raise FrameError(f"HEAD payload of {length} bytes, at least 4 expected")
                head_kind = HEAD_KINDS.get(first_word >> 24 | kind & END)
                head_length = first_word & 0xFFFFFF
                first = body + 4 + head_length
                flags = stream._flags
                if flags & GOT_END:
                    raise FrameError(f"HEAD after the end of stream {stream_id}")
                if first > stop or head_length > MAX_HEAD:
                    raise _bad_length("head", head_length, length)
                if head_kind is None:
                    raise FrameError(
                        f"head of kind {first_word >> 24} with END={kind == HEAD_END} is not known"
                    )
                count = stop - first
                if not count:
                    first_bytes = b""
                else:
                    if count > stream._room:
                        raise _too_much(stream, count)
                    if head_kind == TRAILERS:
                        raise FrameError("body bytes beside trailers")
                    stream._room -= count
                    self.held += count
                    first_bytes = data[first:stop] if count <= SMALL else memoryview(data)[first:stop]
                if kind == HEAD_END:
                    stream._flags = flags | GOT_END
                    if flags & SENT_END:
                        if flags & INTERACTIVE:
                            self._forget(stream)
                        else:
                            del streams[stream_id]
                    stream.sink.on_head(head_kind, data[body + 4 : first], first_bytes, True)
                else:
                    stream.sink.on_head(head_kind, data[body + 4 : first], first_bytes, False)

            elif kind == OPEN_END or kind == OPEN:
                if stop > size or length > MAX_MESSAGE:
                    break
                start = stop
                if length < 4:
                    raise FrameError(f"OPEN payload of {length} bytes, at least 4 expected")
                envelope_length = first_word & 0xFFFFFF
                first = body + 4 + envelope_length
                if first > stop or envelope_length > MAX_HEAD:
                    raise _bad_length("envelope", envelope_length, length)
                stream_kind = _STREAM_KINDS.get(first_word >> 24)
                if (
                    stream_id != self._next_peer_id
                    or stream_id in streams
                    or len(streams) >= self._limit
                    or stream_kind is None
                ):
                    if not self._may_be_opened(stream_id) or stream_kind is None:
                        self._refuse(stream_id)
                        continue
                self._next_peer_id = stream_id + 2
                stream = MuxStream(self, stream_id, NO_SINK, PEERS if kind == OPEN else PEERS | GOT_END)
                streams[stream_id] = stream
                count = stop - first
                if not count:
                    first_bytes = b""
                else:
                    if count > stream._room:
                        raise _too_much(stream, count)
                    stream._room -= count
                    self.held += count
                    first_bytes = data[first:stop] if count <= SMALL else memoryview(data)[first:stop]
                self._on_open(stream, stream_kind, data[body + 4 : first], first_bytes, kind == OPEN_END)

            elif kind == DATA or kind == DATA_END:
                if length > MAX_DATA:
                    break
                stream = find(stream_id)
                if stream is None:
                    self._check_was_opened(stream_id)
                    if stop > size:
                        return self._begin_data(None, data, body, length, False)
                    start = stop
                    continue
                flags = stream._flags
                if flags & GOT_END:
                    raise FrameError(f"DATA after the end of stream {stream_id}")
                if length > stream._room:
                    raise _too_much(stream, length)
                if stop > size:
                    return self._begin_data(stream, data, body, length, kind == DATA_END)
                start = stop
                if length:
                    stream._room -= length
                    self.held += length
                    first_bytes = data[body:stop] if length <= SMALL else memoryview(data)[body:stop]
                elif kind == DATA:
                    raise FrameError("DATA frame without bytes and without END")
                else:
                    first_bytes = b""
                if kind == DATA_END:
                    stream._flags = flags | GOT_END
                    if flags & SENT_END:
                        self._forget(stream)
                    stream.sink.on_data(first_bytes, True)
                else:
                    stream.sink.on_data(first_bytes, False)

            else:
                number = check_header(word)[0]
                if stop > size:
                    break
                start = stop
                self._other_frame(number, stream_id, data[body:stop])
        if start < size:
            self._keep(data, start)

    # Frames that do not end where a read ends

    def _keep(self, data: bytes, start: int) -> None:
        """Wait for the rest of a frame that has to be whole; its header is checked as soon as it is there."""
        self._need = 8
        if len(data) - start >= 8:
            self._need += check_header(_unpack(data, start)[0])[2]
        self._partial += memoryview(data)[start:]
        self._resuming = True

    def _resume(self, data: bytes) -> int:
        """Go on with the frame that the last read cut; returns where the next one starts."""
        start, size = 0, len(data)
        while self._resuming and start < size:
            if self._failed:
                return size
            if self._left:
                start = self._more_data(data, start)
                continue
            partial = self._partial
            stop = min(size, start + self._need - len(partial))
            partial += memoryview(data)[start:stop]
            start = stop
            if len(partial) == self._need:
                self._partial = bytearray()
                self._resuming = False
                self._parse(bytes(partial), 0)
        return start

    def _begin_data(self, stream: MuxStream | None, data: bytes, body: int, length: int, end: bool) -> None:
        """The header of a DATA frame is here, its payload not all of it."""
        self._left = length
        self._left_stream = stream
        self._left_end = end
        self._resuming = True
        if body < len(data):
            self._more_data(data, body)

    def _more_data(self, data: bytes, start: int) -> int:
        """Hand on payload of the DATA frame under way; returns where it stops."""
        size = len(data)
        stop = min(size, start + self._left)
        count = stop - start
        self._left -= count
        stream = self._left_stream
        if not self._left:
            self._left_stream = None
            self._resuming = False
        if stream is None or stream._flags & OVER:
            return stop
        stream._room -= count
        self.held += count
        piece: Buffer
        if count == size:
            piece = data
        else:
            piece = data[start:stop] if count <= SMALL else memoryview(data)[start:stop]
        end = self._left_end and not self._left
        if end:
            stream._flags |= GOT_END
            if stream._flags & SENT_END:
                self._forget(stream)
        stream.sink.on_data(piece, end)
        return stop

    # What is not the common case

    def _may_be_opened(self, stream_id: int) -> bool:
        """Whether an OPEN that looked unusual is lawful; False where it has to be refused."""
        if self.is_lost:
            return False
        if not self._started:
            raise HelloError("OPEN before the hello was accepted")
        if stream_id == 0 or (stream_id ^ self._next_peer_id) & 1:
            raise FrameError(f"OPEN of stream {stream_id}, which is not the peer's to open")
        if stream_id in self.streams:
            raise FrameError(f"OPEN of stream {stream_id}, which is open")
        if not _is_later(stream_id, self._next_peer_id - 2):
            raise FrameError(f"OPEN of stream {stream_id} after {self._next_peer_id - 2}")
        return len(self.streams) < self._limit

    def _refuse(self, stream_id: int) -> None:
        if self.is_lost:
            return
        self._next_peer_id = stream_id + 2
        self._resets += 1
        self._ready.append(HEADER_U32(RESET_WORD, stream_id, Reason.REFUSED))
        self._wake()

    def _check_was_opened(self, stream_id: int) -> None:
        """A frame for no live stream: late, and dropped, where the stream is over; else an error."""
        if stream_id == 0:
            raise FrameError("a stream's frame on stream 0")
        next_id = self._next_peer_id if (stream_id ^ self._next_id) & 1 else self._next_id
        if _is_later(stream_id, next_id - 2):
            raise FrameError(f"a frame of stream {stream_id}, which was never opened")

    def _other_frame(self, kind: Kind, stream_id: int, payload: bytes) -> None:
        """A whole frame that is not OPEN, DATA or HEAD."""
        if kind is Kind.CREDIT or kind is Kind.RESET:
            if len(payload) != 4:
                raise FrameError(f"{kind.name} payload of {len(payload)} bytes, 4 expected")
            (number,) = _unpack_u32(payload)
            stream = self.streams.get(stream_id)
            if stream is None:
                self._check_was_opened(stream_id)
            elif kind is Kind.CREDIT:
                self._got_credit(stream, number)
            else:
                del self.streams[stream_id]
                stream._give_up()
                stream.sink.on_reset(number)
            return
        if stream_id:
            raise FrameError(f"{kind.name} on stream {stream_id}, only 0 allowed")
        if kind is Kind.GOAWAY:
            message = GoAway.decode(payload)
            if self.on_goaway is not None:
                self.on_goaway(message.reason, message.retry_after_ms, message.text)
        elif kind is Kind.PING or kind is Kind.PONG:
            if len(payload) != 8:
                raise FrameError(f"{kind.name} payload of {len(payload)} bytes, 8 expected")
            if kind is Kind.PING:
                self._got_ping(payload)
            else:
                self._got_pong(payload)
        else:
            self._got_hello(kind, payload)

    def _got_credit(self, stream: MuxStream, credit: int) -> None:
        stream._credit = granted(stream._credit, credit)
        if not stream._flags & HAS_TURN and stream._can_go():
            self._give_turn(stream)

    def _got_ping(self, payload: bytes) -> None:
        self._pongs += 1
        if self._pongs > MAX_PONGS:
            raise ProtocolError(f"{self._pongs} pings wait for their answer, at most {MAX_PONGS} allowed")
        if self._started and self.now and self.rtt_min is None and not self._ping_payload:
            self.ping(self.now)
        self._put_control(_PONG_HEADER + payload)

    def _got_pong(self, payload: bytes) -> None:
        if payload != self._ping_payload:
            return  # of an older ping, or of none
        self._ping_payload = b""
        rtt = max(0.0, self.now - self._pinged)
        if self.rtt_min is None or rtt < self.rtt_min:
            self.rtt_min = rtt
            self._due = due(self.window, rtt)
        if self.on_pong is not None:
            self.on_pong(rtt)

    def _got_hello(self, kind: Kind, payload: bytes) -> None:
        if (kind is Kind.HELLO) is not (self.role is Role.ACCEPTOR):
            raise HelloError(f"{kind.name} sent to the {self.role.value}")
        if self._started:
            raise HelloError(f"{kind.name} after the hello was accepted")
        if self.on_control is None:
            raise HelloError(f"{kind.name} where nobody expects one")
        self.on_control(kind, payload)

    def _shed(self) -> None:
        """Reset the streams that hold most until the rest fits."""
        while self.held > self.held_max and self.streams:
            stream = max(self.streams.values(), key=_held)
            if not stream.held:
                return
            stream.reset(Reason.OVERLOADED)
            stream.sink.on_reset(Reason.OVERLOADED)


def is_answer(pieces: list[Buffer]) -> bool:
    """Whether what was taken is no more than an answer to a PING, which no peer answers in turn."""
    return len(pieces) == 1 and pieces[0][:4] == _PONG_WORD


def _nothing() -> None:
    """Called where the driver must not be."""


def _held(stream: MuxStream) -> int:
    return stream.held


def _id_after(stream_id: int) -> int:
    return (stream_id + 2) & _ID_MASK or 2


def _is_later(stream_id: int, other: int) -> bool:
    """Whether an id is given after another (serial number arithmetic, RFC 1982)."""
    return 0 < (stream_id - other) & _ID_MASK < _AHEAD


def _too_much(stream: MuxStream, count: int) -> FlowError:
    return FlowError(f"{count} bytes on stream {stream.id}, only {stream._room} were allowed")


def _bad_length(what: str, length: int, payload: int) -> FrameError:
    return FrameError(f"{what} of {length} bytes in a payload of {payload}, at most {MAX_HEAD} allowed")
