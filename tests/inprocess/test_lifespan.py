"""One startup before the first request, one shutdown after the last."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.kit.inprocess import asgi
from wellhead.errors import HandlerError
from wellhead.inprocess.lifespan import Lifespan


async def test_a_lifespan_is_lived_once_and_its_state_is_each_requests_copy() -> None:
    told: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            scope["state"]["shared"] = [1]
            told.append("up")
            await send({"type": "lifespan.startup.complete"})
            assert (await receive())["type"] == "lifespan.shutdown"
            told.append("down")
            await send({"type": "lifespan.shutdown.complete"})
            return
        assert scope["state"] == {"shared": [1]}
        scope["state"]["mine"] = True
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async with asgi(app) as host:
        assert [(await host.get()).status for _ in range(2)] == [200, 200]
        assert told == ["up"]
    assert told == ["up", "down"]


async def test_a_startup_that_fails_is_an_error_with_its_message() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(HandlerError, match="no database"):
        await Lifespan(app).start()


async def test_a_startup_whose_message_is_a_traceback_is_told_by_its_last_line() -> None:
    """Starlette sends one, and raises it again for the log."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        trace = "Traceback (most recent call last):\n  File x\nRuntimeError: no database\n"
        await send({"type": "lifespan.startup.failed", "message": trace})

    with pytest.raises(HandlerError) as caught:
        await Lifespan(app).start()
    assert str(caught.value) == "the application's startup failed: RuntimeError: no database"


async def test_an_application_without_a_lifespan_is_served() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError("unknown scope")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async with asgi(app) as host:
        assert (await host.get()).status == 200


async def test_an_exit_at_the_start_is_an_error_and_nothing_of_it_is_left() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise SystemExit(1)

    with pytest.raises(HandlerError, match="SystemExit"):
        await Lifespan(app).start()


async def test_a_startup_that_fails_leaves_no_task() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})
        await receive()

    with pytest.raises(HandlerError, match="no"):
        await Lifespan(app).start()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_startup_that_is_cancelled_leaves_no_task() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await Lifespan(app).start()
    assert asyncio.all_tasks() == {asyncio.current_task()}
