"""A visitor's HTTP/1.1 connection: requests in order, one exchange at a time.

::

    IDLE -> HEAD -> BODY -> BUSY -> IDLE ...      BUSY: the request is complete, the reply is not
                     |        \\-> UPGRADED       bytes both ways, until both ends have ended
                      \\-> UNREAD -> IDLE          the reply came before the body: a short rest is read away
    any  -> LINGER -> closed                      we answered and close; what still comes is thrown away

Bytes that come while an exchange is open wait in the buffer, bounded by the longest head; above it
the socket is no longer read. A visitor that does not read its replies gets no further ones: BUSY then
lasts until it has. Clocks are plain numbers that the house sweeps.
"""

from __future__ import annotations

import asyncio
from typing import cast

from wellhead.errors import HttpError
from wellhead.net.socket_options import reset_on_close
from wellhead.visitors import pages
from wellhead.visitors.conversation import Conversation
from wellhead.visitors.exchange import Exchange
from wellhead.visitors.house import Destination, House
from wellhead.visitors.http1_body import RequestBody
from wellhead.visitors.http1_connection import State
from wellhead.visitors.http1_replies import Replies
from wellhead.visitors.pages import Page
from wellhead.wire import h1, headers
from wellhead.wire.h1 import Head
from wellhead.wire.headers import ReplyFacts, RequestFields
from wellhead.wire.streams import Buffer, StreamKind
from wellhead.wire.ws import check_handshake

MEMO_MAX = 4 * 1024  # longest field block that a connection remembers

_NEVER: tuple[bytes, ...] = ()  # what nothing begins with

# Bound once: an enum's member costs two look-ups, on the path of every request.
_IDLE, _HEAD, _BODY, _BUSY = State.IDLE, State.HEAD, State.BODY, State.BUSY
_HTTP = StreamKind.HTTP


class Http1Visitor(Replies, asyncio.Protocol):
    """One connection. ``sni`` is the name its TLS was made for; ``secure`` whether there is TLS at all."""

    __slots__ = (
        "_conversation", "_destination", "_edge_fields", "_fields", "_local", "_refusal", "_repeat",
        "_scheme", "_sni",
    )  # fmt: skip

    def __init__(self, house: House, *, secure: bool, local: bool, sni: str | None = None) -> None:
        super().__init__(house)
        self._scheme = "https" if secure else "http"
        self._local = local
        self._sni = sni
        self._refusal: Page | None = None  # over a limit: what the first request is answered with
        # of the last request: a repeated field block costs one comparison
        self._repeat: bytes | tuple[bytes, ...] = _NEVER  # the block with its blank line, if it may be known
        self._fields: RequestFields | None = None
        self._edge_fields = b""
        self._destination: Destination | Page = pages.UNKNOWN
        # of the running exchange
        self._conversation: Conversation | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's and aiofastnet's are no subclasses
        self._transport = transport
        # Choked by the first byte that waits here, whose agent then gets no credit: a visitor who reads
        # nothing holds a window at the edge, not a window and a buffer.
        transport.set_write_buffer_limits(high=0)
        peername = transport.get_extra_info("peername")
        self.peer = peername[0] if peername else ""
        self._deadline = self._clock() + self._terms.head_seconds
        self._refusal = self._house.admit(self)

    def data_received(self, data: bytes) -> None:
        state = self._state
        if state is _IDLE or state is _HEAD:
            self._take_head(self._buffer + data if self._buffer else data)
        elif state is _BODY:
            self._take_body(data)
        elif state is State.UPGRADED:
            assert self._conversation is not None
            self._conversation.from_visitor(data)
        elif state is State.UNREAD:
            self._skip_body(data)
        elif state is _BUSY:
            self._buffer = self._buffer + data if self._buffer else data
            if self._read_enough_ahead():
                self._pause()

    def eof_received(self) -> bool:
        """Keeps a half-closed connection for its replies, where the transport can."""
        self._eof = True
        transport = self._transport
        if self._state is State.UPGRADED:
            assert self._conversation is not None
            return self._conversation.visitor_ended()
        waits = self._state is _BUSY or (self._state is _IDLE and bool(self._buffer))
        if waits and transport is not None and transport.can_write_eof():
            if not self._exchange or not self._exchange.status:
                self._deadline = self._clock() + self._terms.half_close_seconds
            return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._state = State.CLOSED
        if self._conversation is not None:
            self._conversation.visitor_lost()
            self._conversation = None
        if self._exchange is not None:
            self._exchange.abandon("visitor-left")
            self._exchange = None
        self._house.release(self)

    def pause_writing(self) -> None:
        self.choked = True

    def resume_writing(self) -> None:
        self.choked = False
        if self._conversation is not None:
            self._conversation.unchoked()
        elif self._exchange is not None:
            self._exchange.unchoked()
        elif self._state is _BUSY:
            self._settle(self._clock())

    # The request

    def _take_head(self, data: bytes) -> None:
        end = data.find(b"\r\n")
        if data.startswith(self._repeat, end + 2):
            # fast path: the same fields as last time, found without cutting the head up
            found = h1.plain_line(data, 0, end)
            if found is not None and end <= self._terms.head.request_line:
                self._state = _BUSY
                self._method, target = found.groups()
                self._buffer = data[end + 2 + len(self._repeat) :]
                self._start(target, b"")
                return
        self._method = self._block = b""
        try:
            head = h1.read_head(data, h1.skip_empty_line(data), self._terms.head)
            if head is None:
                self._wait_for_head(data)
            else:
                self._begin(head, data[head.end :])
        except HttpError as error:
            self._buffer = b""
            self._refuse(pages.for_status(error.status, error.reason), last=True)

    def _wait_for_head(self, data: bytes) -> None:
        if self._eof:
            self._close()
        elif data == b"\r\n" and self._state is _IDLE:
            self._buffer = b""  # forgiven; no request has begun
        else:
            self._buffer = data
            if self._state is _IDLE:
                self._state = _HEAD
                self._deadline = self._clock() + self._terms.head_seconds

    def _begin(self, head: Head, rest: bytes) -> None:
        """A whole head is here, and ``rest`` behind it."""
        self._state = _BUSY
        self._repeat = _NEVER
        line = h1.parse_request_line(head.line)
        self._method, self._http11 = line.method, line.http11
        fields = headers.read_request_fields(head.block, line.http11, self._terms.head)
        self._block, self._fields = head.block, fields
        if line.authority is not None:
            h1.check_authority(line, fields.host)
        if fields.websocket:
            check_handshake(line.method, fields)
        self._keep = fields.keep_alive
        self._body = RequestBody.of(fields, self._terms, self._clock())
        self._edge_fields = headers.edge_fields(self.peer, self._scheme, fields.host)
        self._destination = self._refusal or self._house.destination(
            fields.hostname, self._sni, secure=self._scheme == "https", local=self._local
        )
        if line.http11 and self._body is None and self._may_repeat(head.block, fields):
            self._repeat = head.block + b"\r\n"
        self._buffer = b""
        if self._body is None:
            self._buffer, rest = rest, b""
        self._start(line.target, rest)

    def _may_repeat(self, block: bytes, fields: RequestFields) -> bool:
        """Whether a request with these fields may be known by them when it comes again."""
        limits = self._terms.head
        longest = min(MEMO_MAX, limits.head - limits.request_line - 4)  # whatever its first line
        plain = fields.keep_alive and not fields.websocket and not fields.expect_continue
        return plain and len(block) <= longest

    def _start(self, target: bytes, rest: bytes) -> None:
        """Open the exchange of a request; ``rest`` are first bytes of its body."""
        house, fields = self._house, self._fields
        place, name, door, line = house.way(self._destination, target, self.peer)
        request_id = house.request_id()
        self._exchange = exchange = Exchange(self, self._method, target, request_id, place, name, house)
        if isinstance(door, Page):
            self._turn_away(door, rest)
            return
        assert fields is not None
        envelope = headers.request_envelope(self._method, target, fields, self._edge_fields, request_id)
        self._deadline = exchange.began + self._terms.reply_seconds
        if self._body is not None:
            self._state = _BODY
            exchange.open(door, line, _HTTP, envelope)
            self._go_on(rest)
        elif fields.websocket:
            exchange.open_websocket(door, line, envelope, fields.websocket_key)
        else:
            exchange.open_whole(door, line, envelope)

    def _turn_away(self, page: Page, rest: bytes) -> None:
        """Answer with a page; the body, if there is one, is read away behind it."""
        if self._body is not None:
            self._state = _BODY
        self._refuse(page, last=self._refusal is not None or page.status == 421)
        self._go_on(rest)

    def _go_on(self, rest: bytes) -> None:
        """Take the first bytes of a body, whatever has become of its exchange by now."""
        if rest:
            self.data_received(rest)
        if self._eof and self._state is _BODY:  # the rest of it will never come
            assert self._exchange is not None
            self._keep = False
            self._exchange.abandon("visitor-left")

    def _take_body(self, data: bytes) -> None:
        body, exchange = self._body, self._exchange
        assert body is not None and exchange is not None
        now = self._clock()
        try:
            fed = body.feed(data, now)
        except HttpError as error:
            self._refuse(pages.for_status(error.status, error.reason), last=True)
            return
        flowing = True
        if not fed.done:
            for piece in fed.pieces:
                flowing = exchange.upload(piece, False)
            if not flowing and self._state is _BODY:
                self._pause()
            return
        self._body = None
        self._state = _BUSY
        self._buffer = fed.rest
        self._deadline = now + self._terms.reply_seconds
        exchange.upload_last(fed.pieces, body.trailers)

    # Visitor: what the exchange asks for

    def upgrade(self, facts: ReplyFacts, data: Buffer, end: bool) -> None:
        transport, exchange = self._transport, self._exchange
        assert transport is not None and exchange is not None
        transport.write(headers.visitor_head(facts).head)
        self._state = State.UPGRADED
        self._deadline = 0.0
        self._keep = False
        early, self._buffer = self._buffer, b""
        self._resume()
        self._conversation = conversation = Conversation(
            self, exchange, transport, self._terms, self._clock, extensions=facts.extensions
        )
        conversation.start(data, end, early)
        if self._eof:
            conversation.visitor_ended()
        if self._house.draining:
            conversation.drain(self._house.drain_delay())

    def resume_upload(self) -> None:
        if self._conversation is not None or self._state is _BODY:
            self._resume()

    def pause_upload(self) -> None:
        """The agent takes no more for now."""
        self._pause()

    def finished(self, now: float) -> None:
        """The exchange is over, its reply written."""
        self._exchange = None
        self._conversation = None
        if self._state is State.LINGER or self._state is State.CLOSED:
            return
        if not self._keep or self._transport is None:
            self._linger()
        elif self._state is _BODY:
            self._read_away(now)
        else:
            self._settle(now)

    def _read_away(self, now: float) -> None:
        """The reply is out and the body is not all in: read a short rest, so that the connection lives."""
        assert self._body is not None
        self._state = State.UNREAD
        self._body.restart(now)
        self._deadline = now + self._terms.unread_seconds
        self._resume()

    def _skip_body(self, data: bytes) -> None:
        body, now = self._body, self._clock()
        assert body is not None
        try:
            fed = body.feed(data, now)
        except HttpError:
            self._linger()
            return
        if body.taken > self._terms.max_unread_bytes:
            self._linger()
        elif fed.done:
            self._body = None
            self._buffer = fed.rest
            self._settle(now)

    def _settle(self, now: float) -> None:
        """Ready for the next request, once the visitor has read enough of the last reply."""
        if self.choked:
            self._state = _BUSY
            self._deadline = 0.0
            return
        self._state = _IDLE
        if not self._buffer and (self._eof or self._house.draining):
            self._close()
            return
        self._deadline = now + self._terms.idle_seconds
        if not self._reading:
            self._resume()
        if self._buffer:  # pipelined: not from here, replies of ours would nest
            self._house.loop.call_soon(self._next)

    def _read_enough_ahead(self) -> bool:
        """Whether what waits behind the running request is enough: its bytes, or the heads among them."""
        terms, buffer = self._terms, self._buffer
        return len(buffer) > terms.head.head or buffer.count(b"\r\n\r\n") >= terms.max_pipelined

    def _next(self) -> None:
        if self._state is _IDLE and self._buffer:
            data, self._buffer = self._buffer, b""
            self._take_head(data)

    # Refusals

    def _refuse(self, page: Page, *, last: bool) -> None:
        """Answer the request that is here with a page of ours."""
        exchange = self._exchange
        if exchange is None:
            exchange = self._exchange = Exchange(
                self, self._method or b"-", b"-", self._house.request_id(), "none", "", self._house
            )  # fmt: skip
        if last:
            self._keep = False
        exchange.refuse(page)

    # Swept by the house

    @property
    def held(self) -> int:
        """Bytes that wait for the visitor, and those of its own that nobody has looked at yet.

        Not those that the agent's session counts, because they have not been credited to it.
        """
        owed = 0
        if self._conversation is not None:
            owed = self._conversation.owed
        elif self._exchange is not None:
            owed = self._exchange.owed
        return max(0, self._outflow.unsent - owed) + len(self._buffer)

    def tick(self, now: float) -> None:
        transport = self._transport
        if transport is None:
            return
        state = self._state
        if self._outflow.is_stalled(transport, now, self._terms.write_idle_seconds):
            if state is not State.UPGRADED:
                reset_on_close(transport)
                self.abort("slow-reader")
                return
            assert self._conversation is not None
            self._conversation.stalled()
        if state is _BODY:
            self._tick_body(now)
        elif state is State.UPGRADED:
            assert self._conversation is not None
            self._conversation.tick(now)
        elif self._deadline and now >= self._deadline:
            self._expired(state, now)

    def _tick_body(self, now: float) -> None:
        body, exchange = self._body, self._exchange
        assert body is not None and exchange is not None
        if exchange.status:
            return  # the reply has begun: an open stream has no deadline
        if body.expecting or not self._reading:  # it is the agent that we wait for
            if now >= exchange.progress + self._terms.reply_seconds and now >= exchange.late_at:
                exchange.refuse(pages.TIMEOUT)
        elif body.is_slow(self._terms, now):
            self._refuse(pages.SLOW, last=True)

    def _expired(self, state: State, now: float) -> None:
        assert self._transport is not None
        if state is _HEAD:
            self._buffer = b""
            self._refuse(pages.SLOW, last=True)
        elif state is _BUSY:
            self._busy_expired(now)
        elif state is State.UNREAD:
            self._linger()
        elif state is State.LINGER:
            self._linger_expired(self._transport, now)
        else:
            self._close()

    def _busy_expired(self, now: float) -> None:
        exchange = self._exchange
        if exchange is None or exchange.status:
            self._deadline = 0.0  # the reply has begun: an open stream has no deadline
        elif self._eof:
            self.abort("visitor-left")
        elif now < exchange.late_at:
            self._deadline = exchange.late_at
        else:
            exchange.refuse(pages.TIMEOUT)

    def drain(self) -> None:
        """Close when the running exchange is done; at once where there is none."""
        if self._conversation is not None:
            self._conversation.drain(self._house.drain_delay())
        elif self._state is _IDLE and not self._buffer:
            self._close()
        else:
            self._keep = False
