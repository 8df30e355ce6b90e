"""What a visitor's HTTP/1.1 connection is answered: heads, bodies and pages.

The exchange says what; this says it in HTTP/1.1, and keeps count of whether the connection may serve
again.
"""

from __future__ import annotations

from wellhead.visitors import pages
from wellhead.visitors.house import House
from wellhead.visitors.http1_connection import Connection
from wellhead.visitors.pages import Page
from wellhead.wire import headers
from wellhead.wire.body import chunk, last_chunk
from wellhead.wire.headers import ReplyFacts, VisitorHead
from wellhead.wire.streams import Buffer

JOIN_BELOW = 16 * 1024  # smaller body pieces are copied behind their head or chunk size

_NO_HEAD = VisitorHead(b"", False, False)


class Replies(Connection):
    """Writes the replies of one connection, one exchange at a time."""

    __slots__ = ("_block", "_chunked_out", "_http11", "_method", "_reply_facts", "_reply_out")

    def __init__(self, house: House) -> None:
        super().__init__(house)
        # of the running request
        self._method = b""
        self._block = b""  # its field lines
        self._http11 = True
        # of its reply
        self._chunked_out = False
        # of the last reply: servers repeat their heads
        self._reply_facts: ReplyFacts | None = None
        self._reply_out = _NO_HEAD

    def send_interim(self, head: bytes) -> None:
        if self._transport is None or not self._http11:
            return
        if self._body is not None and head.startswith(b"HTTP/1.1 100 "):
            self._body.expecting = False
            self._body.restart(self._clock())
        self._transport.write(head)

    def send_reply(self, facts: ReplyFacts, data: Buffer, end: bool) -> None:
        transport = self._transport
        if transport is None:
            return
        if end and facts.content_length is None and not facts.bodyless:
            facts = facts._replace(content_length=len(data))
        if self._body is not None or self._eof or self._house.draining:
            self._keep = self._keep and self._may_keep()
        if facts is self._reply_facts and self._keep and self._http11:
            out = self._reply_out  # fast path: servers repeat their heads
        else:
            out = headers.visitor_head(facts, http11=self._http11, keep_alive=self._keep)
            if self._keep and self._http11:
                self._reply_facts, self._reply_out = facts, out
        self._keep = out.keep_alive
        self._chunked_out = out.chunked
        if out.chunked:
            transport.write(out.head)
            if data:
                transport.writelines(chunk(data))
        elif len(data) < JOIN_BELOW:
            transport.write(b"".join((out.head, data)))
        else:
            transport.writelines((out.head, data))

    def _may_keep(self) -> bool:
        """Whether the connection may serve again as far as we and the body are concerned."""
        if self._house.draining or (self._eof and not self._buffer):
            return False
        # Without 100 Continue the body will be sent or not: nobody can tell what the next byte is.
        return self._body is None or not self._body.expecting

    def send_body(self, data: Buffer, end: bool) -> None:
        transport = self._transport
        if transport is None:
            return
        if self._chunked_out:
            pieces = chunk(data)
            if end:
                pieces.append(last_chunk())
            transport.writelines(pieces)
        elif data:
            transport.write(data)

    def send_trailers(self, fields: bytes) -> None:
        if self._transport is not None and self._chunked_out:
            self._transport.write(last_chunk(fields))

    def send_page(self, page: Page) -> None:
        exchange = self._exchange
        if self._transport is None or exchange is None:
            return
        self._keep = self._keep and self._http11 and self._may_keep()
        self._transport.write(
            pages.render(
                page,
                html=pages.wants_html(self._block),
                request_id=exchange.request_id.decode(),
                close=not self._keep,
                bodyless=self._method == b"HEAD",
            )
        )

    def cut(self, *, short: bool) -> None:
        """A chunked reply lacks its last chunk, one with a length is short, any other is reset."""
        self._keep = False
        if short or self._chunked_out:
            self._close()
        else:
            self._reset()
