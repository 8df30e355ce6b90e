from __future__ import annotations

import random
from itertools import pairwise

from wellhead.errors import DialError, QuotaExceeded
from wellhead.net.backoff import CAP_SECONDS, FIRST_SECONDS, Backoff


def longest(low: float, high: float) -> float:
    return high


def shortest(low: float, high: float) -> float:
    return low


def test_the_first_retry_comes_within_a_second() -> None:
    assert Backoff(longest).pause() == FIRST_SECONDS == 1.0


def test_pauses_grow_by_two_up_to_ten_seconds() -> None:
    backoff = Backoff(longest)
    assert [backoff.pause() for _ in range(8)] == [1.0, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]


def test_every_pause_may_be_as_short_as_nothing() -> None:
    backoff = Backoff(shortest)
    assert {backoff.pause() for _ in range(8)} == {0.0}


def test_after_a_reset_pauses_begin_anew() -> None:
    backoff = Backoff(longest)
    for _ in range(6):
        backoff.pause()
    backoff.reset()
    assert backoff.pause() == FIRST_SECONDS


def test_an_error_that_names_a_time_is_waited_for() -> None:
    asked = QuotaExceeded("later", retry_after_seconds=60.0)
    assert Backoff(shortest).pause(asked) == 60.0
    assert Backoff(shortest).pause(DialError("nobody")) == 0.0


def test_many_who_fail_together_do_not_come_back_together() -> None:
    chance = random.Random(4)
    pauses = sorted(Backoff(chance.uniform).pause() for _ in range(1000))
    assert max(later - earlier for earlier, later in pairwise(pauses)) < 0.02


def test_a_thousand_failures_do_not_overflow() -> None:
    backoff = Backoff(longest)
    assert [backoff.pause() for _ in range(2000)][-1] == CAP_SECONDS
