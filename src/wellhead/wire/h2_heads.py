"""Header blocks of an HTTP/2 connection: put together, decoded, and told as requests, replies or trailers.

Source: RFC 9113 sections 4.3, 6.2, 6.10 and 8.1.
"""

from __future__ import annotations

from collections.abc import Callable

from wellhead.errors import H2Error
from wellhead.wire.h2_frames import (
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    PADDED,
    PRIORITIZED,
    ErrorCode,
)
from wellhead.wire.h2_guard import H2Terms, calm
from wellhead.wire.h2_ledger import H2Role, Ledger
from wellhead.wire.h2_stream import GOT_END, GOT_HEAD, HEAD_ONLY, LEAVING, NO_SINK, SENT_END, H2Stream
from wellhead.wire.hpack import Decoder, Fields

LATE_WEIGHT = 0.1  # of a frame for a stream that just ended, or whose type nobody knows
_LENGTH = b"content-length"
_TOO_LARGE: Fields = [(b":status", b"431"), (b"content-length", b"0")]

OnStream = Callable[[H2Stream, Fields, bool], None]


class Heads(Ledger):
    """The header blocks that come in."""

    __slots__ = (
        "_block",
        "_block_flags",
        "_block_id",
        "_block_size",
        "_closing",
        "_decoder",
        "_length_at",
        "_on_stream",
        "_shrink",
    )

    def __init__(
        self,
        role: H2Role,
        terms: H2Terms,
        on_stream: OnStream | None,
        wake: Callable[[], None],
        clock: Callable[[], float],
        note: Callable[[str], None],
        shared: bool,
    ) -> None:
        super().__init__(role, terms, wake, clock, note, shared)
        self._on_stream = on_stream
        self._decoder = Decoder(terms.max_list_decoded, terms.max_fields, terms.max_list)
        # Where the content-length stood in the last list that had one: with a body behind it, and without.
        self._length_at = [0, 0]
        self._closing = False  # a GOAWAY of ours named the last stream: later ones are not served
        # A window that is smaller than what the peer may presume holds once it knows of it.
        self._shrink = max(0, DEFAULT_WINDOW - terms.window)
        # The header block that is being put together.
        self._block: list[bytes] = []
        self._block_id = 0
        self._block_flags = 0
        self._block_size = 0

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise broken("HEADERS on stream 0")
        if flags & (PADDED | PRIORITIZED):
            payload = unpadded(payload, flags)
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
            raise broken("CONTINUATION outside a header block")
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
            raise broken(f"a client opened stream {stream_id}")
        terms = self.terms
        now = self._clock()
        self._last_id = stream_id
        guard = self._guard
        guard.asked()
        if self._closing:
            self._ignore(stream_id, terms.window)
            guard.glitch(now)
            return
        too_many = len(self._streams) >= terms.max_streams
        if too_many or (self._lingering and self._running(now) >= terms.max_streams * terms.running_share):
            self._note("streams")
            self._ignore(stream_id, terms.window)
            self._reply_reset(stream_id, ErrorCode.REFUSED_STREAM)
            # How many it may have was announced; that what it gave up may still be running was not.
            guard.glitch(now, 1.0 if too_many else LATE_WEIGHT)
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
        if end and stream._flags & SENT_END:
            stream.sink = NO_SINK

    def _on_trailers(self, stream: H2Stream, fields: Fields, end: bool) -> None:
        if not end or stream._left > 0 or any(name[:1] == b":" for name, _ in fields):
            self._break_stream(stream, ErrorCode.PROTOCOL_ERROR)
            return
        self._got_end(stream)
        if not stream._flags & LEAVING:
            stream.sink.on_headers(fields, True)
        if stream._flags & SENT_END:
            stream.sink = NO_SINK

    def _on_late_headers(self, stream_id: int) -> None:
        """HEADERS for a stream that is not live and not new."""
        if stream_id in self._reset_ids:
            self._guard.glitch(self._clock(), LATE_WEIGHT)
            return
        if not self._is_known(stream_id):
            raise broken(f"HEADERS on stream {stream_id}, which nobody opened")
        raise H2Error(ErrorCode.STREAM_CLOSED, "closed-stream", f"HEADERS on stream {stream_id}")

    def _promise(self, stream: H2Stream, fields: Fields, end: bool) -> bool:
        """Hold the body to its content-length, if one can be read; False: it broke it already."""
        at = self._length_at[end]
        if at >= len(fields) or fields[at][0] != _LENGTH:  # else it stands where it stood last time
            at = next((at for at, (name, _) in enumerate(fields) if name == _LENGTH), -1)
            if at < 0:
                return True
            self._length_at[end] = at
        value = fields[at][1]
        if value.isdigit() and len(value) <= 19:  # else it is judged with the other fields
            stream._left = int(value)
            if end and stream._left:
                self._break_stream(stream, ErrorCode.PROTOCOL_ERROR)
                return False
        return True


def unpadded(payload: bytes, flags: int) -> bytes:
    """The payload of a frame with these flags, less its padding.

    Raises:
        H2Error: more padding than payload.
    """
    if not flags & PADDED:
        return payload
    if not payload:
        raise H2Error(ErrorCode.FRAME_SIZE_ERROR, "frame-size", "no room for the length of the padding")
    padding = payload[0]
    if padding >= len(payload):
        raise broken(f"{padding} bytes of padding in a frame of {len(payload)}")
    return payload[1 : len(payload) - padding]


def broken(detail: str) -> H2Error:
    """The error that ends a connection whose peer broke a rule."""
    return H2Error(ErrorCode.PROTOCOL_ERROR, "protocol", detail)
