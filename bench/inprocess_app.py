"""The upstream's page as an application and as a handler, in whatever process serves it."""

from __future__ import annotations

from typing import Any

from bench.load import BODY
from wellhead import Request, Response

_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(BODY))],
}


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send(_START)
        await send({"type": "http.response.body", "body": BODY})


async def handler(request: Request) -> Response:
    return Response(BODY, content_type="text/plain")
