"""Many conversations that each say little, WebSockets and events: every message in its time and place.

Beside them a few go straight to the upstream: what those wait is the machine's and the visitors' doing.
``--load-seconds 60`` for the long form.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests.kit.load_server import IDENTITY
from tests.kit.loads import LoadServer, started
from tests.kit.programs import Edge
from tests.kit.steady import p99
from tests.kit.visitors import Visitor, visiting

pytestmark = [pytest.mark.system, pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(180)]

COUNT, DIRECT = 200, 20
MESSAGE = 1024  # bytes
MEMORY = 100 << 10  # bytes of the edge for each WebSocket
IN_TIME = 0.05  # seconds
TIMES = 4  # as long as the way without a tunnel, where that takes long: the machine is busy


@pytest.fixture
def seconds(pytestconfig: pytest.Config) -> float:
    return float(pytestconfig.getoption("load_seconds") or 10.0)


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    with Edge(tmp_path) as edge:
        yield edge


def judge(through: list[float], direct: list[float]) -> None:
    """Seconds, through the tunnel and straight, of the same time."""
    print(f"p99 {p99(through) * 1000:.1f} ms through the tunnel, {p99(direct) * 1000:.1f} ms straight")
    assert p99(through) <= max(IN_TIME, TIMES * p99(direct))


@pytest.mark.parametrize("agents", [10, 1])
async def test_no_message_of_two_hundred_websockets_is_lost_late_or_changed(
    edge: Edge, seconds: float, agents: int
) -> None:
    names = [f"chat-{number}" for number in range(agents)]
    with LoadServer(*names) as server, started(edge, server) as hostnames:
        before = edge.memory()[0]
        over = asyncio.Event()

        async def chat(name: str, straight: bool, waits: list[float]) -> None:
            """A message a second, the answer of which is due before the next."""
            hostname, port = ("127.0.0.1", server.ports[name]) if straight else (hostnames[name], edge.https)
            async with connect(
                f"{'ws' if straight else 'wss'}://{hostname}:{port}/ws",
                host="127.0.0.1", ssl=None if straight else edge.trust(), proxy=None, compression=None,
            ) as socket:  # fmt: skip
                assert socket.response is not None and socket.response.headers[IDENTITY] == name
                await asyncio.sleep(random.random())
                while not over.is_set():
                    began, message = time.monotonic(), os.urandom(MESSAGE)
                    await socket.send(message)
                    async with asyncio.timeout(20):
                        assert await socket.recv() == message
                    waits.append(time.monotonic() - began)
                    await asyncio.sleep(max(0.0, began + 1 - time.monotonic()))

        through: list[float] = []
        straight: list[float] = []
        async with asyncio.TaskGroup() as tasks:
            for number in range(COUNT):
                tasks.create_task(chat(names[number % agents], False, through))
            for number in range(DIRECT):
                tasks.create_task(chat(names[number % agents], True, straight))
            await asyncio.sleep(seconds / 2)
            held = edge.memory()[0] - before
            through.clear()  # so far they came in, and that is another load
            straight.clear()
            await asyncio.sleep(seconds / 2 + 1)
            over.set()
    print(f"{held / COUNT / 1024:.0f} KiB of the edge for each")
    assert held <= COUNT * MEMORY
    assert len(through) >= COUNT * (seconds / 2 - 1) * 0.5  # a busy machine asks more seldom
    judge(through, straight)


EVENT = re.compile(rb"data: (\d+) (\d+\.\d+)\n\n")


async def test_each_event_of_two_hundred_streams_is_there_alone_and_in_time(
    edge: Edge, seconds: float
) -> None:
    name = "events"
    with LoadServer(name) as server, started(edge, server) as hostnames:
        late: dict[bool, list[float]] = {True: [], False: []}
        begun, over = asyncio.Semaphore(0), asyncio.Event()

        async def listen(straight: bool) -> None:
            await asyncio.sleep(random.random())
            async with going(edge, hostnames[name], server.port, straight) as (visitor, host):
                await visitor.send(f"GET /events/1000 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                head = await visitor.head()
                assert (head.status, head.get(IDENTITY.lower())) == (200, name)
                number = 0
                while not over.is_set():
                    chunk = await visitor.chunk()
                    now, found = time.monotonic(), EVENT.fullmatch(chunk)
                    assert found is not None and int(found[1]) == number, chunk
                    number += 1
                    late[straight].append(now - float(found[2]))
                    if number == 1:
                        begun.release()

        async with asyncio.TaskGroup() as tasks:
            for straight in [False] * COUNT + [True] * DIRECT:
                tasks.create_task(listen(straight))
            for _ in range(COUNT + DIRECT):
                await begun.acquire()
            late[False].clear()  # so far they came in, and that is another load
            late[True].clear()
            await asyncio.sleep(seconds)
            over.set()
    assert len(late[False]) >= COUNT * (seconds - 2) * 0.5
    judge(late[False], late[True])


@contextlib.asynccontextmanager
async def going(edge: Edge, hostname: str, port: int, straight: bool) -> AsyncIterator[tuple[Visitor, str]]:
    """To the upstream through its tunnel, or straight; and what the visitor calls it."""
    if not straight:
        async with visiting(edge, hostname) as visitor:
            yield visitor, f"{hostname}:{edge.https}"
        return
    visitor = Visitor(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield visitor, f"127.0.0.1:{port}"
    finally:
        await visitor.close()
