"""Bulk through a sandbox's port: whole, both ways, at the pace of the slower end, in bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import statistics
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.kit.fronts import Front
from tests.kit.harbour import Harbour
from tests.kit.hosted import NEEDED
from tests.kit.http2_raw import raw_visiting
from tests.kit.upstreams import Peer
from tests.kit.visitors import request, visiting
from tests.system.test_with_host import host_of

pytestmark = [*NEEDED, pytest.mark.timeout(180)]

DOWN, UP = 256 * 1024 * 1024, 64 * 1024 * 1024
PIECE = bytes(range(256)) * 256
GROWTH = 64 * 1024 * 1024  # bytes that edge and host may each take for eight streams that stand
STANDING = 8


@pytest.fixture
def front(harbour: Harbour) -> Front:
    return harbour.front()


async def bulk(peer: Peer) -> None:
    """``/down`` gives DOWN bytes, anything else is told the digest of what it sent."""
    while head := await peer.request():
        if b" /down " in head:
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % DOWN)
            for _ in range(DOWN // len(PIECE)):
                await peer.say(PIECE)
        else:
            await peer.reply(await digest(peer, UP))


async def digest(peer: Peer, left: int) -> bytes:
    made = hashlib.sha256()
    while left:
        data = await peer.reader.read(min(left, 1 << 20))
        made.update(data)
        left -= len(data)
    return made.hexdigest().encode()


@pytest.mark.needs("curl")
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
async def test_what_is_large_comes_whole_both_ways(front: Front, tmp_path: Path, version: str) -> None:
    data = PIECE * (UP // len(PIECE))
    (tmp_path / "up").write_bytes(data)
    curl = ["curl", "-sSf", version, "--max-time", "120", "--noproxy", "*", "--cacert", str(front.edge.ca)]
    async with front.serving(bulk):
        process = await asyncio.create_subprocess_exec(
            *curl, "-T", str(tmp_path / "up"), "-H", "Expect:", f"{front.url}/up", stdout=subprocess.PIPE
        )
        said, _ = await process.communicate()
        assert said.decode() == hashlib.sha256(data).hexdigest()
        process = await asyncio.create_subprocess_exec(*curl, f"{front.url}/down", stdout=subprocess.PIPE)
        assert process.stdout is not None
        got = hashlib.sha256()
        while piece := await process.stdout.read(1 << 20):
            got.update(piece)
        assert await process.wait() == 0
    assert got.digest() == hashlib.sha256(PIECE * (DOWN // len(PIECE))).digest()


async def test_streams_that_stand_take_bounded_memory_and_hold_up_nobody(harbour: Harbour) -> None:
    """Visitors who do not read what an application floods them with, and applications that do not read."""
    front = harbour.front()
    stand = asyncio.Event()

    async def app(peer: Peer) -> None:
        while head := await peer.request():
            if b" /quick " in head:
                await peer.reply(b"quick")
            elif b" /flood " in head:
                await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % DOWN)
                for _ in range(DOWN // len(PIECE)):
                    await peer.say(PIECE)
            else:
                await stand.wait()
                return

    host, programs = front.host("tls"), (harbour.edge.pid, host_of(harbour.edge).pid)
    async with front.serving(app), contextlib.AsyncExitStack() as stack:
        quick = await stack.enter_async_context(visiting(front.edge, front.hostname))
        assert (await quick.get("/quick", host)).body == b"quick"
        before = [psutil.Process(pid).memory_info().rss for pid in programs]
        for _ in range(STANDING):
            sleeper = await stack.enter_async_context(visiting(front.edge, front.hostname, limit=65536))
            await sleeper.send(request("/flood", host))
            await sleeper.head()
            pusher = await stack.enter_async_context(visiting(front.edge, front.hostname))
            await pusher.send(request("/sink", host, f"Content-Length: {DOWN}", method="POST"))
            with pytest.raises(TimeoutError):
                for _ in range(DOWN // len(PIECE)):
                    pusher.writer.write(PIECE)
                    async with asyncio.timeout(0.5):
                        await pusher.writer.drain()
        for _ in range(20):
            assert (await quick.get("/quick", host)).body == b"quick"
        after = [psutil.Process(pid).memory_info().rss for pid in programs]
        stand.set()
    assert all(now - then < GROWTH for now, then in zip(after, before, strict=True)), (before, after)


async def test_applications_that_drip_hold_up_nobody(front: Front) -> None:
    """Their heads come a byte at a time."""

    async def app(peer: Peer) -> None:
        while head := await peer.request():
            if b" /drip " not in head:
                await peer.reply(b"quick")
                continue
            for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok":
                await peer.say(bytes((byte,)))
                await asyncio.sleep(0.02)

    host, took = front.host("tls"), []
    async with front.serving(app), contextlib.AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(visiting(front.edge, front.hostname)) for _ in range(20)]
        quick = await stack.enter_async_context(visiting(front.edge, front.hostname))
        for each in slow:
            await each.send(request("/drip", host))
        for _ in range(20):
            began = time.monotonic()
            assert (await quick.get("/", host)).body == b"quick"
            took.append(time.monotonic() - began)
        for each in slow:
            assert (await each.reply()).body == b"ok"
    assert statistics.median(took) < 0.3


@pytest.mark.parametrize("target", ["/events", "/upload", "/silent"])
async def test_an_http2_visitor_who_gives_up_one_request_is_felt_by_its_application_alone(
    front: Front, target: str
) -> None:
    begun, gone = asyncio.Event(), asyncio.Event()

    async def app(peer: Peer) -> None:
        while head := await peer.request():
            if b" /quick " in head:
                await peer.reply(b"quick")
                continue
            if b" /events " in head:
                event_stream = b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked"
                await peer.say(b"HTTP/1.1 200 OK\r\n" + event_stream + b"\r\n\r\n9\r\ndata: 1\n\n\r\n")
            begun.set()
            await peer.closed()
            gone.set()

    async with front.serving(app), raw_visiting(front.edge, front.hostname) as visitor:
        upload = target == "/upload"
        stream = visitor.ask(front.hostname, "POST" if upload else "GET", path=target, end=not upload)
        if upload:
            visitor.h2.send_data(stream, b"some")
        visitor.say()
        if target == "/events":
            assert await visitor.body(stream, 9) == b"data: 1\n\n"
        async with asyncio.timeout(5):
            await begun.wait()
        visitor.h2.reset_stream(stream, 8)  # CANCEL
        visitor.say()
        async with asyncio.timeout(3):
            await gone.wait()
        assert await visitor.body(visitor.ask(front.hostname, path="/quick"), 5) == b"quick"
