"""An edge on the HTTP/2 carrier that does what a test says: a server of our engine, on loopback TLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import cast

from tests.kit.certs import trusting
from tests.kit.watched import Watched
from wellhead.errors import H2Error
from wellhead.net.authority import LocalAuthority
from wellhead.net.tls import ALPN_H2
from wellhead.net.uplink import EdgeAddress
from wellhead.wire.h2 import Fields, H2Connection, H2Role, H2Stream, H2Terms
from wellhead.wire.h2_frames import GOAWAY, header
from wellhead.wire.streams import Buffer

TOKEN = "owner-token-1"


def hello_answer(pool: int = 2, deadline: float | None = None, *, ours: bool = False) -> bytes:
    """What a hello is answered with."""
    members: dict[str, object] = {"owner_token": TOKEN, "default_pool_size": pool}
    if deadline is not None:
        members["response_deadline_seconds"] = deadline
    if ours:
        members["wellhead"] = {
            "session": "s_1", "tunnel_id": "t_1", "name": "my-agent", "public_urls": ["https://my-agent.x"],
        }  # fmt: skip
    return json.dumps(members).encode()


@dataclass
class Asked(Watched):
    """One stream that the agent opened, and what came on it."""

    stream: H2Stream
    fields: Fields
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: int | None = None
    greedy: bool = True  # what comes is consumed at once
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def path(self) -> str:
        return self.get(b":path")

    def get(self, name: bytes) -> str:
        return next((value.decode("latin-1") for key, value in self.fields if key == name), "")

    def all(self, name: bytes) -> list[str]:
        return [value.decode("latin-1") for key, value in self.fields if key == name]

    def on_headers(self, fields: Fields, end: bool) -> None:
        self._heard(end)

    def on_data(self, data: Buffer, end: bool) -> None:
        self.body += data
        if self.greedy:
            self.stream.consumed(len(data))
        self._heard(end)

    def on_reset(self, code: int) -> None:
        self.reset = code
        self._heard(False)

    def on_writable(self) -> None: ...

    def _heard(self, end: bool) -> None:
        self.ended = self.ended or end
        self.changed.set()

    async def whole(self) -> bytes:
        """The body, once it has ended."""
        await self.until(lambda: self.ended or self.reset is not None)
        assert self.reset is None
        return bytes(self.body)

    async def has(self, count: int) -> bytes:
        """The body, once it has so many bytes."""
        await self.until(lambda: len(self.body) >= count)
        return bytes(self.body)

    def reply(self, status: int, *more: tuple[bytes, bytes], body: bytes = b"") -> None:
        """Answer it with all there is."""
        self.stream.headers([(b":status", b"%d" % status), *more], not body)
        if body:
            self.stream.data(body, True)


class Line(Watched, asyncio.Protocol):
    """One connection of an agent."""

    def __init__(self, edge: ScriptedEdge) -> None:
        self.edge = edge
        self.loop = asyncio.get_running_loop()
        self.h2 = H2Connection(
            H2Role.SERVER, terms=edge.terms, on_stream=self._opened, on_goaway=self._goaway,
            wake=self._wake, clock=self.loop.time,
        )  # fmt: skip
        self.hellos: list[Asked] = []
        self.parked: list[Asked] = []
        self.intakes: list[Asked] = []  # all that there were
        self.replies: dict[str, Asked] = {}  # by request id
        self.bridges: dict[str, Asked] = {}  # by path
        self.goaways: list[tuple[int, int]] = []
        self.lost = asyncio.Event()
        self.changed = asyncio.Event()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.edge.lines.append(self)
        self.h2.start()

    def data_received(self, data: bytes) -> None:
        with contextlib.suppress(H2Error):
            self.h2.receive(data)
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.parked = []
        self.h2.lost()
        self.lost.set()
        self._stir()

    def _wake(self) -> None:
        self.loop.call_soon(self.flush)

    def flush(self) -> None:
        if self.transport is not None and (pieces := self.h2.take(2**20)):
            self.transport.write(b"".join(pieces))

    def _goaway(self, last: int, code: int) -> None:
        self.goaways.append((last, code))
        self._stir()

    def _opened(self, stream: H2Stream, fields: Fields, end: bool) -> None:
        asked = Asked(stream, fields, ended=end)
        stream.sink = asked
        path = asked.path
        self.edge.asked.append(asked)
        if path == "/_system/hello":
            self.hellos.append(asked)
            self.edge.answer(self, asked)
        elif path == "/_system/intake":
            self.parked.append(asked)
            self.intakes.append(asked)
            self.edge.on_parked(self, asked)
        elif path.startswith("/_system/response/"):
            self.replies[path.removeprefix("/_system/response/")] = asked
            self.edge.on_reply(self, asked)
        else:
            self.bridges[path] = asked
        self._stir()

    def _stir(self) -> None:
        self.changed.set()
        self.edge.changed.set()

    # What a test has it do

    async def deliver(self, request_id: str, *more: tuple[bytes, bytes], body: bytes | None = b"") -> Asked:
        """Answer the oldest parked intake with an envelope; ``body`` None: it is still to come."""
        await self.until(lambda: len(self.parked) > 0)
        intake = self.parked.pop(0)
        fields = [(b":status", b"200"), (b"inkbox-request-id", request_id.encode()), *more]
        intake.stream.headers(fields, body == b"")
        if body:
            intake.stream.data(body, True)
        return intake

    async def begun(self, request_id: str) -> Asked:
        """The POST for this request, as soon as it is there."""
        await self.until(lambda: request_id in self.replies)
        return self.replies[request_id]

    async def reply_to(self, request_id: str) -> Asked:
        """The POST for this request, which is acknowledged once it is whole."""
        reply = await self.begun(request_id)
        await reply.until(lambda: reply.ended or reply.reset is not None)
        if reply.reset is None:
            reply.reply(200)
        return reply

    async def bridge(self, path: str) -> Asked:
        """The CONNECT for it, answered."""
        await self.until(lambda: path in self.bridges)
        bridge = self.bridges[path]
        bridge.stream.headers([(b":status", b"200")])
        return bridge

    def goaway(self, code: int, debug: bytes = b"", last: int = 2**31 - 1) -> None:
        payload = struct.pack("!II", last, code) + debug
        assert self.transport is not None
        self.flush()
        self.transport.write(header(len(payload) << 8 | GOAWAY, 0, 0) + payload)

    def hang_up(self) -> None:
        if self.transport is not None:
            self.flush()
            self.transport.close()


Answer = Callable[[Line, Asked], None]


def welcoming(pool: int = 2, deadline: float | None = None, *, ours: bool = False) -> Answer:
    body = hello_answer(pool, deadline, ours=ours)
    return lambda line, asked: asked.reply(200, (b"content-type", b"application/json"), body=body)


def saying(status: int, *more: tuple[bytes, bytes], body: bytes = b"") -> Answer:
    return lambda line, asked: asked.reply(status, *more, body=body)


@dataclass
class ScriptedEdge(Watched):
    """Answers each hello by the next of ``answers``, and by the last of them for ever."""

    answers: list[Callable[[Line, Asked], None]]
    terms: H2Terms
    address: EdgeAddress | None = None
    lines: list[Line] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    on_parked: Callable[[Line, Asked], None] = lambda line, asked: None
    on_reply: Callable[[Line, Asked], None] = lambda line, asked: None

    def answer(self, line: Line, asked: Asked) -> None:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        answer(line, asked)

    @property
    def hellos(self) -> list[Asked]:
        return [hello for line in self.lines for hello in line.hellos]

    async def line(self, number: int = 0, parked: int = 1) -> Line:
        """The connection of this number, once so many intakes are parked there."""
        await self.until(lambda: len(self.lines) > number and len(self.lines[number].parked) >= parked)
        return self.lines[number]


@contextlib.asynccontextmanager
async def scripted_edge(
    ca: LocalAuthority,
    *answers: Callable[[Line, Asked], None],
    terms: H2Terms | None = None,
    alpn: list[str] | None = None,
) -> AsyncIterator[ScriptedEdge]:
    edge = ScriptedEdge(list(answers) or [welcoming()], terms or H2Terms(max_streams=1000, window=2**20))
    context = ca.leaf_context("localhost", alpn or [ALPN_H2])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Line(edge), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    edge.address = EdgeAddress("localhost", port, trusting(ca, [ALPN_H2]))
    try:
        yield edge
    finally:
        server.close()
        for line in edge.lines:
            if line.transport is not None:
                line.transport.abort()
