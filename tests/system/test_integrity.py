"""Under load every visitor gets its own reply, from its own tunnel, byte for byte; memory stays bounded."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack

import pytest

from tests.kit.programs import Agent, Edge, quiet_port
from tests.kit.upstreams import Handler, Peer, serving
from tests.kit.visitors import Visitor, request, visiting

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Edge, list[tuple[Agent, int]]]]:
    """One server with two tunnels, and their upstreams' ports."""
    with ExitStack() as stack:
        edge = stack.enter_context(Edge(tmp_path_factory.mktemp("two")))
        ports = [quiet_port(), quiet_port()]
        yield edge, [(stack.enter_context(edge.agent(port)), port) for port in ports]


def mirror(name: bytes) -> Handler:
    """An upstream that signs its replies and sends every body back, in one piece or in chunks."""

    async def serve(peer: Peer) -> None:
        while head := await peer.request():
            lower = head.lower()
            if b"transfer-encoding: chunked" in lower:
                body, _ = await peer.chunked()
            elif b"content-length: " in lower:
                body = await peer.body(int(lower.split(b"content-length: ")[1].split(b"\r\n")[0]))
            else:
                body = b""
            marks = (b"X-Upstream: " + name, b"X-Target: " + head.split()[1])
            if len(body) % 2:
                await peer.reply(body, *marks)
            else:
                lines = b"\r\n".join((b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked", *marks))
                await peer.say(lines + b"\r\n\r\n")
                for at in range(0, len(body), 50_000):
                    piece = body[at : at + 50_000]
                    await peer.say(b"%x\r\n%b\r\n" % (len(piece), piece))
                await peer.say(b"0\r\n\r\n")

    return serve


async def test_no_reply_goes_astray_and_no_byte_is_lost(two: tuple[Edge, list[tuple[Agent, int]]]) -> None:
    edge, tunnels = two

    async def visit(number: int) -> int:
        chance = random.Random(number)
        agent, port = tunnels[number % 2]
        done = 0
        async with visiting(edge, agent.hostname if number % 3 else None) as visitor:
            host = f"{agent.hostname}:{edge.https if number % 3 else edge.http}"
            for turn in range(20):
                target = f"/{number}/{turn}"
                body = chance.randbytes(chance.choice((0, 1, 100, 5000, 70_000, 300_001)))
                await _send(visitor, target, host, body, chunked=chance.random() < 0.5)
                reply = await visitor.reply()
                assert reply.status == 200
                assert reply.get("x-upstream") == str(port) and reply.get("x-target") == target
                assert hashlib.sha256(reply.body).digest() == hashlib.sha256(body).digest()
                done += 1
        return done

    async with AsyncExitStack() as stack:
        for _, port in tunnels:
            await stack.enter_async_context(serving(mirror(b"%d" % port), port=port))
        async with asyncio.timeout(60):
            done = await asyncio.gather(*(visit(number) for number in range(40)))
    assert sum(done) == 800
    assert "Traceback" not in edge.text + "".join(agent.text for agent, _ in tunnels)


async def _send(visitor: Visitor, target: str, host: str, body: bytes, *, chunked: bool) -> None:
    if not chunked:
        await visitor.send(request(target, host, method="PUT", body=body))
        return
    pieces = [request(target, host, "Transfer-Encoding: chunked", method="PUT")]
    for at in range(0, len(body), 33_333):
        piece = body[at : at + 33_333]
        pieces.append(b"%x\r\n%b\r\n" % (len(piece), piece))
    await visitor.send(*pieces, b"0\r\n\r\n")


async def test_sleeping_readers_and_sleeping_upstreams_cost_bounded_memory(
    two: tuple[Edge, list[tuple[Agent, int]]],
) -> None:
    """Forty downloads that nobody reads, and forty uploads that nobody reads."""
    edge, ((agent, port), _) = two

    async def upstream(peer: Peer) -> None:
        head = await peer.request()
        if head.startswith(b"GET "):
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            while True:
                await peer.say(bytes(65536))
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it reads, too
        await asyncio.Event().wait()

    before = [program.memory()[0] for program in (edge, agent)]
    host = f"{agent.hostname}:{edge.https}"
    async with serving(upstream, port=port), AsyncExitStack() as stack:
        sending: list[asyncio.Task[None]] = []
        for number in range(80):
            visitor = await stack.enter_async_context(visiting(edge, agent.hostname, limit=4096))
            if number % 2:
                await visitor.send(request("/", host))
                visitor.writer.transport.pause_reading()  # type: ignore[attr-defined]
            else:
                await visitor.send(request("/", host, "Content-Length: 1000000000", method="POST"))
                sending.append(asyncio.create_task(_flood(visitor)))
        await asyncio.sleep(4)  # as long as a flood needs to fill whatever there is to fill
        growth = [
            (program.memory()[0] - start) / MIB for program, start in zip((edge, agent), before, strict=True)
        ]
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
    assert max(growth) <= 64, growth


async def _flood(visitor: Visitor) -> None:
    for _ in range(1000):
        visitor.writer.write(bytes(65536))
        await visitor.writer.drain()
