"""A visitor's WebSocket against hostile visitors: what it may hold, and what it owes. One claim each."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.kit.inprocess import asgi
from tests.kit.socket_client import SocketClient
from wellhead.inprocess.socket import SocketTerms
from wellhead.wire.streams import Reason


def outstanding(client: SocketClient) -> int:
    """Bytes that the visitor sent and that were not credited."""
    return int(client.visit.stream._outstanding)  # type: ignore[attr-defined]


def accepting(then: Any) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            await receive()
            await then(receive, send)

    return app


async def test_frames_that_unfold_to_much_wait_until_messages_are_read() -> None:
    go_on = asyncio.Event()
    sizes: list[int] = []

    async def then(receive: Any, send: Any) -> None:
        await go_on.wait()
        while (message := await receive())["type"] == "websocket.receive":
            sizes.append(len(message["bytes"]))

    terms = SocketTerms(max_message_bytes=1 << 20, max_unread_bytes=1 << 20)
    async with asgi(accepting(then), socket_terms=terms) as host:
        client = SocketClient(host, compress=True)
        await client.open()
        for _ in range(100):
            client.protocol.send_binary(bytes(1 << 20))
        client.protocol.send_close(1000)
        data = b"".join(client.protocol.data_to_send())
        assert len(data) < 200_000
        client.visit.send(data)
        (call,) = host.upstream._calls.values()
        assert call.socket is not None
        held = sum(map(len, call.socket._messages))
        assert held < 20 << 20, f"{held >> 20} MB of messages are held for {len(data)} bytes"
        go_on.set()
        await client.visit.over()
        client.visit.send(b"", True)
        await host.idle()
    assert sizes == [1 << 20] * 100


async def test_pings_of_a_visitor_that_reads_no_pongs_are_not_credited_for_ever() -> None:
    async def then(receive: Any, send: Any) -> None:
        await receive()

    async with asgi(accepting(then)) as host:
        client = SocketClient(host)
        await client.open()
        client.visit.holding = True
        sent = 0
        room = True
        while room and sent < 4 << 20:
            for _ in range(100):
                client.protocol.send_ping(b"x" * 125)
            data = b"".join(client.protocol.data_to_send())
            sent += len(data)
            room = client.visit.send(data)
        assert not room, "a visitor that never reads may send without end"
        client.visit.release()
        assert outstanding(client) < 256 * 1024
        client.visit.stream.reset(Reason.CANCELLED)


async def test_an_end_with_unread_messages_leaves_nothing_uncredited() -> None:
    async def then(receive: Any, send: Any) -> None:
        await asyncio.sleep(0)

    async with asgi(accepting(then)) as host:
        client = SocketClient(host)
        await client.open()
        for _ in range(10):
            client.protocol.send_text(b"x" * 1000)
        client.visit.send(b"".join(client.protocol.data_to_send()), True)
        await host.idle()
        assert outstanding(client) == 0


async def test_messages_that_nobody_reads_do_not_hold_up_the_close() -> None:
    async def then(receive: Any, send: Any) -> None:
        await receive()

    async with asgi(accepting(then)) as host:
        client = SocketClient(host)
        await client.open()
        for _ in range(400):
            client.say("x" * 1000)
        frame = await client.frame()
        assert bytes(frame.data) == b"\x03\xe8"
        client.flush()
        client.visit.send(b"", True)
        await client.visit.over()
        await host.idle()
        assert client.visit.reset is None and outstanding(client) == 0


async def test_a_message_in_many_pieces_is_one() -> None:
    async def then(receive: Any, send: Any) -> None:
        await send({"type": "websocket.send", "text": (await receive())["text"]})

    async with asgi(accepting(then)) as host:
        client = SocketClient(host)
        await client.open()
        client.protocol.send_text(b"a", fin=False)
        for _ in range(1000):
            client.protocol.send_continuation(b"", fin=False)
        client.protocol.send_continuation(b"b", fin=True)
        client.flush()
        assert bytes((await client.frame()).data) == b"ab"


async def test_nothing_is_told_behind_text_that_is_no_utf8() -> None:
    heard: list[Any] = []

    async def then(receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            heard.append(message)
        heard.append(message)

    async with asgi(accepting(then)) as host:
        client = SocketClient(host)
        await client.open()
        client.protocol.send_text(b"good")
        client.protocol.send_text(b"\xff")
        client.protocol.send_text(b"behind")
        client.flush()
        assert bytes((await client.frame()).data)[:2] == b"\x03\xef"
        client.visit.send(b"", True)
        await host.idle()
    assert [message.get("text") for message in heard] == ["good", None] and heard[-1]["code"] == 1007
