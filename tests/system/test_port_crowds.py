"""Crowds at one sandbox's ports: bounded, felt by nobody else, served once when it is resumed for them."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.kit.harbour import Harbour, harbouring
from tests.kit.hosted import NEEDED
from tests.kit.programs import eventually
from tests.kit.upstreams import Peer
from tests.kit.visitors import ask, request, visiting
from tests.system.test_port_changes import until
from tests.system.test_with_host import LATE_SECONDS, host_of

pytestmark = [*NEEDED, pytest.mark.timeout(120)]

CONNECTIONS, EXCHANGES = 10, 20
BODY = bytes(range(256)) * 1000


@pytest.fixture(scope="module")
def harbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harbour]:
    few = {"host_port_connections": CONNECTIONS, "exchanges_per_sandbox": EXCHANGES}
    home = tmp_path_factory.mktemp("crowds") / ".wellhead"
    with harbouring(home, settings={**few, "host_keep_sandboxes": True}) as harbour:
        yield harbour
        for sandbox in harbour.api.statuses():
            harbour.api.ask("DELETE", f"/sandboxes/{sandbox}", 204)


def order(harbour: Harbour, method: str, path: str, **members: object) -> None:
    """Ask the API for a change of the sandbox."""
    harbour.api.ask(method, f"/sandboxes/{harbour.sandbox}{path}", json=members or None)


async def test_a_crowd_at_one_sandbox_is_turned_away_and_felt_by_no_other(harbour: Harbour) -> None:
    other = harbour.front(sandbox=await asyncio.to_thread(harbour.api.create))
    front, release = harbour.front(), asyncio.Event()
    held: list[str] = []

    async def app(peer: Peer) -> None:
        while head := await peer.request():
            if b" /hold " in head:
                await release.wait()
            await peer.reply(b"here")

    async def hold() -> int:
        reply = await ask(harbour.edge, front.hostname, "/hold")
        if reply.status != 200:
            held.append(re.findall(rb'"reason": "([a-z-]+)"', reply.body)[0].decode())
        return reply.status

    async with front.serving(app), other.serving(app):
        crowd = [asyncio.create_task(hold()) for _ in range(2 * EXCHANGES)]
        async with asyncio.timeout(20):
            done = asyncio.as_completed(crowd)
            for _ in range(2 * EXCHANGES - CONNECTIONS):
                assert await next(done) == 503
        for _ in range(10):
            assert (await ask(harbour.edge, other.hostname)).body == b"here"
            reply = await ask(harbour.edge, front.hostname)
            assert reply.status == 503 and int(reply.get("retry-after") or 0) > 0
        assert await asyncio.to_thread(harbour.api.run, harbour.sandbox, "echo", "in") == "in\n"
        release.set()
        statuses = Counter(await asyncio.gather(*crowd))
        assert statuses == {200: CONNECTIONS, 503: 2 * EXCHANGES - CONNECTIONS}
        assert set(held) <= {"sandbox-exchanges", "sandbox-busy"}
        assert (await ask(harbour.edge, front.hostname)).body == b"here"


async def test_whoever_comes_while_it_is_resumed_is_served_once_and_whole(harbour: Harbour) -> None:
    front, got = harbour.front(), Counter[bytes]()

    async def app(peer: Peer) -> None:
        while head := await peer.request():
            found = re.search(rb"(?i)\r\ncontent-length: (\d+)\r\n", head)
            assert found is None or await peer.body(int(found[1])) == BODY
            got[head.partition(b" HTTP")[0]] += 1
            await peer.reply(b"here")

    async def come(number: int) -> tuple[int, bytes]:
        async with visiting(harbour.edge, front.hostname) as visitor:
            body = BODY if number % 2 else None
            method = "POST" if body else "GET"
            await visitor.send(request(f"/{number}", front.host("tls"), method=method, body=body))
            reply = await visitor.reply()
            return reply.status, reply.body

    async with front.serving(app):
        await asyncio.to_thread(order, harbour, "PATCH", "", auto_resume=True)
        for _ in range(2):
            got.clear()
            await asyncio.to_thread(order, harbour, "POST", "/pause")
            assert await asyncio.gather(*map(come, range(CONNECTIONS))) == [(200, b"here")] * CONNECTIONS
            assert set(got.values()) == {1} and len(got) == CONNECTIONS
            assert await asyncio.to_thread(harbour.api.status, harbour.sandbox) == "running"


async def test_an_upload_that_waits_for_its_sandbox_is_held_and_not_collected(harbour: Harbour) -> None:
    front, size, sent = harbour.front(), 64 * 1024 * 1024, 0

    async def app(peer: Peer) -> None:
        await peer.request()
        await peer.reply(b"%d" % len(await peer.body(size)))

    await asyncio.to_thread(order, harbour, "PATCH", "", auto_resume=True)
    await asyncio.to_thread(order, harbour, "POST", "/pause")
    host = host_of(harbour.edge)
    host.suspend()  # and so nothing is resumed for now
    try:
        async with front.serving(app), visiting(harbour.edge, front.hostname) as visitor:
            await visitor.send(request("/", front.host("tls"), f"Content-Length: {size}", method="POST"))
            with pytest.raises(TimeoutError):
                while sent < size:
                    visitor.writer.write(bytes(65536))
                    sent += 65536
                    async with asyncio.timeout(1):
                        await visitor.writer.drain()
            assert sent < size // 2
            host.resume()
            visitor.writer.write(bytes(size - sent))
            assert (await visitor.reply()).body == b"%d" % size
    finally:
        host.resume()


async def test_a_host_that_comes_back_serves_the_sandboxes_that_it_left(harbour: Harbour) -> None:
    async def app(peer: Peer) -> None:
        while await peer.request():
            await peer.reply(b"here")

    front = harbour.front()
    async with front.serving(app):
        assert (await ask(harbour.edge, front.hostname)).body == b"here"
        host = host_of(harbour.edge)
        host.kill()
        await asyncio.to_thread(eventually, lambda: host_of(harbour.edge).pid != host.pid, LATE_SECONDS)
        await until(harbour, front, 200)
        for _ in range(20):
            assert (await ask(harbour.edge, front.hostname)).body == b"here"
