from __future__ import annotations

from wellhead.edge.wants import APART_SECONDS, AT_ONCE, Wants


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_name_is_told_once_and_again_after_a_while() -> None:
    told, clock = list[str](), Clock()
    wants = Wants(told.append, clock)
    assert wants.want("a.org") and not wants.want("a.org") and wants.want("b.org")
    clock.now = APART_SECONDS - 0.1
    assert not wants.want("a.org")
    clock.now = APART_SECONDS
    assert wants.want("a.org")
    assert told == ["a.org", "b.org", "a.org"]


def test_a_crowd_of_names_is_told_of_in_part() -> None:
    told, clock = list[str](), Clock()
    wants = Wants(told.append, clock)
    for number in range(AT_ONCE + 5):
        wants.want(f"n{number}.org")
    assert len(told) == AT_ONCE
    clock.now = APART_SECONDS
    assert wants.want("late.org")
