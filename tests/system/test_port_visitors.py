"""Visitors of one port who share the connections to its application, and nothing else."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import pytest

from tests.kit.fronts import Front
from tests.kit.harbour import Harbour
from tests.kit.hosted import NEEDED
from tests.kit.http2_raw import raw_visiting
from tests.kit.upstreams import Peer
from tests.kit.visitors import request, visiting

pytestmark = [*NEEDED, pytest.mark.timeout(120)]

ROUNDS = 250  # of two visitors, on two connections each
NAMES = ("anna", "bert")  # of one length: what is remembered of one head fits the other
Ask = Callable[[str, str], Awaitable[tuple[str, bytes]]]
"""Asks as somebody, with a number; gives the Set-Cookie and the body of the reply."""


@pytest.fixture
def front(harbour: Harbour) -> Front:
    return harbour.front()


async def mirror(peer: Peer) -> None:
    """Answer with the head, and with a cookie for whoever asked."""
    while head := await peer.request():
        found = re.search(rb"(?i)\r\nx-who: (\S+)", head)
        size = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        body = await peer.body(int(size[1])) if size else b""
        who = found[1] if found else b"nobody"
        await peer.reply(head + body, b"Set-Cookie: session=" + who, b"Cache-Control: public, max-age=60")


def shown(who: str, number: str) -> list[tuple[str, str]]:
    """What tells who asks; the same fields for everybody, in the same order."""
    return [
        ("x-who", who), ("cookie", f"who={who}; number={number}"), ("authorization", f"Basic {who}"),
        ("accept-language", who[:2]),
    ]  # fmt: skip


@asynccontextmanager
async def asking_h1(front: Front) -> AsyncIterator[Ask]:
    async with visiting(front.edge, front.hostname) as visitor:

        async def ask(who: str, number: str) -> tuple[str, bytes]:
            lines = [f"{name}: {value}" for name, value in shown(who, number)]
            body = f"body of {who}".encode() if int(number) % 3 == 0 else None
            method = "GET" if body is None else "POST"
            await visitor.send(request(f"/{number}", front.host("tls"), *lines, method=method, body=body))
            reply = await visitor.reply()
            return reply.get("set-cookie") or "", reply.body

        yield ask


@asynccontextmanager
async def asking_h2(front: Front) -> AsyncIterator[Ask]:
    async with raw_visiting(front.edge, front.hostname) as visitor:

        async def ask(who: str, number: str) -> tuple[str, bytes]:
            stream = visitor.ask(front.hostname, "GET", *shown(who, number), path=f"/{number}")
            return "", await visitor.body(stream, 100_000)

        yield ask


@pytest.mark.parametrize("asking", [asking_h1, asking_h2], ids=["HTTP/1.1", "HTTP/2"])
async def test_nothing_of_one_visitor_reaches_another(
    front: Front, asking: Callable[[Front], AbstractAsyncContextManager[Ask]]
) -> None:
    """A thousand requests, by turns and at once, over the few connections that are kept."""
    numbers = map(str, itertools.count())
    async with front.serving(mirror) as server, AsyncExitStack() as stack:
        asks = [
            (who, other, await stack.enter_async_context(asking(front)))
            for who, other in (NAMES, NAMES[::-1])
            for _ in range(2)
        ]

        async def once(who: str, other: str, ask: Ask) -> None:
            number = next(numbers)
            cookie, body = await ask(who, number)
            assert cookie in ("", f"session={who}")
            assert f"number={number}\r".encode() in body and f" /{number} ".encode() in body
            assert body.count(who.encode()) >= 3 and other.encode() not in body

        for number in range(ROUNDS):
            if number % 2:
                await asyncio.gather(*(once(*each) for each in asks))
            else:
                for each in asks:
                    await once(*each)
        assert len(server.peers) <= len(asks), "connections are not shared: the test shows nothing"


@pytest.mark.parametrize("where", ["within the reply", "before the reply", "within the upload"])
async def test_what_a_visitor_who_left_did_not_take_is_for_nobody_else(front: Front, where: str) -> None:
    release = asyncio.Event()

    async def app(peer: Peer) -> None:
        while head := await peer.request():
            if b"/leaver" not in head:
                await peer.reply(b"for who stayed")
                continue
            if where == "within the upload":
                await peer.reader.read(10)
            if where == "within the reply":
                await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\nfor the leaver ")
            release.set()
            await asyncio.sleep(0)
            await peer.say(b"for the leaver " * 2)

    host = front.host("tls")
    async with front.serving(app), visiting(front.edge, front.hostname) as stayer:
        for _ in range(10):
            assert (await stayer.get("/", host)).body == b"for who stayed"  # its connection is kept
            release.clear()
            async with visiting(front.edge, front.hostname) as leaver:
                fields = ["Content-Length: 1000"] if where == "within the upload" else []
                method = "POST" if fields else "GET"
                await leaver.send(
                    request("/leaver", host, *fields, method=method), b"some of it" if fields else b""
                )
                async with asyncio.timeout(5):
                    await release.wait()
                leaver.reset()
            for _ in range(3):
                assert (await stayer.get("/", host)).body == b"for who stayed"


async def test_pipelined_requests_of_two_visitors_are_answered_to_whom_they_belong(front: Front) -> None:
    async with (
        front.serving(mirror),
        visiting(front.edge, front.hostname) as one,
        visiting(front.edge, front.hostname) as other,
    ):
        host = front.host("tls")
        for visitor, who in ((one, "anna"), (other, "bert")):
            await visitor.send(*(request(f"/{n}", host, f"X-Who: {who}") for n in range(10)))
        for visitor, who in ((one, "anna"), (other, "bert")):
            for number in range(10):
                reply = await visitor.reply()
                assert reply.body.startswith(b"GET /%d " % number)
                assert reply.get("set-cookie") == f"session={who}"


async def test_nothing_is_kept_of_a_reply_that_says_it_may_be(front: Front) -> None:
    """No cache stands between: each visitor's question is the application's to answer."""
    asked = 0

    async def app(peer: Peer) -> None:
        nonlocal asked
        while await peer.request():
            asked += 1
            await peer.reply(b"%d" % asked, b"Cache-Control: public, max-age=86400", b'ETag: "1"')

    async with front.serving(app):
        for number in range(1, 6):
            async with visiting(front.edge, front.hostname) as visitor:
                assert (await visitor.get("/same", front.host("tls"))).body == b"%d" % number
