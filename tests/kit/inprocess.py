"""An application in this process, and the other end of its streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.kit.watched import Watched
from wellhead.inprocess.asgi import Asgi
from wellhead.inprocess.upstream import Answerer, InProcess
from wellhead.net.upstream_exchange import Exchange
from wellhead.wire.pair import join
from wellhead.wire.streams import Buffer, HeadKind, Stream, StreamKind

REQUEST_ID = "0f4ce0c1a5b3be90"


def envelope(
    method: str = "GET", target: str = "/", *fields: tuple[str, str], length: int | None = None
) -> bytes:
    """A request head as the edge sends it."""
    lines = [f"{method} {target} HTTP/1.1", "Host: app.example.com:8443"]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    lines += [f"{name}: {value}" for name, value in fields]
    lines += [
        "X-Forwarded-For: 192.0.2.7",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: app.example.com:8443",
        f"X-Request-Id: {REQUEST_ID}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Visit(Watched):
    """The opener's side of one stream: what came, and what may be sent."""

    def __init__(self, upstream: InProcess, head: bytes, data: bytes, end: bool, kind: StreamKind) -> None:
        self.heads: list[tuple[HeadKind, bytes]] = []
        self.body = bytearray()
        self.ended = False
        self.reset: int | None = None
        self.holding = False  # takes no credit back
        self._unconsumed = 0
        self.changed = asyncio.Event()
        near, far = join(len(data), end)
        near.sink = self
        self.stream: Stream = near
        upstream.accept(far, kind, head, data, end)

    @property
    def status(self) -> int:
        """Of the reply, 0 while there is none."""
        return next((int(head[9:12]) for kind, head in self.heads if kind is HeadKind.REPLY), 0)

    @property
    def head(self) -> str:
        return next((head.decode("latin-1") for kind, head in self.heads if kind is HeadKind.REPLY), "")

    def send(self, data: bytes = b"", end: bool = False) -> bool:
        return self.stream.send(data, end)

    async def over(self) -> None:
        """Until the reply's end or a reset."""
        await self.until(lambda: self.ended or self.reset is not None)

    # The stream's sink

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        self.heads.append((kind, head))
        self.on_data(data, end)

    def on_data(self, data: Buffer, end: bool) -> None:
        self.body += data
        self.ended = self.ended or end
        if self.holding:
            self._unconsumed += len(data)
        else:
            self.stream.consumed(len(data))
        self.changed.set()

    def on_reset(self, reason: int) -> None:
        self.reset = reason
        self.changed.set()

    def on_writable(self) -> None:
        self.changed.set()

    def release(self) -> None:
        """Take everything that was held."""
        self.holding = False
        count, self._unconsumed = self._unconsumed, 0
        self.stream.consumed(count)


class Host:
    """An answerer and its visitors."""

    def __init__(self, upstream: InProcess) -> None:
        self.upstream = upstream
        self.exchanges: list[Exchange] = []
        self._news = asyncio.Event()

    def tell(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        self._news.set()

    async def idle(self, seconds: float = 5.0) -> None:
        """Until nothing is answered."""
        async with asyncio.timeout(seconds):
            while self.upstream.busy:
                self._news.clear()
                await self._news.wait()

    def open(self, head: bytes, data: bytes = b"", end: bool = True) -> Visit:
        return Visit(self.upstream, head, data, end, StreamKind.HTTP)

    def upgrade(self, head: bytes) -> Visit:
        return Visit(self.upstream, head, b"", False, StreamKind.WEBSOCKET)

    async def get(self, target: str = "/", *fields: tuple[str, str], method: str = "GET") -> Visit:
        visit = self.open(envelope(method, target, *fields))
        await visit.over()
        return visit


@asynccontextmanager
async def hosting(answerer: Answerer, **options: Any) -> AsyncIterator[Host]:
    """The answerer, started; given up at the end, without leftovers."""
    upstream = InProcess(answerer, on_exchange=lambda exchange: host.tell(exchange), **options)
    host = Host(upstream)
    await answerer.start()
    try:
        yield host
    finally:
        await upstream.aclose()
        await answerer.stop()
    assert upstream.busy == 0


def asgi(app: Any, **options: Any) -> Any:
    """``hosting`` an ASGI application."""
    return hosting(Asgi(app), **options)
