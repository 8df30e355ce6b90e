"""An answer in time: 503 where the store does not answer, whatever keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wellhead.control.problems import problem
from wellhead.logs import Log

_log = Log("wellhead.control")


class Deadline:
    """Answers 503 when the app has not begun to after as many seconds as ``allowed`` of the path.

    What was begun goes on and its outcome stands: to cancel a commit under way would leave nobody knowing
    whether it was made. Its answer is dropped.
    """

    def __init__(self, app: ASGIApp, allowed: Callable[[str], float]) -> None:
        self._app = app
        self._allowed = allowed
        self._late: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = given_up = False

        async def in_time(message: Message) -> None:
            nonlocal begun
            if not given_up:
                begun = True
                await send(message)

        task = asyncio.create_task(_run(self._app, scope, receive, in_time))
        try:
            await asyncio.wait((task,), timeout=self._allowed(scope["path"]))
        except asyncio.CancelledError:
            task.cancel()
            raise
        if task.done() or begun:
            await task
            return
        given_up = True
        self._late.add(task)
        task.add_done_callback(self._forget)
        await problem(503, "the database does not answer, try again", 1)(scope, receive, send)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._late.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("request failed after its time", error)


async def _run(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)
