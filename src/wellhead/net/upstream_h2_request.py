"""A request on its way to an HTTP/2 upstream: the sink of its stream.

It may have to wait for a connection, and be asked again of another one, so it keeps what was said while
that is possible: until a connection is there all of it, which the stream's window bounds, and afterwards
a short body until the upstream shows that it took it. What is kept is not acknowledged to the stream.
"""

from __future__ import annotations

import re
from typing import Protocol

from wellhead.errors import HttpError
from wellhead.net.upstream_deaf import DEAF, Dropping
from wellhead.net.upstream_exchange import Exchange
from wellhead.net.upstream_h2_reply import H2Reply, ReplyHeads
from wellhead.net.upstream_owner import Carry, Owner, UpstreamLimits
from wellhead.net.upstream_raw import reason_word
from wellhead.net.upstream_request import IDEMPOTENT
from wellhead.wire.fields import is_grpc
from wellhead.wire.h2 import H2Connection, H2Stream
from wellhead.wire.h2_fields import trailer_fields
from wellhead.wire.h2_frames import ErrorCode
from wellhead.wire.headers import read_envelope, read_trailers
from wellhead.wire.streams import Buffer, HeadKind, Reason, Stream, StreamKind

KEEP_BYTES = 64 * 1024  # the longest body that is kept for another connection once it was sent
MAX_ATTEMPTS = 6

_CODES = {Reason.PROTOCOL: ErrorCode.PROTOCOL_ERROR, Reason.INTERNAL: ErrorCode.INTERNAL_ERROR}
_REASONS = {ErrorCode.REFUSED_STREAM: Reason.REFUSED, ErrorCode.ENHANCE_YOUR_CALM: Reason.OVERLOADED}
_websocket_key = re.compile(rb"\r\nsec-websocket-key:[\t ]*([^\r\t ]+)", re.IGNORECASE).search


class Link(Protocol):
    """The connection that carries a request."""

    reused: bool  # it has carried another one to its end

    def hold(self, reply: H2Reply) -> None: ...

    def gave_up(self) -> None:
        """The upstream was told that nobody waits for a request any more."""

    def refused(self) -> None:
        """The upstream did not take the request: it has enough for the moment."""

    def release(self, request: H2Request) -> None:
        """The request is over."""


class Home(Protocol):
    """Whoever has the connections."""

    owner: Owner
    reply_heads: ReplyHeads

    def place(self, request: H2Request) -> None:
        """Find it a connection."""

    def place_http1(self, request: H2Request) -> None:
        """The upstream wants it in HTTP/1.1."""

    def withdraw(self, request: H2Request) -> None:
        """It waits no longer."""


class H2Request:
    """See the module. Fits ``wire.streams.Sink``.

    Raises:
        HttpError: the envelope is none, or the body that came with it is not as long as declared.
    """

    __slots__ = (
        "_attempts", "_half", "_home", "_left", "_link", "_owed", "_reply", "_said", "_size", "_trailers",
        "_whole", "envelope", "h2", "kind", "method", "record", "since", "stream", "websocket_key",
    )  # fmt: skip

    def __init__(
        self, home: Home, stream: Stream, kind: StreamKind, raw: bytes, data: Buffer, end: bool
    ) -> None:
        owner = home.owner
        self.envelope = envelope = read_envelope(raw, slashes=owner.limits.slashes)
        self.kind = kind
        self.method = envelope.method
        self.websocket_key = b""
        if kind is StreamKind.WEBSOCKET and (match := _websocket_key(raw)):
            self.websocket_key = match[1]
        self.stream: Stream | None = stream
        self.h2: H2Stream | None = None  # None while it waits, and when it is over
        self.record: Exchange | None = None
        if owner.on_exchange is not None:
            self.record = Exchange(kind, envelope.method, envelope.target, 0, envelope.peer)
        self.since = owner.now  # loop time: when waiting for the reply began
        self._home = home
        self._link: Link | None = None
        self._reply = H2Reply(self)
        self._attempts = 0
        # The body
        length = envelope.content_length
        self._left = -1 if length is None else length  # bytes still to come, -1 where it is not told
        self._said: list[Buffer] | None = []  # None: too much was said to say it again
        self._size = 0  # bytes in it
        self._whole = False  # the visitor's half has ended
        self._half = False  # of a WebSocket: the upstream's half has, before the visitor's
        self._trailers = b""
        self._owed = 0  # bytes taken from the stream and not yet acknowledged to it
        stream.sink = self
        self._count(data, end)

    @property
    def limits(self) -> UpstreamLimits:
        return self._home.owner.limits

    @property
    def reply_heads(self) -> ReplyHeads:
        return self._home.reply_heads

    @property
    def is_websocket(self) -> bool:
        return self.kind is StreamKind.WEBSOCKET

    # The stream's sink

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        try:
            if kind is not HeadKind.TRAILERS or self._whole or self._left > 0 or self.is_websocket:
                raise HttpError(400, "head")
            self._trailers = read_trailers(head, status=400)
        except HttpError:
            self.fail(Reason.PROTOCOL)
            return
        self._whole = True
        if self.h2 is not None:
            self._end(self.h2)

    def on_data(self, data: Buffer, end: bool) -> None:
        try:
            self._count(data, end)
        except HttpError:
            self.fail(Reason.PROTOCOL)
            return
        h2 = self.h2
        if h2 is None or (self.is_websocket and not self._reply.status):
            return
        if h2.data(data, end) and self._said is None:
            self.credit()
        if end and self._half:
            self.complete()

    def on_reset(self, reason: int) -> None:
        self._leave(reason)

    def on_writable(self) -> None:
        self._reply.unblock()

    # The connection

    def go(self, link: Link, h2: H2Connection) -> None:
        """Ask on this connection, which has room."""
        said = self._said
        assert said is not None
        heads = self._home.owner.heads
        whole = self._whole and not said and not self._trailers
        self.h2 = stream = h2.open(
            heads.make_fields(self.envelope, websocket=self.is_websocket), whole, self._reply
        )
        self._link = link
        self._attempts += 1
        self.since = self._home.owner.now
        if not whole and not self.is_websocket:
            self._say(stream, said)

    def _say(self, h2: H2Stream, said: list[Buffer]) -> None:
        """Say what was said until now."""
        ready = True
        last = len(said) - 1 if self._whole and not self._trailers else -1
        for index, piece in enumerate(said):
            ready = h2.data(piece, index == last)
        if self._whole and last < 0:
            self._end(h2)
        if self._size > KEEP_BYTES:
            self._said = None
        if ready and self._said is None:
            self.credit()

    def _end(self, h2: H2Stream) -> None:
        if self._trailers:
            h2.headers(trailer_fields(self._trailers), True)
        else:
            h2.data(b"", True)

    def hand_over(self, carry: Carry) -> None:
        """Let somebody else carry the stream; what was said is said again."""
        stream, said = self.stream, self._said
        self._detach()
        if stream is None or said is None:
            return
        first = said[0] if said else b""
        last = len(said) - 1
        carry(stream, self.kind, self.envelope.raw, first, self._whole and last < 1 and not self._trailers)
        for index in range(1, last + 1):
            stream.sink.on_data(said[index], self._whole and index == last and not self._trailers)
        if self._trailers:
            stream.sink.on_head(HeadKind.TRAILERS, self._trailers + b"\r\n", b"", True)

    # For the reply

    def hold(self, reply: H2Reply) -> None:
        if self._link is not None:
            self._link.hold(reply)

    def taken(self) -> None:
        """It must not be asked again, and the time for an answer begins anew."""
        self.since = self._home.owner.now
        if self._said is not None and not self.is_websocket:
            self._said = None
            self.credit()

    def granted(self) -> None:
        said, self._said = self._said, None
        if self.h2 is not None and said is not None and (said or self._whole):
            self._say(self.h2, said)
        else:
            self.credit()

    def credit(self) -> None:
        owed, self._owed = self._owed, 0
        if owed and self.stream is not None:
            self.stream.consumed(owed)

    def complete(self) -> None:
        if self._reply.switched and not self._whole:
            self._half = True  # the visitor's goes on
            return
        stream, h2, whole = self.stream, self.h2, self._whole
        self.credit()
        if not whole and h2 is not None:
            self._reset(h2, ErrorCode.CANCEL)  # RFC 9113 section 8.1: the rest of the request has no reader
        self._over(None)
        if not whole and stream is not None:
            stream.sink = Dropping(stream)

    def broken(self) -> None:
        self.fail(Reason.UPSTREAM_FAILED)

    def lost(self, code: int) -> None:
        if self.stream is None:
            return
        link, self.h2 = self._link, None
        if self._may_repeat(code, link):
            self._link = None
            if link is not None:
                if code == ErrorCode.REFUSED_STREAM:
                    link.refused()
                link.release(self)
            if code == ErrorCode.HTTP_1_1_REQUIRED:
                self._home.place_http1(self)
            else:
                self._home.place(self)
        else:
            self.fail(_REASONS.get(code, Reason.UPSTREAM_FAILED))  # type: ignore[call-overload]

    def _may_repeat(self, code: int, link: Link | None) -> bool:
        """Whether the upstream has not acted on the request, or may act on it twice."""
        if self._said is None or self._attempts >= MAX_ATTEMPTS:
            return False
        if code in (ErrorCode.REFUSED_STREAM, ErrorCode.HTTP_1_1_REQUIRED):
            return True
        old = link is not None and link.reused and self._attempts == 1
        return code == ErrorCode.LOST and old and self.envelope.raw.startswith(IDEMPOTENT)

    # For the connection

    def on_sweep(self, now: float) -> None:
        """Give up an upstream that does not answer in time."""
        if self._reply.status or now - self.since < self.limits.reply_seconds:
            return
        waits_for_visitor = self.h2 is not None and not self._whole and not self._owed
        if waits_for_visitor or (self.h2 is not None and is_grpc(self.envelope.raw)):
            self.since = now
        else:
            self.fail(Reason.TIMEOUT)

    def fail(self, reason: Reason) -> None:
        stream = self.stream
        self._leave(reason)
        if stream is not None:
            stream.reset(reason)

    def _leave(self, reason: int) -> None:
        """End it, and tell the upstream: first of all, so that its stream makes room for who waits."""
        if self.h2 is not None:
            self._reset(self.h2, _CODES.get(reason, ErrorCode.CANCEL))  # type: ignore[call-overload]  # any number
        self._over(reason)

    def _reset(self, h2: H2Stream, code: ErrorCode) -> None:
        h2.reset(code)
        if self._link is not None:
            self._link.gave_up()

    def _count(self, data: Buffer, end: bool) -> None:
        """Raises:
        HttpError: 400: the body differs from what its head declared.
        """
        size = len(data)
        if self.record is not None:
            self.record.bytes_in += size
        left = self._left
        if self._whole or (left >= 0 and (size > left or (end and size < left))):
            raise HttpError(400, "content-length", f"{size} bytes, {left} are to come")
        if left >= 0:
            self._left = left - size
        self._whole = end
        self._owed += size
        said = self._said
        if said is not None and size:
            self._size += size
            if self._size > KEEP_BYTES and self.h2 is not None and not self.is_websocket:
                self._said = None
            else:
                said.append(data)

    def _over(self, reason: int | None) -> None:
        link, record = self._link, self.record
        self._detach()
        if record is not None:
            self.record = None
            self._home.owner.tell(record, reason_word(reason))
        if link is not None:
            link.release(self)
        else:
            self._home.withdraw(self)

    def _detach(self) -> None:
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.sink = DEAF
        self.h2 = None
        self._link = None
