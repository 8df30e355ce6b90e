"""What visitors do badly leaves nothing behind: no socket, no stream, no connection in a count."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from typing import NamedTuple

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from tests.kit.fronts import Front
from tests.kit.programs import quiet_port
from tests.kit.upstreams import Peer
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


async def test_visitors_that_leave_at_any_moment_leave_nothing_behind(front: Front) -> None:
    await asyncio.sleep(0)
    before = await _counts(front)
    chance = random.Random(5)

    async def visit(number: int) -> None:
        sni = front.hostname if number % 3 else None
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            async with visiting(front.edge, sni) as visitor:
                body = ("Content-Length: 300000",) if number % 2 else ()
                text = request(f"/{number}", front.host("tls" if sni else "plain"), *body)
                await visitor.send(text[: chance.randrange(1, len(text))] if chance.random() < 0.2 else text)
                if body:
                    await visitor.send(bytes(chance.randrange(300_000)))
                if chance.random() < 0.7:
                    async with asyncio.timeout(chance.random() * 0.3):
                        await visitor.rest()
                if chance.random() < 0.5:
                    visitor.reset()

    async with front.serving(moody):
        for start in range(0, ROUNDS * 4, ROUNDS):
            await asyncio.gather(*(visit(number) for number in range(start, start + ROUNDS)))
    await _settles(front, before)


async def test_conversations_that_break_off_leave_nothing_behind(front: Front) -> None:
    before = await _counts(front)

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
                front.url.replace("https", "wss"), host="127.0.0.1", port=front.edge.https,
                ssl=front.edge.trust(), proxy=None, close_timeout=2,
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

    async with serve(upstream, sock=front.listening(), close_timeout=2):
        await asyncio.gather(*(converse(number) for number in range(40)))
        await _settles(front, before)


async def test_programs_with_nothing_to_do_do_nothing(front: Front) -> None:
    programs = front.processes
    async with visiting(front.edge, None) as idle, visiting(front.edge, front.hostname) as secure:
        await idle.send(b"GET / HT")
        await secure.send(b"G")
        reader, writer = await asyncio.open_connection("127.0.0.1", front.edge.https)
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


class Counts(NamedTuple):
    descriptors: list[int]  # of each process
    visitors: float  # connections at the edge, with the one that asks


async def _counts(front: Front) -> Counts:
    descriptors = [process.num_fds() for process in front.processes]
    return Counts(descriptors, await _gauge(front, "wellhead_visitors"))


async def _settles(front: Front, before: Counts) -> None:
    """Wait until everybody holds no more than before, give or take an idle connection or two."""
    deadline = asyncio.get_running_loop().time() + 15
    while True:
        now = await _counts(front)
        held = all(count <= was + 3 for count, was in zip(now.descriptors, before.descriptors, strict=True))
        if held and now.visitors <= before.visitors + 1:
            break
        assert asyncio.get_running_loop().time() < deadline, (before, now)
        await asyncio.sleep(0.2)
    text = (await ask(front.edge, "localhost", "/metrics")).body.decode()
    assert "wellhead_exchanges_total" in text


async def _gauge(front: Front, name: str) -> float:
    text = (await ask(front.edge, "localhost", "/metrics")).body.decode()
    found = re.search(rf"^{name} ([0-9.e+]+)$", text, re.M)
    assert found is not None, text
    return float(found[1])
