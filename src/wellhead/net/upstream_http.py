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

from wellhead.errors import HttpError
from wellhead.net.upstream_deaf import DEAF
from wellhead.net.upstream_http_request import (
    AWAITS_HEAD,
    CLOSED,
    IDLE,
    IN_BODY,
    REPLIED,
    HttpRequestHalf,
    joined,
)
from wellhead.net.upstream_lifeline import Lifeline
from wellhead.net.upstream_owner import Owner
from wellhead.net.upstream_raw import RawConnection
from wellhead.net.upstream_reply import Reply, read_reply
from wellhead.net.upstream_request import IDEMPOTENT
from wellhead.net.upstream_upload import DROPPED, HeldUpload
from wellhead.wire.body import Body
from wellhead.wire.h1 import find_head_end
from wellhead.wire.streams import HeadKind, Reason, Stream

_REPLY = HeadKind.REPLY


class HttpConnection(HttpRequestHalf, asyncio.Protocol):
    """Carries one exchange after another; made by the pool only."""

    __slots__ = ("_body", "_held_up", "_interims", "_keep_alive", "_partial", "_reused")

    def __init__(self, pool: Owner) -> None:
        super().__init__(pool)
        self._partial = b""  # of the reply's head
        self._interims = 0  # 1xx heads before it
        self._body: Body | None = None  # for IN_BODY
        self._keep_alive = False
        self._held_up = False  # the stream does not take more: we do not read
        self._reused = False  # an exchange was completed on this connection

    def adopt(self, transport: asyncio.Transport) -> None:
        """Take over a connection on which nothing was said yet."""
        self._transport = transport
        transport.set_protocol(self)

    @property
    def awaits_reply(self) -> bool:
        return self._state == AWAITS_HEAD

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
        self._state = CLOSED
        if self._transport is not None:
            if self._held_up:  # a paused TLS transport would not see the answer to its close
                self._transport.resume_reading()
            self._transport.close()

    # The stream's sink

    def on_reset(self, reason: int) -> None:
        if self._state != REPLIED:
            self._tell(reason)
        self._detach()
        self._abort()

    def on_writable(self) -> None:
        if self._held_up:
            self._held_up = False
            if self._transport is not None:
                self._transport.resume_reading()

    # The transport's protocol

    def data_received(self, data: bytes) -> None:
        state = self._state
        stream = self._stream
        if state == AWAITS_HEAD:
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
        elif state == IN_BODY:
            self.carried += len(data)
            self._reply_goes_on(data)
        elif state == IDLE:  # nobody asked
            self._abort()

    def eof_received(self) -> bool:
        if self._state == IDLE:  # before the next request picks it
            self._state = CLOSED
            self._pool.forget(self, was_idle=True)
        elif self._state == IN_BODY and self._body is not None and self._stream is not None:
            try:
                self._body.eof()
            except HttpError:
                self._fail(Reason.UPSTREAM_FAILED)
            else:
                self._stream.send(b"", True)
                self._reply_is_complete()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._paused = False
        if self._lifeline is not None:
            self._read_last_words(self._lifeline)
            self._drop_lifeline()
        state = self._state
        if state == AWAITS_HEAD and self._may_repeat():
            self._repeat()
            return
        self._pool.forget(self, was_idle=state == IDLE)
        if state == IDLE:
            self._state = CLOSED
        elif state not in (REPLIED, CLOSED):
            self._fail(Reason.UPSTREAM_FAILED)

    # For the pool

    def on_dial_failed(self, reason: Reason) -> None:
        self._fail(reason)

    def on_sweep(self, now: float) -> None:
        limits = self._pool.limits
        if self._state == IDLE:
            if now - self.since > limits.idle_seconds and self._transport is not None:
                self._pool.forget(self, was_idle=True)
                self.close()
        elif self._state == AWAITS_HEAD:
            if self._waits_for_visitor():
                self.since = now
            elif now - self.since >= limits.reply_seconds:
                self._fail(Reason.TIMEOUT)

    def on_pool_closed(self) -> None:
        if self._stream is not None and self._state != REPLIED:
            self._fail(Reason.UPSTREAM_FAILED)
        else:
            self._detach()
            self._abort()

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
        self._state = IN_BODY
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
        self._state = CLOSED
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
            self._state = REPLIED
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
        self._state = IDLE
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
            self._state = CLOSED
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
        self._dial()

    def _dial(self) -> None:
        self._pool.dial(self)

    def _fail(self, reason: Reason) -> None:
        stream = self._stream
        self._tell(reason)
        self._detach()
        if stream is not None:
            stream.reset(reason)
        self._abort()

    def _abort(self) -> None:
        """Hang up without ceremony; what is still to be written is dropped."""
        if self._state != REPLIED:
            self._state = CLOSED
        self._drop_lifeline()
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        else:
            self._pool.cancel_dial(self)

    def _read_last_words(self, lifeline: Lifeline) -> None:
        while self._state in (AWAITS_HEAD, IN_BODY):
            data = lifeline.read()
            if data is None:
                return
            if not data:
                self.eof_received()
                return
            self.data_received(data)
