"""TCP streams, WebSockets and TLS towards real upstream servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.kit.certs import client_hello
from tests.kit.upstreams import PATIENCE, Peer, Server, Visitor, envelope, serving, visit
from wellhead.errors import DialError, TrustError
from wellhead.net.authority import LocalAuthority
from wellhead.net.tls import ALPN_HTTP, client_context
from wellhead.net.upstream import Exchange, UpstreamLimits, UpstreamPool
from wellhead.net.upstream_address import parse_upstream
from wellhead.wire.facts import Facts
from wellhead.wire.streams import Reason, StreamKind

BOTH_LOOPS = True
PoolOf = Callable[..., UpstreamPool]
UPGRADE = ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13")
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


@pytest.fixture(autouse=True)
async def _bounded() -> AsyncIterator[None]:
    async with asyncio.timeout(3 * PATIENCE):
        yield


@pytest.fixture
async def pool_of() -> AsyncIterator[PoolOf]:
    """Makes pools for a server and closes them."""
    pools: list[UpstreamPool] = []

    def make(server: Server, told: list[Exchange] | None = None) -> UpstreamPool:
        pool = UpstreamPool(
            parse_upstream(f"127.0.0.1:{server.port}"),
            limits=UpstreamLimits(dial_retry_seconds=0.3),
            on_exchange=None if told is None else told.append,
        )
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        await pool.aclose()


# TCP


async def test_tcp_bytes_go_both_ways_and_each_half_ends_alone(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        said = await peer.closed()
        await peer.say(b"after your end: ", said)

    told: list[Exchange] = []
    async with serving(upstream) as server:
        visitor = visit(pool_of(server, told), b"", b"one ", False, kind=StreamKind.TCP)
        visitor.stream.send(b"two")
        visitor.stream.send(b"", True)
        await visitor.over()
    assert visitor.ended and visitor.reason is None
    assert bytes(visitor.body) == b"after your end: one two"
    assert [(e.kind, e.bytes_in, e.bytes_out, e.failure) for e in told] == [(StreamKind.TCP, 7, 23, "")]


async def test_a_visitor_may_go_on_after_the_upstream_ended_its_half(pool_of: PoolOf) -> None:
    got = asyncio.get_running_loop().create_future()

    async def upstream(peer: Peer) -> None:
        await peer.say(b"done")
        peer.writer.write_eof()
        got.set_result(await peer.closed())

    async with serving(upstream) as server:
        visitor = await visit(pool_of(server), b"", b"", False, kind=StreamKind.TCP).over()
        assert bytes(visitor.body) == b"done" and visitor.reason is None
        visitor.stream.send(b"still here", True)
        assert await got == b"still here"


async def test_an_rst_of_the_upstream_becomes_a_reset(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.body(1)
        peer.reset()

    async with serving(upstream) as server:
        visitor = await visit(pool_of(server), b"", b"x", False, kind=StreamKind.TCP).over()
    assert visitor.reason == Reason.UPSTREAM_FAILED and not visitor.ended


async def test_a_reset_of_the_visitor_becomes_an_rst(pool_of: PoolOf) -> None:
    seen = asyncio.get_running_loop().create_future()

    async def upstream(peer: Peer) -> None:
        await peer.body(1)
        await peer.say(b"y")
        try:
            seen.set_result(await peer.reader.read())
        except ConnectionError as error:
            seen.set_result(error)

    async with serving(upstream) as server:
        visitor = visit(pool_of(server), b"", b"x", False, kind=StreamKind.TCP)
        await visitor.until(lambda v: v.body == b"y")
        visitor.stream.reset(Reason.CANCELLED)
        assert isinstance(await asyncio.wait_for(seen, 1.0), ConnectionResetError)


async def test_what_the_upstream_said_last_is_not_lost_when_it_closes_both_ways(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.body(1)
        await peer.say(bytes(200_000))

    async with serving(upstream) as server:
        visitor = visit(pool_of(server), b"", b"x", False, kind=StreamKind.TCP)
        await visitor.over()
        assert visitor.ended and len(visitor.body) == 200_000
        async with asyncio.timeout(PATIENCE):
            while visitor.reason is None:  # nobody reads this: the visitor has to learn it
                visitor.stream.send(b"more")
                await asyncio.sleep(0)
        assert visitor.reason == Reason.UPSTREAM_FAILED


async def test_a_tcp_upstream_that_is_not_there_is_unreachable(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None: ...

    async with serving(upstream) as server:
        pool = pool_of(server)
    visitor = await visit(pool, b"", b"x", False, kind=StreamKind.TCP).over()
    assert visitor.reason == Reason.UPSTREAM_UNREACHABLE
    assert not pool.busy


async def test_an_rst_of_the_upstream_is_noticed_while_the_visitor_takes_nothing(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        with contextlib.suppress(TimeoutError):
            while True:
                async with asyncio.timeout(0.5):
                    await peer.say(bytes(65536))
        peer.reset()

    async with serving(upstream) as server:
        visitor = visit(pool_of(server), b"", b"", False, kind=StreamKind.TCP, consuming=False)
        await visitor.over()
    assert visitor.reason == Reason.UPSTREAM_FAILED and not visitor.ended


async def test_a_tls_upstream_is_handed_the_bytes_as_they_are_and_nothing_else() -> None:
    hello = client_hello("p.localhost", ["h2", "http/1.1"])

    async def upstream(peer: Peer) -> None:
        await peer.say(await peer.body(len(hello)))
        peer.writer.write_eof()

    told: list[Exchange] = []
    async with serving(upstream) as server:
        pool = UpstreamPool(parse_upstream(f"tls://127.0.0.1:{server.port}"), on_exchange=told.append)
        facts = Facts("192.0.2.7", 50123, "p.localhost", "127.0.0.1:8443")
        visitor = await visit(pool, facts.encode(), hello, True, kind=StreamKind.TCP).over()
        assert bytes(visitor.body) == hello and visitor.ended
        assert [(e.peer, e.bytes_in, e.bytes_out, e.failure) for e in told] == [
            ("192.0.2.7", len(hello), len(hello), "")
        ]
        refused = await visit(pool, envelope()).over()
        assert refused.reason == Reason.REFUSED
        await pool.aclose()


async def test_facts_that_cannot_be_read_keep_no_visitor_out(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.say(await peer.closed())

    told: list[Exchange] = []
    async with serving(upstream) as server:
        visitor = await visit(pool_of(server, told), b"\xff", b"x", True, kind=StreamKind.TCP).over()
    assert bytes(visitor.body) == b"x" and told[0].peer == ""


async def test_tcp_back_pressure_reaches_the_upstream(pool_of: PoolOf) -> None:
    total = 16 * 1024 * 1024

    async def upstream(peer: Peer) -> None:
        for _ in range(total // 65536):
            await peer.say(bytes(65536))

    async with serving(upstream) as server:
        visitor = visit(pool_of(server), b"", b"", False, kind=StreamKind.TCP, consuming=False)
        await visitor.until(lambda v: len(v.body) >= 256 * 1024)
        await asyncio.sleep(0.2)
        assert len(visitor.body) <= 1024 * 1024
        visitor.consuming = True
        visitor.stream.consumed(len(visitor.body))
        await visitor.over()
        assert visitor.ended and len(visitor.body) == total


# WebSocket


def upgrading(pool: UpstreamPool, data: bytes = b"") -> Visitor:
    return visit(pool, envelope("GET", "/", *UPGRADE), data, False, kind=StreamKind.WEBSOCKET)


async def test_an_upgrade_is_asked_for_and_then_bytes_go_both_ways(pool_of: PoolOf) -> None:
    head = asyncio.get_running_loop().create_future()

    async def upstream(peer: Peer) -> None:
        head.set_result(await peer.request())
        await peer.say(SWITCHED + b"\x81\x05hello")
        await peer.say(await peer.body(3))
        await peer.closed()

    told: list[Exchange] = []
    async with serving(upstream) as server:
        pool = pool_of(server, told)
        visitor = visit(pool, envelope("GET", "/ws", *UPGRADE), b"", False, kind=StreamKind.WEBSOCKET)
        await visitor.until(lambda v: v.body == b"\x81\x05hello")
        assert visitor.status == 101 and b"Sec-WebSocket-Accept: " in visitor.head
        assert b"Upgrade:" not in visitor.head
        visitor.stream.send(b"abc")
        await visitor.until(lambda v: v.body.endswith(b"abc"))
        visitor.stream.send(b"", True)
        await visitor.over()
    sent = await head
    assert b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" in sent
    assert b"\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" in sent
    assert [(e.status, e.bytes_in, e.bytes_out) for e in told] == [(101, 3, 10)]


async def test_a_refused_upgrade_is_an_ordinary_reply(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.reply(b"who are you", status=b"403 Forbidden")
        await peer.closed()

    async with serving(upstream) as server:
        visitor = visit(
            pool_of(server), envelope("GET", "/", *UPGRADE), b"", False, kind=StreamKind.WEBSOCKET
        )
        await visitor.over()
    assert visitor.status == 403 and bytes(visitor.body) == b"who are you" and visitor.reason is None


async def test_an_upgrade_to_something_else_is_refused(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        await peer.closed()

    async with serving(upstream) as server:
        visitor = visit(
            pool_of(server), envelope("GET", "/", *UPGRADE), b"", False, kind=StreamKind.WEBSOCKET
        )
        assert (await visitor.over()).reason == Reason.UPSTREAM_FAILED


async def test_bytes_before_the_upgrade_is_granted_wait_for_it(pool_of: PoolOf) -> None:
    go_on = asyncio.Event()
    got = asyncio.get_running_loop().create_future()

    async def upstream(peer: Peer) -> None:
        await peer.request()
        await go_on.wait()
        assert not peer.reader._buffer  # type: ignore[attr-defined]
        await peer.say(SWITCHED)
        got.set_result(await peer.body(5))

    async with serving(upstream) as server:
        visitor = visit(
            pool_of(server), envelope("GET", "/", *UPGRADE), b"ea", False, kind=StreamKind.WEBSOCKET
        )
        visitor.stream.send(b"rly")
        await asyncio.sleep(0.1)
        go_on.set()
        assert await asyncio.wait_for(got, PATIENCE) == b"early"


async def test_a_websocket_never_takes_a_pooled_connection_nor_becomes_one(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        while True:
            head = await peer.request()
            if b"Upgrade: websocket" in head:
                await peer.say(SWITCHED)
                await peer.closed()
                return
            await peer.reply()

    async with serving(upstream) as server:
        pool = pool_of(server)
        await visit(pool, envelope()).over()
        socket = upgrading(pool)
        await socket.until(lambda v: bool(v.heads))
        assert len(server.peers) == 2
        await visit(pool, envelope()).over()
        assert len(server.peers) == 2
        socket.stream.reset(Reason.CANCELLED)


# TLS


async def greeting(peer: Peer) -> None:
    while True:
        await peer.request()
        await peer.reply(b"over TLS")


@pytest.fixture
def authority(tmp_path: Path) -> LocalAuthority:
    return LocalAuthority(tmp_path)


async def test_a_tls_upstream_is_verified_by_its_own_authority(authority: LocalAuthority) -> None:
    trusting = client_context(ca_file=authority.ca_file, alpn=[ALPN_HTTP])
    async with serving(greeting, context=authority.leaf_context("app.localhost")) as server:
        pool = UpstreamPool(parse_upstream(f"https://app.localhost:{server.port}"), ssl_context=trusting)
        for _ in range(2):
            assert bytes((await visit(pool, envelope()).over()).body) == b"over TLS"
        assert len(server.peers) == 1
        await pool.probe()
        await pool.aclose()


@pytest.mark.parametrize("host", ["app.localhost", "other.localhost"])
async def test_a_tls_upstream_that_is_not_trusted_is_unreachable_at_once(
    authority: LocalAuthority, host: str
) -> None:
    trusting = client_context(ca_file=authority.ca_file if host != "app.localhost" else None)
    async with serving(greeting, context=authority.leaf_context("app.localhost")) as server:
        pool = UpstreamPool(parse_upstream(f"https://{host}:{server.port}"), ssl_context=trusting)
        began = asyncio.get_running_loop().time()
        assert (await visit(pool, envelope()).over()).reason == Reason.UPSTREAM_UNREACHABLE
        assert asyncio.get_running_loop().time() - began < 1.0
        with pytest.raises(TrustError):
            await pool.probe()
        await pool.aclose()


async def test_verification_may_be_switched_off(authority: LocalAuthority) -> None:
    async with serving(greeting, context=authority.leaf_context("app.localhost")) as server:
        pool = UpstreamPool(
            parse_upstream(f"https://other.localhost:{server.port}"), ssl_context=client_context(verify=False)
        )
        assert (await visit(pool, envelope()).over()).status == 200
        await pool.aclose()


async def test_a_download_over_tls_is_held_back_and_then_complete(authority: LocalAuthority) -> None:
    total = 8 * 1024 * 1024

    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        for _ in range(total // 65536):
            await peer.say(bytes(65536))
        await peer.closed()

    async with serving(upstream, context=authority.leaf_context("app.localhost")) as server:
        pool = UpstreamPool(
            parse_upstream(f"https://app.localhost:{server.port}"), ssl_context=client_context(verify=False)
        )
        visitor = visit(pool, envelope(), consuming=False)
        await visitor.until(lambda v: len(v.body) >= 256 * 1024)
        await asyncio.sleep(0.1)
        assert len(visitor.body) <= 1024 * 1024
        visitor.consuming = True
        visitor.stream.consumed(len(visitor.body))
        await visitor.over()
        assert visitor.ended and len(visitor.body) == total
        await pool.aclose()


async def test_an_upload_to_a_tls_upstream_is_complete(authority: LocalAuthority) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        body, _ = await peer.chunked()
        await peer.reply(b"%d" % len(body))

    async with serving(upstream, context=authority.leaf_context("app.localhost")) as server:
        pool = UpstreamPool(
            parse_upstream(f"https://app.localhost:{server.port}"), ssl_context=client_context(verify=False)
        )
        visitor = visit(pool, envelope("POST"), b"", False)
        for _ in range(40):
            visitor.writable.clear()
            if not visitor.stream.send(bytes(50_000)):
                await asyncio.wait_for(visitor.writable.wait(), PATIENCE)
        visitor.stream.send(b"", True)
        assert bytes((await visitor.over()).body) == b"2000000"
        await pool.aclose()


async def test_a_probe_says_why_nobody_answers() -> None:
    async def upstream(peer: Peer) -> None: ...

    async with serving(upstream) as server:
        port = server.port
    with pytest.raises(DialError, match="refused"):
        await UpstreamPool(parse_upstream(port)).probe()
