"""Applications that misbehave, and visitors that do: what each of them may cost, one claim each."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.kit.inprocess import asgi, envelope
from tests.kit.socket_client import SocketClient
from wellhead.net.upstream_owner import UpstreamLimits
from wellhead.wire.streams import Reason

START = {"type": "http.response.start", "status": 200, "headers": []}


def only(app: Any) -> Any:
    """For requests alone: without a lifespan."""

    async def without(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)

    return without


@pytest.mark.parametrize("body", ["text", None, 5, ["x"]])
async def test_a_body_that_is_no_bytes_is_a_500_and_never_reaches_the_carrier(body: Any) -> None:
    @only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": body})

    async with asgi(app) as host:
        visit = await host.get()
    assert visit.status == 500 and b"internal error" in visit.body


async def test_a_buffer_that_is_used_again_is_sent_as_it_was() -> None:
    @only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        buffer = bytearray(b"one")
        await send(START)
        await send({"type": "http.response.body", "body": buffer, "more_body": True})
        buffer[:] = b"two"
        await send({"type": "http.response.body", "body": memoryview(buffer)})

    async with asgi(app) as host:
        assert bytes((await host.get()).body) == b"onetwo"


async def test_too_many_bytes_beside_the_head_are_a_500() -> None:
    @only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": [(b"content-length", b"1")]})
        await send({"type": "http.response.body", "body": b"three"})

    async with asgi(app) as host:
        assert (await host.get()).status == 500


async def test_a_head_that_is_too_long_is_a_500() -> None:
    @only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": [(b"x-%d" % number, b"x" * 4000) for number in range(20)]})
        await send({"type": "http.response.body", "body": b""})

    async with asgi(app) as host:
        assert (await host.get()).status == 500


class Own(BaseException):
    """What no ``except Exception`` catches."""


@pytest.mark.parametrize(
    "raised", [SystemExit(1), Own(), asyncio.CancelledError(), BaseExceptionGroup("", [Own()])]
)
async def test_whatever_is_raised_is_a_500_and_the_listener_lives(raised: BaseException) -> None:
    @only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise raised

    async with asgi(app) as host:
        for _ in range(2):
            assert (await host.get()).status == 500


async def test_messages_after_the_reply_are_ignored() -> None:
    @only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"x"})
        await send({"type": "http.response.body", "body": b"y"})
        await send(START)

    async with asgi(app) as host:
        visit = await host.get()
        assert bytes(visit.body) == b"x" and visit.ended
    assert [exchange.failure for exchange in host.exchanges] == [""]


async def test_a_first_piece_above_the_cap_is_a_413_that_is_told_and_forgotten() -> None:
    @only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("must not be called")

    async with asgi(app, max_body_bytes=4) as host:
        visit = host.open(envelope("POST"), b"12345", end=False)
        await visit.over()
        assert visit.status == 413 and host.upstream.busy == 0 and len(host.exchanges) == 1


async def test_a_websocket_that_is_never_accepted_meets_the_deadline() -> None:
    @only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            await receive()

    async with asgi(app, limits=UpstreamLimits(reply_seconds=0.1)) as host:
        client = SocketClient(host)
        await client.visit.over()
    assert client.visit.reset == Reason.TIMEOUT


async def test_no_deadline_ends_a_websocket_that_was_accepted() -> None:
    @only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await receive()
        await receive()
        await asyncio.sleep(0.6)  # more than a sweep
        await send({"type": "websocket.send", "text": "late"})

    async with asgi(app, limits=UpstreamLimits(reply_seconds=0.1)) as host:
        client = SocketClient(host)
        await client.open()
        client.say("x")
        assert (await client.frame()).data == b"late"
        client.visit.stream.reset(Reason.CANCELLED)


async def test_one_that_asks_again_and_again_does_not_hold_the_loop() -> None:
    asked = 0

    @only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal asked
        while True:
            asked += (await receive())["type"].endswith("disconnect")

    async with asgi(app) as host:
        visit = host.open(envelope("GET"))
        visit.stream.reset(Reason.CANCELLED)
        await host.idle()
    assert asked > 1


async def test_an_endless_reply_to_head_does_not_hold_the_loop() -> None:
    @only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        while True:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})

    async with asgi(app) as host:
        visit = host.open(envelope("HEAD"))
        await visit.until(lambda: visit.status == 200)
        visit.stream.reset(Reason.CANCELLED)
        await host.idle()


async def test_what_puts_its_things_in_order_is_not_interrupted() -> None:
    ordered = asyncio.Event()

    @only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send(START)
            while True:
                await send({"type": "http.response.body", "body": b"x" * 4096, "more_body": True})
                await asyncio.sleep(0)
        finally:
            await asyncio.sleep(1.0)  # longer than anybody is given who has not heard of it
            ordered.set()

    async with asgi(app) as host:
        visit = host.open(envelope())
        await visit.until(lambda: visit.body)
        visit.stream.reset(Reason.CANCELLED)
        await asyncio.wait_for(ordered.wait(), 5)


async def test_a_cleanup_after_the_deadline_is_not_cancelled_a_second_time() -> None:
    ordered = asyncio.Event()

    @only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.7)  # several sweeps
            ordered.set()

    async with asgi(app, limits=UpstreamLimits(reply_seconds=0.1)) as host:
        await host.get()
        await asyncio.wait_for(ordered.wait(), 5)


async def test_the_rest_of_an_upload_is_taken_while_something_goes_on_after_the_reply() -> None:
    go_on = asyncio.Event()
    whole = False

    @only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal whole
        await send({**START, "status": 202})
        await send({"type": "http.response.body", "body": b""})
        await go_on.wait()
        whole = True

    async with asgi(app) as host:
        visit = host.open(envelope("POST"), b"x" * 1000, end=False)
        await visit.over()
        for _ in range(20):
            assert visit.send(b"x" * 65536), "the visitor is held up"
        visit.stream.reset(Reason.CANCELLED)
        await asyncio.sleep(0.8)  # longer than the grace of what a visitor waits for
        go_on.set()
        await host.idle()
    assert whole and host.exchanges[0].failure == ""


async def test_trailers_may_be_told_in_several_messages() -> None:
    @only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "trailers": True})
        await send({"type": "http.response.body", "body": b"x"})
        await send({"type": "http.response.trailers", "headers": [(b"x-a", b"1")], "more_trailers": True})
        await send({"type": "http.response.trailers", "headers": [(b"x-b", b"2")]})

    async with asgi(app) as host:
        visit = await host.get()
    assert visit.heads[-1][1] == b"x-a: 1\r\nx-b: 2\r\n\r\n"


async def test_the_end_of_a_task_group_whose_visitor_left_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @only
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})

        async def talk() -> None:
            while True:
                await send({"type": "websocket.send", "text": "tick"})
                await asyncio.sleep(0.01)

        async with asyncio.TaskGroup() as group:
            group.create_task(talk())

    async with asgi(app) as host:
        client = SocketClient(host)
        await client.open()
        await client.frame()
        client.visit.stream.reset(Reason.CANCELLED)
        await host.idle()
    assert "handler failed" not in caplog.text
