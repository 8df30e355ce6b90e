"""How programs hold listeners: in threads, in a running loop, several at once, with signals of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect as connect_websocket

import wellhead
from tests.agent.conftest import House, visit
from tests.kit.programs import Program, environment
from tests.kit.small_apps import Hello, served
from wellhead.errors import InputError
from wellhead.model.names import suggest
from wellhead.net.tls import client_context


def _saying(text: str) -> Any:
    def handler(request: wellhead.SyncRequest, ctx: wellhead.Context) -> str:
        return f"{text} at {ctx.tunnel}"

    return handler


async def _echo(ws: wellhead.WebSocket) -> None:
    await ws.accept()
    async for message in ws:
        await ws.send(message)


@pytest.fixture
def port() -> Iterator[int]:
    """Of an application behind a socket."""
    with served(Hello) as port:
        yield port


def _handlers() -> list[Any]:
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


async def test_in_a_running_loop_connect_and_close_are_calls_like_any_other(
    house: House, tmp_path: Path
) -> None:
    async def handler(request: wellhead.Request) -> str:
        return "hello"

    listener = wellhead.connect(handler, name=suggest(), **house.options(tmp_path))
    assert (await asyncio.to_thread(visit, listener.public_url, house)).text == "hello"
    listener.close()
    assert listener.status is wellhead.Status.CLOSED


def test_threads_open_and_close_listeners_of_their_own(house: House, tmp_path: Path) -> None:
    def life(number: int) -> str:
        options = house.options(tmp_path / str(number))
        with wellhead.connect(_saying(str(number)), name=f"thread-{number}", **options) as listener:
            return visit(listener.public_url, house).text

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(life, range(3))) == [f"{number} at thread-{number}" for number in range(3)]


def test_a_listener_may_be_closed_by_another_thread_and_twice(house: House, tmp_path: Path) -> None:
    listener = wellhead.connect(_saying("hello"), name=suggest(), **house.options(tmp_path))
    closers = [threading.Thread(target=listener.close) for _ in range(2)]
    for closer in closers:
        closer.start()
    assert listener.wait(20) is True
    for closer in closers:
        closer.join(20)


async def test_several_listeners_of_one_process_are_each_others_business_in_nothing(
    house: House, tmp_path: Path, port: int
) -> None:
    lives: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                lives.append(kind)
                await send({"type": f"lifespan.{kind}.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"asgi"})

    options = house.options(tmp_path)
    sync = await asyncio.to_thread(lambda: wellhead.connect(app, name="several-a", **options))
    beside = await wellhead.connect_async(app, name="several-b", **options)
    third = await wellhead.connect_async(port, name="several-c", **options)

    async def asked(listener: wellhead.TunnelListener) -> str:
        return (await asyncio.to_thread(visit, listener.public_url, house)).text

    assert [await asked(listener) for listener in (sync, beside, third)] == ["asgi", "asgi", "hello /"]
    await beside.aclose()
    assert lives == ["startup", "startup", "shutdown"]
    assert [await asked(listener) for listener in (sync, third)] == ["asgi", "hello /"]
    await third.aclose()
    await asyncio.to_thread(sync.close)
    assert lives == ["startup", "startup", "shutdown", "shutdown"]


def test_signals_are_the_programs_own(house: House, tmp_path: Path) -> None:
    before = _handlers()
    with wellhead.connect(_saying("hello"), name=suggest(), **house.options(tmp_path)) as listener:
        listener.wait(0.01)
        assert _handlers() == before
    assert _handlers() == before


PROGRAM = """
import os, signal, sys
import wellhead

listener = wellhead.connect(lambda request: "hello", name="a-program")

def leave(number, frame):
    print("asked to leave", flush=True)
    listener.close()

signal.signal(signal.SIGTERM, leave)
try:
    print("ready", flush=True)
    print("closed", listener.wait(), flush=True)
except KeyboardInterrupt:
    listener.close()
    print("interrupted", listener.status.name, flush=True)
"""


@pytest.mark.parametrize(
    ("number", "told"),
    [(signal.SIGTERM, ["asked to leave", "closed True"]), (signal.SIGINT, ["interrupted CLOSED"])],
)
def test_a_program_that_waits_hears_its_signals(
    house: House, tmp_path: Path, number: int, told: list[str]
) -> None:
    env = environment(
        tmp_path,
        WELLHEAD_URL=house.url,
        WELLHEAD_API_KEY=house.key.reveal(),
        WELLHEAD_CA_FILE=str(house.ca_file),
        PYTHONPATH=os.pathsep.join(sys.path),
    )
    with Program([sys.executable, "-c", PROGRAM], env) as program:
        program.line("^ready$")
        assert program.stop(number) == 0
        assert program.out == ["ready", *told]
        assert "Traceback" not in program.text


# WebSockets beside an address


async def test_websockets_have_a_handler_and_the_rest_an_address(
    house: House, tmp_path: Path, port: int
) -> None:
    seen: list[wellhead.Exchange] = []
    listener = await wellhead.connect_async(
        port, ws_handler=_echo, name=suggest(), on_request=seen.append, **house.options(tmp_path)
    )
    try:
        assert (await asyncio.to_thread(visit, listener.public_url, house, "/page")).text == "hello /page"
        public = urlsplit(listener.public_url)
        async with connect_websocket(
            f"wss://{public.netloc}/live",
            host="127.0.0.1",
            port=public.port,
            ssl=client_context(ca_file=house.ca_file),
            server_hostname=public.hostname,
            proxy=None,
        ) as ws:
            await ws.send("both ways")
            assert await ws.recv() == "both ways"
            await listener.aclose()
            await ws.wait_closed()
            assert ws.close_code == 1012  # come again: what the handler hears as 4500
    finally:
        await listener.aclose()
    assert [(exchange.target, exchange.status) for exchange in seen] == [("/page", 200), ("/live", 101)]


@pytest.mark.parametrize(
    ("forward_to", "options", "complaint"),
    [
        (8000, {"interface": "asgi"}, "interface is for applications; 8000 is an address"),
        ("tls://localhost:9443", {"ws_handler": _echo}, "no ws_handler can hear them"),
        (8000, {"ws_handler": print}, "ws_handler must be a coroutine function"),
    ],
)
async def test_what_cannot_be_answered_so_is_refused(
    house: House, tmp_path: Path, forward_to: Any, options: Any, complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        await wellhead.connect_async(forward_to, **options, **house.options(tmp_path))
