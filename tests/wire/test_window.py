"""Window arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.errors import FlowError
from wellhead.wire.window import (
    BUSY_SECONDS,
    INITIAL_WINDOW,
    LARGEST_GROWN,
    MAX_CREDIT,
    MIN_WINDOW,
    PROVEN_BYTES,
    due,
    fitted,
    granted,
    is_due,
    lag,
    may_grow,
)

sizes = st.integers(MIN_WINDOW, LARGEST_GROWN)


@given(sizes, st.lists(st.integers(1, 100_000)))
def test_credit_is_announced_in_pieces_of_at_least_half_a_window_and_none_is_forgotten(
    size: int, consumed: list[int]
) -> None:
    owed = announced = 0
    for count in consumed:
        owed += count
        if is_due(owed, size):
            assert owed * 2 >= size
            announced += owed
            owed = 0
    assert announced + owed == sum(consumed)
    assert owed * 2 < size


@given(sizes)
def test_of_a_distant_stream_less_is_owed_before_it_is_announced(size: int) -> None:
    assert is_due(due(size, None), size) and not is_due(due(size, 0.004) - 1, size)
    assert due(size, None) == due(size, 0.004)
    assert 0 <= 4 * due(size, 0.005) - size < 4


@given(st.integers(0, MAX_CREDIT), st.integers(1, 2**32 - 1))
def test_granted_credit_adds_up_or_is_refused(credit: int, added: int) -> None:
    if credit + added <= MAX_CREDIT:
        assert granted(credit, added) == credit + added
    else:
        with pytest.raises(FlowError, match="at most"):
            granted(credit, added)


def test_credit_of_nothing_is_an_error() -> None:
    with pytest.raises(FlowError, match="0 bytes"):
        granted(5, 0)


def fit(size: int, count: int, seconds: float, rtt_min: float) -> int:
    return fitted(size, count, seconds, rtt_min, INITIAL_WINDOW, LARGEST_GROWN)


@given(
    st.integers(INITIAL_WINDOW, LARGEST_GROWN),
    st.integers(0, 2**40),
    st.floats(0, 1e6, allow_nan=False),
    st.floats(0, 100, allow_nan=False),
)
def test_a_window_at_most_doubles_or_halves_within_its_bounds(
    size: int, count: int, seconds: float, rtt_min: float
) -> None:
    after = fit(size, count, seconds, rtt_min)
    assert max(size // 2, INITIAL_WINDOW) <= after <= min(2 * size, LARGEST_GROWN)


def test_a_fast_and_distant_stream_gets_twice_its_bandwidth_delay_product() -> None:
    # 4 MB/s over 50 ms: 200 kB on the way
    assert fit(INITIAL_WINDOW, 4_000_000, 1.0, 0.050) == 400_000


def test_a_near_stream_needs_no_more_than_the_first_window_however_fast_it_is() -> None:
    # 1 GB/s over 100 us: 100 kB on the way
    assert fit(INITIAL_WINDOW, 1_000_000_000, 1.0, 0.0001) == INITIAL_WINDOW


def test_a_near_reader_gets_a_larger_window_when_it_has_shown_that_it_reads() -> None:
    assert not may_grow(PROVEN_BYTES - 1, 0.001)
    assert may_grow(PROVEN_BYTES, 0.001)
    assert may_grow(0, 0.050)


def test_a_proven_reader_alone_is_given_room_for_the_time_that_two_busy_loops_take() -> None:
    assert lag(PROVEN_BYTES - 1, 0.0001, True) == 0.0001
    assert lag(PROVEN_BYTES, 0.0001, True) == BUSY_SECONDS
    assert lag(PROVEN_BYTES, 0.050, True) == 0.050


def test_room_that_others_would_wait_behind_is_not_given() -> None:
    assert lag(PROVEN_BYTES, 0.0001, False) == 0.0001


@pytest.mark.parametrize(
    ("bytes_per_second", "size"), [(50_000_000, INITIAL_WINDOW), (400_000_000, 1_600_000)]
)
def test_the_window_of_a_near_and_proven_reader_follows_its_speed(bytes_per_second: int, size: int) -> None:
    found = INITIAL_WINDOW
    for _ in range(10):
        found = fit(found, bytes_per_second, 1.0, lag(PROVEN_BYTES, 0.0001, True))
    assert found == size


def test_the_window_of_a_reader_that_has_become_slow_shrinks_to_the_first_one() -> None:
    size = LARGEST_GROWN
    for _ in range(4):
        size = fit(size, 100_000, 1.0, 0.050)
    assert size == INITIAL_WINDOW


def test_a_window_stays_where_it_is_somewhat_too_large() -> None:
    assert fit(1_000_000, 3_000_000, 1.0, 0.050) == 1_000_000  # 300 kB would do now


def test_a_measure_over_next_to_no_time_is_bounded_like_any_other() -> None:
    assert fit(INITIAL_WINDOW, 2**40, 5e-324, 100.0) == 2 * INITIAL_WINDOW


def test_no_time_changes_nothing() -> None:
    assert fit(INITIAL_WINDOW, 10**9, 0.0, 1.0) == INITIAL_WINDOW
