"""A change that is answered has taken effect where the traffic is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Settled:
    """Holds the answer to whatever may have changed a record until ``settle`` returns."""

    def __init__(self, app: ASGIApp, settle: Callable[[], Awaitable[None]]) -> None:
        self._app = app
        self._settle = settle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return

        async def when_settled(message: Message) -> None:
            if message["type"] == "http.response.start":
                await self._settle()
            await send(message)

        await self._app(scope, receive, when_settled)
