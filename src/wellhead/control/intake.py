"""What a request's body must be before a route sees it: short, JSON, shallow, and text that can be stored."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Never

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wellhead.control.problems import problem
from wellhead.errors import ApiError, Invalid
from wellhead.model.text import shown

MAX_DEPTH = 32  # of objects and arrays in one another
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


class BodyGate:
    """Reads a whole body of at most ``max_bytes``, checks it, and plays it to the app in one piece.

    ``longer``: the bytes of paths that end so.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, longer: Mapping[str, int] | None = None) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._longer = longer or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            end = "/" + scope["path"].rstrip("/").rpartition("/")[2]
            body = await self._read(scope, receive, self._longer.get(end, self._max_bytes))
            if body:
                _check(body, Headers(scope=scope))
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

    async def _read(self, scope: Scope, receive: Receive, most: int) -> bytes | None:
        """The body; None when the caller left before its end."""
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isascii() and declared.isdigit() and int(declared) > most:
            _refuse(int(declared), most)
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > most:
                _refuse(len(body), most)
            if not message.get("more_body", False):
                return bytes(body)


def _refuse(size: int, most: int) -> Never:
    raise ApiError(413, f"body of {size} bytes or more, at most {most} allowed")


def _check(body: bytes, headers: Headers) -> None:
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise ApiError(415, "the body must be application/json")
    if (coding := headers.get("content-encoding", "identity").strip().lower()) != "identity":
        raise ApiError(415, f"the body must come as it is, not in content-encoding {shown(coding)}")
    try:
        value = json.loads(
            body.decode("utf-8"),
            parse_constant=_no_constant,
            parse_float=_finite,
            object_pairs_hook=_each_name_once,
        )
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:  # not UTF-8, not JSON, NaN, or a number of thousands of digits
        raise Invalid(422, "the body is not JSON") from error
    _check_values(value)


def _no_constant(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):  # it could not be given back
        raise Invalid(422, f"the body holds {shown(text)}, which is beyond the numbers that can be kept")
    return number


def _each_name_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object, if it has one meaning: of two values for a name each reader takes another (RFC 8259, 4)."""
    read: dict[str, object] = {}
    for name, value in pairs:
        if name in read:
            raise Invalid(422, f"the body names {shown(name)} twice in one object")
        read[name] = value
    return read


def _check_values(value: object) -> None:
    """Look at every value and key, a level of nesting after the other."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below += item
                below += item.values()
            elif isinstance(item, list):
                below += item
            elif isinstance(item, str) and _NO_TEXT.search(item):
                raise Invalid(422, "the body holds U+0000 or half a surrogate pair, which are not text")
        if not below:
            return
        level = below
    raise _too_deep()


def _too_deep() -> Invalid:
    return Invalid(422, f"the body is nested deeper than {MAX_DEPTH}")
