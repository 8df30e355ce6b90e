"""ASGI over streams: what the specification says of WebSockets, with the codec of ``websockets``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.frames import Opcode

from tests.kit.inprocess import Host, asgi, envelope
from tests.kit.socket_client import SocketClient
from wellhead.inprocess.socket import SocketTerms
from wellhead.wire.streams import Reason


async def echo(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "websocket":
        return
    assert (await receive())["type"] == "websocket.connect"
    offered = scope["subprotocols"]
    await send(
        {
            "type": "websocket.accept",
            "subprotocol": offered[0] if offered else None,
            "headers": [(b"x-app", b"up"), (b"set-cookie", b"w=1")],
        }
    )
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") == "bye":
            await send({"type": "websocket.close", "code": 4001, "reason": "as you wish"})
            return
        await send({**message, "type": "websocket.send"})


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[Host, SocketClient, asyncio.Future[Any]]]:
    """A visitor of an application that accepts and waits for one message; the last of the three is that."""
    heard: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            heard.set_result(await receive())

    async with asgi(app) as host:
        client = SocketClient(host)
        await client.open()
        yield host, client, heard


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "deflate"])
async def test_messages_go_both_ways(compress: bool) -> None:
    async with asgi(echo) as host:
        client = SocketClient(host, subprotocols=["chat", "x"], compress=compress)
        await client.open()
        assert client.response is not None
        assert client.response.headers["Sec-WebSocket-Protocol"] == "chat"
        assert client.response.headers["X-App"] == "up" and client.response.headers["Set-Cookie"] == "w=1"
        assert ("Sec-WebSocket-Extensions" in client.response.headers) == compress
        client.say("hello")
        assert (await client.frame()).data == b"hello"
        client.protocol.send_binary(b"\x00" * 300_000)
        client.flush()
        frame = await client.frame()
        assert frame.opcode is Opcode.BINARY and frame.data == b"\x00" * 300_000


async def test_a_close_of_the_application_is_the_visitors() -> None:
    async with asgi(echo) as host:
        client = SocketClient(host)
        await client.open()
        client.say("bye")
        frame = await client.frame()
        assert frame.opcode is Opcode.CLOSE and bytes(frame.data) == b"\x0f\xa1as you wish"
        client.flush()
        await client.visit.over()


async def test_a_close_of_the_visitor_is_told_with_its_code() -> None:
    async with listening() as (_, client, heard):
        client.protocol.send_close(3000, "enough")
        client.flush()
        message = await asyncio.wait_for(heard, 5)
        assert message == {"type": "websocket.disconnect", "code": 3000, "reason": "enough"}
        await client.visit.over()


async def test_a_visitor_that_vanishes_is_1006() -> None:
    async with listening() as (_, client, heard):
        client.visit.stream.reset(Reason.CANCELLED)
        assert (await asyncio.wait_for(heard, 5))["code"] == 1006


async def test_a_close_before_accept_is_a_403() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})

    async with asgi(app) as host:
        client = SocketClient(host)
        await client.visit.over()
        assert client.visit.status == 403


async def test_a_refusal_may_have_a_status_fields_and_a_body() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            assert "websocket.http.response" in scope["extensions"]
            await send(
                {
                    "type": "websocket.http.response.start",
                    "status": 401,
                    "headers": [(b"www-authenticate", b"x")],
                }
            )
            await send({"type": "websocket.http.response.body", "body": b"no ", "more_body": True})
            await send({"type": "websocket.http.response.body", "body": b"way"})

    async with asgi(app) as host:
        client = SocketClient(host)
        await client.visit.over()
        assert client.visit.status == 401 and bytes(client.visit.body) == b"no way"
        assert "www-authenticate: x" in client.visit.head


async def test_an_error_before_accept_is_a_500_and_after_it_1011() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            if scope["query_string"] != b"":
                return
            await receive()
            await send({"type": "websocket.accept"})
            await receive()
            raise ValueError("boom")

    async with asgi(app) as host:
        client = SocketClient(host)
        await client.open()
        client.say("x")
        frame = await client.frame()
        assert frame.opcode is Opcode.CLOSE and bytes(frame.data)[:2] == b"\x03\xf3"
        early = host.upgrade(envelope("GET", "/?early", ("Sec-WebSocket-Version", "13")))
        await early.over()
        assert early.status == 500


async def test_a_ping_is_answered_while_the_application_is_busy() -> None:
    release = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await release.wait()

    async with asgi(app) as host:
        client = SocketClient(host)
        await client.open()
        client.protocol.send_ping(b"there?")
        client.flush()
        frame = await client.frame()
        assert frame.opcode is Opcode.PONG and bytes(frame.data) == b"there?"
        release.set()


async def test_a_message_above_the_limit_is_1009() -> None:
    async with asgi(echo, socket_terms=SocketTerms(max_message_bytes=1000)) as host:
        client = SocketClient(host)
        await client.open()
        client.say("x" * 1001)
        frame = await client.frame()
        assert frame.opcode is Opcode.CLOSE and bytes(frame.data)[:2] == b"\x03\xf1"


async def test_a_slow_application_holds_a_window_and_no_more() -> None:
    release = asyncio.Event()
    got = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal got
        if scope["type"] != "websocket":
            return
        await receive()
        await send({"type": "websocket.accept"})
        await release.wait()
        while (await receive())["type"] == "websocket.receive":
            got += 1

    async with asgi(app) as host:
        client = SocketClient(host)
        await client.open()
        sent = 0
        ready = True
        while ready:
            client.protocol.send_binary(b"x" * 10_000)
            ready = client.visit.send(b"".join(client.protocol.data_to_send()))
            sent += 1
        assert sent * 10_000 < 400_000
        release.set()
        client.protocol.send_close(1000)
        await client.visit.until(lambda: got == sent)
        client.flush()
        await client.visit.over()


async def test_a_draining_agent_tells_both_sides() -> None:
    async with listening() as (host, client, heard):
        host.upstream.drain()
        assert (await asyncio.wait_for(heard, 5))["code"] == 4500
        frame = await client.frame()
        assert bytes(frame.data)[:2] == (1012).to_bytes(2, "big")
        client.flush()
        await client.visit.over()


async def test_an_application_may_listen_before_it_accepts() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            listening = asyncio.ensure_future(receive())
            await asyncio.sleep(0)
            await send({"type": "websocket.accept"})
            message = await listening
            await send({"type": "websocket.send", "text": message["text"]})

    async with asgi(app) as host:
        client = SocketClient(host)
        await client.open()
        client.say("early bird")
        assert (await client.frame()).data == b"early bird"
        await client.frame()
        client.flush()
        await client.visit.over()
