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
from wellhead.net.upstream_deaf import DEAF
from wellhead.net.upstream_exchange import Exchange
from wellhead.net.upstream_lifeline import Lifeline
from wellhead.net.upstream_owner import Owner
from wellhead.net.upstream_raw import RawConnection, reason_word
from wellhead.net.upstream_reply import Reply, read_reply
from wellhead.net.upstream_request import HEAD, IDEMPOTENT, REQUEST_ID, UPGRADE, last_line
from wellhead.net.upstream_upload import CHUNKED, DROPPED, HeldUpload, SizedUpload, Upload
from wellhead.wire.body import Body
from wellhead.wire.h1 import find_head_end
from wellhead.wire.headers import Envelope, read_envelope
from wellhead.wire.streams import Buffer, HeadKind, Reason, Stream, StreamKind

JOIN_BELOW = 16 * 1024  # bytes: smaller pieces are copied together, larger ones go as they are

_HTTP, _REPLY = StreamKind.HTTP, HeadKind.REPLY
# What the upstream sends next: nothing, a head, a body; nothing while the request goes on; never anything.
_IDLE, _HEAD, _BODY, _REPLIED, _CLOSED = range(5)


class HttpConnection(asyncio.Protocol):
    """Carries one exchange after another; made by the pool only."""

    __slots__ = (
        "_asked", "_body", "_exchange", "_held_up", "_interims", "_keep_alive", "_kept", "_lifeline", "_owed",
        "_partial", "_paused", "_pending", "_pool", "_reused", "_state", "_stream", "_transport", "_upload",
        "since",
    )  # fmt: skip

    def __init__(self, pool: Owner) -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._stream: Stream | None = None
        self._exchange: Exchange | None = None  # where somebody wants to be told
        self._state = _IDLE
        # The request
        self._upload: Upload | None = None  # None: the stream brings no more
        self._kept: bytes | None = None  # all that was written of it, while it may be repeated
        self._pending: list[Buffer] = []  # written as soon as the connection is there
        self._owed = 0  # bytes taken from the stream and not yet acknowledged to it
        self._paused = False  # the upstream does not read
        self._lifeline: Lifeline | None = None  # during an upload
        # The reply
        self._asked = b""  # what its meaning depends on, see Reply
        self._partial = b""  # of its head
        self._interims = 0  # 1xx heads before it
        self._body: Body | None = None  # for _BODY
        self._keep_alive = False
        self._held_up = False  # the stream does not take more: we do not read
        self._reused = False  # an exchange was completed on this connection
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
            if pool.on_exchange is not None:
                self._exchange = Exchange(kind, known.method, known.target, 0)
        else:
            try:
                request = self._request(kind, read_envelope(envelope), data, end)
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
        if self._upload is not None:  # never held here: an upgrade has a connection of its own
            self._lifeline = Lifeline.of(transport)

    def adopt(self, transport: asyncio.Transport) -> None:
        """Take over a connection on which nothing was said yet."""
        self._transport = transport
        transport.set_protocol(self)

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

    # The stream's sink

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        try:
            if kind is not HeadKind.TRAILERS or self._upload is None:
                raise HttpError(400, "head")
            pieces = self._upload.trailers(head)
        except HttpError:
            self._fail(Reason.PROTOCOL)
            return
        self._upload_goes_on(pieces, 0, True)

    def on_data(self, data: Buffer, end: bool) -> None:
        count = len(data)
        if self._exchange is not None:
            self._exchange.bytes_in += count
        try:
            if self._upload is None:
                raise HttpError(400, "after-end")
            pieces = self._upload.feed(data, end)
        except HttpError:
            self._fail(Reason.PROTOCOL)
            return
        self._upload_goes_on(pieces, count, end)

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

    # The transport's protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # not every TLS transport has the class
        if self._stream is None:
            transport.abort()
            return
        self._transport = transport
        pending, self._pending = self._pending, []
        transport.write(b"".join(pending))
        if isinstance(self._upload, HeldUpload):
            return
        owed, self._owed = self._owed, 0
        self._acknowledge(owed)
        if self._upload is not None:
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
                and self._upload is None
                and not self._partial
            ):
                if self._exchange is not None:
                    self._exchange.replied(reply.status, len(data) - reply.size)
                stream.head(_REPLY, reply.canonical, data[reply.size :], True)
                if self._stream is stream:
                    self._exchange_is_over(stream)
            else:
                self._reply_begins(data)
        elif state == _BODY:
            self._reply_goes_on(data)
        elif state == _IDLE:  # nobody asked
            self._abort()

    def eof_received(self) -> bool:
        if self._state == _IDLE:  # before the next request picks it
            self._state = _CLOSED
            self._pool.forget(self, was_idle=True)
        elif self._state == _BODY and self._body is not None and self._stream is not None:
            try:
                self._body.eof()
            except HttpError:
                self._fail(Reason.UPSTREAM_FAILED)
            else:
                self._stream.send(b"", True)
                self._reply_is_complete()
        return False

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if not isinstance(self._upload, HeldUpload):
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
        limits = self._pool.limits
        if self._state == _IDLE:
            if now - self.since > limits.idle_seconds and self._transport is not None:
                self._pool.forget(self, was_idle=True)
                self.close()
        elif self._state == _HEAD:
            if self._waits_for_visitor():
                self.since = now
            elif now - self.since >= limits.reply_seconds:
                self._fail(Reason.TIMEOUT)

    def on_pool_closed(self) -> None:
        if self._stream is not None and self._state != _REPLIED:
            self._fail(Reason.UPSTREAM_FAILED)
        else:
            self._detach()
            self._abort()

    # The request

    def _request(self, kind: StreamKind, envelope: Envelope, data: Buffer, end: bool) -> bytes:
        """What to write first: the head and the body bytes that came beside it.

        Raises:
            HttpError: the body and its declared length differ.
        """
        pool = self._pool
        heads = pool.heads
        if pool.on_exchange is not None:
            self._exchange = Exchange(kind, envelope.method, envelope.target, len(data))
        if kind is StreamKind.WEBSOCKET:
            self._asked = UPGRADE
            self._upload = held = HeldUpload()
            if data or end:
                held.feed(data, end)
            return heads.make(envelope, websocket=True)
        self._asked = HEAD if envelope.method == HEAD else b""
        length = envelope.content_length
        if length is None:
            if end and not data:
                return heads.make_bodyless(envelope)
            self._upload = CHUNKED
            head = heads.make(envelope, chunked=True)
        else:
            self._upload = SizedUpload(length)
            head = heads.make(envelope)
        pieces = self._upload.feed(data, end)
        if end:
            self._upload = None
        return b"".join((head, *pieces))

    def _upload_goes_on(self, pieces: list[Buffer], count: int, end: bool) -> None:
        """Write ``pieces``, made of ``count`` bytes of the stream."""
        stream, upload = self._stream, self._upload
        if end and not isinstance(upload, HeldUpload):
            self._upload = None
        if upload is DROPPED:
            if count and stream is not None:
                stream.consumed(count)
            if end and self._state == _REPLIED:
                self._detach()
            return
        transport = self._transport
        if transport is None:
            self._pending += pieces
            self._owed += count
        elif isinstance(upload, HeldUpload):
            self._owed += count
        else:
            self._kept = None
            for piece in joined(pieces):
                transport.write(piece)
            self._acknowledge(count)

    def _acknowledge(self, count: int) -> None:
        if self._paused:
            self._owed += count
        elif count and self._stream is not None:
            self._stream.consumed(count)

    def _waits_for_visitor(self) -> bool:
        """Whether it is the visitor whom the upstream waits for."""
        uploading = self._upload is not None and not isinstance(self._upload, HeldUpload)
        return uploading and not self._paused and self._transport is not None

    # The reply

    def _reply_begins(self, data: bytes) -> None:
        if self._partial:
            data, self._partial = self._partial + data, b""
        reply: Reply | None = self._pool.last_reply
        if reply is None or reply.asked is not self._asked or not data.startswith(reply.raw):
            try:
                reply, data = self._read_heads(data)
            except HttpError:
                self._fail(Reason.UPSTREAM_FAILED)
                return
            if reply is None:
                return
        self._interims = 0
        self._kept = None
        self._keep_alive = reply.keep_alive
        rest = data[reply.size :]
        if self._exchange is not None:
            self._exchange.replied(reply.status, 0)
        if reply.status == 101:
            self._upgraded(reply, rest)
            return
        if isinstance(self._upload, HeldUpload):  # the answer to an upgrade is an ordinary reply
            self._upload = DROPPED
            self._keep_alive = False
        self._state = _BODY
        self._body = reply.body()
        self._reply_goes_on(rest, reply.canonical)

    def _read_heads(self, data: bytes) -> tuple[Reply | None, bytes]:
        """The reply's head and all that came with it, None while it is incomplete; 1xx heads are passed on.

        Raises:
            HttpError: malformed, too long, or too many interim heads.
        """
        limits = self._pool.limits
        while end := find_head_end(data, 0, limits.max_head_bytes):
            reply = read_reply(data[:end], self._asked)
            if reply.status >= 200 or reply.status == 101:
                self._pool.last_reply = reply
                return reply, data
            self._interims += 1
            if self._interims > limits.max_interim:
                raise HttpError(502, "interim", f"more than {limits.max_interim} before the reply")
            self._kept = None
            self.since = self._pool.now
            data = data[end:]
            if self._stream is not None:
                self._stream.head(HeadKind.INTERIM, reply.canonical)
            if self._stream is None or not data:
                return None, b""
        self._partial = data
        return None, b""

    def _reply_goes_on(self, data: bytes, head: bytes | None = None) -> None:
        """Pass on a part of the body; ``head`` goes with the first of it, in one frame."""
        stream, body = self._stream, self._body
        if stream is None or body is None:
            return
        try:
            pieces, done, surplus = body.feed(data)
        except HttpError:
            pieces, done, surplus = [], False, b"?"
        if surplus:
            self._fail(Reason.UPSTREAM_FAILED)
            return
        pieces = joined(pieces)
        if self._exchange is not None:
            self._exchange.bytes_out += sum(map(len, pieces))
        end = done and not body.trailers
        ready = True
        if head is not None:
            first = pieces.pop(0) if pieces else b""
            ready = stream.head(_REPLY, head, first, end and not pieces)
        elif end and not pieces:
            stream.send(b"", True)
        for left in range(len(pieces) - 1, -1, -1):
            ready = stream.send(pieces[-1 - left], end and not left)
        if done and body.trailers:
            stream.head(HeadKind.TRAILERS, body.trailers + b"\r\n", b"", True)
        if done:
            self._reply_is_complete()
        elif not ready:
            self._hold_up()

    def _upgraded(self, reply: Reply, rest: bytes) -> None:
        """After a 101 a raw connection goes on with transport and stream."""
        stream, transport, upload = self._stream, self._transport, self._upload
        if stream is None or transport is None or not isinstance(upload, HeldUpload):
            self._fail(Reason.UPSTREAM_FAILED)
            return
        self._state = _CLOSED
        self._stream = None
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.bytes_out = len(rest)
            exchange.bytes_in = 0  # counted again as it is written
        raw = RawConnection(self._pool, stream, exchange)
        self._pool.replace(self, raw)
        transport.set_protocol(raw)
        ready = stream.head(_REPLY, reply.canonical, rest)
        raw.adopt(transport, paused=self._paused, held_up=not ready)
        for data, end in upload.said:
            raw.on_data(data, end)

    def _hold_up(self) -> None:
        if not self._held_up and self._transport is not None:
            self._held_up = True
            self._transport.pause_reading()

    def _reply_is_complete(self) -> None:
        stream = self._stream
        if stream is None:
            return
        self._body = None
        if self._upload is not None:
            # The rest of the request has no reader. It is taken and dropped: a reset would overtake
            # the reply, and unread bytes would hold up the visitor.
            self._tell(None)
            self._state = _REPLIED
            self._upload = DROPPED
            owed, self._owed = self._owed, 0
            if owed:
                stream.consumed(owed)
            self._abort()
        elif self._keep_alive:
            self._exchange_is_over(stream)
        else:
            self._tell(None)
            self._detach()
            self.close()

    def _exchange_is_over(self, stream: Stream) -> None:
        """Both directions are complete: the connection is free for another exchange."""
        stream.sink = DEAF
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
        if kept is None or self._stream is None or self._partial:
            return False
        return self._reused and kept.startswith(IDEMPOTENT)

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
            self._stream.sink = DEAF
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
        while self._state in (_HEAD, _BODY):
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
