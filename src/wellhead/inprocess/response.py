"""What a handler answers with, and how it becomes a reply."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wellhead.errors import StateError
from wellhead.inprocess.head import Field

Piece = str | bytes
Body = Piece | Iterable[Piece] | AsyncIterable[Piece] | None
HeaderItems = Mapping[str, str] | Iterable[tuple[str, str]]

TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"
JSON = "application/json"

_NO_NAMES: set[bytes] = set()


@dataclass(slots=True)
class Response:
    """``body`` may be text, bytes, or an iterable of either, sent piece by piece as they are made.

    ``headers`` are a mapping, or pairs where a name comes more than once.
    """

    body: Body = None
    status: int = 200
    headers: HeaderItems = ()
    content_type: str | None = None  # by default by what the body is

    def __post_init__(self) -> None:
        if isinstance(self.body, bytearray | memoryview):
            self.body = bytes(self.body)
        if isinstance(self.body, dict):  # whose keys would be sent as pieces
            self.body = _json(self.body)
            self.content_type = self.content_type or JSON

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: HeaderItems = ()) -> Response:
        """A value as JSON."""
        return cls(_json(value), status, headers, JSON)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def response_of(answer: object) -> Response:
    """A handler's answer as a response: a dict or a list becomes JSON, None a 204.

    Raises:
        StateError: nothing that can be sent.
    """
    if isinstance(answer, Response):
        return answer
    if isinstance(answer, str | bytes):
        return Response(answer)
    if answer is None:
        return Response(None, 204)
    if isinstance(answer, dict | list):
        return Response.json(answer)
    if isinstance(answer, bytearray | memoryview):
        return Response(bytes(answer))
    if isinstance(answer, Iterable | AsyncIterable):
        return Response(answer)
    raise StateError(f"a handler answered with {type(answer).__name__}, which is no response")


def fields_of(response: Response, first: Piece | None, *, whole: bool) -> list[Field]:
    """The reply's fields. ``first`` is the body's first piece, ``whole`` that there are no others.

    Raises:
        StateError: a field that is no text of one byte per character.
    """
    fields, names = _given(response) if response.headers else ([], _NO_NAMES)
    if b"content-type" not in names and first is not None:
        kind = response.content_type or (TEXT if isinstance(first, str) else BYTES)
        fields.append((b"content-type", kind.encode("latin-1")))
    if whole and b"content-length" not in names and response.status not in (204, 304):
        fields.append((b"content-length", b"%d" % len(encoded(first))))
    return fields


def _given(response: Response) -> tuple[list[Field], set[bytes]]:
    """The fields that a response has of its own, and their names."""
    items = response.headers.items() if isinstance(response.headers, Mapping) else response.headers
    try:
        fields = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in items]
    except (UnicodeEncodeError, AttributeError) as error:
        raise StateError(f"a field of a response must be text in Latin-1: {error}") from None
    return fields, {name for name, _ in fields}


def encoded(piece: object) -> bytes:
    """A piece of a body as it is sent.

    Raises:
        StateError: it is neither text nor bytes.
    """
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, str):
        return piece.encode()
    if piece is None:
        return b""
    if isinstance(piece, bytearray | memoryview):
        return bytes(piece)
    raise StateError(f"a piece of a body is of type {type(piece).__name__}, must be str or bytes")
