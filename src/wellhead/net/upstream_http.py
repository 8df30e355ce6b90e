"""One HTTP/1.1 connection to the upstream: the protocol of its transport and the sink of its stream.

::

    stream  -- envelope, data, end -->  request  -->  upstream
            <-- head, data, end -----   reply    <--

Both directions run at once and end on their own; the connection is free again when both have. There
is no task and no future per request: what the stream brings is written, what the transport brings is
sent, and a connection that still has to be dialled keeps what it would have written. A request goes
out, and a small reply comes back, in one write each.

A request may be written a second time, on a fresh connection, only where the upstream cannot have
acted on it or acting twice is the same as once (RFC 9110 section 9.2.2).
"""

from __future__ import annotations

import asyncio
import select
from typing import cast

from wellhead.errors import HttpError
from wellhead.net.upstream_exchange import Exchange
from wellhead.net.upstream_lifeline import Lifeline
from wellhead.net.upstream_owner import Owner
from wellhead.net.upstream_raw import RawConnection, reason_word
from wellhead.net.upstream_reply import Reply, read_reply
from wellhead.net.upstream_request import HEAD, REQUEST_ID, UPGRADE, last_line
from wellhead.wire.body import LAST_CHUNK, ChunkedBody, chunk, last_chunk, piece_of
from wellhead.wire.h1 import find_head_end
from wellhead.wire.headers import Envelope, read_envelope, read_trailers
from wellhead.wire.streams import Buffer, HeadKind, Reason, Stream, StreamKind

JOIN_BELOW = 16 * 1024  # bytes: smaller pieces are copied together, larger ones go as they are
IDEMPOTENT = (b"GET ", b"HEAD ", b"OPTIONS ", b"PUT ", b"DELETE ", b"TRACE ")

_HTTP, _REPLY = StreamKind.HTTP, HeadKind.REPLY
# What the upstream sends next
_IDLE, _HEAD, _LENGTH, _CHUNKS, _TO_CLOSE, _REPLIED, _CLOSED = range(7)
# What the stream brings next
_NOTHING, _SIZED, _UNSIZED, _HELD, _DROPPED = range(5)


class _Deaf:
    """The sink of a stream whose exchange is over; what its queue still does concerns nobody."""

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None: ...
    def on_data(self, data: Buffer, end: bool) -> None: ...
    def on_reset(self, reason: int) -> None: ...
    def on_writable(self) -> None: ...


_DEAF = _Deaf()


class HttpConnection(asyncio.Protocol):
    """Carries one exchange after another; made by the pool only."""

    __slots__ = (
        "_asked", "_chunks", "_early", "_exchange", "_held_up", "_interims", "_keep_alive", "_kept", "_kind",
        "_left", "_lifeline", "_owed", "_partial", "_paused", "_pending", "_pool", "_reused", "_state",
        "_stream", "_transport", "_upload", "_upload_left", "since",
    )  # fmt: skip

    def __init__(self, pool: Owner) -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._stream: Stream | None = None
        self._exchange: Exchange | None = None
        self._kind = StreamKind.HTTP
        self._state = _IDLE
        self._upload = _NOTHING
        self._upload_left = 0  # bytes, for _SIZED
        self._left = 0  # bytes, for _LENGTH
        self._chunks: ChunkedBody | None = None  # for _CHUNKS
        self._partial = b""  # of a reply's head
        self._interims = 0  # 1xx heads of this exchange
        self._asked = b""  # what a reply's meaning depends on, see Reply
        self._keep_alive = False
        self._early: list[tuple[Buffer, bool]] = []  # from the visitor before an upgrade was granted
        self._kept: bytes | None = None  # all that was written of the request, while it may be repeated
        self._pending: list[Buffer] = []  # written as soon as the connection is there
        self._owed = 0  # bytes taken from the stream and not yet acknowledged to it
        self._paused = False  # the upstream does not read
        self._held_up = False  # the stream does not take more: we do not read
        self._reused = False  # an exchange was completed on this connection
        self._lifeline: Lifeline | None = None  # during an upload
        self.since = 0.0  # loop time: when it became idle, or when waiting for the reply began

    def carry(self, stream: Stream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
        """Take a stream on. The connection is idle, or was never dialled."""
        pool = self._pool
        stream.sink = self
        self._stream = stream
        self._state = _HEAD
        self.since = pool.now
        # fast path: no body, and all but the request id was here before
        cut = last_line(envelope)
        known = pool.heads.known.get(envelope[:cut]) if end and not data else None
        if known is not None and kind is _HTTP and envelope.startswith(REQUEST_ID, cut):
            request = known.head + envelope[cut:]
            self._asked = known.asked
            self._upload = _NOTHING
            if pool.on_exchange is not None:
                self._exchange = Exchange(kind, known.method, known.target, 0)
        else:
            self._kind = kind
            try:
                request = self._request(read_envelope(envelope), data, end)
            except HttpError:
                self._fail(Reason.PROTOCOL)
                return
        transport = self._transport
        if transport is None:
            self._pending = [request]
            self._owed = len(data)
            pool.dial(self)
            return
        self._kept = request
        transport.write(request)
        if data:
            self._acknowledge(len(data))
        if self._upload:
            self._lifeline = Lifeline.of(transport)

    def is_quiet(self) -> bool:
        """Whether nothing waits to be read: an idle connection that has something to say is over."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        poll = select.poll()
        poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLRDHUP)
        return not poll.poll(0)

    def close(self) -> None:
        """Hang up; for an idle connection."""
        self._state = _CLOSED
        if self._transport is not None:
            if self._held_up:  # a paused TLS transport would not see the answer to its close
                self._transport.resume_reading()
            self._transport.close()

    # The stream's sink: the request

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        if kind is not HeadKind.TRAILERS:
            self._fail(Reason.PROTOCOL)
        elif self._upload == _UNSIZED:
            try:
                end_of_body = last_chunk(read_trailers(head, status=400))
            except HttpError:
                self._fail(Reason.PROTOCOL)
                return
            self._upload = _NOTHING
            self._write(end_of_body, 0)
        else:
            self.on_data(b"", True)  # a sized body has no room for trailers

    def on_data(self, data: Buffer, end: bool) -> None:
        count = len(data)
        if self._exchange is not None:
            self._exchange.bytes_in += count
        upload = self._upload
        if upload == _SIZED:
            self._upload_left -= count
            if self._upload_left < 0 or (end and self._upload_left):
                self._fail(Reason.PROTOCOL)
                return
            if end:
                self._upload = _NOTHING
            if count:
                self._write(data, count)
        elif upload == _UNSIZED:
            if end:
                self._upload = _NOTHING
            pieces = chunk(data) if count else []
            if end:
                pieces.append(LAST_CHUNK)
            for piece in joined(pieces):
                self._write(piece, 0)
            self._acknowledge(count)
        else:
            self._unwanted(data, end)

    def on_reset(self, reason: int) -> None:
        if self._state != _REPLIED:
            self._tell(reason)
        self._detach()
        self._abort()

    def on_writable(self) -> None:
        if self._held_up:
            self._held_up = False
            if self._transport is not None:
                self._transport.resume_reading()

    # The transport's protocol: the reply

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # not every TLS transport has the class
        if self._stream is None:
            transport.abort()
            return
        self._transport = transport
        pending, self._pending = self._pending, []
        transport.write(b"".join(pending))
        owed, self._owed = self._owed, 0
        self._acknowledge(owed)
        if self._upload:
            self._lifeline = Lifeline.of(transport)

    def data_received(self, data: bytes) -> None:
        state = self._state
        stream = self._stream
        if state == _HEAD:
            reply = self._pool.last_reply
            if (  # fast path: a small reply in one read, with the same head as the one before
                len(data) == reply.total
                and data.startswith(reply.raw)
                and reply.asked is self._asked
                and stream is not None
                and not self._upload
                and not self._partial
            ):
                if self._exchange is not None:
                    self._exchange.replied(reply.status, len(data) - reply.size)
                stream.head(_REPLY, reply.canonical, data[reply.size :], True)
                if self._stream is stream:
                    self._exchange_is_over(stream)
            else:
                self._reply_begins(data)
            return
        if state == _LENGTH and stream is not None:
            count = len(data)
            self._left = left = self._left - count
            if self._exchange is not None:
                self._exchange.bytes_out += count
            if left > 0:
                if not stream.send(data):
                    self._hold_up()
            elif left == 0:
                stream.send(data, True)
                self._reply_is_complete()
            else:
                self._fail(Reason.UPSTREAM_FAILED)
        elif state == _CHUNKS:
            self._chunks_received(data)
        elif state == _TO_CLOSE and stream is not None:
            if self._exchange is not None:
                self._exchange.bytes_out += len(data)
            if not stream.send(data):
                self._hold_up()
        elif state == _IDLE:  # nobody asked
            self._abort()

    def eof_received(self) -> bool:
        if self._state == _IDLE:  # before the next request picks it
            self._state = _CLOSED
            self._pool.forget(self, was_idle=True)
        if self._state == _TO_CLOSE and self._stream is not None:
            self._stream.send(b"", True)
            self._reply_is_complete()
        return False

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        owed, self._owed = self._owed, 0
        self._acknowledge(owed)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._paused = False
        if self._lifeline is not None:
            self._read_last_words(self._lifeline)
            self._drop_lifeline()
        state = self._state
        if state == _HEAD and self._may_repeat():
            self._repeat()
            return
        self._pool.forget(self, was_idle=state == _IDLE)
        if state == _IDLE:
            self._state = _CLOSED
        elif state not in (_REPLIED, _CLOSED):
            self._fail(Reason.UPSTREAM_FAILED)

    # For the pool

    def on_dial_failed(self) -> None:
        self._fail(Reason.UPSTREAM_UNREACHABLE)

    def on_sweep(self, now: float) -> None:
        if self._state == _IDLE:
            if now - self.since > self._pool.limits.idle_seconds and self._transport is not None:
                self._pool.forget(self, was_idle=True)
                self.close()
        elif self._state == _HEAD:
            if self._upload in (_SIZED, _UNSIZED) and not self._paused and self._transport is not None:
                self.since = now  # it is the visitor whom the upstream waits for
            elif now - self.since >= self._pool.limits.reply_seconds:
                self._fail(Reason.TIMEOUT)

    def on_pool_closed(self) -> None:
        if self._stream is not None and self._state != _REPLIED:
            self._fail(Reason.UPSTREAM_FAILED)
        else:
            self._detach()
            self._abort()

    # The request

    def _request(self, envelope: Envelope, data: Buffer, end: bool) -> bytes:
        """What to write first: the head and the body bytes that came beside it.

        Raises:
            HttpError: the body and its declared length differ.
        """
        pool = self._pool
        heads = pool.heads
        if pool.on_exchange is not None:
            self._exchange = Exchange(self._kind, envelope.method, envelope.target, len(data))
        if self._kind is StreamKind.WEBSOCKET:
            self._asked = UPGRADE
            self._upload = _HELD
            self._early = [(data, end)] if data or end else []
            return heads.make(envelope, websocket=True)
        self._asked = HEAD if envelope.method == b"HEAD" else b""
        length = envelope.content_length
        if length is None:
            if end and not data:
                self._upload = _NOTHING
                return heads.make_bodyless(envelope)
            self._upload = _NOTHING if end else _UNSIZED
            pieces: list[Buffer] = [heads.make(envelope, chunked=True)]
            if data:
                pieces += chunk(data)
            if end:
                pieces.append(LAST_CHUNK)
            return b"".join(pieces)
        self._upload_left = left = length - len(data)
        if left < 0 or (end and left):
            raise HttpError(400, "content-length", f"{length} bytes declared, {len(data)} sent")
        self._upload = _NOTHING if end else _SIZED
        return b"".join((heads.make(envelope), data))

    def _write(self, data: Buffer, count: int) -> None:
        """Write a part of the request; ``count`` of the stream's bytes are acknowledged with it."""
        transport = self._transport
        if transport is None:
            self._pending.append(data)
            self._owed += count
            return
        self._kept = None
        transport.write(data)
        if count:
            self._acknowledge(count)

    def _acknowledge(self, count: int) -> None:
        if self._paused or self._transport is None:
            self._owed += count
        elif count and self._stream is not None:
            self._stream.consumed(count)

    def _unwanted(self, data: Buffer, end: bool) -> None:
        """Request bytes that are not written: before an upgrade is granted, or after the reply."""
        if self._upload == _HELD:
            self._owed += len(data)
            self._early.append((data, end))
        elif self._upload == _DROPPED and self._stream is not None:
            if data:
                self._stream.consumed(len(data))
            if end:
                self._upload = _NOTHING
                if self._state == _REPLIED:
                    self._detach()

    # The reply

    def _reply_begins(self, data: bytes) -> None:
        if self._partial:
            data = self._partial + data
            self._partial = b""
        pool = self._pool
        reply = pool.last_reply
        if reply.asked is not self._asked or not data.startswith(reply.raw):
            try:
                final = self._read_heads(data)
            except HttpError:
                self._fail(Reason.UPSTREAM_FAILED)
                return
            if final is None:
                return
            reply, data = final
        self._kept = None
        self._keep_alive = reply.keep_alive
        rest = piece_of(data, reply.size, len(data))
        if self._exchange is not None:
            self._exchange.replied(reply.status, len(rest))
        if self._kind is StreamKind.WEBSOCKET and not self._upgrade_answered(reply, rest):
            return
        self._body_begins(reply, rest)

    def _read_heads(self, data: bytes) -> tuple[Reply, bytes] | None:
        """The reply's head and all that came with it, None while it is incomplete; 1xx heads are passed on.

        Raises:
            HttpError: malformed, too long, or too many interim heads.
        """
        while True:
            end = find_head_end(data, 0, self._pool.limits.max_head_bytes)
            if not end:
                self._partial = data
                return None
            reply = read_reply(data[:end], self._asked)
            if reply.status >= 200 or reply.status == 101:
                self._interims = 0
                self._pool.last_reply = reply
                return reply, data
            self._interims += 1
            if self._interims > self._pool.limits.max_interim:
                raise HttpError(502, "interim", f"more than {self._pool.limits.max_interim} before the reply")
            self._kept = None
            self.since = self._pool.now
            data = data[end:]
            if self._stream is not None:
                self._stream.head(HeadKind.INTERIM, reply.canonical)
            if self._stream is None or not data:
                return None

    def _body_begins(self, reply: Reply, rest: Buffer) -> None:
        stream = self._stream
        assert stream is not None
        length = reply.length
        if length is not None:
            left = length - len(rest)
            if left == 0:  # fast path: a small reply in one read
                stream.head(HeadKind.REPLY, reply.canonical, rest, True)
                self._reply_is_complete()
            elif left > 0:
                self._state = _LENGTH
                self._left = left
                if not stream.head(HeadKind.REPLY, reply.canonical, rest):
                    self._hold_up()
            else:
                self._fail(Reason.UPSTREAM_FAILED)
        elif reply.chunked:
            self._state = _CHUNKS
            self._chunks = ChunkedBody(status=502)
            self._chunks_received(bytes(rest), reply.canonical)
        else:
            self._state = _TO_CLOSE
            if not stream.head(HeadKind.REPLY, reply.canonical, rest):
                self._hold_up()

    def _chunks_received(self, data: bytes, head: bytes | None = None) -> None:
        """Undo the chunks; ``head`` goes with the first of them, in one frame."""
        stream, chunks = self._stream, self._chunks
        if stream is None or chunks is None:
            return
        try:
            pieces, done, leftover = chunks.feed(data)
        except HttpError:
            pieces, done, leftover = [], False, b"?"
        if leftover:
            self._fail(Reason.UPSTREAM_FAILED)
            return
        trailers = chunks.trailers if done else b""
        end = done and not trailers
        pieces = joined(pieces)
        if self._exchange is not None:
            self._exchange.bytes_out += sum(map(len, pieces)) - (len(data) if head is not None else 0)
        last = pieces.pop() if pieces else b""
        ready = True
        if head is not None and pieces:
            ready = stream.head(HeadKind.REPLY, head, pieces.pop(0))
            head = None
        for piece in pieces:
            ready = stream.send(piece)
        if head is not None:
            ready = stream.head(HeadKind.REPLY, head, last, end)
        elif last or end:
            ready = stream.send(last, end)
        if trailers:
            stream.head(HeadKind.TRAILERS, trailers + b"\r\n", b"", True)
        if done:
            self._reply_is_complete()
        elif not ready:
            self._hold_up()

    def _upgrade_answered(self, reply: Reply, rest: Buffer) -> bool:
        """Whether the answer to an upgrade is an ordinary reply; after a 101 a raw connection goes on."""
        stream, transport = self._stream, self._transport
        if reply.status != 101:
            self._keep_alive = False
            self._upload = _DROPPED
            return True
        assert stream is not None and transport is not None
        self._state = _CLOSED
        self._drop_lifeline()  # it would keep the socket open behind the raw connection's back
        self._stream = None
        exchange, self._exchange = self._exchange, None
        raw = RawConnection(self._pool, stream, exchange)
        self._pool.replace(self, raw)
        transport.set_protocol(raw)
        ready = stream.head(HeadKind.REPLY, reply.canonical, rest)
        raw.adopt(transport, paused=self._paused, held_up=not ready)
        for data, end in self._early:
            raw.on_data(data, end)
        return False

    def _hold_up(self) -> None:
        if not self._held_up and self._transport is not None:
            self._held_up = True
            self._transport.pause_reading()

    def _reply_is_complete(self) -> None:
        stream = self._stream
        if stream is None:
            return
        if not self._upload:
            if self._keep_alive:
                self._exchange_is_over(stream)
            else:
                self._tell(None)
                self._detach()
                self.close()
            return
        # The rest of the request has no reader. It is taken and dropped: a reset would overtake the
        # reply, and unread bytes would hold up the visitor.
        self._tell(None)
        self._state = _REPLIED
        self._upload = _DROPPED
        owed, self._owed = self._owed, 0
        if owed:
            stream.consumed(owed)
        self._abort()

    def _exchange_is_over(self, stream: Stream) -> None:
        """Both directions are complete: the connection is free for another exchange."""
        stream.sink = _DEAF  # what its queue still does concerns nobody
        self._stream = None
        self._state = _IDLE
        self._reused = True
        self._kept = None
        self._owed = 0
        exchange = self._exchange
        if exchange is not None:
            self._exchange = None
            self._pool.tell(exchange, "")
        if self._lifeline is not None:
            self._drop_lifeline()
        if self._held_up:
            self.on_writable()
        if self._transport is None:  # its last words were a complete reply
            self._state = _CLOSED
        else:
            self._pool.release(self)

    # Failure

    def _may_repeat(self) -> bool:
        """Whether an old connection died under a request that the upstream has not, or may see twice."""
        kept = self._kept
        return (
            kept is not None
            and self._reused
            and self._stream is not None
            and not self._partial
            and kept.startswith(IDEMPOTENT)
        )

    def _repeat(self) -> None:
        assert self._kept is not None
        self._pending = [self._kept]
        self._kept = None
        self._reused = False
        self._pool.dial(self)

    def _fail(self, reason: Reason) -> None:
        stream = self._stream
        self._tell(reason)
        self._detach()
        if stream is not None:
            stream.reset(reason)
        self._abort()

    def _tell(self, reason: int | None) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self._pool.tell(exchange, reason_word(reason))

    def _detach(self) -> None:
        if self._stream is not None:
            self._stream.sink = _DEAF
            self._stream = None

    def _abort(self) -> None:
        """Hang up without ceremony; what is still to be written is dropped."""
        if self._state != _REPLIED:
            self._state = _CLOSED
        self._drop_lifeline()
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        else:
            self._pool.cancel_dial(self)

    def _drop_lifeline(self) -> None:
        if self._lifeline is not None:
            self._lifeline.drop()
            self._lifeline = None

    def _read_last_words(self, lifeline: Lifeline) -> None:
        while self._state in (_HEAD, _LENGTH, _CHUNKS, _TO_CLOSE):
            data = lifeline.read()
            if data is None:
                return
            if not data:
                self.eof_received()
                return
            self.data_received(data)


def joined(pieces: list[Buffer]) -> list[Buffer]:
    """One piece where that is cheap: small pieces are copied together, large ones stay as they are."""
    if len(pieces) > 1 and sum(map(len, pieces)) < JOIN_BELOW:
        return [b"".join(pieces)]
    return pieces
