"""A stream for code that awaits: one request's body, and the reply to it.

What the visitor sends waits here, bounded by the stream's window: credit goes back as it is read.
What is sent goes straight to the carrier; whoever sends more than it takes waits for room. Nothing
here has a task of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from wellhead.errors import StateError, VisitorGone
from wellhead.inprocess.head import (
    Field,
    ReplyHead,
    ReplyHeads,
    RequestHead,
    bytes_of,
    interim_head,
    trailer_head,
)
from wellhead.net.upstream_exchange import Exchange
from wellhead.wire.streams import Buffer, HeadKind, Reason, Stream

PIECE = 64 * 1024  # body bytes that one read gives at most, unless they came in one piece


_SWITCHED = ReplyHead(b"", 101, None, False)


class Flow:
    """Made by ``InProcess`` for each request. ``on_gone`` is told when the visitor has left.

    ``max_body_bytes`` bounds what the visitor may send; None: nothing does.
    """

    __slots__ = (
        "_done", "_exchange", "_full", "_got_end", "_held", "_left", "_max_body", "_on_gone", "_pieces",
        "_promised", "_reading", "_replies", "_stream", "_taken", "_waiters",
        "gone", "heard", "on_over", "request",
    )  # fmt: skip

    def __init__(
        self,
        stream: Stream,
        request: RequestHead,
        replies: ReplyHeads,
        on_gone: Callable[[Flow], None],
        *,
        max_body_bytes: int | None = None,
        exchange: Exchange | None = None,
    ) -> None:
        self.request = request
        self.on_over: Callable[[], None] | None = None  # called once nobody waits for the reply any more
        self.gone = False  # the visitor left, or the session under it, or it was given up
        self.heard = False  # what sends was told so, and puts its things in order
        self._stream = stream
        self._replies = replies
        self._on_gone = on_gone
        self._exchange = exchange
        self._max_body = max_body_bytes
        self._pieces: deque[Buffer] = deque()
        self._held = 0  # bytes of them
        self._taken = 0  # body bytes that came
        self._got_end = False
        self._reading = True  # False: what still comes is dropped
        self._promised: ReplyHead | None = None  # once it is sent
        self._left = -1  # body bytes still to be sent by Content-Length, -1 if not told
        self._done = False  # the reply is complete, or given up
        self._full = False  # the carrier takes no more
        self._waiters: list[asyncio.Future[None]] = []

    # What is known

    @property
    def replied(self) -> bool:
        """The reply's head is on its way."""
        return self._promised is not None

    @property
    def done(self) -> bool:
        """The reply is complete, or can never be."""
        return self._done or self.gone

    @property
    def answered(self) -> bool:
        """The reply is complete, and nobody gave it up."""
        return self._done and not self.gone

    @property
    def bodyless(self) -> bool:
        """The reply has begun and is one without a body."""
        return self._promised is not None and self._promised.bodyless

    @property
    def body_over(self) -> bool:
        """Every byte of the request's body has been read."""
        return self._got_end and not self._pieces

    # Reading

    async def read(self) -> bytes:
        """The next bytes of the request's body; empty at its end.

        Raises:
            VisitorGone: it will not be whole.
        """
        while not self._pieces:
            if self._got_end and self._reading:
                return b""
            if self.gone or not self._reading:
                raise VisitorGone("the visitor left before the end of its request")
            await self._news()
        return self._take()

    def _take(self) -> bytes:
        pieces = self._pieces
        data = pieces.popleft()
        if pieces and len(data) < PIECE:
            some, size = [data], len(data)
            while pieces and size + len(pieces[0]) <= PIECE:
                some.append(pieces.popleft())
                size += len(some[-1])
            data = b"".join(some)
        self._held -= len(data)
        self._stream.consumed(len(data))
        return bytes(data)

    async def wait_done(self) -> None:
        """Until the visitor has gone, or the reply is complete."""
        while not self.done:
            await self._news()

    async def wait_answered(self) -> None:
        """Until the reply has begun, or the visitor has gone."""
        while self._promised is None and not self.done:
            await self._news()

    @property
    def waits_for_visitor(self) -> bool:
        """Somebody waits for the rest of the request."""
        return bool(self._waiters) and not self._got_end and not self._pieces

    # Sending

    def begin(self, status: int, headers: Iterable[Field], data: Buffer = b"", end: bool = False) -> bool:
        """Send the reply's head, with first body bytes. False: ``room`` should be awaited.

        Raises:
            StateError: it is not the time for a head, or what no reply may say.
            VisitorGone: nobody hears it.
        """
        if self.gone:
            raise VisitorGone("the visitor left before it was answered")
        if self._promised is not None or self._done:
            raise StateError("a second reply to one request")
        promised = self._replies.make(status, headers, self.request.method)
        self._left = -1 if promised.content_length is None else promised.content_length
        data = self._bodily(promised, data, end)
        self._promised = promised
        if self._exchange is not None:
            self._exchange.replied(status, len(data))
        if end:
            self._complete()
        return self._sent(self._stream.head(HeadKind.REPLY, promised.raw, data, end))

    def put(self, data: Buffer, end: bool = False) -> bool:
        """Send body bytes. False: ``room`` should be awaited.

        Raises:
            StateError: before the head, after the end, or not as many bytes as the head promised.
            VisitorGone: nobody hears it.
        """
        if self.gone:
            raise self._unheard()
        if self._promised is None or self._done:
            raise StateError("body bytes after the reply" if self._done else "body bytes before the reply")
        data = self._bodily(self._promised, data, end)
        if self._exchange is not None:
            self._exchange.bytes_out += len(data)
        if end:
            self._complete()
        return self._sent(self._stream.send(data, end))

    def _sent(self, ready: bool) -> bool:
        if not ready:
            self._full = True
        return ready

    def _bodily(self, promised: ReplyHead, data: Buffer, end: bool) -> Buffer:
        """The bytes that may go out."""
        if type(data) is not bytes:  # what is no byte string would break the carrier for everybody
            data = bytes_of(data)
        if promised.bodyless:
            return b""
        if self._left >= 0:
            self._left -= len(data)
            if self._left < 0 or (end and self._left):
                wrong = f"{-self._left} more" if self._left < 0 else f"{self._left} fewer"
                raise StateError(f"{wrong} body bytes than its content-length of {promised.content_length}")
        return data

    async def room(self) -> None:
        """Until the carrier takes more.

        Raises:
            VisitorGone: it never will.
        """
        while self._full and not self.gone:
            await self._news()
        if self.gone:
            raise self._unheard()

    async def start(
        self, status: int, headers: Iterable[Field], data: Buffer = b"", end: bool = False
    ) -> None:
        """``begin``, and wait for room."""
        if not self.begin(status, headers, data, end):
            await self.room()

    async def send(self, data: Buffer, end: bool = False) -> None:
        """``put``, and wait for room."""
        if not self.put(data, end):
            await self.room()

    def interim(self, status: int, headers: Iterable[Field]) -> None:
        """Send a 1xx head."""
        if not self.gone and self._promised is None:
            self._stream.head(HeadKind.INTERIM, interim_head(status, headers))

    def trailers(self, headers: Iterable[Field]) -> None:
        """End the reply with trailers."""
        if self.gone:
            raise self._unheard()
        if self._promised is None or self._done:
            raise StateError("trailers after the reply" if self._done else "trailers before the reply")
        block = trailer_head(headers)
        self._bodily(self._promised, b"", True)
        self._complete()
        if len(block) > 2:
            self._stream.head(HeadKind.TRAILERS, block, b"", True)
        else:
            self._stream.send(b"", True)

    def give_up(self, reason: Reason) -> None:
        """There will be no reply, or no more of it: the visitor is told so, or sees that it is not whole."""
        if not self.done:
            self.gone = True  # for whoever still waits, perhaps in a thread
            self._complete()
            self._stream.reset(reason)
            self._tell_over()

    # For a request that becomes a conversation

    def switched(self) -> list[tuple[Buffer, bool]]:
        """It was accepted: another sink listens from now on. What came before it, as ``on_data`` tells it."""
        self._promised = _SWITCHED
        self._wake()
        if self._exchange is not None:
            self._exchange.replied(101, 0)
            self._exchange.bytes_in -= self._held
        early = [(piece, False) for piece in self._pieces]
        if self._got_end:
            early.append((b"", True))
        self._pieces.clear()
        self._held = 0
        return early

    def counted(self, received: int, sent: int) -> None:
        """So many bytes of the conversation passed."""
        if self._exchange is not None:
            self._exchange.bytes_in += received
            self._exchange.bytes_out += sent

    def left(self) -> None:
        """The conversation is over."""
        self._complete()

    def finish(self) -> None:
        """Nobody reads any more: the rest of the request is dropped as it comes."""
        self._reading = False
        self._drop()
        self._wake()

    # The stream's sink

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        """Trailers of a request have no place in what applications are told."""
        self.on_data(data, end)

    def on_data(self, data: Buffer, end: bool) -> None:
        size = len(data)
        self._taken += size
        self._got_end = self._got_end or end
        if self._exchange is not None:
            self._exchange.bytes_in += size
        if not self._reading:
            self._stream.consumed(size)
            return
        if self._max_body is not None and self._taken > self._max_body:
            self._stream.consumed(size)
            self._too_large()
            return
        if size:
            self._pieces.append(data)
            self._held += size
        if self._waiters:
            self._wake()

    def on_reset(self, reason: int) -> None:
        if self._done:  # what still runs is nothing that the visitor waited for
            return
        self.gone = True
        self._pieces.clear()
        self._wake()
        self._tell_over()
        self._on_gone(self)

    def on_writable(self) -> None:
        self._full = False
        self._wake()

    # Inside

    def _too_large(self) -> None:
        """A body without a length turned out to be too long."""
        if self.done:
            return
        self.finish()
        if self._promised is None:
            self.refuse(413, b"request body too large")
        else:
            self.give_up(Reason.PROTOCOL)
        self.gone = True
        self._wake()
        self._tell_over()
        self._on_gone(self)

    def refuse(self, status: int, text: bytes) -> None:
        """Answer in the application's place, with a line of plain text."""
        body = text + b"\n"
        self.begin(
            status, [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))],
            body, True,
        )  # fmt: skip

    def _unheard(self) -> VisitorGone:
        self.heard = True
        return VisitorGone("the visitor left before the end of the reply")

    def _tell_over(self) -> None:
        call, self.on_over = self.on_over, None
        if call is not None:
            call()

    def _complete(self) -> None:
        self._done = True
        self._reading = False  # a visitor that still sends must not wait for what goes on after the reply
        if self._pieces:
            self._drop()
        if self._waiters:
            self._wake()

    def _drop(self) -> None:
        held, self._held = self._held, 0
        self._pieces.clear()
        if held and not self.gone:
            self._stream.consumed(held)

    async def _news(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _wake(self) -> None:
        if not self._waiters:
            return
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
