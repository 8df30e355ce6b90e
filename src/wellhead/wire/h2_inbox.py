"""What an HTTP/2 connection reads: frames are cut out of the bytes, judged, and told to the sinks.

Source: RFC 9113 sections 4 to 6 and 8.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from wellhead.errors import FlowError, H2Error
from wellhead.wire.h2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADER_SIZE,
    HEADERS,
    MAX_FRAME,
    MAX_ID,
    MAX_WINDOW,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    WINDOW_UPDATE,
    ErrorCode,
    goaway_frame,
    ping_frame,
    read_header,
    read_u32,
)
from wellhead.wire.h2_guard import H2Terms, calm
from wellhead.wire.h2_outbox import Outbox
from wellhead.wire.h2_stream import (
    GOT_END,
    GOT_HEAD,
    HEAD_ONLY,
    LEAVING,
    NO_SINK,
    SENT_END,
    H2Stream,
)
from wellhead.wire.hpack import Decoder, Fields
from wellhead.wire.window import granted

_VIOLATIONS = frozenset(
    (
        ErrorCode.PROTOCOL_ERROR,
        ErrorCode.FLOW_CONTROL_ERROR,
        ErrorCode.STREAM_CLOSED,
        ErrorCode.FRAME_SIZE_ERROR,
    )
)
_OF_THE_CONNECTION = frozenset((SETTINGS, PING, GOAWAY))
_REMEMBERED_RESETS = 1000  # streams that we reset: what was under way to them is no violation
_LATE_WEIGHT = 0.1  # of a frame for a stream that just ended, or whose type nobody knows

_TOO_LARGE: Fields = [(b":status", b"431"), (b"content-length", b"0")]


class H2Role(enum.Enum):
    """Which end of the connection this is."""

    SERVER = "server"
    CLIENT = "client"


OnStream = Callable[[H2Stream, Fields, bool], None]
OnGoAway = Callable[[int, int], None]


class Inbox(Outbox):
    """The receiving half of a connection."""

    __slots__ = (
        "_block",
        "_block_flags",
        "_block_id",
        "_block_size",
        "_clock",
        "_closing",
        "_decoder",
        "_doom",
        "_failed",
        "_got_settings",
        "_last_id",
        "_lingering",
        "_need",
        "_next_id",
        "_note",
        "_on_goaway",
        "_on_stream",
        "_partial",
        "_preface",
        "_reset_ids",
        "_room",
        "_room_owed",
        "_settings_sent",
        "_shrink",
        "held",
        "role",
    )

    def __init__(
        self,
        role: H2Role,
        terms: H2Terms,
        on_stream: OnStream | None,
        on_goaway: OnGoAway,
        wake: Callable[[], None],
        clock: Callable[[], float],
        note: Callable[[str], None],
        shared: bool,
    ) -> None:
        super().__init__(terms, wake, shared=shared)
        self.role = role
        self.held = 0  # bytes received and not yet consumed, all streams
        self._on_stream = on_stream
        self._on_goaway = on_goaway
        self._clock = clock
        self._note = note
        self._decoder = Decoder(terms.max_list_decoded, terms.max_fields, terms.max_list)
        self._failed = False
        self._closing = False  # a GOAWAY of ours named the last stream: later ones are not served
        self._doom: H2Error | None = None  # found where nobody can be told: raised at the next turn
        # The bytes of an incomplete frame, and how many it takes to go on.
        self._partial = bytearray()
        self._need = 0
        self._preface = role is H2Role.SERVER  # the peer's connection preface is still to come
        self._got_settings = False
        self._settings_sent: float | None = None  # when, while it is not acknowledged
        # A window that is smaller than what the peer may presume holds once it knows of it.
        self._shrink = max(0, DEFAULT_WINDOW - terms.window)
        self._room = max(DEFAULT_WINDOW, terms.connection_window)  # bytes the peer may send, all streams
        self._room_owed = 0
        self._last_id = 0  # the last stream the peer opened
        self._next_id = 1  # of ours
        self._reset_ids: dict[int, None] = {}
        self._lingering: dict[int, float] = {}  # streams that are over and still running, until when
        # The header block that is being put together.
        self._block: list[bytes] = []
        self._block_id = 0
        self._block_flags = 0
        self._block_size = 0

    def receive(self, data: bytes) -> None:
        """Take in what the network brought.

        Raises:
            H2Error: the peer broke a rule or passed a limit; nothing more is taken in, and ``take`` gives
                the GOAWAY.
        """
        if self._failed:
            return
        try:
            if self._partial:
                self._partial += data
                if len(self._partial) < self._need:
                    return
                data = bytes(self._partial)
                self._partial.clear()
            at = self._cut(data, self._take_preface(data) if self._preface else 0)
            if at < len(data) and not self._failed:
                self._partial += data[at:] if at else data
            self._raise_doom()
        except H2Error as error:
            self._fail(error)
            raise

    def _raise_doom(self) -> None:
        doom, self._doom = self._doom, None
        if doom is not None and not self._failed:
            raise doom

    def _fail(self, error: H2Error) -> None:
        """Nothing but a GOAWAY goes out any more."""
        self._failed = True
        self._partial.clear()
        for stream in self._streams.values():  # they stay among the live ones: ``lost`` tells their sinks
            stream._give_up()
        self._turns.clear()
        self._ready.append(goaway_frame(self._last_id, error.error_code))
        self._wake()

    def _take_preface(self, data: bytes) -> int:
        size = len(PREFACE)
        if not data.startswith(PREFACE[: len(data)]) if len(data) < size else not data.startswith(PREFACE):
            raise H2Error(ErrorCode.PROTOCOL_ERROR, "preface", "not HTTP/2")
        if len(data) < size:
            return 0
        self._preface = False
        return size

    def _cut(self, data: bytes, at: int) -> int:
        """Handle the whole frames of ``data`` from ``at`` on; returns where the rest begins."""
        size = len(data)
        if self._preface:
            self._need = len(PREFACE)
            return at
        while size - at >= HEADER_SIZE:
            word, flags, stream_id = read_header(data, at)
            length = word >> 8
            if length > MAX_FRAME:
                raise H2Error(ErrorCode.FRAME_SIZE_ERROR, "frame-size", f"frame of {length} bytes")
            start = at + HEADER_SIZE
            end = start + length
            if end > size:
                self._need = end - at
                return at
            kind = word & 0xFF
            at = end
            self._frame(kind, flags, stream_id & 0x7FFFFFFF, data[start:end])
            if self._failed:
                return size
        self._need = HEADER_SIZE
        return at

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if not self._got_settings and (kind != SETTINGS or flags & ACK):
            raise H2Error(ErrorCode.PROTOCOL_ERROR, "preface", f"frame {kind} before SETTINGS")
        if self._block_id and (kind != CONTINUATION or stream_id != self._block_id):
            raise _broken(f"frame {kind} inside a header block")
        if kind == HEADERS:
            self._on_headers(flags, stream_id, payload)
        elif kind == DATA:
            self._on_data(flags, stream_id, payload)
        elif kind == WINDOW_UPDATE:
            self._on_window_update(stream_id, payload)
        elif kind == RST_STREAM:
            self._on_rst_stream(stream_id, payload)
        elif kind == PRIORITY:
            self._on_priority(stream_id, payload)
        elif kind == CONTINUATION:
            self._on_continuation(flags, stream_id, payload)
        elif kind == PUSH_PROMISE:
            raise _broken("PUSH_PROMISE, which nobody may send us")
        elif kind in _OF_THE_CONNECTION:
            if stream_id:
                raise _broken(f"frame {kind} on a stream")
            if kind == SETTINGS:
                self._on_settings(flags, payload)
            elif kind == PING:
                self._on_ping(flags, payload)
            else:
                self._on_peer_goaway(payload)
        else:
            self._guard.glitch(self._clock(), _LATE_WEIGHT)

    # Header blocks

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise _broken("HEADERS on stream 0")
        if flags & (PADDED | PRIORITIZED):
            payload = _unpadded(payload, flags)
            if flags & PRIORITIZED:
                if len(payload) < 5:
                    raise H2Error(
                        ErrorCode.FRAME_SIZE_ERROR, "frame-size", "HEADERS too short for its priority"
                    )
                payload = payload[5:]
        if not payload and not flags & END_STREAM:
            self._guard.empty(self._clock())
        if flags & END_HEADERS:
            self._on_block(stream_id, payload, flags & END_STREAM != 0)
            return
        self._block = [payload]
        self._block_id, self._block_flags, self._block_size = stream_id, flags, len(payload)

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not self._block_id:
            raise _broken("CONTINUATION outside a header block")
        self._block.append(payload)
        self._block_size += len(payload)
        if len(self._block) > self.terms.max_continuations + 1:
            raise calm("continuation-flood", f"more than {self.terms.max_continuations} frames")
        if self._block_size > self.terms.max_block:
            raise calm("continuation-flood", f"block above {self.terms.max_block} bytes")
        if flags & END_HEADERS:
            block, self._block = b"".join(self._block), []
            self._block_id = 0
            self._on_block(stream_id, block, self._block_flags & END_STREAM != 0)

    def _on_block(self, stream_id: int, block: bytes, end: bool) -> None:
        fields = self._decoder.decode(block)
        stream = self._streams.get(stream_id)
        if stream is not None:
            if stream._flags & GOT_END:
                self._break_stream(stream, ErrorCode.STREAM_CLOSED)
            elif stream._flags & GOT_HEAD:
                self._on_trailers(stream, fields, end)
            else:
                self._on_response(stream, fields, end)
        elif self.role is H2Role.SERVER and stream_id > self._last_id:
            self._on_request(stream_id, fields, end)
        else:
            self._on_late_headers(stream_id)

    def _on_request(self, stream_id: int, fields: Fields, end: bool) -> None:
        if not stream_id & 1:
            raise _broken(f"a client opened stream {stream_id}")
        terms = self.terms
        now = self._clock()
        self._last_id = stream_id
        guard = self._guard
        guard.opened()
        guard.filled()
        if self._closing:
            self._ignore(stream_id)
            guard.glitch(now)
            return
        if len(self._streams) >= terms.max_streams or (
            self._lingering and self._running(now) >= terms.max_streams * terms.running_share
        ):
            self._note("streams")
            self._ignore(stream_id)
            self._reply_reset(stream_id, ErrorCode.REFUSED_STREAM)
            guard.glitch(now)
            return
        stream = H2Stream(self, stream_id, NO_SINK, self._peer.window, terms.window + self._shrink, now)
        stream._flags = GOT_HEAD | GOT_END if end else GOT_HEAD
        self._streams[stream_id] = stream
        if self._decoder.size > terms.max_list:
            self._note("header-list")
            stream.headers(_TOO_LARGE, True)
            stream.reset(ErrorCode.NO_ERROR)
            return
        if not self._promise(stream, fields, end):
            return
        assert self._on_stream is not None
        self._on_stream(stream, fields, end)
        if stream_id >= terms.last_id:
            self.drain()

    def drain(self) -> None:
        """See ``H2Connection``."""
        raise NotImplementedError

    def _on_response(self, stream: H2Stream, fields: Fields, end: bool) -> None:
        name, value = fields[0] if fields else (b"", b"")
        if name != b":status" or len(value) != 3 or not value.isdigit() or value == b"101":
            self._break_stream(stream, ErrorCode.PROTOCOL_ERROR)
            return
        if value[0] == 49:  # 1xx
            if end:
                self._break_stream(stream, ErrorCode.PROTOCOL_ERROR)
            else:
                stream.sink.on_headers(fields, False)
            return
        bodyless = stream._flags & HEAD_ONLY or value in (b"204", b"304")
        stream._flags |= GOT_HEAD
        if bodyless:
            stream._left = 0
        elif not self._promise(stream, fields, end):
            return
        if end:
            self._got_end(stream)
        stream.sink.on_headers(fields, end)

    def _on_trailers(self, stream: H2Stream, fields: Fields, end: bool) -> None:
        if not end or stream._left > 0 or any(name[:1] == b":" for name, _ in fields):
            self._break_stream(stream, ErrorCode.PROTOCOL_ERROR)
            return
        self._got_end(stream)
        if not stream._flags & LEAVING:
            stream.sink.on_headers(fields, True)

    def _on_late_headers(self, stream_id: int) -> None:
        """HEADERS for a stream that is not live and not new."""
        if stream_id in self._reset_ids:
            self._guard.glitch(self._clock(), _LATE_WEIGHT)
            return
        if not self._is_known(stream_id):
            raise _broken(f"HEADERS on stream {stream_id}, which nobody opened")
        raise H2Error(ErrorCode.STREAM_CLOSED, "closed-stream", f"HEADERS on stream {stream_id}")

    def _promise(self, stream: H2Stream, fields: Fields, end: bool) -> bool:
        """Hold the body to its content-length, if one can be read; False: it broke it already."""
        for name, value in fields:
            if name == b"content-length":
                if not value.isdigit() or len(value) > 19:
                    return True  # judged with the other fields
                stream._left = int(value)
                if end and stream._left:
                    self._break_stream(stream, ErrorCode.PROTOCOL_ERROR)
                    return False
                return True
        return True

    # Bodies and windows

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        length = len(payload)
        if not stream_id:
            raise _broken("DATA on stream 0")
        if length:
            self._credit_connection(length)
        if flags & PADDED:
            payload = _unpadded(payload, flags)
        size = len(payload)
        end = flags & END_STREAM != 0
        if size:
            self._guard.filled()
        elif not end:
            self._guard.empty(self._clock())
        stream = self._streams.get(stream_id)
        if stream is None:
            self._on_late_data(stream_id)
            return
        if stream._flags & (GOT_END | GOT_HEAD) != GOT_HEAD:
            closed = stream._flags & GOT_END
            self._break_stream(stream, ErrorCode.STREAM_CLOSED if closed else ErrorCode.PROTOCOL_ERROR)
            return
        stream._room -= length
        if stream._room < 0:
            self._break_stream(stream, ErrorCode.FLOW_CONTROL_ERROR)
            return
        left = stream._left
        if left >= 0:
            if size > left or (end and size < left):
                self._break_stream(stream, ErrorCode.PROTOCOL_ERROR)
                return
            stream._left = left - size
        if end:
            self._got_end(stream)
        if size != length:
            stream._owe(length - size)
        if stream._flags & LEAVING:
            return
        if not size and not end:
            return
        stream.held += size
        self.held += size
        stream.sink.on_data(payload, end)
        if self.held > self.terms.max_held:
            self._shed()

    def _credit_connection(self, length: int) -> None:
        self._room -= length
        if self._room < 0:
            raise H2Error(
                ErrorCode.FLOW_CONTROL_ERROR, "window", f"{-self._room} bytes above the connection's"
            )
        self._room_owed += length
        if self._room_owed * 4 >= self.terms.connection_window:
            owed, self._room_owed = self._room_owed, 0
            self._room += owed
            self._put_credit(0, owed)

    def _on_late_data(self, stream_id: int) -> None:
        if not self._is_known(stream_id):
            raise _broken(f"DATA on stream {stream_id}, which nobody opened")
        now = self._clock()
        if stream_id in self._reset_ids:
            self._guard.glitch(now, _LATE_WEIGHT)
            return
        self._guard.violation(now)
        self._ignore(stream_id)
        self._reply_reset(stream_id, ErrorCode.STREAM_CLOSED)

    def _shed(self) -> None:
        """Too much is held: the stream that holds most goes."""
        stream = max(self._streams.values(), key=_held, default=None)
        if stream is not None and stream.held:
            self._note("held")
            self._break_stream(stream, ErrorCode.ENHANCE_YOUR_CALM)

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise H2Error(ErrorCode.FRAME_SIZE_ERROR, "frame-size", f"WINDOW_UPDATE of {len(payload)} bytes")
        self._guard.window_update()
        (count,) = read_u32(payload)
        count &= 0x7FFFFFFF
        if not stream_id:
            try:
                self._credit = granted(self._credit, count)
            except FlowError as error:
                raise _bad_credit(count, error) from None
            if self._turns:
                self._wake()
            return
        stream = self._streams.get(stream_id)
        if stream is None:
            if not self._is_known(stream_id):
                raise _broken(f"WINDOW_UPDATE on stream {stream_id}, which nobody opened")
            return
        try:
            stream._credit = granted(stream._credit, count)
        except FlowError as error:
            self._break_stream(stream, _bad_credit(count, error).error_code)
            return
        if stream._can_go():
            self._give_turn(stream)

    # Ends

    def _on_rst_stream(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise H2Error(ErrorCode.FRAME_SIZE_ERROR, "frame-size", f"RST_STREAM of {len(payload)} bytes")
        if not self._is_known(stream_id):
            raise _broken(f"RST_STREAM on stream {stream_id}, which nobody opened")
        now = self._clock()
        stream = self._streams.pop(stream_id, None)
        if stream is None:
            self._guard.glitch(now, _LATE_WEIGHT)
            return
        was_leaving = stream._flags & LEAVING
        stream._give_up()
        if self.role is H2Role.SERVER:
            self._linger(stream_id, now)
            self._guard.reset(now, now - stream.born)
        if not was_leaving:
            stream.sink.on_reset(read_u32(payload)[0])

    def _got_end(self, stream: H2Stream) -> None:
        stream._flags |= GOT_END
        if stream._flags & SENT_END:
            self._streams.pop(stream.id, None)

    def _break_stream(self, stream: H2Stream, code: int) -> None:
        """Reset a stream because of its peer, and tell its sink."""
        was_leaving = stream._flags & LEAVING
        stream._give_up()
        if self.role is H2Role.SERVER:
            self._linger(stream.id, self._clock())
        self._was_reset(stream, code)
        self._guard.replies(self._replies)
        if not was_leaving:
            stream.sink.on_reset(code)

    def _was_reset(self, stream: H2Stream, code: int) -> None:
        """A stream of which we have given up both halves."""
        self._streams.pop(stream.id, None)
        self._ignore(stream.id)
        self._replies += 1
        self._put_reset(stream.id, code)
        if code in _VIOLATIONS and self._doom is None:
            try:
                self._guard.violation(self._clock())
            except H2Error as error:
                self._doom = error  # the caller may be the program, which did nothing wrong

    def _reply_reset(self, stream_id: int, code: int) -> None:
        self._replies += 1
        self._put_reset(stream_id, code)
        self._guard.replies(self._replies)

    def _ignore(self, stream_id: int) -> None:
        """What is under way for this stream is no violation."""
        ids = self._reset_ids
        ids[stream_id] = None
        if len(ids) > _REMEMBERED_RESETS:
            del ids[next(iter(ids))]

    def _is_known(self, stream_id: int) -> bool:
        """Whether a stream was ever opened; stream 0 never."""
        if stream_id & 1:
            return stream_id <= self._last_id if self.role is H2Role.SERVER else stream_id < self._next_id
        return False

    def _linger(self, stream_id: int, now: float) -> None:
        self._lingering[stream_id] = now + self.terms.linger_seconds

    def _stopped(self, stream_id: int) -> None:
        self._lingering.pop(stream_id, None)

    def _running(self, now: float) -> int:
        """Live streams, and those that are over but whose work may not have stopped yet."""
        lingering = self._lingering
        while lingering:
            stream_id, until = next(iter(lingering.items()))
            if until > now:
                break
            del lingering[stream_id]
        return len(self._streams) + len(lingering)

    # The connection

    def _on_settings(self, flags: int, payload: bytes) -> None:
        if flags & ACK:
            if payload:
                raise H2Error(
                    ErrorCode.FRAME_SIZE_ERROR, "frame-size", "SETTINGS acknowledgement with a payload"
                )
            self._on_settings_ack()
            return
        self._guard.settings(self._clock())
        if not self._got_settings:
            self._got_settings = True
            self._peer.max_streams = MAX_ID  # unless it says otherwise
        before = self._peer.window
        self._peer.read(payload, of_server=self.role is H2Role.CLIENT)
        self._encoder.set_capacity(self._peer.header_table)
        if self._peer.window != before:
            self._move_windows(self._peer.window - before)
        self._put_reply(self._ready, SETTINGS_ACK)

    def _on_settings_ack(self) -> None:
        if self._settings_sent is None:
            self._guard.glitch(self._clock())
            return
        self._settings_sent = None
        for stream in self._streams.values():
            stream._room -= self._shrink
        self._shrink = 0

    def _move_windows(self, change: int) -> None:
        """The peer's INITIAL_WINDOW_SIZE changed: that of open streams too (RFC 9113 section 6.9.2)."""
        for stream in self._streams.values():
            stream._credit += change
            if stream._credit > MAX_WINDOW:
                raise H2Error(ErrorCode.FLOW_CONTROL_ERROR, "settings", f"window of {stream._credit} bytes")
            if stream._can_go():
                self._give_turn(stream)

    def _on_ping(self, flags: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise H2Error(ErrorCode.FRAME_SIZE_ERROR, "frame-size", f"PING of {len(payload)} bytes")
        if flags & ACK:
            self._on_pong(payload)
            return
        self._guard.ping(self._clock())
        self._put_reply(self._control, ping_frame(payload, ACK))

    def _on_pong(self, payload: bytes) -> None:
        raise NotImplementedError

    def _on_peer_goaway(self, payload: bytes) -> None:
        raise NotImplementedError

    def _on_priority(self, stream_id: int, payload: bytes) -> None:
        self._guard.priority()
        if not stream_id:
            raise _broken("PRIORITY on stream 0")
        if len(payload) != 5:
            stream = self._streams.get(stream_id)
            if stream is None:
                raise H2Error(ErrorCode.FRAME_SIZE_ERROR, "frame-size", f"PRIORITY of {len(payload)} bytes")
            self._break_stream(stream, ErrorCode.FRAME_SIZE_ERROR)


def _unpadded(payload: bytes, flags: int) -> bytes:
    if not flags & PADDED:
        return payload
    if not payload:
        raise H2Error(ErrorCode.FRAME_SIZE_ERROR, "frame-size", "no room for the length of the padding")
    padding = payload[0]
    if padding >= len(payload):
        raise _broken(f"{padding} bytes of padding in a frame of {len(payload)}")
    return payload[1 : len(payload) - padding]


def _held(stream: H2Stream) -> int:
    return stream.held


def _broken(detail: str) -> H2Error:
    return H2Error(ErrorCode.PROTOCOL_ERROR, "protocol", detail)


def _bad_credit(count: int, error: FlowError) -> H2Error:
    code = ErrorCode.FLOW_CONTROL_ERROR if count else ErrorCode.PROTOCOL_ERROR
    return H2Error(code, "window", str(error))
