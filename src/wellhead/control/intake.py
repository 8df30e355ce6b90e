"""What a request's body must be before a route sees it: short, JSON, shallow, and text that can be stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Never

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wellhead.control.problems import problem
from wellhead.errors import ApiError, Invalid

MAX_DEPTH = 32  # of objects and arrays in one another


class BodyGate:
    """Reads a whole body of at most ``max_bytes``, checks it, and plays it to the app in one piece."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(scope, receive)
            if body:
                _check(body, Headers(scope=scope).get("content-type", ""))
        except ApiError as error:
            await problem(error.status, error.detail)(scope, receive, send)
            return
        if body is None:
            return

        played = False

        async def replay() -> Message:
            nonlocal played
            if played:
                return await receive()
            played = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """The body; None when the caller left before its end."""
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isascii() and declared.isdigit() and int(declared) > self._max_bytes:
            self._refuse(int(declared))
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                self._refuse(len(body))
            if not message.get("more_body", False):
                return bytes(body)

    def _refuse(self, size: int) -> Never:
        raise ApiError(413, f"body of {size} bytes or more, at most {self._max_bytes} allowed")


def _check(body: bytes, content_type: str) -> None:
    media = content_type.partition(";")[0].strip().lower()
    if media != "application/json":
        raise ApiError(415, "the body must be application/json")
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except RecursionError:
        raise Invalid(422, f"the body is nested deeper than {MAX_DEPTH}") from None
    except ValueError as error:  # not UTF-8, not JSON, NaN, or a number of thousands of digits
        raise Invalid(422, "the body is not JSON") from error
    for depth, item in _walk(value):
        if depth > MAX_DEPTH:
            raise Invalid(422, f"the body is nested deeper than {MAX_DEPTH}")
        if isinstance(item, str) and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in item):
            raise Invalid(422, "the body holds U+0000 or half a surrogate pair, which are not text")


def _no_constant(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")


def _walk(value: object) -> Iterator[tuple[int, object]]:
    """Every value and key, with how many objects and arrays it stands in."""
    waiting = [(0, value)]
    while waiting:
        depth, item = waiting.pop()
        yield depth, item
        if isinstance(item, dict):
            waiting += ((depth + 1, part) for pair in item.items() for part in pair)
        elif isinstance(item, list):
            waiting += ((depth + 1, part) for part in item)
