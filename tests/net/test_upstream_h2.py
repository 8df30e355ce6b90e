"""HTTP/2 upstreams, played by another implementation on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from h2.settings import SettingCodes

from tests.kit.h2_upstream import Asked, H2Peer, answering, eventually, serving_h2
from tests.kit.pools import PoolOf, making_pools
from tests.kit.upstreams import PATIENCE, Peer, Server, Visitor, envelope, free_port, serving, visit
from wellhead.net.authority import LocalAuthority
from wellhead.net.tls import ALPN_H2, ALPN_HTTP
from wellhead.net.upstream import Exchange
from wellhead.net.upstream_h2_link import H2Link
from wellhead.wire.h2_frames import ErrorCode, settings_frame
from wellhead.wire.pair import WINDOW
from wellhead.wire.streams import HeadKind, Reason, StreamKind
from wellhead.wire.ws import accept_key

BOTH_LOOPS = True


@pytest.fixture(autouse=True)
async def _bounded() -> AsyncIterator[None]:
    async with asyncio.timeout(4 * PATIENCE):
        yield


@pytest.fixture
async def pool_of() -> AsyncIterator[PoolOf]:
    async with making_pools("h2c") as make:
        yield make


def head_of(visitor: Visitor, kind: HeadKind) -> bytes:
    return next(head for each, head in visitor.heads if each is kind)


# Requests


async def test_a_request_reaches_the_upstream_and_a_small_reply_comes_back_in_one_frame(
    pool_of: PoolOf,
) -> None:
    seen: list[Asked] = []

    async def upstream(peer: H2Peer) -> None:
        seen.append(await peer.whole())
        peer.reply(seen[0], b"body", ("x-two", "2"))

    async with serving_h2(upstream) as server:
        visitor = await visit(pool_of(server), envelope("GET", "/a%2Fb?c=d", "X-One: 1")).over()
    assert visitor.head == b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nx-two: 2\r\n\r\n"
    assert (bytes(visitor.body), visitor.frames, visitor.ended) == (b"body", 1, True)
    assert seen[0].headers == [
        (":method", "GET"), (":scheme", "http"), (":authority", f"127.0.0.1:{server.port}"),
        (":path", "/a%2Fb?c=d"), ("x-one", "1"),
    ]  # fmt: skip


async def test_authority_is_the_upstreams_by_default_and_the_visitors_if_preserved(pool_of: PoolOf) -> None:
    async def upstream(peer: H2Peer) -> None:
        while True:
            asked = await peer.whole()
            peer.reply(asked, asked[":authority"].encode())

    async with serving_h2(upstream) as server:
        for policy, wanted in (
            ("rewrite", f"127.0.0.1:{server.port}"), ("preserve", "t.localhost"), ("other:8", "other:8"),
        ):  # fmt: skip
            visitor = await visit(pool_of(server, host_header=policy), envelope()).over()
            assert bytes(visitor.body) == wanted.encode()


async def test_origin_is_rewritten_where_it_is_the_public_one(pool_of: PoolOf) -> None:
    async def upstream(peer: H2Peer) -> None:
        while True:
            asked = await peer.whole()
            peer.reply(asked, asked["origin"].encode())

    async with serving_h2(upstream) as server:
        pool = pool_of(server)
        for origin, wanted in (
            ("https://t.localhost", f"http://127.0.0.1:{server.port}"), ("https://evil", "https://evil"),
        ):  # fmt: skip
            sent = envelope("GET", "/", f"Origin: {origin}", "X-Forwarded-Proto: https")
            assert bytes((await visit(pool, sent).over()).body) == wanted.encode()


async def test_many_requests_at_once_share_one_connection(pool_of: PoolOf) -> None:
    async with serving_h2(answering) as server:
        pool = pool_of(server)
        visitors = [visit(pool, envelope("POST", f"/{n}", length=2), b"ab") for n in range(50)]
        for number, visitor in enumerate(visitors):
            assert bytes((await visitor.over()).body) == b"/%dab" % number
        assert len(server.peers) == 1
        assert not pool.busy


async def test_a_body_and_trailers_travel_both_ways(pool_of: PoolOf) -> None:
    async def upstream(peer: H2Peer) -> None:
        asked = await peer.whole()
        peer.head(asked, ("content-type", "application/grpc"))
        peer.data(asked, bytes(asked.body))
        peer.trailers(asked, ("grpc-status", "0"), *asked.trailers)

    async with serving_h2(upstream) as server:
        sent = envelope("POST", "/", "TE: trailers", "content-type: application/grpc")
        visitor = visit(pool_of(server), sent, b"first", end=False)
        visitor.stream.send(b" and second")
        visitor.stream.head(HeadKind.TRAILERS, b"x-sum: 16\r\n\r\n", b"", True)
        await visitor.over()
        asked = server.peers[0].asked[1]
    assert asked["te"] == "trailers" and asked.trailers == [("x-sum", "16")]
    assert bytes(visitor.body) == b"first and second"
    assert head_of(visitor, HeadKind.TRAILERS) == b"grpc-status: 0\r\nx-sum: 16\r\n\r\n"


async def test_a_reply_of_trailers_only_ends_with_its_head(pool_of: PoolOf) -> None:
    async def upstream(peer: H2Peer) -> None:
        peer.head(await peer.whole(), ("grpc-status", "5"), end=True)

    async with serving_h2(upstream) as server:
        visitor = await visit(pool_of(server), envelope("POST", "/"), b"x").over()
    assert visitor.head == b"HTTP/1.1 200 OK\r\ngrpc-status: 5\r\n\r\n"
    assert visitor.frames == 1 and visitor.ended and visitor.reason is None


async def test_a_reply_may_begin_and_go_on_while_the_request_does(pool_of: PoolOf) -> None:
    async def upstream(peer: H2Peer) -> None:
        asked = await peer.request()
        peer.head(asked)
        for count in range(1, 4):
            await peer.until(lambda count=count: len(asked.body) == count)  # type: ignore[misc]
            peer.data(asked, b"pong%d" % count)
        await peer.until(lambda: asked.ended)
        peer.trailers(asked, ("grpc-status", "0"))

    async with serving_h2(upstream) as server:
        visitor = visit(pool_of(server), envelope("POST", "/"), end=False)
        await visitor.until(lambda v: bool(v.heads))
        for count in range(1, 4):
            visitor.stream.send(b"p")
            await visitor.until(lambda v, count=count: v.body.endswith(b"pong%d" % count))  # type: ignore[misc]
        assert not visitor.ended
        visitor.stream.send(b"", True)
        await visitor.over()
    assert visitor.reason is None


async def test_interim_heads_are_passed_on_and_too_many_are_not(pool_of: PoolOf) -> None:
    async def upstream(peer: H2Peer) -> None:
        while True:
            asked = await peer.whole()
            for _ in range(int(asked[":path"][1:])):
                peer.head(asked, ("link", "</a>"), status=103)
            peer.reply(asked)

    async with serving_h2(upstream) as server:
        pool = pool_of(server, max_interim=3)
        visitor = await visit(pool, envelope("GET", "/3")).over()
        assert [kind for kind, _ in visitor.heads] == [HeadKind.INTERIM] * 3 + [HeadKind.REPLY]
        assert visitor.heads[0][1] == b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
        assert (await visit(pool, envelope("GET", "/4")).over()).reason == Reason.UPSTREAM_FAILED


async def test_head_and_bodyless_replies_have_no_body(pool_of: PoolOf) -> None:
    async def upstream(peer: H2Peer) -> None:
        while True:
            asked = await peer.whole()
            peer.head(asked, ("content-length", "7"), status=int(asked[":path"][1:]), end=True)

    async with serving_h2(upstream) as server:
        pool = pool_of(server)
        for method, status in (("HEAD", 200), ("GET", 304)):
            visitor = await visit(pool, envelope(method, f"/{status}")).over()
            assert b"\r\nContent-Length: 7\r\n" in visitor.head and visitor.ended and not visitor.body


# Lengths


async def test_a_reply_of_another_length_than_it_declared_is_broken_off(pool_of: PoolOf) -> None:
    async def upstream(peer: H2Peer) -> None:
        while True:
            asked = await peer.whole()
            peer.head(asked, ("content-length", "3"))
            peer.data(asked, b"x" * int(asked[":path"][1:]), True)

    async with serving_h2(upstream) as server:
        pool = pool_of(server)
        for size in (2, 4):
            visitor = await visit(pool, envelope("GET", f"/{size}")).over()
            assert visitor.reason == Reason.UPSTREAM_FAILED and not visitor.ended
        assert (await visit(pool, envelope("GET", "/3")).over()).ended
        assert len(server.peers) == 1


@pytest.mark.parametrize(("pieces", "end"), [([b"abcd"], False), ([b"ab"], True), ([b"ab", b"cd"], False)])
async def test_a_request_of_another_length_than_declared_is_given_up(
    pieces: list[bytes], end: bool, pool_of: PoolOf
) -> None:
    async def upstream(peer: H2Peer) -> None:
        asked = await peer.request()
        await peer.until(lambda: asked.reset is not None)

    async with serving_h2(upstream) as server:
        pool = pool_of(server)
        visitor = visit(pool, envelope("POST", "/", length=3), end=False)
        await eventually(lambda: bool(server.peers and server.peers[0].asked))
        for index, piece in enumerate(pieces):
            visitor.stream.send(piece, end and index == len(pieces) - 1)
        assert (await visitor.over()).reason == Reason.PROTOCOL
        await server.peers[0].until(lambda: server.peers[0].asked[1].reset == ErrorCode.PROTOCOL_ERROR)


# Flow


async def test_a_slow_visitor_holds_back_the_upstream_and_nobody_else(pool_of: PoolOf) -> None:
    total = 4 * 1024 * 1024
    sent = 0

    async def feed(peer: H2Peer, asked: Asked) -> None:
        nonlocal sent
        while sent < total:
            size = min(16384, peer.h2.local_flow_control_window(asked.id), total - sent)
            if size <= 0:
                await asyncio.sleep(0.002)
                continue
            peer.data(asked, bytes(size), sent + size == total)
            sent += size
            await peer.raw.writer.drain()

    async def upstream(peer: H2Peer) -> None:
        bulk = await peer.whole()
        peer.head(bulk)
        feeding = asyncio.ensure_future(feed(peer, bulk))
        try:
            while True:
                peer.reply(await peer.whole())
        finally:
            feeding.cancel()

    async with serving_h2(upstream) as server:
        pool = pool_of(server)
        slow = visit(pool, envelope(), consuming=False)
        await slow.until(lambda v: len(v.body) >= 256 * 1024)
        for _ in range(3):
            assert (await visit(pool, envelope()).over()).ended
        assert len(slow.body) <= 768 * 1024 and sent <= 1024 * 1024
        slow.consuming = True
        slow.stream.consumed(len(slow.body))
        assert len((await slow.over()).body) == total
        assert len(server.peers) == 1


async def test_an_upstream_that_does_not_read_holds_back_the_visitor_and_nobody_else(pool_of: PoolOf) -> None:
    async def upstream(peer: H2Peer) -> None:
        peer.lazy = True
        while True:
            asked = await peer.request()
            if asked[":path"] != "/bulk":
                peer.reply(asked)

    async with serving_h2(upstream) as server:
        pool = pool_of(server)
        visitor = visit(pool, envelope("POST", "/bulk"), end=False)
        sent = 0
        while visitor.stream.send(bytes(16384)):
            sent += 16384
            assert sent < 1024 * 1024
            await asyncio.sleep(0)
        assert (await visit(pool, envelope("GET", "/small")).over()).ended
        peer = server.peers[0]
        assert len(peer.asked[1].body) == 65535
        taken = 0
        while not visitor.writable.is_set():
            peer.h2.acknowledge_received_data(len(peer.asked[1].body) - taken, 1)
            taken = len(peer.asked[1].body)
            peer.flush()
            await asyncio.sleep(0.005)


# Leaving


async def test_a_visitor_that_leaves_cancels_the_upstreams_stream_alone(pool_of: PoolOf) -> None:
    async def upstream(peer: H2Peer) -> None:
        while True:
            asked = await peer.request()
            if asked[":path"] == "/":
                peer.reply(asked)

    async with serving_h2(upstream) as server:
        pool = pool_of(server)
        visitor = visit(pool, envelope("GET", "/wait"))
        assert (await visit(pool, envelope()).over()).ended
        visitor.stream.reset(Reason.CANCELLED)
        peer = server.peers[0]
        await peer.until(lambda: peer.asked[1].reset == ErrorCode.CANCEL)
        assert (await visit(pool, envelope()).over()).ended
        assert len(server.peers) == 1 and not pool.busy


async def test_a_visitor_that_leaves_while_it_waits_is_never_asked_for(pool_of: PoolOf) -> None:
    async def upstream(peer: H2Peer) -> None:
        while True:
            asked = await peer.whole()
            if asked[":path"] != "/hold":
                peer.reply(asked)
            else:
                held.append((peer, asked))

    held: list[tuple[H2Peer, Asked]] = []
    async with serving_h2(upstream, settings={SettingCodes.MAX_CONCURRENT_STREAMS: 1}) as server:
        pool = pool_of(server, max_h2_connections=1)
        assert (await visit(pool, envelope()).over()).ended
        holding = visit(pool, envelope("GET", "/hold"))
        leaving, staying = (visit(pool, envelope("GET", path)) for path in ("/leaves", "/stays"))
        leaving.stream.reset(Reason.CANCELLED)
        await eventually(lambda: bool(held))
        held[0][0].reply(held[0][1])
        await asyncio.gather(holding.over(), staying.over())
        assert "/leaves" not in [asked[":path"] for asked in server.peers[0].asked.values()]


async def leaves(visitor: Visitor) -> None:
    visitor.stream.reset(Reason.CANCELLED)


async def sends_too_much(visitor: Visitor) -> None:
    visitor.stream.send(b"two")


async def is_answered_early(visitor: Visitor) -> None:
    await visitor.over()


@pytest.mark.parametrize("ends", [leaves, sends_too_much, is_answered_early])
async def test_a_request_that_ends_before_its_stream_makes_room_for_the_one_that_waits(
    ends: Callable[[Visitor], Awaitable[None]], pool_of: PoolOf
) -> None:
    async def upstream(peer: H2Peer) -> None:
        while True:
            asked = await peer.request()
            if asked[":path"] != "/hold" or ends is is_answered_early:
                peer.reply(asked)

    async with serving_h2(upstream, settings={SettingCodes.MAX_CONCURRENT_STREAMS: 1}) as server:
        pool = pool_of(server, max_h2_connections=1)
        assert (await visit(pool, envelope()).over()).ended
        holding = visit(pool, envelope("POST", "/hold", length=1), end=False)
        waiting = visit(pool, envelope())
        await ends(holding)
        assert (await waiting.over()).status == 200


async def test_what_a_slow_visitor_had_not_taken_at_the_end_is_not_held_for_ever(pool_of: PoolOf) -> None:
    async def upstream(peer: H2Peer) -> None:
        while True:
            asked = await peer.request()
            peer.head(asked)
            for _ in range(16):
                peer.data(asked, bytes(16384))
            if asked[":path"] == "/trailers":
                peer.trailers(asked, ("x-sum", "1"))
            else:
                peer.data(asked, b"", True)

    async with serving_h2(upstream) as server:
        pool = pool_of(server)
        for path in ("/", "/trailers"):
            visitor = await visit(pool, envelope("GET", path), consuming=False).over()
            assert len(visitor.body) == WINDOW
        (link,) = pool._open
        assert isinstance(link, H2Link) and not link.requests
        assert link.h2.held == 0


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (ErrorCode.CANCEL, Reason.UPSTREAM_FAILED),
        (ErrorCode.INTERNAL_ERROR, Reason.UPSTREAM_FAILED),
        (ErrorCode.NO_ERROR, Reason.UPSTREAM_FAILED),
        (ErrorCode.ENHANCE_YOUR_CALM, Reason.OVERLOADED),
        (ErrorCode.REFUSED_STREAM, Reason.REFUSED),
    ],
)
async def test_a_stream_that_the_upstream_gives_up_says_why(
    code: ErrorCode, reason: Reason, pool_of: PoolOf
) -> None:
    async def upstream(peer: H2Peer) -> None:
        while True:
            peer.reset(await peer.whole(), code)

    async with serving_h2(upstream) as server:
        visitor = await visit(pool_of(server), envelope("POST", "/", length=1), b"x").over()
    assert visitor.reason == reason


async def test_a_whole_reply_to_an_unfinished_request_is_delivered_and_the_rest_dropped(
    pool_of: PoolOf,
) -> None:
    async def upstream(peer: H2Peer) -> None:
        asked = await peer.request()
        peer.reply(asked, b"enough", status=413)
        peer.reset(asked, ErrorCode.NO_ERROR)

    async with serving_h2(upstream) as server:
        visitor = visit(pool_of(server), envelope("POST", "/"), b"x" * 1000, end=False)
        await visitor.over()
        assert (visitor.status, bytes(visitor.body), visitor.reason) == (413, b"enough", None)
        for _ in range(100):
            assert visitor.stream.send(bytes(16384))
        visitor.stream.send(b"", True)


async def test_a_refused_request_is_asked_again(pool_of: PoolOf) -> None:
    refusals = 2

    async def upstream(peer: H2Peer) -> None:
        nonlocal refusals
        while True:
            asked = await peer.whole()
            if refusals:
                refusals -= 1
                peer.reset(asked, ErrorCode.REFUSED_STREAM)
            else:
                peer.reply(asked, bytes(asked.body))

    async with serving_h2(upstream) as server:
        visitor = await visit(pool_of(server), envelope("POST", "/", length=4), b"body").over()
    assert bytes(visitor.body) == b"body" and not refusals


# Connections


async def test_more_requests_than_a_connection_takes_open_another_and_then_wait(pool_of: PoolOf) -> None:
    async def upstream(peer: H2Peer) -> None:
        while True:
            asked = await peer.whole()
            if asked[":path"] == "/":
                peer.reply(asked)

    async with serving_h2(upstream, settings={SettingCodes.MAX_CONCURRENT_STREAMS: 2}) as server:
        pool = pool_of(server, max_h2_connections=2, max_waiting=3)
        assert (await visit(pool, envelope()).over()).ended
        # Two on the first connection, two on the next, one waits; the rest came before there was a next.
        visitors = [visit(pool, envelope("GET", "/hold")) for _ in range(8)]
        for visitor in visitors[5:]:
            assert (await visitor.over()).reason == Reason.OVERLOADED
        await eventually(lambda: sum(len(peer.asked) for peer in server.peers) == 1 + 4)
        assert len(server.peers) == 2 and not visitors[4].heads
        peer = server.peers[0]
        peer.reply(next(asked for asked in peer.asked.values() if asked[":path"] == "/hold"))
        await eventually(lambda: sum(len(peer.asked) for peer in server.peers) == 1 + 5)
        assert len(server.peers) == 2


async def test_what_a_leaving_connection_did_not_take_goes_to_a_new_one(pool_of: PoolOf) -> None:
    async def upstream(peer: H2Peer) -> None:
        if len(server.peers) == 1:
            first, second = await peer.whole(), await peer.whole()
            peer.go_away(first.id)
            assert second.id > first.id
        else:
            await answering(peer)

    async with serving_h2(upstream) as server:
        pool = pool_of(server)
        visitors = [visit(pool, envelope("POST", f"/{n}", length=1), b"x") for n in range(2)]
        assert bytes((await visitors[1].over()).body) == b"/1x"
        assert len(server.peers) == 2
        server.peers[0].raw.hang_up()
        assert (await visitors[0].over()).reason == Reason.UPSTREAM_FAILED


async def test_a_request_on_a_connection_that_died_idle_is_asked_again_if_that_is_harmless(
    pool_of: PoolOf,
) -> None:
    async def upstream(peer: H2Peer) -> None:
        peer.reply(await peer.whole())
        await peer.request()
        if len(server.peers) < 3:
            peer.raw.reset()
        else:
            await answering(peer)

    async with serving_h2(upstream) as server:
        pool = pool_of(server)
        assert (await visit(pool, envelope()).over()).ended
        assert (await visit(pool, envelope()).over()).ended
        assert len(server.peers) == 2
        assert (
            await visit(pool, envelope("POST", "/", length=1), b"x").over()
        ).reason == Reason.UPSTREAM_FAILED


async def test_an_upstream_that_comes_up_late_is_waited_for(pool_of: PoolOf) -> None:
    port = free_port()
    visitor = visit(pool_of(port), envelope("POST", "/late", length=1), b"x")
    await asyncio.sleep(0.2)
    async with serving_h2(answering, port=port):
        assert bytes((await visitor.over()).body) == b"/latex"


async def test_an_upstream_that_stays_away_is_unreachable(pool_of: PoolOf) -> None:
    pool = pool_of(free_port(), dial_retry_seconds=0.1)
    visitors = [visit(pool, envelope()) for _ in range(3)]
    for visitor in visitors:
        assert (await visitor.over()).reason == Reason.UPSTREAM_UNREACHABLE
    assert not pool.busy


async def test_an_idle_connection_is_closed_with_a_goodbye(pool_of: PoolOf) -> None:
    async with serving_h2(answering) as server:
        pool = pool_of(server, idle_seconds=0.3)
        assert (await visit(pool, envelope()).over()).ended
        peer = server.peers[0]
        await peer.until(lambda: peer.goaway == ErrorCode.NO_ERROR)
        assert (await visit(pool, envelope()).over()).ended
        assert len(server.peers) == 2


async def test_a_silent_upstream_is_asked_once_and_given_up_if_it_stays_silent(pool_of: PoolOf) -> None:
    async def upstream(peer: H2Peer) -> None:
        await peer.request()

    async with serving_h2(upstream) as server:
        patient = pool_of(server, ping_seconds=0.3, pong_seconds=0.3)
        visitor = visit(patient, envelope())
        await asyncio.sleep(1.5)
        assert server.peers[0].pings == 1 and visitor.reason is None  # it answers pings: it lives

    async def dead(peer: Peer) -> None:
        await peer.say(settings_frame({}))
        await asyncio.Event().wait()

    async with serving(dead) as deaf:
        pool = pool_of(deaf.port, ping_seconds=0.2, pong_seconds=0.3)
        assert (await visit(pool, envelope()).over()).reason == Reason.UPSTREAM_FAILED


async def test_an_upstream_that_does_not_answer_in_time_is_cancelled(pool_of: PoolOf) -> None:
    async def upstream(peer: H2Peer) -> None:
        asked = await peer.whole()
        await peer.until(lambda: asked.reset == ErrorCode.CANCEL)
        cancelled.set()

    cancelled = asyncio.Event()
    async with serving_h2(upstream) as server:
        visitor = await visit(pool_of(server, reply_seconds=0.3), envelope()).over()
        assert visitor.reason == Reason.TIMEOUT
        await asyncio.wait_for(cancelled.wait(), PATIENCE)


async def test_a_grpc_call_may_be_silent_for_as_long_as_its_caller_waits(pool_of: PoolOf) -> None:
    async def upstream(peer: H2Peer) -> None:
        asked = await peer.whole()
        await asyncio.sleep(1.2)
        peer.reply(asked)

    async with serving_h2(upstream) as server:
        sent = envelope("POST", "/", "content-type: application/grpc+proto")
        visitor = await visit(pool_of(server, reply_seconds=0.3), sent, b"x").over()
    assert visitor.ended and visitor.reason is None


async def test_an_upstream_that_speaks_http1_alone_has_failed(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.say(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await peer.closed()

    async with serving(upstream) as server:
        assert (await visit(pool_of(server.port), envelope()).over()).reason == Reason.UPSTREAM_FAILED


async def test_a_closed_pool_leaves_nobody_waiting(pool_of: PoolOf) -> None:
    async def upstream(peer: H2Peer) -> None: ...

    async with serving_h2(upstream, settings={SettingCodes.MAX_CONCURRENT_STREAMS: 1}) as server:
        pool = pool_of(server, max_h2_connections=1)
        visitors = [visit(pool, envelope()) for _ in range(3)]
        await eventually(lambda: bool(server.peers))
        visitors.append(visit(pool, envelope()))
        await pool.aclose()
        assert {visitor.reason for visitor in visitors} == {Reason.UPSTREAM_FAILED}
        assert visit(pool, envelope()).reason == Reason.OVERLOADED


async def test_an_envelope_that_is_none_is_refused(pool_of: PoolOf) -> None:
    async with serving_h2(answering) as server:
        assert visit(pool_of(server), b"nonsense\r\n\r\n").reason == Reason.PROTOCOL


async def test_exchanges_are_told_with_their_status_and_bytes(pool_of: PoolOf) -> None:
    told: list[Exchange] = []
    async with serving_h2(answering) as server:
        pool = pool_of(server, on_exchange=told.append)
        await visit(pool, envelope("POST", "/abc", length=2), b"xy").over()
    (exchange,) = told
    assert (exchange.method, exchange.target, exchange.status) == ("POST", "/abc", 200)
    assert (exchange.bytes_in, exchange.bytes_out, exchange.failure) == (2, 6, "")


async def test_a_unix_socket_may_speak_http2(pool_of: PoolOf, tmp_path: Path) -> None:
    async with serving_h2(answering, path=str(tmp_path / "s")):
        assert bytes((await visit(pool_of(f"h2c:{tmp_path}/s"), envelope()).over()).body) == b"/"


# WebSockets

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="


def handshake() -> bytes:
    return envelope("GET", "/chat", f"Sec-WebSocket-Key: {KEY.decode()}", "Sec-WebSocket-Version: 13")


async def test_a_websocket_goes_over_http2_where_the_upstream_announces_it(pool_of: PoolOf) -> None:
    async def upstream(peer: H2Peer) -> None:
        asked = await peer.request()
        assert (asked[":method"], asked[":protocol"], asked[":path"]) == ("CONNECT", "websocket", "/chat")
        assert "sec-websocket-key" not in dict(asked.headers)
        peer.head(asked, ("sec-websocket-protocol", "chat"))
        peer.data(asked, b"hello")
        await peer.until(lambda: asked.body == b"early late" and asked.ended)
        peer.data(asked, b" bye", True)

    async with serving_h2(upstream, settings={SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}) as server:
        visitor = visit(pool_of(server), handshake(), b"early", end=False, kind=StreamKind.WEBSOCKET)
        await visitor.until(lambda v: v.body == b"hello")
        visitor.stream.send(b" late", True)
        await visitor.over()
    assert visitor.status == 101 and bytes(visitor.body) == b"hello bye"
    assert (
        b"\r\nSec-WebSocket-Accept: %b\r\nsec-websocket-protocol: chat\r\n" % accept_key(KEY) in visitor.head
    )


async def test_a_websocket_that_its_upstream_ends_first_leaves_nothing_behind(pool_of: PoolOf) -> None:
    async def upstream(peer: H2Peer) -> None:
        asked = await peer.request()
        peer.head(asked)
        peer.data(asked, b"bye", True)
        await peer.until(lambda: asked.ended)

    async with serving_h2(upstream, settings={SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}) as server:
        pool = pool_of(server)
        visitor = await visit(pool, handshake(), end=False, kind=StreamKind.WEBSOCKET).over()
        assert pool.busy
        visitor.stream.send(b"", True)
        await eventually(lambda: not pool.busy)
        await server.peers[0].until(lambda: server.peers[0].asked[1].ended)


async def test_a_websocket_that_is_refused_over_http2_gets_the_ordinary_reply(pool_of: PoolOf) -> None:
    async def upstream(peer: H2Peer) -> None:
        asked = await peer.request()
        peer.reply(asked, b"no", status=403)

    async with serving_h2(upstream, settings={SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}) as server:
        visitor = visit(pool_of(server), handshake(), end=False, kind=StreamKind.WEBSOCKET)
        await visitor.over()
    assert (visitor.status, bytes(visitor.body)) == (403, b"no")


async def test_a_websocket_is_refused_where_http2_is_all_there_is_and_it_is_not_announced(
    pool_of: PoolOf,
) -> None:
    async with serving_h2(answering) as server:
        visitor = visit(pool_of(server), handshake(), end=False, kind=StreamKind.WEBSOCKET)
        assert (await visitor.over()).reason == Reason.UPSTREAM_FAILED


# TLS


@pytest.fixture
def authority(tmp_path: Path) -> LocalAuthority:
    return LocalAuthority(tmp_path)


async def greeting(peer: Peer) -> None:
    while True:
        await peer.request()
        await peer.reply(b"in 1.1")


async def test_http2_is_spoken_over_tls_where_both_offer_it(
    pool_of: PoolOf, authority: LocalAuthority
) -> None:
    context = authority.leaf_context("app.localhost", (ALPN_H2, ALPN_HTTP))
    async with serving_h2(answering, context=context) as server:
        pool = pool_of(f"https://app.localhost:{server.port}", ca_file=authority.ca_file)
        visitors = [visit(pool, envelope("GET", f"/{n}")) for n in range(5)]
        for number, visitor in enumerate(visitors):
            assert bytes((await visitor.over()).body) == b"/%d" % number
        assert len(server.peers) == 1
        assert server.peers[0].asked[1][":scheme"] == "https"
        await pool.probe()


@pytest.mark.parametrize("alpn", [(ALPN_HTTP,), ()])
async def test_http11_is_spoken_over_tls_where_the_upstream_has_nothing_else(
    alpn: tuple[str, ...], pool_of: PoolOf, authority: LocalAuthority
) -> None:
    async with serving(greeting, context=authority.leaf_context("app.localhost", alpn)) as server:
        pool = pool_of(f"https://app.localhost:{server.port}", ca_file=authority.ca_file)
        visitors = [visit(pool, envelope("POST", "/", length=2), b"ab") for _ in range(3)]
        for visitor in visitors:
            assert bytes((await visitor.over()).body) == b"in 1.1"
        assert (await visit(pool, envelope()).over()).ended
        assert len(server.peers) == 3


async def test_the_version_may_be_forced(pool_of: PoolOf, authority: LocalAuthority) -> None:
    async with serving(greeting, context=authority.leaf_context("app.localhost", (ALPN_HTTP,))) as server:
        where = f"https://app.localhost:{server.port}"
        pool = pool_of(where, http="2", ca_file=authority.ca_file)
        assert (await visit(pool, envelope()).over()).reason in (
            Reason.UPSTREAM_FAILED, Reason.UPSTREAM_UNREACHABLE,
        )  # fmt: skip
    both = authority.leaf_context("app.localhost", (ALPN_H2, ALPN_HTTP))
    async with serving(greeting, context=both) as server:
        pool = pool_of(f"https://app.localhost:{server.port}", http="1.1", ca_file=authority.ca_file)
        assert bytes((await visit(pool, envelope()).over()).body) == b"in 1.1"


async def test_an_untrusted_upstream_is_unreachable_over_http2_too(
    pool_of: PoolOf, authority: LocalAuthority
) -> None:
    context = authority.leaf_context("app.localhost", (ALPN_H2,))
    async with serving_h2(answering, context=context) as server:
        pool = pool_of(f"https://app.localhost:{server.port}")
        assert (await visit(pool, envelope()).over()).reason == Reason.UPSTREAM_UNREACHABLE


async def test_a_websocket_to_a_tls_upstream_goes_over_http11(
    pool_of: PoolOf, authority: LocalAuthority
) -> None:
    async def upstream(peer: Peer) -> None:
        assert b"\r\nUpgrade: websocket\r\n" in await peer.request()
        await peer.say(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\nhello" % accept_key(KEY)
        )
        await peer.closed()

    both = authority.leaf_context("app.localhost", (ALPN_H2, ALPN_HTTP))
    async with serving(upstream, context=both) as server:
        pool = pool_of(f"https://app.localhost:{server.port}", ca_file=authority.ca_file)
        visitor = visit(pool, handshake(), end=False, kind=StreamKind.WEBSOCKET)
        await visitor.until(lambda v: v.body == b"hello")
        assert visitor.status == 101


async def test_an_upstream_that_asks_for_http11_gets_it(pool_of: PoolOf, authority: LocalAuthority) -> None:
    async def upstream(peer: H2Peer) -> None:
        peer.reset(await peer.whole(), ErrorCode.HTTP_1_1_REQUIRED)

    def spoken(peer: Peer) -> str | None:
        chosen: str | None = peer.writer.get_extra_info("ssl_object").selected_alpn_protocol()
        return chosen

    async def either(peer: Peer) -> None:
        if spoken(peer) == ALPN_H2:
            upstream_peer = H2Peer(peer, {})
            running = asyncio.ensure_future(upstream_peer.run())
            try:
                await upstream(upstream_peer)
                await running
            finally:
                running.cancel()
        else:
            await greeting(peer)

    context = authority.leaf_context("app.localhost", (ALPN_H2, ALPN_HTTP))
    server: Server
    async with serving(either, context=context) as server:
        pool = pool_of(f"https://app.localhost:{server.port}", ca_file=authority.ca_file)
        for _ in range(2):
            visitor = await visit(pool, envelope("POST", "/", length=1), b"x").over()
            assert bytes(visitor.body) == b"in 1.1"
        assert len(server.peers) == 2
