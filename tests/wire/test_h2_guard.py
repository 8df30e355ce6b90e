"""Each budget on both sides: what is allowed for ever, and the one that is too many."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.errors import H2Error
from wellhead.wire.h2_frames import ErrorCode
from wellhead.wire.h2_guard import Bucket, Guard, H2Terms

NOW = 5000.0


def refused(act: Callable[[], None]) -> str:
    with pytest.raises(H2Error) as caught:
        act()
    assert caught.value.error_code == ErrorCode.ENHANCE_YOUR_CALM
    return caught.value.reason


@given(st.integers(1, 50), st.integers(1, 50), st.lists(st.floats(0, 2), max_size=200))
def test_a_bucket_allows_its_burst_and_its_rate_and_no_more(burst: int, rate: int, gaps: list[float]) -> None:
    bucket = Bucket(burst, rate)
    now, allowed = NOW, 0
    for gap in gaps:
        now += gap
        if not bucket.pour(now):
            break
        allowed += 1
    assert allowed <= burst + rate * (now - NOW) + 1e-6 * len(gaps)


def test_resets_at_the_rate_are_allowed_for_ever() -> None:
    guard = Guard(H2Terms(reset_burst=200, resets_per_second=50))
    for number in range(10_000):
        guard.opened()
        guard.reset(NOW + number / 50, age=2.0)


def test_resets_in_a_burst_are_allowed_up_to_the_burst() -> None:
    guard = Guard(H2Terms(reset_burst=200, resets_per_second=50))
    for _ in range(200):
        guard.reset(NOW, age=2.0)
    assert refused(lambda: guard.reset(NOW, age=2.0)) == "rapid-reset"


def test_streams_of_which_most_are_reset_at_once_are_too_many() -> None:
    guard = Guard(H2Terms(reset_burst=10_000))
    for _ in range(200):
        guard.opened()
    for _ in range(100):
        guard.reset(NOW, age=0.9)
    assert refused(lambda: guard.reset(NOW, age=0.9)) == "rapid-reset"


def test_few_streams_may_all_be_reset_and_old_ones_do_not_count_as_early() -> None:
    guard = Guard(H2Terms(reset_burst=10_000))
    for _ in range(199):
        guard.opened()
        guard.reset(NOW, age=0.0)
    aged = Guard(H2Terms(reset_burst=10_000))
    for _ in range(1000):
        aged.opened()
        aged.reset(NOW, age=1.0)


RATES: dict[str, tuple[Callable[[Guard, float], None], int, float]] = {
    "made-you-reset": (Guard.violation, 100, 33),
    "settings-flood": (Guard.settings, 50, 50),
    "ping-flood": (Guard.ping, 100, 100),
}


@pytest.mark.parametrize("word", RATES)
def test_a_rate_is_allowed_for_ever_and_its_burst_once(word: str) -> None:
    act, burst, rate = RATES[word]
    guard = Guard(H2Terms())
    for number in range(1000):
        act(guard, NOW + number / rate)
    fresh = Guard(H2Terms())
    for _ in range(burst):
        act(fresh, NOW)
    assert refused(lambda: act(fresh, NOW)) == word


def test_empty_frames_are_allowed_ten_in_a_row_and_a_hundred_a_second() -> None:
    guard = Guard(H2Terms())
    for number in range(2000):
        if number % 10 == 0:
            guard.filled()
        guard.empty(NOW + number / 100)
    guard.filled()
    for _ in range(10):
        guard.empty(NOW + 100)
    assert refused(lambda: guard.empty(NOW + 100)) == "empty-frames"
    fresh = Guard(H2Terms())
    for _ in range(100):
        fresh.filled()
        fresh.empty(NOW)
    fresh.filled()
    assert refused(lambda: fresh.empty(NOW)) == "empty-frames"


def test_priorities_are_allowed_in_proportion_to_streams() -> None:
    guard = Guard(H2Terms())
    guard.opened()
    for _ in range(200):
        guard.priority()
    assert refused(guard.priority) == "priority-flood"


def test_window_updates_are_allowed_in_proportion_to_streams_and_data() -> None:
    guard = Guard(H2Terms())
    guard.opened()
    guard.data_sent = 3
    for _ in range(5 + 2 * (1 + 30)):
        guard.window_update()
    assert refused(guard.window_update) == "window-update-flood"


def test_a_peer_may_be_allowed_to_credit_in_smaller_pieces() -> None:
    guard = Guard(H2Terms(updates_per_data=64))
    guard.data_sent = 3
    for _ in range(5 + 2 * 64 * 3):
        guard.window_update()
    assert refused(guard.window_update) == "window-update-flood"


def test_waiting_answers_are_bounded() -> None:
    guard = Guard(H2Terms(max_control_replies=1000))
    guard.replies(1000)
    assert refused(lambda: guard.replies(1001)) == "control-replies"


def test_glitches_are_forgotten_by_half_each_second() -> None:
    guard = Guard(H2Terms(max_glitches=100))
    for second in range(100):
        for _ in range(49):  # 49 a second add up to 98
            guard.glitch(NOW + second)
    fresh = Guard(H2Terms(max_glitches=100))
    for _ in range(100):
        fresh.glitch(NOW)
    assert refused(lambda: fresh.glitch(NOW)) == "glitches"
