"""What a caller may write in two ways: a path, by a slash at its end or another name; and HEAD for GET."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.convertors import StringConvertor, register_url_convertor
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wellhead.control import dialect


class _Id(StringConvertor):
    """What stands for an id in a path, where a word that is none has a route of its own."""

    regex = "(?!(?:stats|usage|join)(?:/|$))[^/]+"


register_url_convertor("id", _Id())


class OneSpelling:
    """Gives the app the one spelling that its routes have, so that each of them is declared once.

    A HEAD is answered as the GET would be, without the body (RFC 9110 section 9.3.2). ``legacy`` in a
    request's state: it came by that name. ``head``: of what has no end only the beginning is asked for.
    """

    def __init__(self, app: ASGIApp, prefixes: Sequence[str]) -> None:
        self._app = app
        self._prefixes = tuple(prefix + "/" for prefix in prefixes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path, head = scope["path"], scope["method"] == "HEAD"
            if path.startswith(self._prefixes) and path.endswith("/"):
                path = path[:-1]
            path, legacy = dialect.plain(path)
            state = {**scope.get("state", {}), "legacy": legacy, "head": head}
            scope = {**scope, "path": path, "state": state}
            if head:
                scope, send = {**scope, "method": "GET"}, _without_body(send)
        await self._app(scope, receive, send)


def _without_body(send: Send) -> Send:
    async def heads_only(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return heads_only
