from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.model import access, text


def test_a_refused_value_is_shown_escaped_and_cut() -> None:
    assert text.shown('a"\r\n\x1b[2J\u202e\\') == r'"a\"\r\n\x1b[2J\u202e\\"'
    assert text.shown("x" * 500) == '"' + "x" * 80 + '…"'


@pytest.mark.parametrize("prefix", [access.API_KEY, access.CONNECT_SECRET])
@pytest.mark.parametrize("around", ["{}", "/path?key={}&x=1", "see {}, please", "\n{}\n", "x" * 60 + "{}"])
def test_a_credential_is_masked_wherever_it_was_pasted(prefix: str, around: str) -> None:
    secret = access.mint(prefix).reveal()
    for repeated in (text.shown(around.format(secret)), text.escape(around.format(secret))):
        assert secret[len(prefix) + 1 :][:12] not in repeated
        assert f"{prefix}_***" in repeated


@given(st.text())
def test_escaped_text_is_one_printable_line(given: str) -> None:
    assert text.escape(given).isprintable()
    assert text.shown(given).isprintable()
    if given.isascii() and "wh" not in given:
        assert text.escape(given).encode("ascii").decode("unicode_escape") == given
