"""WebSocket handlers: accept, deny, messages, ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.frames import Opcode

from tests.kit.inprocess import hosting
from tests.kit.socket_client import SocketClient
from wellhead.errors import InputError
from wellhead.inprocess.context import Context
from wellhead.inprocess.conversation import Conversations, WebSocket, WithWebSockets
from wellhead.inprocess.handler import Handler
from wellhead.inprocess.request import Request
from wellhead.wire.streams import Reason


async def pages(request: Request) -> str:
    return "a page"


def speaking(handler: Any) -> Any:
    return hosting(WithWebSockets(Handler(pages), Conversations(handler, tunnel=lambda: "my-agent")))


async def test_a_handler_speaks_and_the_rest_is_answered_beside_it() -> None:
    async def handler(ws: WebSocket, ctx: Context) -> None:
        assert ws.path == "/ws" and ctx.tunnel == "my-agent" and ws.subprotocols == ["chat", "x"]
        await ws.accept(subprotocol="chat", headers={"X-App": "up"})
        async for message in ws:
            await ws.send(message)
            if message == b"bye":
                await ws.close(4001, "as you wish")

    async with speaking(handler) as host:
        client = SocketClient(host, subprotocols=["chat", "x"])
        await client.open()
        assert client.response is not None and client.response.headers["X-App"] == "up"
        assert client.response.headers["Sec-WebSocket-Protocol"] == "chat"
        client.say("hello")
        assert (await client.frame()).data == b"hello"
        client.protocol.send_binary(b"bye")
        client.flush()
        frame = await client.frame()
        assert frame.opcode is Opcode.BINARY
        frame = await client.frame()
        assert frame.opcode is Opcode.CLOSE and bytes(frame.data) == b"\x0f\xa1as you wish"
        client.flush()
        await client.visit.over()
        assert bytes((await host.get()).body) == b"a page"


async def test_a_handler_may_refuse_with_a_status() -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.deny(401, "who are you?", headers={"WWW-Authenticate": "Basic"})

    async with speaking(handler) as host:
        client = SocketClient(host)
        await client.visit.over()
        assert client.visit.status == 401 and bytes(client.visit.body) == b"who are you?"


@pytest.mark.parametrize("how", ["returns", "closes"])
async def test_a_handler_that_does_not_accept_refuses(how: str) -> None:
    async def handler(ws: WebSocket) -> None:
        if how == "closes":
            await ws.close()

    async with speaking(handler) as host:
        client = SocketClient(host)
        await client.visit.over()
        assert client.visit.status == (403 if how == "closes" else 500)


async def test_a_handler_is_told_how_it_ended() -> None:
    ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def handler(ws: WebSocket, ctx: Context) -> None:
        await ws.accept()
        async for _ in ws:
            pass
        ended.set_result((ws.close_code, ws.close_reason))

    async with speaking(handler) as host:
        client = SocketClient(host)
        await client.open()
        client.protocol.send_close(3001, "enough")
        client.flush()
        assert await asyncio.wait_for(ended, 5) == (3001, "enough")


async def test_a_visitor_that_vanishes_fires_the_signal() -> None:
    fired = asyncio.Event()

    async def handler(ws: WebSocket, ctx: Context) -> None:
        await ws.accept()
        await ctx.cancelled.fired()
        fired.set()

    async with speaking(handler) as host:
        client = SocketClient(host)
        await client.open()
        client.visit.stream.reset(Reason.CANCELLED)
        await asyncio.wait_for(fired.wait(), 2)


async def test_a_handler_pings() -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        await ws.ping(b"there?")
        await ws.receive()

    async with speaking(handler) as host:
        client = SocketClient(host)
        await client.open()
        frame = await client.frame()
        assert frame.opcode is Opcode.PING and bytes(frame.data) == b"there?"
        client.say("yes")
        await client.frame()
        client.flush()
        await client.visit.over()


async def test_a_plain_handler_alone_serves_no_websockets() -> None:
    async with hosting(Handler(pages)) as host:
        client = SocketClient(host)
        await client.visit.over()
        assert client.visit.status == 501


def test_a_handler_that_is_no_coroutine_is_refused() -> None:
    def handler(ws: WebSocket) -> None: ...

    with pytest.raises(InputError, match="async def"):
        Conversations(handler)  # type: ignore[arg-type]
