"""Spans of time as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from wellhead.cli.spans import read_span, seconds_of
from wellhead.errors import InputError


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1h", 3600), ("7d", 604800), ("2w", 1209600)]
)
def test_a_span_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert read_span(text) == timedelta(seconds=seconds)
    assert seconds_of("--expires", text) == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "1 h", "-1h", "1.5h", "1y", "999999d", "1h30m", "٣h"])
def test_what_is_no_span_is_told_with_what_is_one(text: str) -> None:
    assert read_span(text) is None
    with pytest.raises(InputError, match="--expires .* is not a span above 0 such as 90s, 15m, 1h or 7d"):
        seconds_of("--expires", text)


def test_nothing_expires_at_once() -> None:
    with pytest.raises(InputError, match='--expires "0h" is not a span above 0'):
        seconds_of("--expires", "0h")
