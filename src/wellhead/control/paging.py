"""Places in a list: what ``next_cursor`` gives and ``cursor`` takes. Opaque to callers."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Annotated, Protocol, TypeVar

from fastapi import Query

from wellhead.errors import NotFound

LIMIT_MAX = 1000
_CURSOR_MAX = 500  # characters

Limit = Annotated[
    int | None, Query(ge=1, le=LIMIT_MAX, description="At most so many; without it, all at once.")
]
At = Annotated[
    str | None, Query(max_length=_CURSOR_MAX, description="Where to go on: `next_cursor` of the last answer.")
]


def pack(*parts: str) -> str:
    text = json.dumps(parts, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def unpack(cursor: str, count: int) -> list[str]:
    """
    Raises:
        NotFound: not a cursor of ``count`` parts.
    """
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        parts = json.loads(text)
        "".join(parts).encode()  # half a surrogate pair is nothing that a database can be asked for
    except (ValueError, TypeError, RecursionError):
        parts = None
    if isinstance(parts, list) and len(parts) == count:
        return parts
    raise NotFound(404, "cursor is no place in this list")


def place(at: datetime, record_id: str) -> str:
    """The cursor of a record in a list that is ordered by time and id."""
    return pack(at.isoformat(), record_id)


def read_place(cursor: str) -> tuple[datetime, str]:
    """
    Raises:
        NotFound: not a cursor of such a list.
    """
    at, record_id = unpack(cursor, 2)
    try:
        time = datetime.fromisoformat(at)
        return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).astimezone(UTC), record_id
    except (ValueError, OverflowError) as error:
        raise NotFound(404, "cursor is no place in this list") from error


class Placed(Protocol):
    """A row of a list that is ordered by time and id."""

    @property
    def id(self) -> str: ...

    @property
    def created_at(self) -> datetime: ...


Row = TypeVar("Row", bound=Placed)


def cut(rows: list[Row], limit: int | None) -> tuple[list[Row], str | None]:
    """The page, of one row more than asked for, and where the next begins, if there is one."""
    if limit is None or len(rows) <= limit:
        return rows, None
    page = rows[:limit]
    return page, place(page[-1].created_at, page[-1].id)
