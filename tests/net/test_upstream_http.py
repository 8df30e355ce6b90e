"""One connection and its pool against real upstream servers on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.kit.pools import PoolOf, making_pools
from tests.kit.upstreams import PATIENCE, Peer, Visitor, envelope, serving, visit
from wellhead.net.upstream import Exchange, UpstreamPool
from wellhead.net.upstream_address import parse_upstream
from wellhead.wire.streams import HeadKind, Reason

BOTH_LOOPS = True


@pytest.fixture(autouse=True)
async def _bounded() -> AsyncIterator[None]:
    async with asyncio.timeout(4 * PATIENCE):
        yield


@pytest.fixture
async def pool_of() -> AsyncIterator[PoolOf]:
    async with making_pools("http") as make:
        yield make


async def answering(peer: Peer) -> None:
    """An upstream that answers each request with its own head."""
    while True:
        await peer.reply(await peer.request())


# Requests


async def test_a_request_reaches_the_upstream_and_its_reply_comes_back_in_one_frame(pool_of: PoolOf) -> None:
    async with serving(answering) as server:
        visitor = await visit(pool_of(server), envelope("GET", "/a%2Fb?c=d", "X-One: 1")).over()
    assert visitor.status == 200
    assert bytes(visitor.body).startswith(b"GET /a%2Fb?c=d HTTP/1.1\r\n")
    assert b"\r\nX-One: 1\r\n" in visitor.body
    assert visitor.frames == 1 and visitor.ended


async def test_host_is_the_upstreams_by_default_and_the_visitors_if_preserved(pool_of: PoolOf) -> None:
    async with serving(answering) as server:
        for policy, wanted in (
            ("rewrite", f"127.0.0.1:{server.port}"), ("preserve", "t.localhost"), ("other:8", "other:8"),
        ):  # fmt: skip
            visitor = await visit(pool_of(server, host_header=policy), envelope()).over()
            assert f"\r\nHost: {wanted}\r\n".encode() in visitor.body


async def test_requests_that_differ_in_their_id_alone_each_keep_their_own(pool_of: PoolOf) -> None:
    async with serving(answering) as server:
        pool = pool_of(server)
        for number in range(3):
            sent = envelope("GET", "/same", "X-One: 1", f"X-Request-Id: {number}")
            visitor = await visit(pool, sent).over()
            assert visitor.body.endswith(b"\r\nX-One: 1\r\nX-Request-Id: %d\r\n\r\n" % number)
            assert visitor.body.startswith(b"GET /same HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % server.port)


async def test_a_repeated_request_that_now_has_a_body_sends_it(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        while True:
            head = await peer.request()
            body = (await peer.chunked())[0] if b"Transfer-Encoding: chunked" in head else b"none"
            await peer.reply(body)

    async with serving(upstream) as server:
        pool = pool_of(server)
        sent = envelope("PUT", "/", "X-Request-Id: 1")
        for body in (b"", b"some", b""):
            assert bytes((await visit(pool, sent, body).over()).body) == (body or b"none")


async def test_a_head_request_is_told_from_a_get_with_the_same_reply(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        while True:
            head = await peer.request()
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
            if head.startswith(b"GET"):
                await peer.say(b"ok")

    async with serving(upstream) as server:
        pool = pool_of(server)
        for method in ("GET", "HEAD", "HEAD", "GET", "GET", "HEAD"):
            visitor = await visit(pool, envelope(method, "/", "X-Request-Id: 1")).over()
            assert bytes(visitor.body) == (b"ok" if method == "GET" else b"") and visitor.reason is None
        assert len(server.peers) == 1


async def test_more_different_requests_than_are_remembered_are_all_answered(pool_of: PoolOf) -> None:
    async with serving(answering) as server:
        pool = pool_of(server)
        for number in [*range(300), *range(300)]:
            visitor = await visit(pool, envelope("GET", f"/{number}", "X-Request-Id: 1")).over()
            assert visitor.body.startswith(b"GET /%d HTTP/1.1\r\n" % number)


async def test_connections_are_used_again_the_youngest_first(pool_of: PoolOf) -> None:
    async with serving(answering) as server:
        pool = pool_of(server)
        for _ in range(5):
            await visit(pool, envelope()).over()
        assert len(server.peers) == 1
        both = [visit(pool, envelope()), visit(pool, envelope())]
        await asyncio.gather(*(visitor.over() for visitor in both))
        assert len(server.peers) == 2


async def test_an_unused_connection_is_closed_after_a_while(pool_of: PoolOf) -> None:
    gone = asyncio.Event()

    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.reply()
        await peer.closed()
        gone.set()

    async with serving(upstream) as server:
        await visit(pool_of(server, idle_seconds=0.2), envelope()).over()
        await asyncio.wait_for(gone.wait(), PATIENCE)


async def test_no_more_unused_connections_are_kept_than_allowed(pool_of: PoolOf) -> None:
    closed = asyncio.Semaphore(0)

    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.reply()
        await peer.closed()
        closed.release()

    async with serving(upstream) as server:
        pool = pool_of(server, max_idle=1)
        await asyncio.gather(*(visit(pool, envelope()).over() for _ in range(3)))
        async with asyncio.timeout(PATIENCE):
            await closed.acquire()
            await closed.acquire()
        assert closed.locked()


async def test_a_sized_body_arrives_as_it_was_sent(pool_of: PoolOf) -> None:
    got = asyncio.get_running_loop().create_future()

    async def upstream(peer: Peer) -> None:
        head = await peer.request()
        got.set_result((head, await peer.body(10)))
        await peer.reply()

    async with serving(upstream) as server:
        visitor = visit(pool_of(server), envelope("POST", "/", length=10), b"01234", False)
        visitor.stream.send(b"56")
        visitor.stream.send(b"789", True)
        assert (await visitor.over()).status == 200
    head, body = await got
    assert b"\r\nContent-Length: 10\r\n" in head and b"Transfer-Encoding" not in head
    assert body == b"0123456789"


@pytest.mark.parametrize("trailers", [False, True])
async def test_a_body_of_unknown_length_is_sent_in_chunks_with_its_trailers(
    pool_of: PoolOf, trailers: bool
) -> None:
    got = asyncio.get_running_loop().create_future()

    async def upstream(peer: Peer) -> None:
        head = await peer.request()
        got.set_result((head, await peer.chunked()))
        await peer.reply()

    async with serving(upstream) as server:
        visitor = visit(pool_of(server), envelope("POST"), b"first ", False)
        visitor.stream.send(b"second")
        if trailers:
            visitor.stream.head(HeadKind.TRAILERS, b"X-Sum: 12\r\n\r\n", b"", True)
        else:
            visitor.stream.send(b"", True)
        assert (await visitor.over()).status == 200
    head, (body, fields) = await got
    assert b"\r\nTransfer-Encoding: chunked\r\n" in head and b"Content-Length" not in head
    assert (body, fields) == (b"first second", b"X-Sum: 12\r\n" if trailers else b"")


async def test_a_body_that_is_there_at_once_is_one_write(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        first = await peer.reader.read(65536)
        await peer.reply(first)

    async with serving(upstream) as server:
        visitor = await visit(pool_of(server), envelope("POST", length=5), b"hello").over()
    assert visitor.body.endswith(b"\r\n\r\nhello")


@pytest.mark.parametrize(("sent", "end"), [(b"123456", False), (b"1234", True)])
async def test_a_body_that_differs_from_its_length_never_looks_complete(
    pool_of: PoolOf, sent: bytes, end: bool
) -> None:
    seen = asyncio.get_running_loop().create_future()

    async def upstream(peer: Peer) -> None:
        await peer.request()
        seen.set_result(await peer.closed())

    async with serving(upstream) as server:
        visitor = visit(pool_of(server), envelope("POST", length=5), b"", False)
        await asyncio.sleep(0.05)
        visitor.stream.send(sent, end)
        assert (await visitor.over()).reason == Reason.PROTOCOL
        assert await seen == b""


async def test_expect_100_continue_is_answered_by_the_upstream(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        assert b"\r\nExpect: 100-continue\r\n" in await peer.request()
        await peer.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        await peer.reply(await peer.body(4))

    async with serving(upstream) as server:
        visitor = visit(pool_of(server), envelope("PUT", "/", "Expect: 100-continue", length=4), b"", False)
        await visitor.until(lambda v: bool(v.heads))
        assert visitor.heads == [(HeadKind.INTERIM, b"HTTP/1.1 100 Continue\r\n\r\n")]
        visitor.stream.send(b"body", True)
        assert bytes((await visitor.over()).body) == b"body"


async def test_interim_heads_are_passed_on_in_order(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
        await peer.reply()

    async with serving(upstream) as server:
        visitor = await visit(pool_of(server), envelope()).over()
    assert [head.split(b" ")[1] for _, head in visitor.heads] == [b"103", b"102", b"200"]


async def test_an_upload_the_upstream_does_not_read_is_not_taken_from_the_visitor(pool_of: PoolOf) -> None:
    go_on = asyncio.Event()
    total = 8 * 1024 * 1024

    async def upstream(peer: Peer) -> None:
        peer.reader._transport.pause_reading()  # type: ignore[attr-defined]  # before asyncio reads ahead
        await go_on.wait()
        peer.reader._transport.resume_reading()  # type: ignore[attr-defined]
        await peer.request()
        await peer.body(total)
        await peer.reply()

    async with serving(upstream) as server:
        visitor = visit(pool_of(server), envelope("POST", length=total), b"", False)
        sent = 0
        piece = bytes(65536)
        while True:
            sent += len(piece)
            visitor.writable.clear()
            if not visitor.stream.send(piece, sent == total):
                try:
                    await asyncio.wait_for(visitor.writable.wait(), 0.5)
                except TimeoutError:
                    break
        assert sent < total
        go_on.set()
        while sent < total:
            await asyncio.wait_for(visitor.writable.wait(), PATIENCE)
            sent += len(piece)
            visitor.writable.clear()
            if visitor.stream.send(piece, sent == total):
                visitor.writable.set()
        assert (await visitor.over()).status == 200


# Replies


async def test_a_reply_to_head_ends_with_its_head_whatever_it_says_of_a_body(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")

    async with serving(upstream) as server:
        pool = pool_of(server)
        for _ in range(2):
            visitor = await visit(pool, envelope("HEAD")).over()
            assert visitor.frames == 1 and not visitor.body
            assert b"Content-Length: 500" in visitor.head
        assert len(server.peers) == 1


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_a_reply_without_a_body_ends_with_its_head(pool_of: PoolOf, status: bytes) -> None:
    async def upstream(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(b"HTTP/1.1 " + status + b"\r\n\r\n")

    async with serving(upstream) as server:
        pool = pool_of(server)
        for _ in range(2):
            assert (await visit(pool, envelope()).over()).ended
        assert len(server.peers) == 1


async def test_chunks_are_undone_and_trailers_follow(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n",
                b"5\r\nhello\r\n", b"6;x=y\r\n world\r\n0\r\nX-T: yes\r\n\r\n",
            )  # fmt: skip

    async with serving(upstream) as server:
        pool = pool_of(server)
        for _ in range(2):
            visitor = await visit(pool, envelope()).over()
            assert bytes(visitor.body) == b"hello world"
            assert b"Transfer-Encoding" not in visitor.head
            assert visitor.heads[-1] == (HeadKind.TRAILERS, b"X-T: yes\r\n\r\n")
        assert len(server.peers) == 1


async def test_a_small_chunked_reply_is_one_frame(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")

    async with serving(upstream) as server:
        visitor = await visit(pool_of(server), envelope()).over()
    assert visitor.frames == 1 and bytes(visitor.body) == b"abc"


async def test_events_arrive_one_by_one(pool_of: PoolOf) -> None:
    tick = asyncio.Event()

    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for number in range(3):
            await tick.wait()
            tick.clear()
            event = b"data: %d\n\n" % number
            await peer.say(b"%x\r\n%b\r\n" % (len(event), event))
        await peer.say(b"0\r\n\r\n")

    async with serving(upstream) as server:
        visitor = visit(pool_of(server), envelope())
        await visitor.until(lambda v: bool(v.heads))
        for number in range(3):
            tick.set()
            await visitor.until(lambda v, n=number: v.body.endswith(b"data: %d\n\n" % n))  # type: ignore[misc]
        await visitor.over()
        assert visitor.ended


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
async def test_a_reply_without_a_length_ends_with_its_connection(pool_of: PoolOf, version: bytes) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(version + b" 200 OK\r\nContent-Type: text/plain\r\n\r\nsome ", b"text")

    async with serving(upstream) as server:
        pool = pool_of(server)
        for _ in range(2):
            visitor = await visit(pool, envelope()).over()
            assert visitor.ended and bytes(visitor.body) == b"some text"
        assert len(server.peers) == 2


async def test_an_http_1_0_upstream_may_keep_its_connection(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok")

    async with serving(upstream) as server:
        pool = pool_of(server)
        for _ in range(2):
            visitor = await visit(pool, envelope()).over()
            assert bytes(visitor.body) == b"ok" and b"Connection" not in visitor.head
        assert len(server.peers) == 1


async def test_a_connection_the_upstream_wants_closed_is_not_used_again(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.reply(b"ok", b"Connection: close")
        await peer.closed()

    async with serving(upstream) as server:
        pool = pool_of(server)
        for _ in range(2):
            assert (await visit(pool, envelope()).over()).status == 200
        assert len(server.peers) == 2


async def test_a_head_may_come_byte_by_byte(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok":
            await peer.say(bytes([byte]))
            await asyncio.sleep(0)

    async with serving(upstream) as server:
        assert bytes((await visit(pool_of(server), envelope()).over()).body) == b"ok"


async def test_a_download_the_visitor_does_not_read_is_not_read_from_the_upstream(pool_of: PoolOf) -> None:
    total = 16 * 1024 * 1024
    written = 0

    async def upstream(peer: Peer) -> None:
        nonlocal written
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        while written < total:
            await peer.say(bytes(65536))
            written += 65536
        await peer.closed()

    async with serving(upstream) as server:
        pool = pool_of(server)
        visitor = visit(pool, envelope(), consuming=False)
        await visitor.until(lambda v: len(v.body) >= 256 * 1024)
        await asyncio.sleep(0.3)
        assert len(visitor.body) <= 1024 * 1024
        assert written < total
        visitor.consuming = True
        visitor.stream.consumed(len(visitor.body))
        await visitor.over()
        assert visitor.ended and len(visitor.body) == total


async def test_both_directions_run_at_once(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while size := int(await peer.reader.readline(), 16):
            piece = (await peer.reader.readexactly(size + 2))[:-2]
            await peer.say(b"%x\r\n%b\r\n" % (len(piece), piece))
        await peer.say(b"0\r\n\r\n")

    async with serving(upstream) as server:
        visitor = visit(pool_of(server), envelope("POST"), b"one", False)
        await visitor.until(lambda v: v.body.endswith(b"one"))
        visitor.stream.send(b"two")
        await visitor.until(lambda v: v.body.endswith(b"two"))
        visitor.stream.send(b"", True)
        assert (await visitor.over()).ended


async def test_a_reply_before_the_end_of_the_upload_is_delivered_and_the_rest_dropped(
    pool_of: PoolOf,
) -> None:
    gone = asyncio.Event()

    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.reply(b"too large", status=b"413 Content Too Large")
        await peer.closed()
        gone.set()

    async with serving(upstream) as server:
        pool = pool_of(server)
        visitor = visit(pool, envelope("POST", length=10_000_000), bytes(1000), False)
        await visitor.over()
        assert visitor.status == 413 and visitor.ended and visitor.reason is None
        await asyncio.wait_for(gone.wait(), PATIENCE)
        for _ in range(100):
            assert visitor.stream.send(bytes(60_000))  # credit keeps coming: nobody is stuck
        visitor.stream.send(b"", True)
        assert visitor.reason is None
        await visit(pool, envelope()).over()
        assert len(server.peers) == 2


async def test_a_refusal_said_while_hanging_up_is_still_read(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.reply(b"no", status=b"413 Content Too Large")
        # Unread bytes make this an RST right behind the answer.

    async with serving(upstream) as server:
        pool = pool_of(server)
        for _ in range(20):
            visitor = visit(pool, envelope("POST", length=50_000_000), bytes(60_000), False)
            while not visitor.ended and visitor.reason is None:
                visitor.stream.send(bytes(60_000))
                await asyncio.sleep(0)
            assert visitor.reason is None and visitor.status == 413


# Failures


async def test_an_upstream_that_comes_back_is_reached_without_a_lost_request(pool_of: PoolOf) -> None:
    async with serving(answering) as server:
        port = server.port
    pool = pool_of(port)
    waiting = [visit(pool, envelope("POST", length=3), b"abc"), visit(pool, envelope())]
    await asyncio.sleep(0.5)
    assert not any(visitor.heads or visitor.reason for visitor in waiting)
    async with serving(answering, port=port):
        back = asyncio.get_running_loop().time()
        for visitor in waiting:
            assert (await visitor.over()).status == 200
        assert asyncio.get_running_loop().time() - back < 1.0


async def test_an_upstream_that_stays_away_is_given_up_in_time(pool_of: PoolOf) -> None:
    async with serving(answering) as server:
        port = server.port
    began = asyncio.get_running_loop().time()
    visitor = await visit(pool_of(port, dial_retry_seconds=0.6), envelope()).over()
    assert visitor.reason == Reason.UPSTREAM_UNREACHABLE
    assert 0.3 < asyncio.get_running_loop().time() - began < 1.1


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
async def test_an_idempotent_request_is_repeated_when_an_old_connection_dies_under_it(
    pool_of: PoolOf, method: str
) -> None:
    requests: list[bytes] = []

    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.reply()
        requests.append(await peer.request())
        if len(requests) == 1:
            return
        await peer.reply()

    async with serving(upstream) as server:
        pool = pool_of(server)
        assert (await visit(pool, envelope()).over()).status == 200
        body = b"1234" if method == "PUT" else b""

        async def second(peer: Peer) -> None:
            requests.append(await peer.request() + await peer.body(len(body)))
            await peer.reply(b"")

        server_second = second
        server.server.close()
        async with serving(server_second, port=server.port):
            visitor = await visit(pool, envelope(method, length=len(body) or None), body).over()
    assert visitor.status == 200
    assert len(requests) == 2 and requests[1].endswith(body)


@pytest.mark.parametrize("method", ["POST", "PATCH", "QUERY-LIKE"])
async def test_a_request_that_may_have_been_received_is_never_sent_twice(
    pool_of: PoolOf, method: str
) -> None:
    requests = 0

    async def upstream(peer: Peer) -> None:
        nonlocal requests
        await peer.request()
        await peer.reply()
        await peer.request()
        requests += 1

    async with serving(upstream) as server:
        pool = pool_of(server)
        assert (await visit(pool, envelope()).over()).status == 200
        visitor = await visit(pool, envelope(method, length=2), b"ab").over()
        assert visitor.reason == Reason.UPSTREAM_FAILED
        await asyncio.sleep(0.1)
    assert requests == 1 and len(server.peers) == 1


async def test_a_request_is_not_repeated_when_a_fresh_connection_dies_under_it(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()

    async with serving(upstream) as server:
        visitor = await visit(pool_of(server), envelope()).over()
        assert visitor.reason == Reason.UPSTREAM_FAILED and len(server.peers) == 1


async def test_a_connection_closed_while_unused_costs_no_request(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.reply()

    async with serving(upstream) as server:
        pool = pool_of(server)
        for _ in range(5):
            visitor = await visit(pool, envelope("POST", length=2), b"ab").over()
            assert visitor.status == 200
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
    ],
)
async def test_a_reply_that_breaks_off_is_seen_to_break_off(pool_of: PoolOf, reply: bytes) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(reply)

    async with serving(upstream) as server:
        visitor = await visit(pool_of(server), envelope()).over()
    assert visitor.reason == Reason.UPSTREAM_FAILED and not visitor.ended


async def test_a_reply_ended_by_an_rst_is_seen_to_break_off(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.0 200 OK\r\n\r\nsome text")
        await asyncio.sleep(0.05)
        peer.reset()

    async with serving(upstream) as server:
        visitor = await visit(pool_of(server), envelope()).over()
    assert visitor.reason == Reason.UPSTREAM_FAILED and not visitor.ended


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 No\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 600 No\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 204 No Content\r\n\r\na body",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 17,
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000,
    ],
)
async def test_a_malformed_reply_is_a_failure_and_nothing_of_it_is_passed_on(
    pool_of: PoolOf, reply: bytes
) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(reply)
        await peer.closed()

    async with serving(upstream) as server:
        pool = pool_of(server)
        for _ in range(2):
            visitor = await visit(pool, envelope()).over()
            assert visitor.reason == Reason.UPSTREAM_FAILED and not visitor.ended
            assert not any(kind is HeadKind.REPLY for kind, _ in visitor.heads)
        assert len(server.peers) == 2


async def test_bytes_nobody_asked_for_end_an_unused_connection(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.reply()
        await asyncio.sleep(0.02)
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")
        await peer.closed()

    async with serving(upstream) as server:
        pool = pool_of(server)
        for _ in range(3):
            assert bytes((await visit(pool, envelope()).over()).body) == b"ok"
            await asyncio.sleep(0.06)
        assert len(server.peers) == 3


async def test_a_reply_that_does_not_come_in_time_is_a_timeout(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.closed()

    async with serving(upstream) as server:
        began = asyncio.get_running_loop().time()
        visitor = await visit(pool_of(server, reply_seconds=0.6), envelope()).over()
        assert visitor.reason == Reason.TIMEOUT
        assert 0.3 < asyncio.get_running_loop().time() - began < 1.1


async def test_a_reply_that_has_begun_has_no_deadline(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
        await asyncio.sleep(0.9)
        await peer.say(b"k")

    async with serving(upstream) as server:
        visitor = await visit(pool_of(server, reply_seconds=0.3), envelope()).over()
        assert visitor.ended and bytes(visitor.body) == b"ok"


async def test_a_slow_upload_is_not_held_against_the_upstream(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.body(3)
        await peer.reply()

    async with serving(upstream) as server:
        visitor = visit(pool_of(server, reply_seconds=0.4), envelope("POST", length=3), b"", False)
        for index in range(3):
            await asyncio.sleep(0.35)
            visitor.stream.send(b"x", index == 2)
        assert (await visitor.over()).status == 200


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome"])
async def test_a_visitor_who_leaves_is_noticed_by_the_upstream_at_once(pool_of: PoolOf, reply: bytes) -> None:
    gone = asyncio.Event()
    asked = asyncio.Event()

    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.say(reply)
        asked.set()
        await peer.closed()
        gone.set()

    async with serving(upstream) as server:
        visitor = visit(pool_of(server), envelope())
        await asyncio.wait_for(asked.wait(), PATIENCE)
        await asyncio.sleep(0.02)
        visitor.stream.reset(Reason.CANCELLED)
        await asyncio.wait_for(gone.wait(), 1.0)


async def test_a_visitor_who_leaves_during_the_dial_costs_nothing(pool_of: PoolOf) -> None:
    async with serving(answering) as server:
        port = server.port
    pool = pool_of(port)
    visit(pool, envelope()).stream.reset(Reason.CANCELLED)
    await asyncio.sleep(0.1)
    assert not pool.busy


async def test_more_connections_than_allowed_are_shed(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.closed()

    async with serving(upstream) as server:
        pool = pool_of(server, max_connections=2)
        visitors = [visit(pool, envelope()) for _ in range(3)]
        assert [visitor.reason for visitor in visitors] == [None, None, Reason.OVERLOADED]


@pytest.mark.parametrize("head", [b"nonsense", b"GET //other.example/ HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_an_envelope_that_is_not_canonical_goes_nowhere(pool_of: PoolOf, head: bytes) -> None:
    async with serving(answering) as server:
        assert (await visit(pool_of(server), head).over()).reason == Reason.PROTOCOL
        assert not server.peers


# The record


async def test_every_exchange_is_told_once_with_its_figures(pool_of: PoolOf) -> None:
    told: list[Exchange] = []

    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.body(3)
        await peer.reply(b"four")
        await peer.request()

    async with serving(upstream) as server:
        pool = pool_of(server, on_exchange=told.append)
        await visit(pool, envelope("POST", "/up?x=1", length=3), b"abc").over()
        await visit(pool, envelope("POST", "/lost", length=0)).over()
    first, second = told
    assert (first.method, first.target, first.status) == ("POST", "/up?x=1", 200)
    assert (first.bytes_in, first.bytes_out, first.failure) == (3, 4, "")
    assert first.first_byte_ms is not None and 0 < first.first_byte_ms <= first.total_ms
    assert (second.status, second.first_byte_ms, second.failure) == (0, None, "upstream_failed")


async def test_a_unix_socket_is_an_upstream(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = str(tmp_path_factory.mktemp("s") / "app.sock")
    async with serving(answering, path=path):
        pool = UpstreamPool(parse_upstream(f"unix:{path}"))
        visitor: Visitor = await visit(pool, envelope()).over()
        assert b"\r\nHost: localhost\r\n" in visitor.body
        await pool.aclose()


async def test_closing_the_pool_ends_what_runs(pool_of: PoolOf) -> None:
    async def upstream(peer: Peer) -> None:
        await peer.request()
        await peer.closed()

    async with serving(upstream) as server:
        pool = pool_of(server)
        running = visit(pool, envelope())
        await asyncio.sleep(0.05)
        await pool.aclose()
        assert running.reason == Reason.UPSTREAM_FAILED
        assert visit(pool, envelope()).reason == Reason.OVERLOADED
