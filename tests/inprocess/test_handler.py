"""Handlers: every way to answer, in the loop and in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.kit.inprocess import REQUEST_ID, envelope, hosting
from wellhead.errors import StateError, VisitorGone
from wellhead.inprocess.context import Context
from wellhead.inprocess.handler import Handler
from wellhead.inprocess.request import Request, SyncRequest
from wellhead.inprocess.response import Response
from wellhead.net.upstream_owner import UpstreamLimits
from wellhead.wire.streams import Reason


@pytest.mark.parametrize(
    ("answer", "status", "kind", "body"),
    [
        ("text", 200, "text/plain; charset=utf-8", b"text"),
        (b"\x00\x01", 200, "application/octet-stream", b"\x00\x01"),
        ({"a": [1, "ä"]}, 200, "application/json", '{"a":[1,"ä"]}'.encode()),
        ([1], 200, "application/json", b"[1]"),
        (None, 204, "", b""),
        (Response("made", 201, {"X-A": "1"}), 201, "text/plain; charset=utf-8", b"made"),
        (Response("<p>", content_type="text/html"), 200, "text/html", b"<p>"),
        (Response.json({"x": 1}, 400), 400, "application/json", b'{"x":1}'),
    ],
    ids=["str", "bytes", "dict", "list", "none", "response", "typed", "json"],
)
@pytest.mark.parametrize("in_loop", [True, False], ids=["loop", "thread"])
async def test_an_answer_becomes_a_reply(
    answer: Any, status: int, kind: str, body: bytes, in_loop: bool
) -> None:
    async def awaited(request: Request, ctx: Context) -> Any:
        return answer

    def plain(request: SyncRequest, ctx: Context) -> Any:
        return answer

    async with hosting(Handler(awaited if in_loop else plain)) as host:
        visit = await host.get()
    assert visit.status == status and bytes(visit.body) == body
    assert (f"content-type: {kind}" in visit.head) == bool(kind)
    if status != 204:
        assert f"Content-Length: {len(body)}\r\n" in visit.head


async def test_a_name_may_come_twice() -> None:
    async def handler(request: Request) -> Response:
        return Response("x", headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])

    async with hosting(Handler(handler)) as host:
        visit = await host.get()
    assert "set-cookie: a=1\r\nset-cookie: b=2\r\n" in visit.head


async def test_the_request_and_its_context_say_who_asks_for_what() -> None:
    seen: list[Any] = []

    async def handler(request: Request, ctx: Context) -> str:
        seen.append((request.method, request.path, request.target, request.query["q"], request.url))
        seen.append((request.headers["X-Multi"], request.headers.getlist("x-multi")))
        seen.append((ctx.request_id, ctx.tunnel, ctx.forwarded_for_ip, ctx.sni_host, ctx.envelope.method))
        return await request.text()

    async with hosting(Handler(handler, tunnel=lambda: "my-agent")) as host:
        visit = host.open(
            envelope("POST", "/a%20b?q=1", ("X-Multi", "one"), ("X-Multi", "two"), length=4), b"body"
        )
        await visit.over()
    assert bytes(visit.body) == b"body"
    assert seen[0] == ("POST", "/a b", "/a%20b?q=1", "1", "https://app.example.com:8443/a%20b?q=1")
    assert seen[1] == ("one", ["one", "two"])
    assert seen[2] == (REQUEST_ID, "my-agent", "192.0.2.7", "app.example.com", "POST")


@pytest.mark.parametrize("in_loop", [True, False], ids=["loop", "thread"])
async def test_a_piece_goes_out_before_the_next_is_made(in_loop: bool) -> None:
    loop_go, thread_go = asyncio.Event(), threading.Event()

    async def awaited(request: Request, ctx: Context) -> AsyncIterator[str]:
        yield "one"
        await loop_go.wait()
        yield "two"

    def plain(request: SyncRequest, ctx: Context) -> Iterator[bytes]:
        yield b"one"
        thread_go.wait(5)
        yield b"two"

    async with hosting(Handler(awaited if in_loop else plain)) as host:
        visit = host.open(envelope())
        await visit.until(lambda: visit.body == b"one")
        assert not visit.ended
        loop_go.set()
        thread_go.set()
        await visit.over()
    assert bytes(visit.body) == b"onetwo" and visit.ended


async def test_a_body_is_read_in_pieces_in_a_thread() -> None:
    first = asyncio.Event()
    loop = asyncio.get_running_loop()

    def handler(request: SyncRequest) -> str:
        pieces = []
        for piece in request:
            pieces.append(piece)
            loop.call_soon_threadsafe(first.set)
        return b"|".join(pieces).decode()

    async with hosting(Handler(handler)) as host:
        visit = host.open(envelope("POST", "/", length=6), b"one", end=False)
        await asyncio.wait_for(first.wait(), 5)
        visit.send(b"two", True)
        await visit.over()
    assert bytes(visit.body) == b"one|two"


async def test_a_blocking_handler_delays_nobody() -> None:
    release = threading.Event()

    def handler(request: SyncRequest) -> str:
        if request.path == "/slow":
            release.wait(10)
        return "done"

    async with hosting(Handler(handler)) as host:
        slow = [host.open(envelope("GET", "/slow")) for _ in range(50)]
        quick = await host.get("/quick")
        assert quick.status == 200 and not any(visit.ended for visit in slow)
        release.set()
        for visit in slow:
            await visit.over()


async def test_a_visitor_that_leaves_is_told_by_the_signal_in_a_thread() -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    begun = asyncio.Event()

    def handler(request: SyncRequest, ctx: Context) -> str:
        loop.call_soon_threadsafe(begun.set)
        assert ctx.cancelled.wait(5)
        loop.call_soon_threadsafe(told.set)
        return "nobody hears this"

    async with hosting(Handler(handler)) as host:
        visit = host.open(envelope())
        await asyncio.wait_for(begun.wait(), 5)
        visit.stream.reset(Reason.CANCELLED)
        await asyncio.wait_for(told.wait(), 2)


async def test_a_visitor_that_leaves_ends_a_generator_in_a_thread() -> None:
    closed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def handler(request: SyncRequest, ctx: Context) -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 4096
        finally:
            loop.call_soon_threadsafe(closed.set)

    async with hosting(Handler(handler)) as host:
        visit = host.open(envelope())
        await visit.until(lambda: len(visit.body) > 100_000)
        visit.stream.reset(Reason.CANCELLED)
        await asyncio.wait_for(closed.wait(), 2)


async def test_a_deadline_fires_the_signal_and_cancels() -> None:
    seen: list[str] = []
    over = asyncio.Event()

    async def handler(request: Request, ctx: Context) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(f"cancelled={ctx.cancelled.is_set()}")
            over.set()
        return ""

    async with hosting(Handler(handler), limits=UpstreamLimits(reply_seconds=0.1)) as host:
        visit = await host.get()
        await asyncio.wait_for(over.wait(), 5)
    assert visit.reset == Reason.TIMEOUT and seen == ["cancelled=True"]


@pytest.mark.parametrize("in_loop", [True, False], ids=["loop", "thread"])
async def test_what_is_raised_is_a_500_and_stays_here(in_loop: bool) -> None:
    async def awaited(request: Request) -> str:
        raise ValueError("secret")

    def plain(request: SyncRequest) -> str:
        raise ValueError("secret")

    async with hosting(Handler(awaited if in_loop else plain)) as host:
        visit = await host.get()
    assert visit.status == 500 and REQUEST_ID.encode() in visit.body and b"secret" not in visit.body


@pytest.mark.parametrize("in_loop", [True, False], ids=["loop", "thread"])
async def test_a_producer_that_dies_is_a_truncation(in_loop: bool) -> None:
    async def awaited(request: Request) -> AsyncIterator[str]:
        yield "some"
        raise ValueError("died")

    def plain(request: SyncRequest) -> Iterator[str]:
        yield "some"
        raise ValueError("died")

    async with hosting(Handler(awaited if in_loop else plain)) as host:
        visit = await host.get()
    assert visit.reset == Reason.UPSTREAM_FAILED and bytes(visit.body) == b"some" and not visit.ended


@pytest.mark.parametrize("answer", [3, object(), Response([1])], ids=["int", "object", "piece"])  # type: ignore[list-item]
async def test_an_answer_that_is_none_is_a_500(answer: Any) -> None:
    async def handler(request: Request) -> Any:
        return answer

    async with hosting(Handler(handler)) as host:
        assert (await host.get()).status == 500


async def test_an_upload_that_breaks_off_is_no_whole_body() -> None:
    outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def handler(request: Request) -> str:
        try:
            await request.body()
        except VisitorGone:
            outcome.set_result("gone")
            raise
        return "whole"

    async with hosting(Handler(handler)) as host:
        visit = host.open(envelope("POST", "/", length=10), b"half", end=False)
        await asyncio.sleep(0)
        visit.stream.reset(Reason.CANCELLED)
        assert await asyncio.wait_for(outcome, 5) == "gone"


async def test_a_dict_in_a_response_is_json() -> None:
    async def handler(request: Request) -> Response:
        return Response({"made": 1}, 201)

    async with hosting(Handler(handler)) as host:
        visit = await host.get()
    assert visit.status == 201 and bytes(visit.body) == b'{"made":1}'
    assert "content-type: application/json" in visit.head


@pytest.mark.parametrize("threaded", [False, True])
async def test_an_endless_answer_to_head_ends_with_its_first_piece(threaded: bool) -> None:
    closed = threading.Event()

    async def pieces() -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
        finally:
            closed.set()

    def blocking(request: SyncRequest) -> Iterator[str]:
        try:
            while True:
                yield "x"
        finally:
            closed.set()

    async def handler(request: Request) -> AsyncIterator[str]:
        return pieces()

    async with hosting(Handler(blocking if threaded else handler)) as host:
        visit = await host.get(method="HEAD")
    assert visit.status == 200 and closed.wait(5)


async def test_a_request_of_a_thread_cannot_stop_the_loop() -> None:
    requests: list[SyncRequest] = []

    def handler(request: SyncRequest) -> str:
        requests.append(request)
        return "x"

    async with hosting(Handler(handler)) as host:
        await host.get()
        with pytest.raises(StateError, match="loop"):
            requests[0].body()


async def test_a_decorator_that_hides_a_coroutine_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request) -> str:
        return "x"

    def decorated(request: Request) -> object:
        return handler(request)

    async with hosting(Handler(decorated)) as host:
        assert (await host.get()).status == 500
    assert "coroutine" in caplog.text
