"""A server inside another program, for as long as that wants it: a demonstration, a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from wellhead.errors import StateError
from wellhead.serve import Ready, serve
from wellhead.settings import ServerSettings

START_SECONDS = 60.0


@asynccontextmanager
async def embedded(home: Path) -> AsyncIterator[Ready]:
    """A server on free ports of this machine with its data in ``home``; drained at the end.

    Raises:
        StateError: it was not ready in time.
        WellheadError: why it could not start.
    """
    settings = ServerSettings(
        data_dir=home / "server", https="127.0.0.1:0", http="127.0.0.1:0", access_log="off", drain_seconds=2.0
    )
    stop = asyncio.Event()
    accepts = asyncio.Event()
    told: list[Ready] = []

    def ready(facts: Ready) -> None:
        told.append(facts)
        accepts.set()

    task = asyncio.create_task(serve(settings, ready=ready, stop=stop), name="server")
    task.add_done_callback(lambda _: accepts.set())  # with or without success
    try:
        try:
            async with asyncio.timeout(START_SECONDS):
                await accepts.wait()
        except TimeoutError:
            raise StateError(f"the server was not ready within {START_SECONDS:g} s") from None
        if not told:
            await task  # raises what went wrong
            raise StateError("the server ended before it was ready")
        yield told[0]
    finally:
        stop.set()
        await task
