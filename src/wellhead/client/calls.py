"""The REST API as data: a call is described here, and sent elsewhere. ``*_calls`` describe them all."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import quote

from wellhead.errors import ApiError, Conflict, InputError
from wellhead.model.text import shown

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and how its JSON answer becomes a record."""

    method: str
    path: str  # under /api/v1
    read: Callable[[object], T]
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, object] | None = None
    content: bytes | Iterable[bytes] | AsyncIterable[bytes] | None = None  # sent as it is, in place of a body
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False  # carried out twice it does no more than carried out once
    seconds: float | None = None  # to wait for the answer, and with another attempt; None: the client's own
    conflict: Callable[[str], type[ApiError]] = lambda detail: Conflict  # what a 409 with this detail is


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list; ``next_cursor`` begins the next one, None after the last."""

    items: list[T]
    next_cursor: str | None


def in_path(given: str) -> str:
    """An id, or a handle, as a part of a path.

    Raises:
        InputError: it would be another path.
    """
    if given in ("", ".", ".."):
        raise InputError(f"an id is needed, not {shown(given)}")
    return quote(given, safe="")


def given(**members: object) -> dict[str, object]:
    """Those that are not None: what is left out is the server's to choose."""
    return {name: member for name, member in members.items() if member is not None}


def no_answer(answer: object) -> None:
    """Of a call whose answer tells nothing."""


def place(limit: int, cursor: str | None) -> dict[str, str]:
    """The query of a list's part."""
    return {"limit": str(limit)} | ({} if cursor is None else {"cursor": cursor})
