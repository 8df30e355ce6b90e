"""Spans of time as people write them: 90s, 15m, 12h, 30d, 2w."""

from __future__ import annotations

import re
from datetime import timedelta

from wellhead.errors import InputError
from wellhead.model.text import shown

_SPAN = re.compile(r"([0-9]{1,5})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def read_span(text: str) -> timedelta | None:
    """None where it is no span."""
    span = _SPAN.fullmatch(text)
    return None if span is None else timedelta(**{_UNITS[span[2]]: int(span[1])})


def seconds_of(option: str, text: str) -> int:
    """
    Raises:
        InputError: no span, or an empty one.
    """
    if not (span := read_span(text)):
        raise InputError(f"{option} {shown(text)} is not a span above 0 such as 90s, 15m, 1h or 7d")
    return int(span.total_seconds())
