"""A visitor over TLS that decides about every frame itself, with the library h2."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset

from tests.kit.programs import Edge
from tests.kit.visitors import PATIENCE


class RawVisitor:
    """One connection. What ``h2`` was told to say goes out when something is waited for."""

    def __init__(self, edge: Edge, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.h2 = H2Connection(
            H2Configuration(client_side=True, header_encoding=None, validate_outbound_headers=False)
        )
        self.h2.initiate_connection()
        self.statuses: dict[int, int] = {}
        self.resets: dict[int, int] = {}
        self.ended: set[int] = set()
        self._edge = edge
        self._bodies: defaultdict[int, bytes] = defaultdict(bytes)
        self._reader = reader
        self._writer = writer

    def ask(
        self, hostname: str, method: str = "GET", *fields: tuple[str, str], path: str = "/", end: bool = True
    ) -> int:
        """Send a request head; returns the stream's id."""
        stream = self.h2.get_next_available_stream_id()
        authority = f"{hostname}:{self._edge.https}"
        pseudo = [(":method", method), (":scheme", "https"), (":authority", authority), (":path", path)]
        self.h2.send_headers(stream, [*pseudo, *fields], end_stream=end)
        return stream

    async def body(self, stream: int, count: int) -> bytes:
        """The next ``count`` bytes of a reply, fewer where it ended."""
        while len(self._bodies[stream]) < count and stream not in self.ended:
            await self._turn()
        taken, self._bodies[stream] = self._bodies[stream][:count], self._bodies[stream][count:]
        return taken

    async def until_reset(self, stream: int) -> int:
        """The code with which a stream was reset."""
        while stream not in self.resets:
            await self._turn()
        return self.resets[stream]

    def say(self) -> None:
        """Send what ``h2`` was told."""
        self._writer.write(self.h2.data_to_send())

    async def _turn(self) -> None:
        self.say()
        async with asyncio.timeout(PATIENCE):
            data = await self._reader.read(65536)
        assert data, "the edge closed the connection"
        for event in self.h2.receive_data(data):
            stream = getattr(event, "stream_id", None) or 0
            if isinstance(event, ResponseReceived):
                name, value = (event.headers or [])[0]
                assert name == b":status"
                self.statuses[stream] = int(value)
            elif isinstance(event, DataReceived):
                self._bodies[stream] += event.data or b""
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, stream)
            elif isinstance(event, StreamEnded):
                self.ended.add(stream)
            elif isinstance(event, StreamReset):
                self.resets[stream] = int(event.error_code or 0)


@contextlib.asynccontextmanager
async def raw_visiting(edge: Edge, sni: str) -> AsyncIterator[RawVisitor]:
    """A connection over TLS that was made for the name ``sni``."""
    context = edge.trust()
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.https, ssl=context, server_hostname=sni)
    try:
        yield RawVisitor(edge, reader, writer)
    finally:
        writer.transport.abort()
        with contextlib.suppress(Exception):
            await writer.wait_closed()
