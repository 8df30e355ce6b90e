"""Time and number: visitors that are slow, that never come to an end, that are too many."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.kit.programs import Edge, quiet_port
from tests.kit.stopwatch import Stopwatch
from tests.kit.upstreams import Peer, serving
from tests.kit.visitors import Truncated, Visitor, ask, request, visiting
from tests.system.conftest import House, Landlord

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

HEAD, IDLE, BODY, WRITE, REPLY, HELLO = 1.0, 2.0, 1.5, 2.0, 1.5, 1.0  # seconds
LATE = 0.8  # seconds that a clock of the edge may be behind: it looks four times a second


@pytest.fixture(scope="module")
def hasty_landlord(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Landlord]:
    settings = {
        "head_seconds": HEAD,
        "idle_seconds": IDLE,
        "body_idle_seconds": BODY,
        "body_grace_seconds": 2,
        "write_idle_seconds": WRITE,
        "reply_seconds": REPLY,
        "hello_seconds": HELLO,
        "websocket_ping_seconds": 0.5,
    }
    landlord = Landlord(lambda: tmp_path_factory.mktemp("hasty"), settings)
    yield landlord
    landlord.close()


@pytest.fixture
def hasty(hasty_landlord: Landlord) -> House:
    """A server whose clocks are short."""
    return hasty_landlord.house()


@pytest.fixture(scope="module")
def narrow_landlord(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Landlord]:
    settings = {"connections_per_address": 8, "connections_per_tunnel": 4, "loopback_exempt": "false"}
    landlord = Landlord(lambda: tmp_path_factory.mktemp("narrow"), settings)
    yield landlord
    landlord.close()


@pytest.fixture
def narrow(narrow_landlord: Landlord) -> House:
    """A server that takes few, and does not spare this machine."""
    return narrow_landlord.house()


async def ok(peer: Peer) -> None:
    while await peer.request():
        await peer.reply()


async def drip(visitor: Visitor, data: bytes, every: float) -> None:
    """Send byte by byte until the server has had enough."""
    with contextlib.suppress(ConnectionError):
        for at in range(len(data)):
            await visitor.send(data[at : at + 1])
            await asyncio.sleep(every)


# G1


async def test_a_head_that_drips_is_408_at_an_absolute_time(hasty: House, leg: str) -> None:
    async with visiting(hasty.edge, hasty.sni(leg)) as visitor:
        watch = Stopwatch(hasty.edge)
        async with asyncio.TaskGroup() as tasks:
            dripping = tasks.create_task(drip(visitor, request("/", hasty.host(leg)) * 10, 0.1))
            reply = await visitor.reply()
            assert (reply.status, reply.get("connection")) == (408, "close")
            assert HEAD - 0.1 <= watch.wall() and watch.seconds() <= HEAD + LATE
            assert await visitor.rest(5) == b""
            dripping.cancel()


async def test_a_second_head_that_drips_is_408_too(hasty: House, leg: str) -> None:
    async with serving(ok, port=hasty.port), visiting(hasty.edge, hasty.sni(leg)) as visitor:
        assert (await visitor.get("/", hasty.host(leg))).status == 200
        await visitor.send(b"GET / HT")
        assert (await visitor.reply()).status == 408


async def test_a_connection_without_a_request_is_closed_in_silence(hasty: House, leg: str) -> None:
    async with serving(ok, port=hasty.port), visiting(hasty.edge, hasty.sni(leg)) as visitor:
        assert (await visitor.get("/", hasty.host(leg))).status == 200
        began = time.monotonic()
        assert await visitor.rest(IDLE + 3) == b""
        assert time.monotonic() - began >= IDLE - 0.1


async def test_a_clienthello_that_drips_is_cut_off(hasty: House) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", hasty.edge.https)
    visitor = Visitor(reader, writer)
    watch = Stopwatch(hasty.edge)
    try:
        async with asyncio.TaskGroup() as tasks:
            dripping = tasks.create_task(drip(visitor, b"\x16\x03\x01\x10\x00\x01" + bytes(4000), 0.1))
            await visitor.rest(HELLO + 3)
            assert HELLO - 0.1 <= watch.wall() and watch.seconds() <= HELLO + 1.5
            dripping.cancel()
    finally:
        await visitor.close()


# G2


async def test_a_body_that_stands_still_is_408(hasty: House, leg: str) -> None:
    aborted = asyncio.Event()

    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.closed()
        aborted.set()

    async with serving(upstream, port=hasty.port), visiting(hasty.edge, hasty.sni(leg)) as visitor:
        await visitor.send(request("/", hasty.host(leg), "Content-Length: 100", method="POST"), b"some")
        watch = Stopwatch(hasty.edge)
        reply = await visitor.reply()
        assert (reply.status, reply.get("connection")) == (408, "close")
        assert BODY - 0.1 <= watch.wall() and watch.seconds() <= BODY + LATE
        async with asyncio.timeout(5):
            await aborted.wait()


async def test_a_body_below_the_least_rate_is_408(hasty: House) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.closed()

    async with serving(upstream, port=hasty.port), visiting(hasty.edge, hasty.hostname) as visitor:
        await visitor.send(request("/", hasty.host("tls"), "Content-Length: 9999", method="POST"))
        async with asyncio.TaskGroup() as tasks:
            dripping = tasks.create_task(drip(visitor, bytes(9999), 0.1))
            assert (await visitor.reply()).status == 408
            dripping.cancel()


async def test_a_body_that_trickles_above_the_least_rate_lives_on(hasty: House) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.reply(b"%d" % len(await peer.body(8000)))

    async with serving(upstream, port=hasty.port), visiting(hasty.edge, hasty.hostname) as visitor:
        await visitor.send(request("/", hasty.host("tls"), "Content-Length: 8000", method="POST"))
        for _ in range(40):  # four seconds at 2000 bytes a second
            await visitor.send(bytes(200))
            await asyncio.sleep(0.1)
        assert (await visitor.reply()).body == b"8000"


# G3


async def test_a_reader_that_takes_nothing_is_cut_off(hasty: House, leg: str) -> None:
    felt = asyncio.Event()

    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                await peer.say(bytes(65536))
        felt.set()

    async with (
        serving(upstream, port=hasty.port),
        visiting(hasty.edge, hasty.sni(leg), limit=1024) as visitor,
    ):
        await visitor.send(request("/", hasty.host(leg)))
        visitor.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a StreamWriter's transport reads too
        async with asyncio.timeout(WRITE + 6):
            await felt.wait()


# X13 and E8 with the same short clocks


async def test_an_upstream_that_never_answers_is_504_at_the_deadline(hasty: House, leg: str) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.closed()

    async with serving(upstream, port=hasty.port), visiting(hasty.edge, hasty.sni(leg)) as visitor:
        watch = Stopwatch(hasty.edge, hasty.agent)
        reply = await visitor.get("/", hasty.host(leg))
        assert reply.status == 504
        assert REPLY - 0.1 <= watch.wall() and watch.seconds() <= REPLY + LATE


async def test_a_stream_that_has_begun_has_no_deadline(hasty: House) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        await asyncio.sleep(max(REPLY, IDLE, WRITE) + 1)
        await peer.say(b"cd")

    async with serving(upstream, port=hasty.port):
        assert (await ask(hasty.edge, hasty.hostname)).body == b"abcd"


async def test_a_websocket_visitor_that_answers_no_ping_is_closed(hasty: House) -> None:
    async def upstream(peer: Peer) -> None:
        head = await peer.request()
        key = next(
            line[19:] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key: ")
        )
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        await peer.say(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        await peer.closed()

    async with serving(upstream, port=hasty.port), visiting(hasty.edge, hasty.hostname) as visitor:
        key = base64.b64encode(os.urandom(16)).decode()
        await visitor.send(
            request(
                "/", hasty.host("tls"), "Connection: Upgrade", "Upgrade: websocket",
                "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}",
            )
        )  # fmt: skip
        assert (await visitor.reply()).status == 101
        sent = await visitor.rest(10)
    assert sent.startswith(b"\x89\x00"), "no ping came before the end"


# G4


async def test_too_many_connections_of_one_address_are_429(narrow: House, leg: str) -> None:
    async with serving(ok, port=narrow.port), contextlib.AsyncExitStack() as stack:
        visitors = [await stack.enter_async_context(visiting(narrow.edge, narrow.sni(leg))) for _ in range(8)]
        for visitor in visitors:
            assert (await visitor.get("/", narrow.host(leg))).status == 200
        one_more = await stack.enter_async_context(visiting(narrow.edge, narrow.sni(leg)))
        reply = await one_more.get("/", narrow.host(leg))
        assert (reply.status, reply.get("connection")) == (429, "close")
        assert int(reply.get("retry-after") or 0) > 0
        await visitors[0].close()
        async with asyncio.timeout(5):  # there is room again
            while True:
                async with visiting(narrow.edge, narrow.sni(leg)) as late:
                    if (await late.get("/", narrow.host(leg))).status == 200:
                        break


async def test_too_many_exchanges_of_one_tunnel_are_503(narrow: House) -> None:
    release, held = asyncio.Event(), asyncio.Semaphore(0)

    async def upstream(peer: Peer) -> None:
        await peer.request()
        held.release()
        await release.wait()
        await peer.reply(b"held")

    async with serving(upstream, port=narrow.port), contextlib.AsyncExitStack() as stack:
        visitors = [await stack.enter_async_context(visiting(narrow.edge, narrow.hostname)) for _ in range(5)]
        for visitor in visitors[:4]:
            await visitor.send(request("/", narrow.host("tls")))
            async with asyncio.timeout(5):
                await held.acquire()
        reply = await visitors[4].get("/", narrow.host("tls"))
        assert reply.status in (429, 503) and int(reply.get("retry-after") or 0) > 0
        release.set()
        for visitor in visitors[:4]:
            assert (await visitor.reply()).body == b"held"


async def test_too_many_connections_in_all_are_shed_and_agents_still_come_in(tmp_path: Path) -> None:
    port = quiet_port()
    with Edge(tmp_path, settings={"max_connections": 4}) as edge, edge.agent(port) as agent:
        async with serving(ok, port=port), contextlib.AsyncExitStack() as stack:
            host = f"{agent.hostname}:{edge.https}"
            visitors = [await stack.enter_async_context(visiting(edge, agent.hostname)) for _ in range(4)]
            for visitor in visitors:
                assert (await visitor.get("/", host)).status == 200
            with contextlib.suppress(OSError, Truncated, TimeoutError):
                async with asyncio.timeout(2), visiting(edge, agent.hostname) as late:
                    assert (await late.get("/", host)).status == 503
            for visitor in visitors:
                assert (await visitor.get("/", host)).status == 200


# Agents that are none


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        bytes(8),
        b"\xff" * 64,
        b"\x00\xff\xff\x10\x00\x00\x00\x00" + b"a" * 70_000,  # a hello longer than any may be
        b"\x00\x00\x02\x10\x00\x00\x00\x00{}",
        b"\x00\x00\x04\x10\x00\x00\x00\x00null",
        b"\x00\x00\x08\x01\x00\x00\x00\x01\x01\x00\x00\x00GET ",  # a stream before any hello
    ],
)
async def test_who_says_no_proper_hello_is_cut_off(hasty: House, said: bytes) -> None:
    context = hasty.edge.trust()
    context.set_alpn_protocols(["wellhead/1"])
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", hasty.edge.https, ssl=context, server_hostname="localhost"
    )
    visitor = Visitor(reader, writer)
    try:
        with contextlib.suppress(ConnectionError):
            await visitor.send(said)
        answer = await visitor.rest(HELLO + 3)
        assert len(answer) < 4096 and b"Traceback" not in answer
    finally:
        await visitor.close()
    async with serving(ok, port=hasty.port):
        assert (await ask(hasty.edge, hasty.hostname)).status == 200


async def test_a_refusal_is_counted_with_its_reason(narrow: House, hasty: House) -> None:
    async with visiting(hasty.edge, "localhost") as visitor:
        text = (await visitor.get("/metrics", "localhost")).body.decode()
    assert 'wellhead_refused_total{reason="' in text and "wellhead_exchanges_total" in text
    reply = await ask(narrow.edge, "localhost", "/metrics", f"X-API-Key: {narrow.edge.key}")
    assert reply.status == 200


# F4 and I10


@contextlib.asynccontextmanager
async def at_the_tls_port(house: House, alpn: str | None = None) -> AsyncIterator[Visitor]:
    """A connection to it: bytes alone, or with ``alpn`` after a handshake."""
    context = house.edge.trust() if alpn else None
    if context is not None and alpn:
        context.set_alpn_protocols([alpn])
    visitor = Visitor(
        *await asyncio.open_connection(
            "127.0.0.1", house.edge.https, ssl=context, server_hostname="localhost" if context else None
        )
    )
    try:
        yield visitor
    finally:
        await visitor.close()


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n",
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12),  # version 2
    ],
)
async def test_a_strangers_proxy_line_is_neither_believed_nor_skipped(hasty: House, line: bytes) -> None:
    async with visiting(hasty.edge, None) as visitor:
        await visitor.send(line + request("/", hasty.host("plain")))
        assert (await visitor.reply()).status == 400
        assert await visitor.rest(5) == b""
    async with at_the_tls_port(hasty) as visitor:
        await visitor.send(line)
        assert (await visitor.rest(5))[:1] == b"\x15"  # an alert


async def test_a_crowd_that_says_no_hello_is_gone_in_time_and_displaces_no_agent(hasty: House) -> None:
    ended = hasty.edge.text.count("session closed")
    async with serving(ok, port=hasty.port), contextlib.AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(at_the_tls_port(hasty)) for _ in range(400)]
        crowd += [await stack.enter_async_context(at_the_tls_port(hasty, "wellhead/1")) for _ in range(50)]
        assert (await ask(hasty.edge, hasty.hostname)).status == 200
        await asyncio.gather(*(visitor.rest(HELLO + 3) for visitor in crowd))
        assert (await ask(hasty.edge, hasty.hostname)).status == 200
    assert hasty.edge.text.count("session closed") == ended
