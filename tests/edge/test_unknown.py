from __future__ import annotations

from wellhead.edge.unknown import UnknownNames


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_minutes_worth_may_come_at_once_and_no_more() -> None:
    for most in (1, 7, 600):
        names = UnknownNames(most, Clock())
        assert [names.take() for _ in range(most + 2)] == [True] * most + [False] * 2


def test_who_is_refused_is_not_counted_and_each_step_of_time_allows_one_more() -> None:
    clock = Clock()
    names = UnknownNames(6, clock)
    while names.take():
        pass
    for _ in range(20):
        clock.now += 10.0
        assert names.take()
        assert not names.take()
    clock.now += 3600
    assert [names.take() for _ in range(7)] == [True] * 6 + [False]
