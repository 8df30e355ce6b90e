"""Rates: what a minute holds, and how many callers are remembered."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wellhead.model.rates import CALLERS_MAX, Rate


class Monotonic:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(st.integers(1, 600), st.lists(st.floats(0, 30), min_size=1, max_size=300))
def test_no_minute_holds_more_than_twice_its_worth_and_the_wait_is_enough(
    per_minute: int, gaps: list[float]
) -> None:
    clock = Monotonic()
    rate, taken = Rate(per_minute, clock), []
    for gap in gaps:
        clock.now += gap
        if wait := rate.wait("a"):
            clock.now += wait + 1e-6
            assert rate.wait("a") == 0
        rate.count("a")
        taken.append(clock.now)
    for start in taken:
        # What was saved up and what came meanwhile.
        assert sum(start <= at < start + 60 for at in taken) <= 2 * per_minute + 1
    assert rate.wait("b") == 0


def test_callers_remembered_are_bounded() -> None:
    rate = Rate(10, Monotonic())
    for number in range(CALLERS_MAX + 100):
        rate.count(str(number))
    assert len(rate._whole) == CALLERS_MAX
