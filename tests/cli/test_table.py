from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from wellhead.cli import table
from wellhead.cli.table import columns, facts, shown_once, when
from wellhead.model.access import Secret


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert columns(("A", "LONG"), [("wide", "x"), ("y", "")]) == ["A     LONG", "wide  x", "y"]


def test_titles_stand_out_where_colours_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "wants_colour", lambda: True)
    assert columns(("A",), [("x",)]) == ["\x1b[1mA\x1b[0m", "x"]


def test_only_known_facts_are_told() -> None:
    assert facts([("name", "x"), ("note", None), ("long name", "")]) == ["name       x", "long name  "]


def test_nothing_that_a_terminal_obeys_gets_through() -> None:
    assert columns(("A",), [("\x1b[2J",)])[1] == r"\x1b[2J"
    assert facts([("a", "b\nc\u202e")]) == [r"a  b\nc\u202e"]


def test_a_secret_is_shown_whole() -> None:
    assert shown_once("key", Secret("wh_0123456789")) == ["key  wh_0123456789", "     shown this once"]


def test_a_time_is_told_in_utc() -> None:
    assert when(None) is None
    moment = datetime(2026, 1, 31, 13, 0, tzinfo=timezone(timedelta(hours=1)))
    assert when(moment) == "2026-01-31 12:00:00 UTC" == when(moment.astimezone(UTC))
