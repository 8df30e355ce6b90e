from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from wellhead.model.usage import Day, Load, Run, Timeline, by_day

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)

moments = st.integers(0, 5 * 24 * 60).map(lambda minutes: NOON + timedelta(minutes=minutes))
runs = st.lists(
    st.builds(
        lambda vcpus, memory, begin, end: Run(vcpus, memory, min(begin, end), max(begin, end)),
        st.integers(1, 8),
        st.integers(64, 4096),
        moments,
        moments,
    ),
    max_size=20,
)


def test_the_load_of_a_moment_is_of_those_that_run_then() -> None:
    timeline = Timeline.of([Run(2, 512, NOON, NOON + HOUR), Run(1, 256, NOON + HOUR, NOON + 3 * HOUR)])
    assert timeline.at(NOON - HOUR) == Load()
    assert timeline.at(NOON) == Load(1, 2, 512)
    assert timeline.at(NOON + HOUR) == Load(1, 1, 256), "one was over when the other began"
    assert timeline.at(NOON + 3 * HOUR) == Load()
    assert timeline.peaks() == Load(1, 2, 512)
    assert Timeline.of([]).at(NOON) == Load() == Timeline.of([]).peaks()


@given(runs, moments)
def test_a_timeline_counts_as_one_does_by_hand(runs: list[Run], moment: datetime) -> None:
    there = [run for run in runs if run.began_at <= moment < run.ended_at]
    expected = Load(len(there), sum(run.vcpus for run in there), sum(run.memory_mb for run in there))
    assert Timeline.of(runs).at(moment) == expected


def test_a_run_over_midnight_is_of_both_days() -> None:
    days = by_day([Run(2, 100, NOON, NOON + 13 * HOUR)], date(2026, 3, 1), date(2026, 3, 3))
    assert days == [
        Day(date(2026, 3, 1), 2 * 12 * 60, 100 * 12 * 60),
        Day(date(2026, 3, 2), 2 * 60, 100 * 60),
        Day(date(2026, 3, 3)),
    ]


@given(runs)
def test_no_minute_is_lost_between_days(runs: list[Run]) -> None:
    days = by_day(runs, NOON.date(), NOON.date() + timedelta(days=6))
    minutes = sum(run.vcpus * (run.ended_at - run.began_at).total_seconds() / 60 for run in runs)
    assert abs(sum(day.cpu_minutes for day in days) - minutes) < 1e-6
    before = by_day(runs, NOON.date() - timedelta(days=2), NOON.date() - timedelta(days=1))
    assert all(day.cpu_minutes == 0 for day in before)
