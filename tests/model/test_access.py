from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.errors import InputError
from wellhead.model import access
from wellhead.model.access import ADMIN, Scope, ScopeKind, Secret

CANARY = "wh_canary-4f2a"


@dataclass(frozen=True)
class Holder:
    secret: Secret


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        format,
        ascii,
        lambda s: f"{s}",
        lambda s: f"{s!r:>40}",
        lambda s: f"{s:>40}",
        lambda s: "%s %r" % (s, s),  # noqa: UP031
        lambda s: repr([s, {"key": s}]),
        lambda s: repr(Holder(s)),
        lambda s: repr(asdict(Holder(s))),
        lambda s: repr(copy.deepcopy([s])),
        lambda s: repr(copy.copy(s)),
        lambda s: repr(ValueError(s)),
    ],
)
def test_a_secret_never_shows(show: Callable[[Secret], str]) -> None:
    text = show(Secret(CANARY))
    assert "canary" not in text
    assert "***" in text


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_is_not_pickled_not_even_in_something_else(protocol: int) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(Holder(Secret(CANARY)), protocol)


def test_a_secret_has_no_ways_around() -> None:
    secret: Any = Secret(CANARY)
    for way in (vars, json.dumps, hash, iter, len, lambda s: s.__getstate__(), lambda s: s + "x"):
        with pytest.raises(TypeError):
            way(secret)


def test_secrets_are_equal_by_text_and_to_nothing_else() -> None:
    assert Secret(CANARY) == Secret(CANARY)
    assert Secret(CANARY) != Secret(CANARY + "x")
    assert Secret(CANARY) != CANARY
    assert Secret("é\ud800") == Secret("é\ud800")
    assert not Secret("") and Secret("x")


@pytest.mark.parametrize("prefix", [access.API_KEY, access.CONNECT_SECRET])
def test_a_minted_credential_is_typed_checked_and_holds_256_random_bits(prefix: str) -> None:
    secret = access.mint(prefix)
    text = secret.reveal()
    assert text.startswith(prefix + "_") and len(text) == len(prefix) + 1 + 8 + 43 + 6
    assert text.isascii() and text.replace("_", "").isalnum()
    assert access.well_formed(secret, prefix)
    assert 62**43 >= 2**256
    assert len({access.mint(prefix).reveal() for _ in range(100)}) == 100
    assert access.handle_of(secret) == text[len(prefix) + 1 :][:8]
    assert access.last4(secret) == text[-4:]


def test_a_key_is_no_connect_secret() -> None:
    assert not access.well_formed(access.mint(access.API_KEY), access.CONNECT_SECRET)
    assert not access.well_formed(access.mint(access.CONNECT_SECRET), access.API_KEY)


@given(st.integers(0, 59), st.characters(exclude_categories=["Cs"]))
def test_a_typing_error_is_noticed(position: int, char: str) -> None:
    text = access.mint(access.API_KEY).reveal()
    typed = text[:position] + char + text[position + 1 :]
    assert access.well_formed(Secret(typed), access.API_KEY) == (typed == text)


@given(st.text())
def test_any_text_has_a_digest_a_handle_and_a_verdict(text: str) -> None:
    secret = Secret(text)
    assert len(access.digest(secret)) == 32
    assert len(access.handle_of(secret)) in (0, 8)
    assert not access.well_formed(secret, "wh") or text.startswith("wh_")


def test_nothing_matches_a_record_that_is_not_there() -> None:
    secret = access.mint("wh")
    assert access.matches(secret, access.digest(secret))
    assert not access.matches(secret, access.digest(access.mint("wh")))
    assert not access.matches(secret, None)


@pytest.mark.parametrize("text", ["admin", "tunnel:4c5e"])
def test_a_scope_is_read_and_written_alike(text: str) -> None:
    assert str(Scope.parse(text)) == text


@pytest.mark.parametrize("text", ["", "Admin", "tunnel", "tunnel:", "hosts:x", "admin:x", "admin "])
def test_other_words_are_no_scopes(text: str) -> None:
    with pytest.raises(InputError):
        Scope.parse(text)


def test_admin_reaches_every_tunnel_and_a_tunnel_scope_its_own() -> None:
    mine = (Scope(ScopeKind.TUNNEL, "a"),)
    assert access.may_use_tunnel((ADMIN,), "a") and access.is_admin((ADMIN,))
    assert access.may_use_tunnel(mine, "a") and not access.is_admin(mine)
    assert not access.may_use_tunnel(mine, "b")
    assert not access.may_use_tunnel((), "a")
