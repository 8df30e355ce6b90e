"""The reply of an HTTP/2 upstream: the sink of the stream on which it was asked.

A head is held until the read that brought it is used up, so that it travels to the edge in one frame
with the first body bytes, and a small reply in a single one.
"""

from __future__ import annotations

from typing import Protocol

from wellhead.errors import HttpError
from wellhead.net.upstream_exchange import Exchange
from wellhead.net.upstream_owner import UpstreamLimits
from wellhead.wire.h2 import Fields, H2Stream
from wellhead.wire.h2_fields import response_head, trailer_block
from wellhead.wire.headers import reply_head
from wellhead.wire.reply import PHRASES
from wellhead.wire.streams import Buffer, HeadKind, Stream
from wellhead.wire.ws import accept_key


class ReplyHeads:
    """Makes reply heads, once where they repeat: servers send the same one again."""

    __slots__ = ("_fields", "_head", "_of_head")

    def __init__(self) -> None:
        self._fields: Fields = []
        self._of_head = False
        self._head = (0, b"")

    def read(self, fields: Fields, method: bytes) -> tuple[int, bytes]:
        """Status and canonical head; ``method`` is the request's.

        Raises:
            HttpError: 502: malformed or over a limit.
        """
        of_head = method == b"HEAD"
        if fields != self._fields or of_head is not self._of_head:
            response = response_head(fields, method)
            status = response.status
            self._head = (status, reply_head(response._replace(reason=PHRASES.get(status, b""))))
            self._fields, self._of_head = fields, of_head
        return self._head


class Asker(Protocol):
    """The request, as its reply knows it."""

    stream: Stream | None  # None: nobody wants the reply any more
    h2: H2Stream | None
    record: Exchange | None  # where somebody wants to be told
    method: bytes
    websocket_key: bytes  # empty unless the visitor asked for a WebSocket

    @property
    def limits(self) -> UpstreamLimits: ...

    @property
    def reply_heads(self) -> ReplyHeads: ...

    def hold(self, reply: H2Reply) -> None:
        """Call ``let_go`` when the read is used up."""

    def taken(self) -> None:
        """The upstream works on the request."""

    def granted(self) -> None:
        """It switched to the WebSocket."""

    def credit(self) -> None:
        """It takes more of the request."""

    def complete(self) -> None:
        """The reply has ended."""

    def broken(self) -> None:
        """The upstream broke the rules of HTTP."""

    def lost(self, code: int) -> None:
        """The upstream gave the stream up, or is gone."""


class H2Reply:
    """See the module. Fits ``wire.h2.H2Sink``."""

    __slots__ = ("_asker", "_head", "_interims", "_owed", "status", "switched")

    def __init__(self, asker: Asker) -> None:
        self.status = 0  # 0 until the reply's head is there
        self.switched = False  # it is a WebSocket now
        self._asker = asker
        self._head = b""  # held
        self._interims = 0
        self._owed = 0  # bytes that the visitor's side has not taken yet

    # The sink of the upstream's stream

    def on_headers(self, fields: Fields, end: bool) -> None:
        stream = self._asker.stream
        if stream is None:
            return
        try:
            if self.status:
                self._trailers(stream, fields)
            else:
                self._begins(stream, fields, end)
        except HttpError:
            self._asker.broken()

    def on_data(self, data: Buffer, end: bool) -> None:
        asker = self._asker
        stream, h2 = asker.stream, asker.h2
        if stream is None or h2 is None:
            return
        size = len(data)
        if asker.record is not None:
            asker.record.bytes_out += size
        head = self._head
        ready = True
        if head:
            self._head = b""
            ready = stream.head(HeadKind.REPLY, head, data, end)
        elif size or end:
            ready = stream.send(data, end)
        self._owed += size
        if ready or end:
            self.unblock()
        if end:
            asker.complete()

    def on_reset(self, code: int) -> None:
        self.let_go()
        self._asker.lost(code)

    def on_writable(self) -> None:
        self._asker.credit()

    # For the request

    def let_go(self) -> None:
        """Send the head, if it is still held."""
        head, self._head = self._head, b""
        if head and self._asker.stream is not None:
            self._asker.stream.head(HeadKind.REPLY, head)

    def unblock(self) -> None:
        """The visitor's side takes more."""
        owed, self._owed = self._owed, 0
        if owed and self._asker.h2 is not None:
            self._asker.h2.consumed(owed)

    # Heads

    def _begins(self, stream: Stream, fields: Fields, end: bool) -> None:
        asker = self._asker
        status, head = asker.reply_heads.read(fields, asker.method)
        if status < 200:
            self._interim(stream, head)
            return
        asker.taken()
        self.status = status
        if asker.record is not None:
            asker.record.replied(status, 0)
        if asker.websocket_key and status < 300:
            # What RFC 8441 answers with a 200 is a 101 to the edge, whose visitor may speak HTTP/1.1.
            self._head = _switching(head, asker.websocket_key)
            if end:
                raise HttpError(502, "switch-ends")
            self.switched = True
            asker.hold(self)
            asker.granted()
            return
        if end:
            stream.head(HeadKind.REPLY, head, b"", True)
            asker.complete()
        else:
            self._head = head
            asker.hold(self)

    def _interim(self, stream: Stream, head: bytes) -> None:
        self._interims += 1
        if self._interims > self._asker.limits.max_interim:
            raise HttpError(502, "interim", f"more than {self._asker.limits.max_interim} before the reply")
        self._asker.taken()
        stream.head(HeadKind.INTERIM, head)

    def _trailers(self, stream: Stream, fields: Fields) -> None:
        block = b"" if self.switched else trailer_block(fields, status=502)
        self.let_go()
        if block:
            stream.head(HeadKind.TRAILERS, block + b"\r\n", b"", True)
        else:
            stream.send(b"", True)
        self.unblock()
        self._asker.complete()


def _switching(head: bytes, key: bytes) -> bytes:
    fields = head.partition(b"\r\n")[2]
    return b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: %b\r\n%b" % (accept_key(key), fields)
