from __future__ import annotations

import datetime as dt

import pytest

from wellhead.control.renewal_plan import Life, covered, is_due, is_wish, own_names, pause_after, renew_at

NOON = dt.datetime(2030, 1, 1, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


@pytest.mark.parametrize(
    ("zone", "wildcard", "names"),
    [
        ("example.org", True, [("*.example.org", "example.org")]),
        ("zone.example.org", True, [("*.example.org", "example.org")]),
        ("a.zone.example.org", True, [("*.example.org", "example.org"), ("a.zone.example.org",)]),
        ("edge.example.net", True, [("*.example.org", "example.org"), ("edge.example.net",)]),
        ("192.0.2.1", True, [("*.example.org", "example.org")]),
        ("2001:db8::1", False, [("example.org",)]),
        ("zone.example.org", False, [("example.org",), ("zone.example.org",)]),
        ("example.org", False, [("example.org",)]),
    ],
)
def test_the_servers_own_names_are_the_domain_and_the_zone(
    zone: str, wildcard: bool, names: list[tuple[str, ...]]
) -> None:
    assert own_names("example.org", zone, wildcard=wildcard) == names


def test_a_wildcard_covers_one_label() -> None:
    names = ("*.example.org", "example.org")
    assert covered("a.example.org", names) and covered("example.org", names)
    assert not covered("a.b.example.org", names) and not covered("example.net", names)


def test_a_renewal_is_due_in_the_last_half_of_a_life_or_when_it_was_suggested() -> None:
    life = Life(NOON, NOON + 90 * DAY)
    assert not is_due(life, None, NOON + 44 * DAY) and is_due(life, None, NOON + 45 * DAY)
    assert is_due(life, NOON + DAY, NOON + DAY) and not is_due(life, NOON + 2 * DAY, NOON + DAY)


def test_another_time_within_a_window_is_no_wish_but_one_that_has_come_is() -> None:
    life, at = Life(NOON, NOON + 100 * DAY), NOON + 60 * DAY
    assert is_wish(at, life, NOON + 54 * DAY, NOON)
    assert not is_wish(at, life, NOON + 56 * DAY, NOON) and not is_wish(at, life, NOON + 70 * DAY, NOON)
    now = NOON + 59 * DAY
    assert is_wish(at, life, now, now) and not is_wish(now, life, now, now)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_chance_moves_a_renewal_within_the_last_third_of_the_life(share: float) -> None:
    life = Life(NOON, NOON + 90 * DAY)
    left = life.ends - renew_at(life, share)
    assert 25 * DAY <= left <= 30 * DAY


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_pauses_double_up_to_six_hours_with_a_quarter_more_or_less(share: float) -> None:
    pauses = [pause_after(n, "refused", share, None, None) for n in range(1, 40)]
    factor = 0.75 + share / 2
    assert pauses[0] == dt.timedelta(minutes=1) * factor
    assert pauses[-1] == dt.timedelta(hours=6) * factor
    assert pause_after(1, "away", 0.5, None, None) == dt.timedelta(seconds=5)
    assert pause_after(1, "away", 0.5, None, 100) == dt.timedelta(seconds=100)


def test_no_pause_is_long_beside_the_certificates_life() -> None:
    short = Life(NOON, NOON + dt.timedelta(minutes=2))
    assert pause_after(20, "refused", 0.5, short, None) == dt.timedelta(seconds=5)
    week = Life(NOON, NOON + 6 * DAY)
    assert pause_after(20, "refused", 0.5, week, None) < dt.timedelta(hours=3)
