"""The sending half of an HTTP/1.1 connection to the upstream: a request, from its stream to the transport.

What the stream brings is written, in one write where it came in one; a connection that still has to be
dialled keeps what it would have written.
"""

from __future__ import annotations

import asyncio
from typing import cast

from wellhead.errors import HttpError
from wellhead.net.upstream_deaf import DEAF
from wellhead.net.upstream_exchange import Exchange
from wellhead.net.upstream_lifeline import Lifeline
from wellhead.net.upstream_owner import Owner
from wellhead.net.upstream_raw import reason_word
from wellhead.net.upstream_request import HEAD, REQUEST_ID, UPGRADE, last_line
from wellhead.net.upstream_upload import CHUNKED, DROPPED, HeldUpload, SizedUpload, Upload
from wellhead.wire.headers import Envelope, read_envelope
from wellhead.wire.streams import Buffer, HeadKind, Reason, Stream, StreamKind

JOIN_BELOW = 16 * 1024  # bytes: smaller pieces are copied together, larger ones go as they are

_HTTP = StreamKind.HTTP
# What the upstream sends next: nothing, a head, a body; nothing while the request goes on; never anything.
IDLE, AWAITS_HEAD, IN_BODY, REPLIED, CLOSED = range(5)


class HttpRequestHalf:
    """See the module; ``HttpConnection`` is the whole."""

    __slots__ = (
        "_asked", "_exchange", "_kept", "_lifeline", "_owed", "_paused", "_pending", "_pool", "_state",
        "_stream", "_transport", "_upload", "carried", "since",
    )  # fmt: skip

    def __init__(self, pool: Owner) -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._stream: Stream | None = None
        self._exchange: Exchange | None = None  # where somebody wants to be told
        self._state = IDLE
        self._asked = b""  # what the reply's meaning depends on, see Reply
        self._upload: Upload | None = None  # None: the stream brings no more
        self._kept: bytes | None = None  # all that was written, while it may be repeated
        self._pending: list[Buffer] = []  # written as soon as the connection is there
        self._owed = 0  # bytes taken from the stream and not yet acknowledged to it
        self._paused = False  # the upstream does not read
        self._lifeline: Lifeline | None = None  # during an upload
        self.since = 0.0  # loop time: when it became idle, or when waiting for the reply began
        self.carried = 0  # bytes of bodies, but for what came beside a head

    # Of the whole connection

    def on_reset(self, reason: int) -> None:
        raise NotImplementedError

    def on_writable(self) -> None:
        raise NotImplementedError

    def _dial(self) -> None:
        """Connect."""
        raise NotImplementedError

    def _fail(self, reason: Reason) -> None:
        """Give up stream and connection."""
        raise NotImplementedError

    # The request

    def carry(self, stream: Stream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
        """Take a stream on. The connection is idle, or was never dialled."""
        pool = self._pool
        stream.sink = self
        self._stream = stream
        self._state = AWAITS_HEAD
        self.since = pool.now
        # fast path: no body, and all but the request id was here before
        cut = last_line(envelope)
        known = pool.heads.known.get(envelope[:cut]) if end and not data else None
        if known is not None and kind is _HTTP and envelope.startswith(REQUEST_ID, cut):
            request = known.head + envelope[cut:]
            self._asked = known.asked
            if pool.on_exchange is not None:
                self._exchange = Exchange(kind, known.method, known.target, 0, known.peer)
        else:
            try:
                read = read_envelope(envelope, slashes=pool.limits.slashes)
                request = self._request(kind, read, data, end)
            except HttpError:
                self._fail(Reason.PROTOCOL)
                return
        transport = self._transport
        if transport is None:
            self._pending = [request]
            self._owed = len(data)
            self._dial()
            return
        self._kept = request
        transport.write(request)
        if data:
            self._acknowledge(len(data))
        if self._upload is not None:  # never held here: an upgrade has a connection of its own
            self._lifeline = Lifeline.of(transport)

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
        self.carried += count
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

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if not isinstance(self._upload, HeldUpload):
            owed, self._owed = self._owed, 0
            self._acknowledge(owed)

    # Inside

    def _request(self, kind: StreamKind, envelope: Envelope, data: Buffer, end: bool) -> bytes:
        """What to write first: the head and the body bytes that came beside it.

        Raises:
            HttpError: the body and its declared length differ.
        """
        pool = self._pool
        heads = pool.heads
        if pool.on_exchange is not None:
            self._exchange = Exchange(kind, envelope.method, envelope.target, len(data), envelope.peer)
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
            if end and self._state == REPLIED:
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

    def _tell(self, reason: int | None) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self._pool.tell(exchange, reason_word(reason))

    def _detach(self) -> None:
        if self._stream is not None:
            self._stream.sink = DEAF
            self._stream = None

    def _drop_lifeline(self) -> None:
        if self._lifeline is not None:
            self._lifeline.drop()
            self._lifeline = None


def joined(pieces: list[Buffer]) -> list[Buffer]:
    """One piece where that is cheap: small pieces are copied together, large ones stay as they are."""
    if len(pieces) > 1 and sum(map(len, pieces)) < JOIN_BELOW:
        return [b"".join(pieces)]
    return pieces
