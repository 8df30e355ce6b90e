"""What an HTTP/2 connection reads: frames are cut out of the bytes, judged, and told to the sinks.

Source: RFC 9113 sections 4 to 6 and 8.
"""

from __future__ import annotations

from collections.abc import Callable

from wellhead.errors import FlowError, H2Error
from wellhead.wire.h2_frames import (
    ACK,
    CONTINUATION,
    DATA,
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
from wellhead.wire.h2_guard import H2Terms
from wellhead.wire.h2_heads import LATE_WEIGHT, Heads, OnStream, broken, unpadded
from wellhead.wire.h2_ledger import H2Role
from wellhead.wire.h2_stream import (
    GOT_END,
    GOT_HEAD,
    LEAVING,
    NO_SINK,
    SENT_END,
)
from wellhead.wire.window import granted

_OF_THE_CONNECTION = frozenset((SETTINGS, PING, GOAWAY))
_SHAPE = END_HEADERS | PADDED | PRIORITIZED  # flags by which a HEADERS frame is more, or less, than a block


OnGoAway = Callable[[int, int], None]


class Inbox(Heads):
    """The receiving half of a connection."""

    __slots__ = (
        "_failed",
        "_got_settings",
        "_need",
        "_on_goaway",
        "_partial",
        "_preface",
        "_settings_open",
        "_settings_sent",
        "behind",
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
        super().__init__(role, terms, on_stream, wake, clock, note, shared)
        self._on_goaway = on_goaway
        self._failed = False
        # The bytes of an incomplete frame, and how many it takes to go on.
        self._partial = bytearray()
        self._need = 0
        self.behind = False
        self._preface = role is H2Role.SERVER  # the peer's connection preface is still to come
        self._got_settings = False
        self._settings_sent: float | None = None  # when, while it is not acknowledged
        self._settings_open = 0  # how many are not

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
        self.behind = False
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
        self.behind = False
        heads_left = self.terms.heads_at_once or size
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
            if kind == HEADERS:
                if not heads_left:
                    self.behind = True
                    break
                heads_left -= 1
            at = end
            if self._block_id or not self._got_settings:
                self._frame(kind, flags, stream_id & 0x7FFFFFFF, data[start:end])
            elif kind == DATA:  # fast path
                self._on_data(flags, stream_id & 0x7FFFFFFF, data[start:end])
            elif kind == HEADERS and length and stream_id and flags & _SHAPE == END_HEADERS:  # fast path
                self._on_block(stream_id & 0x7FFFFFFF, data[start:end], flags & END_STREAM != 0)
            else:
                self._frame(kind, flags, stream_id & 0x7FFFFFFF, data[start:end])
            if self._failed:
                return size
        self._need = HEADER_SIZE
        return at

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if not self._got_settings and (kind != SETTINGS or flags & ACK):
            raise H2Error(ErrorCode.PROTOCOL_ERROR, "preface", f"frame {kind} before SETTINGS")
        if self._block_id and (kind != CONTINUATION or stream_id != self._block_id):
            raise broken(f"frame {kind} inside a header block")
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
            raise broken("PUSH_PROMISE, which nobody may send us")
        elif kind in _OF_THE_CONNECTION:
            if stream_id:
                raise broken(f"frame {kind} on a stream")
            if kind == SETTINGS:
                self._on_settings(flags, payload)
            elif kind == PING:
                self._on_ping(flags, payload)
            else:
                self._on_peer_goaway(payload)
        else:
            self._guard.glitch(self._clock(), LATE_WEIGHT)

    # Bodies and windows

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        length = len(payload)
        if not stream_id:
            raise broken("DATA on stream 0")
        if length:
            self._credit_connection(length)
        if flags & PADDED:
            payload = unpadded(payload, flags)
        size = len(payload)
        end = flags & END_STREAM != 0
        if size:
            self._guard.filled()
        elif not end:
            self._guard.empty(self._clock())
        stream = self._streams.get(stream_id)
        if stream is None:
            self._on_late_data(stream_id, length)
            return
        if stream._flags & (GOT_END | GOT_HEAD) != GOT_HEAD:
            closed = stream._flags & GOT_END
            self._break_stream(stream, ErrorCode.STREAM_CLOSED if closed else ErrorCode.PROTOCOL_ERROR)
            return
        if length:  # an end alone needs no room
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
        if end and stream._flags & SENT_END:
            stream.sink = NO_SINK
        if self.held > self.terms.max_held:
            self._shed()

    def _credit_connection(self, length: int) -> None:
        self._room -= length
        if self._room < 0:
            raise H2Error(
                ErrorCode.FLOW_CONTROL_ERROR, "window", f"{-self._room} bytes above the connection's"
            )
        self._room_owed += length
        if self._owes_credit():
            self._wake()

    def _on_late_data(self, stream_id: int, length: int) -> None:
        if not self._is_known(stream_id):
            raise broken(f"DATA on stream {stream_id}, which nobody opened")
        room = self._reset_ids.get(stream_id)
        if room is not None:
            if 0 < length <= room:
                self._reset_ids[stream_id] = room - length
            else:
                self._guard.glitch(self._clock(), LATE_WEIGHT)
            return
        self._guard.violation(self._clock())
        self._ignore(stream_id, 0)
        self._reply_reset(stream_id, ErrorCode.STREAM_CLOSED)

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
                raise broken(f"WINDOW_UPDATE on stream {stream_id}, which nobody opened")
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
            raise broken(f"RST_STREAM on stream {stream_id}, which nobody opened")
        now = self._clock()
        stream = self._streams.pop(stream_id, None)
        if stream is None:
            if stream_id in self._reset_ids:  # one that was refused, it may be: opened and reset all the same
                self._guard.reset(now, self.terms.early_reset_seconds)
            else:
                self._guard.glitch(now, LATE_WEIGHT)
            return
        was_leaving, was_answered = stream._flags & LEAVING, stream._flags & SENT_END
        stream._give_up()
        if was_answered:  # it only takes back the rest of its request
            self._guard.glitch(now, LATE_WEIGHT)
        elif self.role is H2Role.SERVER:
            self._linger(stream_id, now)
            self._guard.reset(now, now - stream.born)
        if not was_leaving:
            stream.sink.on_reset(read_u32(payload)[0])

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
        self._settings_open -= 1
        if not self._settings_open:
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
            raise broken("PRIORITY on stream 0")
        if len(payload) != 5:
            stream = self._streams.get(stream_id)
            if stream is None:
                raise H2Error(ErrorCode.FRAME_SIZE_ERROR, "frame-size", f"PRIORITY of {len(payload)} bytes")
            self._break_stream(stream, ErrorCode.FRAME_SIZE_ERROR)


def _bad_credit(count: int, error: FlowError) -> H2Error:
    code = ErrorCode.FLOW_CONTROL_ERROR if count else ErrorCode.PROTOCOL_ERROR
    return H2Error(code, "window", str(error))
