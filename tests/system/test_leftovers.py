"""What visitors do badly leaves nothing behind: no socket, no stream, no connection in a count."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re

import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from tests.kit.programs import quiet_port
from tests.kit.upstreams import Peer, serving
from tests.kit.visitors import ask, request, visiting
from tests.system.conftest import House

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

ROUNDS = 60


async def moody(peer: Peer) -> None:
    """Answers in every way there is, and in none."""
    while head := await peer.request():
        kind = int(head.split()[1].rpartition(b"/")[2]) % 6
        if kind == 0:
            await peer.reply(b"x" * 100)
        elif kind == 1:
            await peer.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            await asyncio.sleep(0.05)
            return
        elif kind == 2:
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + bytes(500_000))
            await peer.closed()
            return
        elif kind == 3:
            await peer.closed()
            return
        elif kind == 4:
            await peer.say(b"nonsense\r\n\r\n")
        else:
            peer.reset()
            return


async def test_visitors_that_leave_at_any_moment_leave_nothing_behind(house: House) -> None:
    await asyncio.sleep(0)
    before = await _counts(house)
    chance = random.Random(5)

    async def visit(number: int) -> None:
        sni = house.hostname if number % 3 else None
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            async with visiting(house.edge, sni) as visitor:
                body = ("Content-Length: 300000",) if number % 2 else ()
                text = request(f"/{number}", house.host("tls" if sni else "plain"), *body)
                await visitor.send(text[: chance.randrange(1, len(text))] if chance.random() < 0.2 else text)
                if body:
                    await visitor.send(bytes(chance.randrange(300_000)))
                if chance.random() < 0.7:
                    async with asyncio.timeout(chance.random() * 0.3):
                        await visitor.rest()
                if chance.random() < 0.5:
                    visitor.reset()

    async with serving(moody, port=house.port):
        for start in range(0, ROUNDS * 4, ROUNDS):
            await asyncio.gather(*(visit(number) for number in range(start, start + ROUNDS)))
    await _settles(house, before)


async def test_conversations_that_break_off_leave_nothing_behind(house: House) -> None:
    before = await _counts(house)

    async def upstream(connection: ServerConnection) -> None:
        async for message in connection:
            if message == "die":
                connection.transport.abort()
            elif message == "close":
                await connection.close(4000)
            else:
                await connection.send(message)

    async def converse(number: int) -> None:
        with contextlib.suppress(Exception):
            async with connect(
                house.agent.url.replace("https", "wss"), host="127.0.0.1", port=house.edge.https,
                ssl=house.edge.trust(), proxy=None, close_timeout=2,
            ) as client:  # fmt: skip
                await client.send("hello")
                assert await client.recv() == "hello"
                if number % 4 == 0:
                    client.transport.abort()
                elif number % 4 == 1:
                    await client.send("die")
                    await client.recv()
                elif number % 4 == 2:
                    await client.send("close")
                    await client.recv()

    async with serve(upstream, "127.0.0.1", house.port, close_timeout=2):
        await asyncio.gather(*(converse(number) for number in range(40)))
        await _settles(house, before)


async def test_programs_with_nothing_to_do_do_nothing(house: House) -> None:
    programs = [psutil.Process(program.pid) for program in (house.edge, house.agent)]
    async with visiting(house.edge, None) as idle, visiting(house.edge, house.hostname) as secure:
        await idle.send(b"GET / HT")
        await secure.send(b"G")
        reader, writer = await asyncio.open_connection("127.0.0.1", house.edge.https)
        writer.write(b"\x16\x03\x01")  # a ClientHello that does not go on
        before = [sum(program.cpu_times()[:2]) for program in programs]
        await asyncio.sleep(2)
        spent = [
            sum(program.cpu_times()[:2]) - start for program, start in zip(programs, before, strict=True)
        ]
        writer.transport.abort()
        await asyncio.sleep(0)
        del reader
    assert max(spent) <= 0.2, spent  # seconds of two


async def test_a_dead_upstream_leaves_nothing_behind(house: House) -> None:
    with house.edge.agent(quiet_port()) as agent:
        before = agent.descriptors()
        replies = await asyncio.gather(*(ask(house.edge, agent.hostname) for _ in range(20)))
        assert {reply.status for reply in replies} == {502}
        assert agent.descriptors() <= before + 2


async def _counts(house: House) -> tuple[int, int]:
    return house.edge.descriptors(), house.agent.descriptors()


async def _settles(house: House, before: tuple[int, int]) -> None:
    """Wait until both programs hold no more than before, give or take an idle connection or two."""
    deadline = asyncio.get_running_loop().time() + 15
    while True:
        now = await _counts(house)
        visitors = await _gauge(house, "wellhead_visitors")
        if now[0] <= before[0] + 3 and now[1] <= before[1] + 3 and visitors <= 2:
            break
        assert asyncio.get_running_loop().time() < deadline, (before, now, visitors)
        await asyncio.sleep(0.2)
    text = (await ask(house.edge, "localhost", "/metrics")).body.decode()
    assert "wellhead_exchanges_total" in text


async def _gauge(house: House, name: str) -> float:
    text = (await ask(house.edge, "localhost", "/metrics")).body.decode()
    found = re.search(rf"^{name} ([0-9.e+]+)$", text, re.M)
    assert found is not None, text
    return float(found[1])
