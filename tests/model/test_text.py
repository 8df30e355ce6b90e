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


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("/lab?token=abc&x=1", "/lab?token=***&x=1"),
        ("/cb?state=s&code=abc;Access_Token=d", "/cb?state=s&code=***;Access_Token=***"),
        ("/f?X-Amz-Signature=a&X-Amz-Security-Token=b&X-Amz-Date=c", None),
        ("/?%74oken=abc", "/?%74oken=***"),
        (
            "/?api_key=a&apikey=b&api-key=c&client_secret=d",
            "/?api_key=***&apikey=***&api-key=***&client_secret=***",
        ),
        ("/?password=a=b&next=/?token=c", "/?password=***&next=/?token=***"),
        ("/token=abc/x", "/token=abc/x"),
        ("/?q=token&tokens", "/?q=token&tokens"),
        ("/?token=", "/?token="),
        ("*", "*"),
    ],
)
def test_secrets_in_a_query_are_masked_and_the_rest_stays(target: str, told: str | None) -> None:
    expected = told or "/f?X-Amz-Signature=***&X-Amz-Security-Token=***&X-Amz-Date=c"
    assert text.mask_query(target) == expected


@pytest.mark.parametrize("piece", ["token", "?", "&", "?a", "a=&", "%"])
def test_a_long_query_is_looked_at_once(piece: str) -> None:
    """Of what takes the square of its length this one would take hours."""
    hostile = "/?" + piece * 400_000 + "="
    assert text.mask_query(hostile) is not None
