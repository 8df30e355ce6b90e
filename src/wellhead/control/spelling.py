"""What a caller may write in two ways: a path with and without a slash at its end, and HEAD for GET."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class OneSpelling:
    """Gives the app the one spelling that its routes have, so that each of them is declared once.

    A HEAD is answered as the GET would be, without the body (RFC 9110 section 9.3.2).
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix + "/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            if path.startswith(self._prefix) and path.endswith("/"):
                scope = {**scope, "path": path[:-1]}
            if scope["method"] == "HEAD":
                scope, send = {**scope, "method": "GET"}, _without_body(send)
        await self._app(scope, receive, send)


def _without_body(send: Send) -> Send:
    async def heads_only(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return heads_only
