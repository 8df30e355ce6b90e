"""Records as columns and as lines, for a person."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from wellhead.cli.output import wants_colour
from wellhead.model.access import Secret
from wellhead.model.text import escape

_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


def columns(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table: titles, then rows, each column as wide as its widest cell."""
    cells = [[escape(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in [list(titles), *cells]]
    if wants_colour():
        lines[0] = f"{_BOLD}{lines[0]}{_PLAIN}"
    return lines


def facts(pairs: Iterable[tuple[str, str | None]]) -> list[str]:
    """A line for each fact that is known: its name, its value."""
    known = [(name, escape(value)) for name, value in pairs if value is not None]
    width = max(len(name) for name, _ in known)
    return [f"{name.ljust(width)}  {value}" for name, value in known]


def when(moment: datetime | None) -> str | None:
    """``2026-01-31 12:00:00 UTC``."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def shown_once(what: str, secret: Secret) -> list[str]:
    """A new secret, whole: nothing else shows one."""
    return [f"{what}  {secret.reveal()}", f"{' ' * len(what)}  shown this once"]


def homely(path: Path) -> str:
    """A path as people write it: ``~/…`` for what is in their home."""
    with contextlib.suppress(RuntimeError):  # no home
        if path.is_relative_to(Path.home()):
            return f"~/{path.relative_to(Path.home())}"
    return str(path)
