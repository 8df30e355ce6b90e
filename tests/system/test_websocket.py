"""WebSocket from end to end: real libraries at both ends, and visitors that break the rules."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve

from tests.kit.fronts import Front
from tests.kit.upstreams import Peer
from tests.kit.visitors import Visitor, request, visiting

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@contextlib.asynccontextmanager
async def conversing(
    front: Front,
    leg: str = "tls",
    handler: Callable[[ServerConnection], Awaitable[None]] = echo,
    **options: Any,
) -> AsyncIterator[ClientConnection]:
    """A client connected through the tunnel to a server that runs ``handler``."""
    port = front.edge.https if leg == "tls" else front.edge.http
    extra: dict[str, Any] = {"ssl": front.edge.trust()} if leg == "tls" else {}
    scheme = "wss" if leg == "tls" else "ws"
    async with serve(handler, sock=front.listening(), max_size=None):
        async with connect(
            f"{scheme}://{front.hostname}:{port}/ws", host="127.0.0.1", port=port, proxy=None,
            max_size=None, open_timeout=10, close_timeout=5, **extra, **options,
        ) as client:  # fmt: skip
            yield client


async def test_messages_of_every_size_come_back(front: Front, leg: str) -> None:
    async with conversing(front, leg) as client:
        for size in (0, 1, 125, 126, 65535, 65536, 1_000_000, 12_000_000):
            message = os.urandom(size)
            await client.send(message)
            async with asyncio.timeout(20):
                assert await client.recv() == message
        await client.send("grüße")
        assert await client.recv() == "grüße"


async def test_compression_is_negotiated_between_the_ends(front: Front) -> None:
    async with conversing(front) as client:
        extensions = client.response.headers["Sec-WebSocket-Extensions"] if client.response else ""
        assert "permessage-deflate" in extensions
        await client.send("a" * 1_000_000)
        assert await client.recv() == "a" * 1_000_000


async def test_a_subprotocol_is_the_upstreams_to_choose(front: Front) -> None:
    async with (
        serve(echo, sock=front.listening(), subprotocols=[websockets.Subprotocol("v2")]),
        connect(
            f"{front.url.replace('https', 'wss')}/", host="127.0.0.1", port=front.edge.https,
            ssl=front.edge.trust(), proxy=None,
            subprotocols=[websockets.Subprotocol("v1"), websockets.Subprotocol("v2")],
        ) as client,
    ):  # fmt: skip
        assert client.subprotocol == "v2"


async def test_fragments_and_pings_pass(front: Front, leg: str) -> None:
    async with conversing(front, leg) as client:
        await client.send(["frag", "men", "ted"])
        assert await client.recv() == "fragmented"
        async with asyncio.timeout(5):
            await (await client.ping())


@pytest.mark.parametrize("code", [1000, 1001, 1008, 3999, 4321])
async def test_the_upstreams_close_code_reaches_the_visitor(front: Front, code: int) -> None:
    async def closing(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.close(code, "because")

    async with conversing(front, handler=closing) as client:
        await client.send("go")
        with pytest.raises(websockets.ConnectionClosed) as closed:
            async with asyncio.timeout(5):
                await client.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, "because")


async def test_the_visitors_close_code_reaches_the_upstream(front: Front) -> None:
    codes: asyncio.Queue[int | None] = asyncio.Queue()

    async def watching(connection: ServerConnection) -> None:
        await connection.wait_closed()
        codes.put_nowait(connection.close_code)

    async with conversing(front, handler=watching) as client:
        await client.close(4001, "bye")
        async with asyncio.timeout(5):
            assert await codes.get() == 4001


async def test_a_visitor_that_vanishes_is_felt_by_the_upstream(front: Front, leg: str) -> None:
    codes: asyncio.Queue[int | None] = asyncio.Queue()

    async def watching(connection: ServerConnection) -> None:
        await connection.wait_closed()
        codes.put_nowait(connection.close_code)

    async with conversing(front, leg, watching) as client:
        client.transport.abort()
        async with asyncio.timeout(5):
            assert await codes.get() == 1006


async def test_an_upstream_that_vanishes_is_felt_by_the_visitor(front: Front, leg: str) -> None:
    async def vanishing(connection: ServerConnection) -> None:
        await connection.recv()
        connection.transport.abort()

    async with conversing(front, leg, vanishing) as client:
        await client.send("go")
        with pytest.raises(websockets.ConnectionClosed) as closed:
            async with asyncio.timeout(5):
                await client.recv()
    assert closed.value.rcvd is None or closed.value.rcvd.code == 1014


async def test_a_refused_upgrade_is_an_ordinary_reply(front: Front) -> None:
    async def upstream(peer: Peer) -> None:
        while await peer.request():
            await peer.reply(b"no", status=b"403 Forbidden")

    async with front.serving(upstream), visiting(front.edge, front.hostname) as visitor:
        for _ in range(2):
            await visitor.send(handshake(front))
            reply = await visitor.reply()
            assert (reply.status, reply.body) == (403, b"no")
            if reply.get("connection") == "close":
                break


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (["Sec-WebSocket-Version: 8", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="], 426),
        (["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: short"], 400),
        (["Sec-WebSocket-Version: 13"], 400),
    ],
)
async def test_a_bad_handshake_is_refused_here(front: Front, fields: list[str], status: int) -> None:
    async with visiting(front.edge, front.hostname) as visitor:
        await visitor.send(
            request("/", front.host("tls"), "Connection: Upgrade", "Upgrade: websocket", *fields)
        )
        reply = await visitor.reply()
        assert reply.status == status
        if status == 426:
            assert reply.get("sec-websocket-version") == "13"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x02hi", 1002),  # not masked
        (b"\xc1\x82\0\0\0\0hi", 1002),  # RSV1 without an extension
        (b"\x83\x80\0\0\0\0", 1002),  # an opcode that is none
        (b"\x89\xfe\x00\x7e\0\0\0\0" + bytes(126), 1002),  # a long ping
        (b"\x09\x80\0\0\0\0", 1002),  # a fragmented ping
        (b"\x82\xff" + b"\xff" * 8 + b"\0\0\0\0", 1002),  # 2^64 - 1 bytes
        (b"\x89\x80\0\0\0\0" * 400, 1008),  # pings without end
    ],
)
async def test_a_visitor_that_breaks_the_rules_is_closed(front: Front, frame: bytes, code: int) -> None:
    async with (
        serve(echo, sock=front.listening(), compression=None),
        visiting(front.edge, front.hostname) as visitor,
    ):
        await visitor.send(handshake(front))
        assert (await visitor.reply()).status == 101
        await visitor.send(frame)
        assert await _close_code(visitor) == code
        await visitor.rest(10)


async def test_frames_sent_before_the_answer_to_the_handshake_arrive_after_it(front: Front) -> None:
    async with (
        serve(echo, sock=front.listening(), compression=None),
        visiting(front.edge, front.hostname) as visitor,
    ):
        await visitor.send(handshake(front) + b"\x81\x82\0\0\0\0hi" + b"\x81\x82\0\0\0\0ho")
        assert (await visitor.reply()).status == 101
        async with asyncio.timeout(5):
            assert await visitor.reader.readexactly(8) == b"\x81\x02hi\x81\x02ho"


async def _close_code(visitor: Visitor) -> int:
    """The code of the first Close frame from the server."""
    async with asyncio.timeout(5):
        while True:
            opcode, length = await visitor.reader.readexactly(2)
            payload = await visitor.reader.readexactly(length)
            if opcode == 0x88:
                return int.from_bytes(payload[:2], "big")


def handshake(front: Front) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    return request(
        "/", front.host("tls"), "Connection: keep-alive, Upgrade", "Upgrade: WebSocket",
        "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}",
    )  # fmt: skip
