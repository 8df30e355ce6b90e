"""A hello's answer: what an agent of ours makes of whatever an edge says."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.errors import HelloError
from wellhead.wire.intake_hello import IDLE_SECONDS, MAX_HELLO_ANSWER, MAX_POOL, Hello

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=8,
)


def answer(**members: object) -> Hello:
    return Hello.read(json.dumps({"owner_token": "t", **members}).encode())


@given(
    st.from_regex(r"[!-~]{1,40}", fullmatch=True),
    st.integers(1, MAX_POOL),
    st.floats(0.1, 86400),
    st.one_of(st.none(), st.floats(0.1, 86400)),
)
def test_what_is_written_is_read(token: str, pool: int, idle: float, deadline: float | None) -> None:
    hello = Hello(token, pool, idle, deadline)
    assert Hello.read(hello.encode()) == hello


def test_only_the_token_has_to_be_told() -> None:
    assert answer() == Hello("t", 0, IDLE_SECONDS, None)
    assert answer(unknown=[1]) == answer()


@pytest.mark.parametrize(
    "pool, taken", [(8, 8), (100, MAX_POOL), (-3, 0), (0, 0), ("8", 0), (True, 0), (2.5, 0)]
)
def test_a_pool_is_kept_within_its_bounds_and_odd_ones_count_as_not_told(pool: object, taken: int) -> None:
    assert answer(default_pool_size=pool).pool == taken


@pytest.mark.parametrize("odd", [0, -1, "30", True, None, 1e9, [], float("nan"), float("inf")])
def test_an_odd_length_of_time_counts_as_not_told(odd: object) -> None:
    hello = answer(intake_idle_seconds=odd, response_deadline_seconds=odd)
    assert (hello.idle_seconds, hello.deadline_seconds) == (IDLE_SECONDS, None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"[" * 50_000,
        b"{}",
        b'{"owner_token":""}',
        b'{"owner_token":7}',
        b'{"owner_token":"a b"}',
        b'{"owner_token":"a\\r\\nb"}',
        b'{"owner_token":"\\u00e4"}',
        b'{"owner_token":"' + b"x" * MAX_HELLO_ANSWER + b'"}',
    ],
)
def test_an_answer_without_a_token_that_can_be_sent_is_refused(body: bytes) -> None:
    with pytest.raises(HelloError):
        Hello.read(body)


@given(st.dictionaries(st.sampled_from(["owner_token", "default_pool_size", "wellhead"]), JSON))
def test_whatever_an_edge_says_is_read_or_refused(members: dict[str, object]) -> None:
    try:
        hello = Hello.read(json.dumps(members).encode())
    except HelloError:
        return
    assert hello.owner_token == members["owner_token"] and 0 <= hello.pool <= MAX_POOL
