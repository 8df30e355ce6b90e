"""Files of a sandbox: read, written, listed and moved, as the user of its template.

Source: docs/reference/sandboxes-api.md, "Files".
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from wellhead.host.api.bodies import Members, check_path, read_body
from wellhead.host.api.context import Context
from wellhead.host.api.entries import entries_answer, entry_answer
from wellhead.host.api.writing import Writing
from wellhead.host.guest_link import GuestLink

DEPTH_MAX = 64
_SIZE_MAX = 2**63 - 1


class FileRoutes:
    def __init__(self, context: Context) -> None:
        self._context = context

    def routes(self) -> list[BaseRoute]:
        terms = self._context.terms
        posts: dict[str, Callable[..., Any]] = {
            "list": self._list, "mkdir": self._mkdir, "remove": self._remove, "move": self._move,
            "stat": self._stat, "read": Reading(self._context), "stream/read": Reading(self._context),
        }  # fmt: skip
        writes = {
            "write": Writing(self._context, terms.upload_bytes).answer,
            "stream/write": Writing(self._context, terms.stream_upload_bytes).answer,
        }
        return [
            *(Route(f"/sandboxes/{{id}}/files/{name}", posts[name], methods=["POST"]) for name in posts),
            *(
                Route(f"/sandboxes/{{id}}/files/{name}", writes[name], methods=["POST", "PUT"])
                for name in writes
            ),
        ]

    async def _list(self, request: Request) -> Response:
        link, asked = await call(self._context, request)
        path = check_path("path", asked.text("path", ""))
        depth = asked.whole("depth", 1, 0, DEPTH_MAX) or 1
        return await entries_answer(link.entries(path or ".", asked.optional("user"), depth))

    async def _mkdir(self, request: Request) -> Response:
        link, asked = await call(self._context, request)
        made = await link.file_call(
            "mkdir", path=asked.path("path"), user=asked.optional("user"),
            parents=asked.flag("parents", True), exist_ok=asked.flag("exist_ok", False),
        )  # fmt: skip
        return entry_answer(made)

    async def _remove(self, request: Request) -> Response:
        link, asked = await call(self._context, request)
        await link.file_call(
            "remove", path=asked.path("path"), user=asked.optional("user"),
            recursive=asked.flag("recursive", True),
        )  # fmt: skip
        return Response(status_code=204)

    async def _move(self, request: Request) -> Response:
        link, asked = await call(self._context, request)
        moved = await link.file_call(
            "move", source=asked.path("source"), target=asked.path("target"), user=asked.optional("user"),
            overwrite=asked.flag("overwrite", False),
        )  # fmt: skip
        return entry_answer(moved)

    async def _stat(self, request: Request) -> Response:
        link, asked = await call(self._context, request)
        found = await link.file_call("stat", path=asked.path("path"), user=asked.optional("user"))
        return entry_answer(found)


class Reading:
    """Answers with a file's bytes, as an ASGI application: the file is let go of however the answer ends."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        context = self._context
        request = Request(scope, receive)
        link, asked = await call(context, request)
        sandbox = context.asked(request)
        offset = asked.whole("offset", 0, 0, _SIZE_MAX) or 0
        length = asked.whole("length", None, 0, _SIZE_MAX)

        async def touched(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            async for piece in pieces:
                context.sandboxes.touch(sandbox)
                yield piece

        async with link.read(asked.path("path"), asked.optional("user"), offset, length) as (_, pieces):
            answer = StreamingResponse(touched(pieces), media_type="application/octet-stream")
            await answer(scope, receive, send)


async def call(context: Context, request: Request) -> tuple[GuestLink, Members]:
    """The way into the sandbox that is asked for, and what is asked.

    Raises:
        HostError: it does not run, or the body is no good.
    """
    link = context.link(context.asked(request))
    return link, await read_body(request, context.terms.body_bytes)
