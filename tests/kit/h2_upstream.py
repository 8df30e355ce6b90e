"""HTTP/2 upstreams that do exactly what a test says, played by the h2 library."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
from h2.settings import SettingCodes, Settings

from tests.kit.upstreams import PATIENCE, Peer, Server, serving
from wellhead.wire.h2_frames import goaway_frame

Headers = list[tuple[str, str]]


def texts(headers: Sequence[tuple[str | bytes, str | bytes]]) -> Headers:
    return [(str(name), str(value)) for name, value in headers]


@dataclass
class Asked:
    """A request as the upstream hears it."""

    id: int
    headers: Headers
    body: bytearray = field(default_factory=bytearray)
    trailers: Headers = field(default_factory=list)
    ended: bool = False
    reset: int | None = None
    pieces: int = 0

    def __getitem__(self, name: str) -> str:
        return dict(self.headers)[name]


class H2Peer:
    """The upstream's end of one connection. It acknowledges data at once unless ``lazy``."""

    def __init__(self, peer: Peer, settings: dict[SettingCodes, int]) -> None:
        self.raw = peer
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        )
        if settings:
            self.h2.local_settings = Settings(client=False, initial_values=settings)
        self.lazy = False
        self.goaway: int | None = None
        self.pings = 0
        self.answers_pings = True
        self.asked: dict[int, Asked] = {}
        self.new: asyncio.Queue[Asked] = asyncio.Queue()
        self._changed = asyncio.Condition()

    async def run(self) -> None:
        """Read until the agent hangs up."""
        self.h2.initiate_connection()
        self.flush()
        with contextlib.suppress(ConnectionError):
            while data := await self.raw.reader.read(65536):
                for event in self.h2.receive_data(data):
                    self._take(event)
                self.flush()
                async with self._changed:
                    self._changed.notify_all()

    def flush(self) -> None:
        data = self.h2.data_to_send()
        if data:
            self.raw.writer.write(data)

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            asked = self.asked[event.stream_id] = Asked(event.stream_id, texts(event.headers))
            self.new.put_nowait(asked)
        elif isinstance(event, h2.events.DataReceived):
            asked = self.asked[event.stream_id]
            asked.body += event.data
            asked.pieces += 1
            if not self.lazy and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            self.asked[event.stream_id].trailers = texts(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            self.asked[event.stream_id].ended = True
        elif isinstance(event, h2.events.StreamReset):
            self.asked[event.stream_id].reset = int(event.error_code or 0)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = int(event.error_code or 0)
        elif isinstance(event, h2.events.PingReceived):
            self.pings += 1

    async def until(self, done: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(done)

    async def request(self) -> Asked:
        """The next request's head."""
        async with asyncio.timeout(PATIENCE):
            return await self.new.get()

    async def whole(self) -> Asked:
        """The next request, with all of its body."""
        asked = await self.request()
        await self.until(lambda: asked.ended)
        return asked

    def head(self, asked: Asked, *fields: tuple[str, str], status: int = 200, end: bool = False) -> None:
        self.h2.send_headers(asked.id, [(":status", str(status)), *fields], end_stream=end)
        self.flush()

    def trailers(self, asked: Asked, *fields: tuple[str, str]) -> None:
        self.h2.send_headers(asked.id, list(fields), end_stream=True)
        self.flush()

    def data(self, asked: Asked, data: bytes, end: bool = False) -> None:
        self.h2.send_data(asked.id, data, end_stream=end)
        self.flush()

    def reply(self, asked: Asked, body: bytes = b"ok", *fields: tuple[str, str], status: int = 200) -> None:
        self.head(asked, ("content-length", str(len(body))), *fields, status=status)
        self.data(asked, body, True)

    def reset(self, asked: Asked, code: int) -> None:
        self.h2.reset_stream(asked.id, code)
        self.flush()

    def go_away(self, last: int, code: int = 0) -> None:
        """By hand: the library serves nothing after its own GOAWAY."""
        self.raw.writer.write(goaway_frame(last, code))


H2Handler = Callable[[H2Peer], Awaitable[None]]


@dataclass
class H2Server:
    port: int
    peers: list[H2Peer]
    server: Server


@contextlib.asynccontextmanager
async def serving_h2(
    handler: H2Handler,
    *,
    port: int = 0,
    path: str = "",
    settings: dict[SettingCodes, int] | None = None,
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[H2Server]:
    """A server that runs ``handler`` beside the reading of every connection, until the agent hangs up."""
    peers: list[H2Peer] = []

    async def serve(peer: Peer) -> None:
        upstream = H2Peer(peer, settings or {})
        peers.append(upstream)
        handling = asyncio.ensure_future(handler(upstream))
        try:
            await upstream.run()
        finally:
            handling.cancel()
            await asyncio.gather(handling, return_exceptions=True)

    async with serving(serve, port=port, path=path, context=context) as server:
        yield H2Server(server.port, peers, server)


async def answering(peer: H2Peer) -> None:
    """Answers every request with its path and body."""
    while True:
        asked = await peer.whole()
        peer.reply(asked, asked[":path"].encode() + bytes(asked.body))


async def eventually(claim: Callable[[], bool]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(PATIENCE):
        while not claim():  # noqa: ASYNC110  # what is claimed tells nobody
            await asyncio.sleep(0.005)
