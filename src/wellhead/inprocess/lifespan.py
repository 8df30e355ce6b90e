"""The lifespan of an ASGI application: one task from its startup to its shutdown.

Source: the ASGI specification, "Lifespan Protocol" 2.0.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from wellhead.errors import HandlerError
from wellhead.logs import Log

_log = Log("wellhead.agent")
STOP_SECONDS = 10.0  # for an application's shutdown

Message = MutableMapping[str, Any]


class Lifespan:
    """``state`` is what the application put there at its start; each request gets a copy."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._task: asyncio.Task[None] | None = None
        self._started: asyncio.Future[str | None] | None = None  # None: well; else why not
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._heard_startup = False

    async def start(self) -> None:
        """Run the startup. Idempotent; an application that knows no lifespan is served without.

        Raises:
            HandlerError: it said that its startup failed.
        """
        if self._started is None:
            loop = asyncio.get_running_loop()
            self._started = loop.create_future()
            self._task = loop.create_task(self._run(self._started), name="lifespan")
        try:
            failure = await asyncio.shield(self._started)
        except asyncio.CancelledError:
            await self._give_up()
            raise
        if failure is not None:
            await self._give_up()
            if failure.startswith("Traceback "):  # Starlette's words for it; the log has it whole
                failure = failure.rstrip().rpartition("\n")[2]
            raise HandlerError(f"the application's startup failed: {failure or 'it did not say why'}")

    async def stop(self) -> None:
        """Run the shutdown, at most for ``STOP_SECONDS``. Idempotent."""
        task = self._task
        if task is None:
            return
        self._stopping.set()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await asyncio.shield(task)
        except TimeoutError:
            _log.warning("the application's shutdown takes too long", seconds=STOP_SECONDS)
            await self._give_up()

    async def _give_up(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task], timeout=STOP_SECONDS)

    async def _run(self, started: asyncio.Future[str | None]) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._receive, self._send)
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as error:
            if started.done():
                _log.error("the application's lifespan failed", error=error)
            elif not isinstance(error, Exception):
                started.set_result(f"it raised {error!r}")
            else:
                # What the specification asks for: one that raises here does not support the protocol.
                log = _log.warning if self._heard_startup else _log.debug
                log("the application has no lifespan", reason=repr(error))
        finally:
            if not started.done():
                started.set_result(None)

    async def _receive(self) -> Message:
        if not self._heard_startup:
            self._heard_startup = True
            return {"type": "lifespan.startup"}
        await self._stopping.wait()
        if self._stopped.is_set():
            await asyncio.Event().wait()  # there is nothing more to be told
        self._stopped.set()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        started = self._started
        if kind == "lifespan.startup.complete" and started is not None and not started.done():
            started.set_result(None)
        elif kind == "lifespan.startup.failed" and started is not None and not started.done():
            started.set_result(str(message.get("message", "")))
        elif kind == "lifespan.shutdown.failed":
            _log.error("the application's shutdown failed", reason=str(message.get("message", "")))
