"""aiohttp at both ends of a WebSocket, a hundred conversations at once, and Socket.IO in all its ways."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import socketio  # type: ignore[import-untyped]
from aiohttp import WSMsgType, web
from starlette.types import ASGIApp

from tests.kit import aiohttp_visitor
from tests.kit.asgi import served
from tests.kit.fronts import TLS
from tests.kit.outsiders import KIT, Outsider
from tests.system.conftest import House

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

MANY = 100  # conversations


def url(house: House, leg: str = TLS) -> str:
    return house.agent.url if leg == TLS else house.agent.plain_url


async def echo(request: web.Request) -> web.WebSocketResponse:
    conversation = web.WebSocketResponse(max_msg_size=0, protocols=("v2",))
    await conversation.prepare(request)
    async for message in conversation:
        if message.type is WSMsgType.TEXT and message.data.isdecimal():
            await conversation.close(code=int(message.data), message=b"as asked")
        elif message.type is WSMsgType.TEXT:
            await conversation.send_str(message.data)
        else:
            await conversation.send_bytes(message.data)
    return conversation


@contextlib.asynccontextmanager
async def conversing(house: House) -> AsyncIterator[aiohttp.ClientSession]:
    app = web.Application()
    app.router.add_get("/echo", echo)
    async with aiohttp_visitor.application(app, house.port), aiohttp_visitor.session(house.edge) as session:
        yield session


@pytest.mark.parametrize("window_bits", [0, 15])
async def test_messages_come_back_with_compression_and_without(
    house: House, leg: str, window_bits: int
) -> None:
    async with (
        conversing(house) as session,
        session.ws_connect(
            f"{url(house, leg)}/echo", compress=window_bits, max_msg_size=0, protocols=("v1", "v2")
        ) as client,
    ):
        assert (bool(client.compress), client.protocol) == (bool(window_bits), "v2")
        for size in (0, 125, 126, 65_536, 4_000_000):
            message = os.urandom(size // 2) + bytes(size - size // 2)
            await client.send_bytes(message)
            assert await client.receive_bytes(timeout=10) == message
        await client.send_str("grüße")
        assert await client.receive_str(timeout=5) == "grüße"


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4999])
async def test_a_close_code_crosses_to_the_client(house: House, code: int) -> None:
    async with conversing(house) as session, session.ws_connect(f"{url(house)}/echo") as client:
        await client.send_str(str(code))
        message = await client.receive(timeout=5)
        assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, code, "as asked")


async def test_pings_are_answered_from_the_other_end(house: House) -> None:
    async with (
        conversing(house) as session,
        session.ws_connect(f"{url(house)}/echo", autoping=False) as client,
    ):
        await client.ping(b"are you there")
        message = await client.receive(timeout=5)
        assert (message.type, message.data) == (WSMsgType.PONG, b"are you there")


async def test_a_hundred_conversations_do_not_hear_one_another(house: House) -> None:
    async def talk(session: aiohttp.ClientSession, number: int) -> None:
        async with session.ws_connect(f"{url(house)}/echo") as client:
            for turn in range(10):
                said = f"{number}/{turn} " * 50
                await client.send_str(said)
                assert await client.receive_str(timeout=20) == said

    async with conversing(house) as session, asyncio.TaskGroup() as tasks:
        for number in range(MANY):
            tasks.create_task(talk(session, number))


# Socket.IO


def chat() -> ASGIApp:
    """Repeats what it is asked, and tells everybody what somebody says."""
    server = socketio.AsyncServer(async_mode="asgi", ping_interval=1, ping_timeout=1)

    async def ask(sid: str, data: object) -> object:
        return data

    async def say(sid: str, data: object) -> None:
        await server.emit("said", data)

    for name, handler in (("ask", ask), ("say", say)):
        server.on(name, handler)
    app: ASGIApp = socketio.ASGIApp(server)
    return app


@pytest.mark.needs("unshare")
@pytest.mark.parametrize(
    ("transports", "settled"),
    [(["polling"], "polling"), (["websocket"], "websocket"), (["polling", "websocket"], "websocket")],
    ids=["polling", "websocket", "polling, then websocket"],
)
async def test_socketio_asks_answers_and_tells_everybody(
    house: House, leg: str, tmp_path: Path, transports: list[str], settled: str
) -> None:
    visitor = Outsider(house.edge, house.agent, tmp_path)
    command = [sys.executable, str(KIT / "socketio_client.py"), url(house, leg), *transports]
    async with served(chat(), port=house.port, websockets=True):
        said = await asyncio.to_thread(visitor.run, *command)
    assert said.split("\n") == [f"settled on {settled}"] * 2 + ["all said", ""]
