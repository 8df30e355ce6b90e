"""Upstream servers that do exactly what a test says, and the visitor's end of a stream."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from wellhead.wire.pair import PairStream, join
from wellhead.wire.streams import Buffer, HeadKind, StreamKind

WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
CLOSE, PING, PONG = 8, 9, 10
PATIENCE = 20.0  # seconds a test waits for anything

Handler = Callable[["Peer"], Awaitable[None]]


@dataclass
class Peer:
    """The upstream's end of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> bytes:
        """The next request's head, with the blank line."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def body(self, count: int) -> bytes:
        return await self.reader.readexactly(count)

    async def chunked(self) -> tuple[bytes, bytes]:
        """A chunked body undone, and its trailer fields.

        Raises:
            IncompleteReadError: it ended before.
        """
        body = b""
        while size := int(await self.reader.readuntil(b"\n"), 16):
            body += (await self.reader.readexactly(size + 2))[:-2]
        trailers = b""
        while (line := await self.reader.readline()) != b"\r\n":
            trailers += line
        return body, trailers

    async def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def reply(self, body: bytes = b"ok", *fields: bytes, status: bytes = b"200 OK") -> None:
        lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *fields]
        await self.say(b"\r\n".join(lines) + b"\r\n\r\n" + body)

    async def converse(self, head: bytes, *fields: bytes) -> None:
        """Become a WebSocket by the visitor's ``head``, and send each message of up to 125 bytes back."""
        found = re.search(rb"(?i)\r\nsec-websocket-key: (\S+)\r\n", head)
        assert found is not None
        accept = base64.b64encode(hashlib.sha1(found[1] + WEBSOCKET_GUID).digest())
        lines = (
            b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade",
            b"Sec-WebSocket-Accept: " + accept, *fields,
        )  # fmt: skip
        await self.say(b"\r\n".join(lines) + b"\r\n\r\n")
        while True:
            kind, size = await self.body(2)
            assert size & 0x7F < 126, "a longer message"
            mask = await self.body(4)
            message = bytes(byte ^ mask[at % 4] for at, byte in enumerate(await self.body(size & 0x7F)))
            opcode = kind & 0x0F
            await self.say(bytes((0x80 | (PONG if opcode == PING else opcode), len(message))) + message)
            if opcode == CLOSE:
                return

    async def closed(self) -> bytes:
        """Wait until the agent hangs up; what it said before that."""
        with contextlib.suppress(ConnectionError):
            return await self.reader.read()
        return b""

    def hang_up(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Hang up with an RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@dataclass
class Server:
    port: int
    peers: list[Peer]
    server: asyncio.Server


@contextlib.asynccontextmanager
async def serving(
    handler: Handler,
    *,
    port: int = 0,
    path: str = "",
    context: ssl.SSLContext | None = None,
    sock: socket.socket | None = None,
) -> AsyncIterator[Server]:
    """A server that runs ``handler`` for every connection, and hangs up when it returns.

    ``sock``: it is bound already.
    """
    peers: list[Peer] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        peers.append(peer)
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                await handler(peer)
        finally:
            tasks.discard(task)
            writer.close()

    if path:
        server: asyncio.Server = await asyncio.start_unix_server(serve, path)
    elif sock is not None:
        server = await asyncio.start_server(serve, sock=sock)
    else:
        server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=context)
    number = 0 if path else server.sockets[0].getsockname()[1]
    try:
        yield Server(number, peers, server)
    finally:
        loop = asyncio.get_running_loop()
        for listening in server.sockets:
            # asyncio 3.11 loses a connection that it lets in during the turn in which its server closes.
            loop.remove_reader(listening.fileno())
        for _ in range(3):
            await asyncio.sleep(0)
        server.close()
        for _ in range(5):
            await asyncio.sleep(0.005)  # who was let in at the last moment gets as far as a task of its own
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for peer in peers:
            with contextlib.suppress(AttributeError):  # of asyncio 3.11, for one that is closed
                peer.writer.transport.abort()  # what a slow peer has not taken would outlive the loop
        await asyncio.sleep(0)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass
class Visitor:
    """The edge's end of a stream: keeps what comes, and gives credit for it unless told not to."""

    stream: PairStream
    consuming: bool = True
    heads: list[tuple[HeadKind, bytes]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    pieces: list[int] = field(default_factory=list)
    ended: bool = False
    reason: int | None = None
    frames: int = 0
    writable: asyncio.Event = field(default_factory=asyncio.Event)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        self.heads.append((kind, head))
        self._took(data, end)

    def on_data(self, data: Buffer, end: bool) -> None:
        self._took(data, end)

    def on_reset(self, reason: int) -> None:
        self.reason = reason
        self._changed.set()

    def on_writable(self) -> None:
        self.writable.set()

    def _took(self, data: Buffer, end: bool) -> None:
        self.frames += 1
        self.body += data
        if data:
            self.pieces.append(len(data))
        self.ended = self.ended or end
        if self.consuming:
            self.stream.consumed(len(data))
        self._changed.set()

    async def until(self, done: Callable[[Visitor], bool]) -> Visitor:
        async with asyncio.timeout(PATIENCE):
            while not done(self):
                self._changed.clear()
                await self._changed.wait()
        return self

    async def over(self) -> Visitor:
        """Wait for the end or the reset of the stream."""
        return await self.until(lambda v: v.ended or v.reason is not None)

    @property
    def head(self) -> bytes:
        """The reply's head."""
        return next(head for kind, head in self.heads if kind is HeadKind.REPLY)

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])


class Accepts(Protocol):
    """What takes a stream: a pool, or what stands before pools."""

    def accept(
        self, stream: PairStream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool, /
    ) -> None: ...


def visit(
    pool: Accepts,
    envelope: bytes,
    data: bytes = b"",
    end: bool = True,
    *,
    kind: StreamKind = StreamKind.HTTP,
    consuming: bool = True,
) -> Visitor:
    """Open a stream to the pool as the edge would."""
    near, far = join(len(data), end)
    visitor = Visitor(near, consuming)
    near.sink = visitor
    pool.accept(far, kind, envelope, data, end)
    return visitor


def envelope(
    method: str = "GET", target: str = "/", *fields: str, length: int | None = None, host: str = "t.localhost"
) -> bytes:
    """A canonical request head."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join([*lines, *fields]) + "\r\n\r\n").encode()
