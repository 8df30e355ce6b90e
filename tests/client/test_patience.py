from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from tests.kit.asgi import served
from wellhead.client import AsyncClient, Client, Timeouts
from wellhead.client.patience import FIRST_PAUSE_SECONDS, MAX_ATTEMPTS, Attempts
from wellhead.errors import (
    ApiError,
    Conflict,
    DialError,
    LinkError,
    RateLimited,
    TrustError,
    Unauthorized,
    Unavailable,
    WellheadError,
)
from wellhead.model.access import Secret

KEY = Secret("wh_test")


def attempts(repeatable: bool = True, retry_seconds: float = 10) -> Attempts:
    return Attempts(repeatable, retry_seconds, now=100)


@pytest.mark.parametrize(
    "error",
    [DialError("x"), LinkError("x"), Unavailable(503, "x"), ApiError(502, "x"), RateLimited(429, "x")],
)
def test_what_may_pass_is_tried_again_soon_and_a_few_times(error: WellheadError) -> None:
    of = attempts()
    pauses = [of.pause(error, now=100) for _ in range(MAX_ATTEMPTS)]
    assert pauses.pop() is None
    assert all(pause is not None and 0 < pause < 1 for pause in pauses)
    assert pauses[0] is not None and pauses[0] <= FIRST_PAUSE_SECONDS


@pytest.mark.parametrize(
    "error",
    [
        TrustError("x"),
        Unauthorized(401, "x", retry_after_seconds=0),
        Conflict(409, "x"),
        ApiError(500, "x"),
        ApiError(504, "x"),
    ],
)
def test_what_will_not_pass_is_final(error: WellheadError) -> None:
    assert attempts().pause(error, now=100) is None


@pytest.mark.parametrize("error", [LinkError("x"), Unavailable(503, "x"), ApiError(502, "x")])
def test_a_call_that_must_not_happen_twice_and_may_have_begun_is_made_once(error: WellheadError) -> None:
    assert attempts(repeatable=False).pause(error, now=100) is None


@pytest.mark.parametrize("error", [DialError("x"), RateLimited(429, "x")])
def test_a_call_that_did_not_begin_is_made_again_whatever_it_would_do(error: WellheadError) -> None:
    of = attempts(repeatable=False)
    pauses = [of.pause(error, now=100) for _ in range(MAX_ATTEMPTS)]
    assert pauses.pop() is None and None not in pauses


def test_the_server_says_when() -> None:
    assert attempts().pause(RateLimited(429, "x", retry_after_seconds=7), now=100) == 7


@pytest.mark.parametrize(("now", "asked"), [(100, 10), (108, 2), (120, None)])
def test_no_attempt_begins_after_its_time(now: float, asked: float | None) -> None:
    assert attempts().pause(RateLimited(429, "x", retry_after_seconds=asked), now) is None


class Failing:
    """Answers ``failures`` requests with 503, then with an empty list."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.methods: list[str] = []
        self.keys: list[str | None] = []  # idempotency keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.methods.append(scope["method"])
        self.keys.append(Headers(scope=scope).get("idempotency-key"))
        failed = len(self.methods) <= self.failures
        answer = JSONResponse({"detail": "busy"}, 503, {"Retry-After": "0"})
        await (answer if failed else JSONResponse({"tunnels": []}))(scope, receive, send)


def _sync(port: int, call: Callable[[Any], Any]) -> Any:
    with Client(f"http://localhost:{port}", KEY) as client:
        return call(client)


async def test_both_clients_try_again() -> None:
    server = Failing(MAX_ATTEMPTS - 1)
    async with served(server) as port, AsyncClient(f"http://localhost:{port}", KEY) as client:
        assert await client.tunnels.list() == []
        server.methods.clear()
        assert await asyncio.to_thread(_sync, port, lambda client: client.tunnels.list()) == []
    assert server.methods == ["GET"] * MAX_ATTEMPTS


async def test_both_clients_give_up() -> None:
    server = Failing(1000)
    async with served(server) as port, AsyncClient(f"http://localhost:{port}", KEY) as client:
        with pytest.raises(Unavailable):
            await client.tunnels.list()
        assert server.methods == ["GET"] * MAX_ATTEMPTS
        with pytest.raises(Unavailable):
            await asyncio.to_thread(_sync, port, lambda client: client.tunnels.list())
        assert server.methods == ["GET"] * MAX_ATTEMPTS * 2


async def test_a_create_is_sent_once() -> None:
    server = Failing(1)
    async with served(server) as port, AsyncClient(f"http://localhost:{port}", KEY) as client:
        with pytest.raises(Unavailable):
            await client.tunnels.create("my-agent")
    assert (server.methods, server.keys) == (["POST"], [None])


async def test_a_create_with_an_idempotency_key_is_repeated_under_the_same_one() -> None:
    server = Failing(1000)
    async with served(server) as port, AsyncClient(f"http://localhost:{port}", KEY) as client:
        with pytest.raises(Unavailable):
            await client.tunnels.create("my-agent", idempotency_key="once")
    assert server.keys == ["once"] * MAX_ATTEMPTS


async def test_what_would_happen_twice_is_sent_once() -> None:
    server = Failing(1000)
    async with served(server) as port, AsyncClient(f"http://localhost:{port}", KEY) as client:
        for attempt in (
            client.tunnels.restore("x"),
            client.tunnels.force_delete("x"),
            client.tunnels.rotate_secret("x"),
            client.keys.create("x", scopes=["admin"]),
        ):
            with pytest.raises(Unavailable):
                await attempt
    assert server.methods == ["POST", "DELETE", "POST", "POST"]


async def test_a_connection_that_breaks_after_a_create_was_sent_is_the_end_of_it() -> None:
    heads: list[bytes] = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readline())
        writer.transport.abort()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with AsyncClient(f"http://localhost:{port}", KEY) as client:
            with pytest.raises(LinkError, match="broke off"):
                await client.tunnels.create("my-agent")
            assert len(heads) == 1
            with pytest.raises(LinkError, match="broke off"):
                await client.tunnels.create("my-agent", idempotency_key="once")
            with pytest.raises(LinkError, match="broke off"):
                await client.tunnels.list()
    assert [head.split()[0] for head in heads] == [b"POST"] * (1 + MAX_ATTEMPTS) + [b"GET"] * MAX_ATTEMPTS


def test_a_client_waits_as_long_as_it_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://localhost:{silent.getsockname()[1]}"
        with Client(url, KEY, timeouts=Timeouts(reply_seconds=0.05, retry_seconds=0)) as client:
            with pytest.raises(LinkError, match="did not reply within 0.05 s"):
                client.tunnels.list()
