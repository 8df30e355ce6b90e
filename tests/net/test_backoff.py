from __future__ import annotations

import random
from itertools import pairwise

import pytest

from wellhead.errors import DialError, QuotaExceeded
from wellhead.net.backoff import PAUSES_SECONDS, Backoff


def longest(low: float, high: float) -> float:
    return high


def shortest(low: float, high: float) -> float:
    return low


def test_the_first_retry_comes_within_a_second() -> None:
    assert Backoff(longest).pause() == 1.0


def test_pauses_grow_up_to_five_seconds() -> None:
    backoff = Backoff(longest)
    assert [backoff.pause() for _ in range(5)] == [1.0, 4.0, 5.0, 5.0, 5.0]


def test_the_first_two_may_be_as_short_as_nothing_and_later_ones_not() -> None:
    backoff = Backoff(shortest)
    assert [backoff.pause() for _ in range(5)] == [0.0, 0.0, 3.0, 3.0, 3.0]


def test_after_a_reset_pauses_begin_anew() -> None:
    backoff = Backoff(longest)
    for _ in range(6):
        backoff.pause()
    backoff.reset()
    assert backoff.pause() == PAUSES_SECONDS[0][1]


def test_an_error_that_names_a_time_is_waited_for() -> None:
    asked = QuotaExceeded("later", retry_after_seconds=60.0)
    assert Backoff(shortest).pause(asked) == 60.0
    assert Backoff(shortest).pause(DialError("nobody")) == 0.0


def test_many_who_fail_together_do_not_come_back_together() -> None:
    chance = random.Random(4)
    pauses = sorted(Backoff(chance.uniform).pause() for _ in range(1000))
    assert max(later - earlier for earlier, later in pairwise(pauses)) < 0.02


@pytest.mark.parametrize("gone_seconds", [1, 2, 3, 4, 6, 10, 30, 300])
def test_however_long_an_edge_was_gone_few_ask_at_once_and_all_within_five_seconds(gone_seconds: int) -> None:
    chance = random.Random(gone_seconds)
    late = sorted(_asks_after(gone_seconds, Backoff(chance.uniform)) for _ in range(4000))
    assert sum(seconds < 1.0 for seconds in late) <= 0.30 * len(late)
    assert late[-1] <= 5.0


def _asks_after(gone_seconds: float, backoff: Backoff) -> float:
    """How long after an edge's return one agent asks it, that asked in vain until then."""
    now = 0.0
    while now < gone_seconds:
        now += backoff.pause()
    return now - gone_seconds
