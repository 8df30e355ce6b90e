"""Visitors that say exactly the bytes a test says, and read what HTTP/1.1 says back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from tests.kit.programs import Edge

PATIENCE = 10.0  # seconds that a visitor waits for anything


@dataclass
class Reply:
    """A reply as it was on the wire."""

    status: int
    fields: list[tuple[str, str]]  # names in lower case
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    interim: list[Reply] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        """The one value of a field, None where it is absent."""
        values = self.all(name)
        assert len(values) < 2, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]


class Truncated(Exception):
    """The connection ended within a reply."""


class Visitor:
    """One connection of a visitor."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
        async with asyncio.timeout(PATIENCE):
            await self.writer.drain()

    async def head(self) -> Reply:
        """The next head, interim ones too."""
        try:
            async with asyncio.timeout(PATIENCE):
                text = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise Truncated(f"no head, only {error.partial[:200]!r}") from None
        line, *rest = text[:-4].decode("latin-1").split("\r\n")
        version, status, _ = line.split(" ", 2)
        assert version == "HTTP/1.1", line
        return Reply(int(status), [_field(each) for each in rest])

    async def reply(self, method: str = "GET") -> Reply:
        """The next whole reply with the interim heads before it.

        Raises:
            Truncated: it was cut off.
        """
        interim = []
        while (reply := await self.head()).status < 200 and reply.status != 101:
            interim.append(reply)
        reply.interim = interim
        if method == "HEAD" or reply.status in (101, 204, 304):
            return reply
        try:
            async with asyncio.timeout(PATIENCE):
                if (coding := reply.get("transfer-encoding")) is not None:
                    assert coding == "chunked" and reply.get("content-length") is None
                    async for chunk in self.chunks(reply):
                        reply.body += chunk
                elif (length := reply.get("content-length")) is not None:
                    reply.body = await self.reader.readexactly(int(length))
                else:
                    reply.body = await self.reader.read()
        except asyncio.IncompleteReadError as error:
            raise Truncated(f"after {len(reply.body) + len(error.partial)} bytes of body") from None
        return reply

    async def chunks(self, reply: Reply) -> AsyncIterator[bytes]:
        """Chunks of a chunked body as they come; trailers go into ``reply``.

        Raises:
            asyncio.IncompleteReadError: the connection ended before the last chunk.
        """
        while size := int(await self._line(), 16):
            yield (await self.reader.readexactly(size + 2))[:-2]
        while line := await self._line():
            reply.trailers.append(_field(line.decode("latin-1")))

    async def chunk(self) -> bytes:
        """The next chunk alone."""
        async with asyncio.timeout(PATIENCE):
            size = int(await self._line(), 16)
            return (await self.reader.readexactly(size + 2))[:-2]

    async def get(self, target: str, host: str, *fields: str, method: str = "GET") -> Reply:
        """Ask and read the reply on this connection."""
        await self.send(request(target, host, *fields, method=method))
        return await self.reply(method)

    async def rest(self, seconds: float = PATIENCE) -> bytes:
        """Everything until the server closes; a reset counts as a close.

        Raises:
            TimeoutError: it did not close in time.
        """
        data = b""
        async with asyncio.timeout(seconds):
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                while piece := await self.reader.read(65536):
                    data += piece
        return data

    async def silent(self, seconds: float) -> bool:
        """Whether nothing comes, not even a close, for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self.reader.read(1)
        except TimeoutError:
            return True
        return False

    def half_close(self) -> None:
        self.writer.write_eof()

    def reset(self) -> None:
        """Leave with an RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(2):
                await self.writer.wait_closed()

    async def _line(self) -> bytes:
        line = await self.reader.readline()
        if not line.endswith(b"\r\n"):
            raise asyncio.IncompleteReadError(line, None)
        return line[:-2]


@contextlib.asynccontextmanager
async def visiting(
    edge: Edge, sni: str | None, *, address: str | None = None, **options: Any
) -> AsyncIterator[Visitor]:
    """A connection: TLS for the name ``sni``, plain where it is None."""
    address = edge.address if address is None else address
    if sni is None:
        streams = asyncio.open_connection(address, edge.http, **options)
    else:
        streams = asyncio.open_connection(
            address, edge.https, ssl=edge.trust(), server_hostname=sni, **options
        )
    async with asyncio.timeout(PATIENCE):
        reader, writer = await streams
    visitor = Visitor(reader, writer)
    try:
        yield visitor
    finally:
        await visitor.close()


async def ask(edge: Edge, hostname: str, target: str = "/", *fields: str, method: str = "GET") -> Reply:
    """One request over TLS on a connection of its own."""
    async with visiting(edge, hostname) as visitor:
        return await visitor.get(target, f"{hostname}:{edge.https}", *fields, method=method)


def request(target: str, host: str, *fields: str, method: str = "GET", body: bytes | None = None) -> bytes:
    """A request's bytes."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def _field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    assert colon, line
    return name.lower(), value.strip()
