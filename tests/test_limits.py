"""The table of limits is whole, and its words are those of the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from wellhead import limits
from wellhead.settings import ServerSettings

SOURCES = Path(limits.__file__).parent
LIMITS = [limit for group in limits.GROUPS.values() for limit in group]


def test_every_number_among_the_settings_has_its_line() -> None:
    assert not limits.settings_without_limit()


def test_every_line_is_about_a_setting_and_each_has_one() -> None:
    names = [limit.setting for limit in LIMITS]
    assert len(names) == len(set(names)) and set(names) <= set(ServerSettings.model_fields)


@pytest.mark.parametrize("reason", sorted({limit.reason for limit in LIMITS} - {""}))
def test_a_reason_is_a_word_that_the_code_says(reason: str) -> None:
    word = f'"{reason.removeprefix("h2-")}"'
    others = [path for path in SOURCES.rglob("*.py") if path.name != "limits.py"]
    assert any(word in path.read_text("utf-8") for path in others)
