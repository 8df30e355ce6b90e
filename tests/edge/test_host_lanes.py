"""Sandboxes through a whole edge: real sockets, a host's two sessions, visitors that read or do not."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
import websockets
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.edge.test_app import House, house
from tests.kit.lanes import Lanes, lanes
from wellhead.edge.hosts import HostLive
from wellhead.model.sandboxes import Lane, SandboxId
from wellhead.net.tls import ALPN_HTTP
from wellhead.wire.feed import HostAnswered, HostCall
from wellhead.wire.overflow import ALLOWANCE

__all__ = ["house"]
PIECE = random.Random(7).randbytes(64 * 1024)  # which no extension of a WebSocket can make smaller
PIECES = 80


@dataclass
class Sandbox:
    """What answers in the place of a sandbox's host; ``gate`` holds replies up."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    written: int = 0
    hold_at: int = PIECES // 2  # how many pieces come before the gate

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/sandboxes/{id}/exec", self._exec, methods=["POST"]),
                Route("/sandboxes/{id}/files/write", self._write, methods=["POST"]),
                Route("/control/sandboxes", self._control, methods=["POST"]),
                WebSocketRoute("/sandboxes/{id}/pty", self._pty),
                WebSocketRoute("/sandboxes/{id}/exec/stream", self._flood),
            ]
        )

    async def _exec(self, request: Request) -> Response:
        async def output() -> AsyncIterator[bytes]:
            try:
                for number in range(PIECES):
                    if number == self.hold_at:
                        await self.gate.wait()
                    self.written += len(PIECE)
                    yield PIECE
            finally:
                self.ended.set()

        return StreamingResponse(output())

    async def _write(self, request: Request) -> Response:
        size = 0
        async for piece in request.stream():
            size += len(piece)
        return JSONResponse({"size": size, "key": request.headers["wellhead-key"]})

    async def _control(self, request: Request) -> Response:
        return JSONResponse(await request.json(), 201)

    async def _pty(self, socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text)

    async def _flood(self, socket: WebSocket) -> None:
        await socket.accept()
        for _ in range(PIECES):
            await socket.send_bytes(PIECE)
        await socket.send_text(await socket.receive_text())
        await socket.close()


class Place:
    def __init__(self, house: House, sandbox: Sandbox, made: Lanes, id: SandboxId, key: str) -> None:
        self.house, self.sandbox, self.lanes, self.id, self.key = house, sandbox, made, id, key
        self.trust = house.trust
        self.writers: list[asyncio.StreamWriter] = []

    def door(self, lane: Lane) -> HostLive:
        view = self.house.records.sandbox(self.id)
        assert view is not None
        door = self.house.edge.hosts.door(view.host_id, lane)
        assert door is not None
        return door

    def path(self, rest: str) -> str:
        return f"/api/v1/sandboxes/{self.id}{rest}"

    async def post(self, rest: str, body: bytes = b"") -> asyncio.StreamReader:
        """Where the answer comes of a request that has been sent."""
        self.trust.set_alpn_protocols([ALPN_HTTP])
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.house.https, ssl=self.trust, server_hostname="localhost", limit=2**16
        )
        self.writers.append(writer)
        head = (
            f"POST {self.path(rest)} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {self.key}\r\n"
            f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
        return reader

    def socket(self, rest: str) -> websockets.connect:
        self.trust.set_alpn_protocols([ALPN_HTTP])
        return websockets.connect(
            f"wss://localhost:{self.house.https}{self.path(rest)}", ssl=self.trust, max_size=None,
            additional_headers={"Authorization": f"Bearer {self.key}"},
        )  # fmt: skip


@pytest.fixture
async def place(house: House) -> AsyncIterator[Place]:
    host, key = house.records.new_host()
    sandbox = Sandbox()
    sandbox.gate.set()
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    async with lanes(house.https, trust, host, key, sandbox.app()) as made:
        id, admin = house.records.new_sandbox(host), house.records.new_key()
        place = Place(house, sandbox, made, id, admin.reveal())
        yield place
        for writer in place.writers:
            writer.transport.abort()


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110  # nobody tells
        await asyncio.sleep(0.01)


async def body(reader: asyncio.StreamReader) -> bytes:
    """Of a chunked reply; what came of it where it was cut off."""
    async with asyncio.timeout(20):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        whole = bytearray()
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while size := int(await reader.readline() or b"0", 16):
                whole += await reader.readexactly(size)
                await reader.readexactly(2)
        return bytes(whole)


async def test_long_output_comes_whole_and_by_the_bulk_lane(place: Place) -> None:
    reader = await place.post("/exec")
    assert await body(reader) == PIECE * PIECES
    assert place.lanes.opened == {Lane.INTERACTIVE: 1, Lane.BULK: 1}


async def test_long_output_of_a_websocket_does_and_what_is_said_arrives(place: Place) -> None:
    async with asyncio.timeout(20), place.socket("/exec/stream") as socket:
        assert [await socket.recv() for _ in range(PIECES)] == [PIECE] * PIECES
        await socket.send("enough")
        assert await socket.recv() == "enough"
    assert place.lanes.opened == {Lane.INTERACTIVE: 1, Lane.BULK: 1}


async def test_who_does_not_read_holds_up_the_writer_and_no_keystroke(place: Place) -> None:
    for _ in range(8):
        await place.post("/exec")
    await until(lambda: place.door(Lane.BULK).held > 9 * ALLOWANCE)
    async with asyncio.timeout(20), place.socket("/pty") as socket:
        for number in range(20):
            await socket.send(str(number))
            assert await socket.recv() == str(number)
        assert place.door(Lane.INTERACTIVE).held <= 9 * ALLOWANCE


async def test_a_visitor_that_leaves_ends_what_was_written_for_it(place: Place) -> None:
    place.sandbox.gate.clear()
    reader = await place.post("/exec")
    await reader.readexactly(ALLOWANCE * 4)
    place.writers[0].transport.abort()
    async with asyncio.timeout(20):
        await place.sandbox.ended.wait()
        await until(lambda: not sum(session.load for session in place.house.edge.hosts.sessions()))


@pytest.mark.parametrize("lane", list(Lane))
async def test_a_lost_lane_cuts_the_reply_visibly_and_the_next_one_is_whole(place: Place, lane: Lane) -> None:
    place.sandbox.gate.clear()
    reader = await place.post("/exec")
    some = asyncio.ensure_future(body(reader))
    async with asyncio.timeout(20):
        await until(lambda: place.lanes.opened[Lane.BULK] > 0)
        place.lanes.connected[lane].clear()
        place.door(lane).abort()
        half = await some
        assert PIECE * PIECES != half == (PIECE * PIECES)[: len(half)]
        await place.sandbox.ended.wait()
    place.sandbox.gate.set()
    await place.lanes.ready()
    reader = await place.post("/exec")
    assert await body(reader) == PIECE * PIECES


async def test_an_upload_goes_by_the_bulk_lane(place: Place) -> None:
    reader = await place.post("/files/write", PIECE * 40)
    async with asyncio.timeout(20):
        answer = await reader.read()
    assert b'"size":%d' % (len(PIECE) * 40) in answer
    assert place.lanes.opened == {Lane.BULK: 1}


async def test_a_call_of_the_control_plane_is_answered(place: Place) -> None:
    told: asyncio.Queue[HostAnswered] = asyncio.Queue()
    calls = place.house.edge.host_calls
    calls._tell = told.put_nowait
    view = place.house.records.sandbox(place.id)
    assert view is not None
    calls.call(HostCall(4, view.host_id, "POST", "/control/sandboxes", '{"id":"é"}', 10.0))
    async with asyncio.timeout(10):
        assert await told.get() == HostAnswered(4, 201, '{"id":"é"}')
    assert place.lanes.opened == {Lane.INTERACTIVE: 1}


async def test_output_that_grows_long_while_the_edge_drains_comes_whole(place: Place) -> None:
    place.sandbox.hold_at = 1
    place.sandbox.gate.clear()
    reader = await place.post("/exec")
    await until(lambda: place.sandbox.written > 0)
    place.house.edge.gate.drain()
    place.sandbox.gate.set()
    assert await body(reader) == PIECE * PIECES
    assert place.lanes.opened == {Lane.INTERACTIVE: 1, Lane.BULK: 1}


async def test_an_edge_that_drains_tells_its_hosts(place: Place) -> None:
    place.house.edge.gate.drain()
    async with asyncio.timeout(10):
        await until(lambda: not any(event.is_set() for event in place.lanes.connected.values()))
