"""Bytes that must not wait for other bytes: events, chunks, long polls, both directions at once."""

from __future__ import annotations

import asyncio

import pytest

from tests.kit.fronts import Front
from tests.kit.upstreams import Peer
from tests.kit.visitors import request, visiting

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


async def test_server_sent_events_arrive_one_by_one(front: Front, leg: str) -> None:
    """Each event is seen by the visitor before the upstream says the next."""
    seen = asyncio.Semaphore(0)

    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for number in range(50):
            event = b"data: %d\n\n" % number
            await peer.say(b"%x\r\n%b\r\n" % (len(event), event))
            await seen.acquire()
        await peer.say(b"0\r\n\r\n")

    async with front.serving(upstream), visiting(front.edge, front.sni(leg)) as visitor:
        await visitor.send(request("/events", front.host(leg), "Accept: text/event-stream"))
        assert (await visitor.head()).get("content-type") == "text/event-stream"
        for number in range(50):
            assert await visitor.chunk() == b"data: %d\n\n" % number
            seen.release()


async def test_plain_text_is_not_held_back_either(front: Front, leg: str) -> None:
    """One byte at a time, any content type, ended by the close of the upstream's connection."""
    seen = asyncio.Semaphore(0)

    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        for _ in range(20):
            await peer.say(b".")
            await seen.acquire()

    async with front.serving(upstream), visiting(front.edge, front.sni(leg)) as visitor:
        await visitor.send(request("/", front.host(leg)))
        await visitor.head()
        for _ in range(20):
            assert await visitor.chunk() == b"."
            seen.release()


async def test_a_reply_head_arrives_before_its_body(front: Front, leg: str) -> None:
    go = asyncio.Event()

    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        await go.wait()
        await peer.say(b"body")

    async with front.serving(upstream), visiting(front.edge, front.sni(leg)) as visitor:
        await visitor.send(request("/", front.host(leg)))
        assert (await visitor.head()).status == 200
        go.set()
        assert await visitor.reader.readexactly(4) == b"body"


async def test_a_long_poll_holds_up_nobody(front: Front) -> None:
    release = asyncio.Event()

    async def upstream(peer: Peer) -> None:
        while head := await peer.request():
            if b"/poll" in head:
                await release.wait()
            await peer.reply(head.split()[1])

    host = front.host("tls")
    async with (
        front.serving(upstream),
        visiting(front.edge, front.hostname) as poller,
        visiting(front.edge, front.hostname) as other,
    ):
        await poller.send(request("/poll", host))
        for number in range(20):
            assert (await other.get(f"/{number}", host)).body == b"/%d" % number
        release.set()
        assert (await poller.reply()).body == b"/poll"


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_a_request_body_streams_while_its_reply_streams(front: Front, leg: str, chunked: bool) -> None:
    """Full duplex: the visitor sends each piece after it got the last one back."""
    pieces = [b"piece %03d" % number for number in range(50)]

    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in pieces:
            if chunked:
                size = int(await peer.reader.readline(), 16)
                got = (await peer.body(size + 2))[:-2]
            else:
                got = await peer.body(len(piece))
            await peer.say(b"%x\r\n%b\r\n" % (len(got), got))
        if chunked:
            await peer.chunked()
        await peer.say(b"0\r\n\r\n")

    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(b''.join(pieces))}"
    async with front.serving(upstream), visiting(front.edge, front.sni(leg)) as visitor:
        await visitor.send(request("/duplex", front.host(leg), framing, method="POST"))
        for number, piece in enumerate(pieces):
            await visitor.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            if not number:
                await visitor.head()
            assert await visitor.chunk() == piece
        if chunked:
            await visitor.send(b"0\r\n\r\n")
        assert await visitor.chunk() == b""


async def test_an_upstream_that_does_not_read_slows_its_visitor(front: Front, leg: str) -> None:
    """Back-pressure the other way: the visitor is held, nobody keeps its bytes."""

    async def upstream(peer: Peer) -> None:
        await peer.request()
        await asyncio.Event().wait()

    sent = 0
    async with front.serving(upstream), visiting(front.edge, front.sni(leg)) as visitor:
        await visitor.send(request("/", front.host(leg), "Content-Length: 1000000000", method="POST"))
        with pytest.raises(TimeoutError):
            while sent < 200_000_000:
                visitor.writer.write(bytes(65536))
                async with asyncio.timeout(1.5):
                    await visitor.writer.drain()
                sent += 65536
    assert 65536 <= sent < 64 * 1024 * 1024


async def test_a_slow_reader_slows_its_sender_and_not_its_neighbours(front: Front) -> None:
    """Back-pressure reaches the upstream, and a neighbour on the same session does not feel it."""
    sent = 0

    async def upstream(peer: Peer) -> None:
        nonlocal sent
        while head := await peer.request():
            if b"/flood" not in head:
                await peer.reply(b"quick")
                continue
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            while True:
                await peer.say(bytes(65536))
                sent += 65536

    host = front.host("tls")
    async with (
        front.serving(upstream),
        visiting(front.edge, front.hostname, limit=65536) as sleeper,
        visiting(front.edge, front.hostname) as other,
    ):
        await sleeper.send(request("/flood", host))
        await sleeper.head()
        before = -1
        async with asyncio.timeout(15):
            while sent != before:  # until the upstream is held
                before = sent
                async with asyncio.timeout(5):
                    await asyncio.sleep(0.5)
        # windows, socket buffers of four sockets and TLS: megabytes at the very most, never the whole
        assert 65536 <= sent < 64 * 1024 * 1024
        for _ in range(20):
            assert (await other.get("/", host)).body == b"quick"
