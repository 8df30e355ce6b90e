"""One request on a visitor's HTTP/2 connection: the stream's sink, and its exchange's visitor.

::

    visitor ═ H2Stream ── Http2Request ── Exchange ── Stream ═ agent

Credit follows consumption on both sides: bytes of an upload are credited to the visitor when the
agent takes them, those of a reply to the agent when the visitor does. So a stream holds what one
window allows, and no other stream waits for it.

Source: RFC 9113 section 8, RFC 8441.
"""

from __future__ import annotations

from typing import Protocol

from wellhead.errors import HttpError
from wellhead.visitors import pages
from wellhead.visitors.conversation import Conversation
from wellhead.visitors.exchange import Exchange
from wellhead.visitors.house import Destination, House
from wellhead.visitors.pace import BodyPace
from wellhead.visitors.pages import Page
from wellhead.wire import h2_fields, headers
from wellhead.wire.fields import is_grpc
from wellhead.wire.h1 import is_method
from wellhead.wire.h2_fields import H2Request
from wellhead.wire.h2_frames import ErrorCode
from wellhead.wire.h2_stream import H2Stream
from wellhead.wire.headers import ReplyFacts
from wellhead.wire.hpack import Fields
from wellhead.wire.streams import Buffer, StreamKind

_HTTP = StreamKind.HTTP
# For the rest of a request that is answered already, before it is refused. Some clients (curl 7.88) take a
# refusal that comes in one read with the reply for a failure.
REST_SECONDS = 0.25
_LEAVING = frozenset((ErrorCode.NO_ERROR, ErrorCode.CANCEL, ErrorCode.LOST))


class Link(Protocol):
    """The connection that the requests share."""

    house: House
    peer: str

    def reply_fields(self, facts: ReplyFacts) -> Fields: ...
    def flush(self) -> None:
        """Write what waits."""

    def finished(self, request: Http2Request) -> None:
        """Nothing is left of this request."""


class Http2Request:
    """``choked``: the visitor takes no more of this reply for now."""

    __slots__ = (
        "_block", "_conversation", "_deadline", "_early", "_exchange", "_expecting", "_flowing", "_link",
        "_owed", "_pace", "_receiving", "_stream", "choked", "peer",
    )  # fmt: skip

    def __init__(self, link: Link, stream: H2Stream, *, receiving: bool) -> None:
        self._link = link
        self._stream = stream
        self.peer = link.peer
        self.choked = False
        self._block = b""  # the request's field lines
        self._exchange: Exchange | None = None
        self._conversation: Conversation | None = None
        self._deadline = 0.0  # loop time by which a complete request's reply must have begun
        # of what the visitor sends
        self._receiving = receiving  # its half is open
        self._flowing = True  # the agent takes it
        self._owed = 0  # bytes received and not yet credited
        self._pace: BodyPace | None = None  # of a body, not of a WebSocket
        self._expecting = False  # the visitor waits for 100 Continue
        self._early: bytearray | None = None  # of a WebSocket: bytes that came before the answer

    # The request

    def start(self, request: H2Request, destination: Destination | Page, edge_fields: bytes) -> None:
        """Open the exchange of a request whose head is good."""
        method, target, fields = request.method, request.target, request.fields
        house = self._link.house
        place, name, door, line = house.way(destination, target, self.peer)
        request_id = house.request_id()
        self._exchange = exchange = Exchange(self, method, target, request_id, place, name, house)
        self._block = fields.forward
        if isinstance(door, Page):
            exchange.refuse(door)
            return
        self._deadline = exchange.began + house.terms.reply_seconds
        envelope = headers.request_envelope(method, target, fields, edge_fields, request_id)
        if fields.websocket:
            exchange.open_websocket(door, line, envelope, fields.websocket_key)
        elif self._receiving:
            self._pace = BodyPace(exchange.began)
            self._expecting = fields.expect_continue
            exchange.open(door, line, _HTTP, envelope)
        else:
            exchange.open_whole(door, line, envelope)

    def reject(self, fields: Fields, page: Page) -> None:
        """Answer a request that is not served as it stands."""
        house = self._link.house
        self._block = b"".join([b"%b: %b\r\n" % field for field in fields if field[0] == b"accept"])
        method = next((text for name, text in fields if name == b":method"), b"")
        self._exchange = Exchange(
            self, method if is_method(method) else b"-", b"-", house.request_id(), "none", "", house
        )
        self._exchange.refuse(page)

    # H2Sink

    def on_headers(self, fields: Fields, end: bool) -> None:
        """Trailers of the request."""
        exchange = self._exchange
        if exchange is None or self._pace is None:
            self.on_data(b"", end)
            return
        try:
            block = h2_fields.trailer_block(fields, max_bytes=self._link.house.terms.max_trailer_bytes)
        except HttpError as error:
            self._malformed(error.reason)
            return
        self._received()
        exchange.upload_last([], block)

    def on_data(self, data: Buffer, end: bool) -> None:
        self._owed += len(data)
        exchange, pace = self._exchange, self._pace
        if exchange is None:  # answered already: what still comes is thrown away
            if pace is None:
                self._credit()
            if end:
                self._over()
        elif pace is None:
            self._converse(data, end)
        else:
            self._expecting = False  # it did not wait any longer
            pace.took(len(data), self._link.house.clock())
            if end:
                self._received()
            if not exchange.upload(data, end):
                self._flowing = False
            elif self._flowing:
                self._credit()

    def on_reset(self, code: int) -> None:
        self._receiving = False
        if self._conversation is not None:
            self._conversation.visitor_lost()
        elif self._exchange is not None:
            self._exchange.abandon("visitor-left" if code in _LEAVING else "visitor-reset")
        else:
            self._stream.stopped()
        self._over()

    def on_writable(self) -> None:
        self.choked = False
        if self._conversation is not None:
            self._conversation.unchoked()
        elif self._exchange is not None:
            self._exchange.unchoked()

    def _received(self) -> None:
        """The request is complete."""
        house = self._link.house
        self._receiving = False
        self._deadline = house.clock() + house.terms.reply_seconds

    def _credit(self) -> None:
        owed, self._owed = self._owed, 0
        self._stream.consumed(owed)

    def _malformed(self, reason: str) -> None:
        """The visitor broke a rule of this stream: the agent is told that the request is not whole."""
        self._receiving = False
        self._stream.reset(ErrorCode.PROTOCOL_ERROR)
        if self._exchange is not None:
            self._exchange.abandon(reason)

    def _over(self) -> None:
        self._receiving = False
        self._credit()  # what the agent never took is nobody's now
        self._link.finished(self)

    # Visitor: what the exchange asks for

    def send_interim(self, head: bytes) -> None:
        if self._expecting and head.startswith(b"HTTP/1.1 100 "):
            self._expecting = False
            assert self._pace is not None
            self._pace.restart(self._link.house.clock())
        self._stream.headers(h2_fields.interim_fields(head))

    def send_reply(self, facts: ReplyFacts, data: Buffer, end: bool) -> None:
        stream = self._stream
        whole = end and not data
        stream.headers(self._link.reply_fields(facts), whole)
        if not whole and not stream.data(data, end):
            self.choked = True

    def send_body(self, data: Buffer, end: bool) -> None:
        if not self._stream.data(data, end):
            self.choked = True

    def send_trailers(self, fields: bytes) -> None:
        if fields:
            self._stream.headers(h2_fields.trailer_fields(fields), True)
        else:
            self._stream.data(b"", True)

    def send_page(self, page: Page) -> None:
        exchange = self._exchange
        assert exchange is not None
        html = pages.wants_html(self._block)
        named, body = pages.compose(page, html=html, request_id=exchange.request_id.decode())
        fields = [(name.lower().encode(), text.encode()) for name, text in named]
        bodyless = exchange.method == b"HEAD"
        self._stream.headers([(b":status", b"%d" % page.status), *fields], bodyless)
        if not bodyless:
            self._stream.data(body, True)

    def cut(self, *, short: bool) -> None:
        """What was handed over goes out first, then a reset: nobody takes it for an end."""
        self._receiving = False
        self._link.flush()
        self._stream.reset(ErrorCode.INTERNAL_ERROR)

    def upgrade(self, facts: ReplyFacts, data: Buffer, end: bool) -> None:
        house, exchange = self._link.house, self._exchange
        assert exchange is not None
        self._stream.headers(h2_fields.reply_fields(facts))
        early, self._early = bytes(self._early or b""), None
        self._conversation = conversation = Conversation(
            self, exchange, self, house.terms, house.clock, extensions=facts.extensions
        )
        conversation.start(data, end, early)
        if self._flowing:
            self._credit()
        if not self._receiving:
            conversation.visitor_ended()
        if house.draining:
            conversation.drain(house.drain_delay())

    def pause_upload(self) -> None:
        """The agent takes no more for now."""
        self._flowing = False

    def resume_upload(self) -> None:
        self._flowing = True
        if self._pace is not None:
            self._pace.restart(self._link.house.clock())
        self._credit()

    def finished(self, now: float) -> None:
        """The exchange is over. The visitor may end its half: of a WebSocket its own Close is waited for."""
        self._exchange = None
        self._deadline = now + REST_SECONDS
        if self._conversation is not None:
            self._conversation = None
            self._stream.data(b"", True)
            self._deadline = now + self._link.house.terms.linger_seconds
        if not self._receiving:
            self._over()

    # Of a WebSocket

    def _converse(self, data: Buffer, end: bool) -> None:
        conversation = self._conversation
        if end:
            self._receiving = False
        if conversation is None:
            if self._early is None:
                self._early = bytearray()
            self._early += data  # no more than the window: nothing is credited
            return
        if data:
            conversation.from_visitor(data)
        if self._flowing:
            self._credit()
        if end and not conversation.visitor_ended():
            conversation.visitor_lost()

    def write(self, data: Buffer) -> None:
        self.send_body(data, False)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._stream.data(b"", True)
        if self._conversation is not None and not self._receiving:
            self._conversation.visitor_lost()  # its half ended before: nothing more will be heard of it

    def close(self) -> None:
        self.write_eof()

    def abort(self) -> None:
        """Give the stream up."""
        self._receiving = False
        self._stream.reset(ErrorCode.CANCEL)
        if self._conversation is not None:
            self._conversation.visitor_lost()

    # Swept with its connection

    def tick(self, now: float) -> None:
        exchange, terms = self._exchange, self._link.house.terms
        if self._conversation is not None:
            self._conversation.tick(now)
        elif exchange is None:  # over on our side
            if now >= self._deadline:
                self._stream.reset(ErrorCode.NO_ERROR)
                self._over()
        elif exchange.status:
            return  # the reply has begun: an open stream has no deadline
        elif page := self._overdue(exchange, now):
            patience = terms.grpc_silent_seconds if is_grpc(self._block) else 0.0
            if now >= exchange.progress + patience and (page is pages.SLOW or now >= exchange.late_at):
                exchange.refuse(page)

    def _overdue(self, exchange: Exchange, now: float) -> Page | None:
        """What an ordinary request whose reply has not begun is answered with by now."""
        pace, terms = self._pace, self._link.house.terms
        if pace is None or not self._receiving:
            return pages.TIMEOUT if now >= self._deadline else None
        if self._expecting or not self._flowing:  # it is the agent that we wait for
            return pages.TIMEOUT if now >= exchange.progress + terms.reply_seconds else None
        return pages.SLOW if pace.is_slow(terms, now) else None

    def drain(self) -> None:
        """The edge restarts: a WebSocket is asked to come again, everything else may finish."""
        if self._conversation is not None:
            self._conversation.drain(self._link.house.drain_delay())

    def blame(self, reason: str) -> None:
        """Say in the access line why the connection ends under the request."""
        if self._exchange is not None:
            self._exchange.reason = reason
