from __future__ import annotations

import datetime as dt
import stat
from pathlib import Path

import pytest

from wellhead import private
from wellhead.control.pending import Failed, Pending, names_of

NAMES = ("*.example.org", "example.org")


def test_a_request_is_the_same_until_it_is_forgotten_and_its_key_is_private(tmp_path: Path) -> None:
    key, request = Pending(tmp_path).request(NAMES)
    again_key, again = Pending(tmp_path).request(NAMES)
    assert (again_key, again.signature) == (key, request.signature) and names_of(request) == set(NAMES)
    (file,) = (tmp_path / "pending").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    Pending(tmp_path).forget(NAMES[0])
    assert Pending(tmp_path).request(NAMES)[0] != key


def test_a_request_for_other_names_is_made_anew(tmp_path: Path) -> None:
    pending = Pending(tmp_path)
    key, _ = pending.request(("example.org", "zone.example.org"))
    assert pending.request(("example.org",))[0] != key


def test_failures_are_kept_as_they_are_last(tmp_path: Path) -> None:
    when = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    Pending(tmp_path).keep_failures({"a.example.org": Failed(1, when), "b.example.org": Failed(2, when)})
    Pending(tmp_path).keep_failures({"b.example.org": Failed(3, when)})
    assert Pending(tmp_path).failures() == {"b.example.org": Failed(3, when)}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', '{"a": ["x", "y"]}', '{"a": [1, "never"]}'])
def test_failures_that_cannot_be_read_are_none(tmp_path: Path, text: str) -> None:
    private.write(tmp_path / "failures.json", text)
    assert Pending(tmp_path).failures() == {}
