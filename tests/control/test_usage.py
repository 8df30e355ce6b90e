from __future__ import annotations

from datetime import datetime, timedelta

import httpx
import pytest

from tests.control.conftest import Clock
from tests.kit.fake_hosts import FakeHost


@pytest.fixture
async def ran(api: httpx.AsyncClient, host: FakeHost, clock: Clock) -> str:
    """A sandbox of two CPUs that ran for an hour, two hours ago, and is paused."""
    made = await api.post("/sandboxes", json={"vcpus": 2, "memory_mb": 1024})
    clock.pass_by(timedelta(hours=1))
    await api.post(f"/sandboxes/{made.json()['id']}/pause")
    clock.pass_by(timedelta(hours=1))
    return str(made.json()["id"])


async def test_stats_tell_what_runs_and_what_ran(api: httpx.AsyncClient, ran: str) -> None:
    await api.post("/sandboxes", json={"memory_mb": 256})
    stats = (await api.get("/capsules/stats?range=6h")).json()
    assert stats["range"] == "6h"
    assert stats["current"] == {"running_count": 1, "vcpus_reserved": 1, "memory_mb_reserved": 256}
    assert stats["peaks"] == {"running_count": 1, "vcpus": 2, "memory_mb": 1024}
    series = stats["series"]
    assert len(series["labels"]) == len(series["running"]) == len(series["vcpus"]) == len(series["memory_mb"])
    assert all(datetime.fromisoformat(label).tzinfo is not None for label in series["labels"])
    assert set(series["vcpus"]) == {0, 2} and 9 <= series["vcpus"].count(2) <= 11, "an hour of six, of sixty"
    assert (await api.get("/capsules/stats")).json()["range"] == "1h"
    assert (await api.get("/capsules/stats?range=7h")).status_code == 422


async def test_usage_is_counted_by_the_day(api: httpx.AsyncClient, ran: str, clock: Clock) -> None:
    usage = (await api.get("/sandboxes/usage")).json()
    assert len(usage["points"]) == 31 and usage["to"] == clock().date().isoformat()
    assert sum(point["cpu_minutes"] for point in usage["points"]) == pytest.approx(120, abs=1)
    assert sum(point["ram_mb_minutes"] for point in usage["points"]) == pytest.approx(61440, rel=0.02)


async def test_usage_is_told_of_the_days_that_are_asked_for(
    api: httpx.AsyncClient, ran: str, clock: Clock
) -> None:
    today = clock().date()
    week = (today - timedelta(days=7)).isoformat()
    asked = (await api.get(f"/sandboxes/usage?from={week}&to={today.isoformat()}")).json()
    assert (asked["from"], asked["to"], len(asked["points"])) == (week, today.isoformat(), 8)
    none = (await api.get(f"/sandboxes/usage?from={today.isoformat()}&to={week}")).json()
    assert none["points"] == []
    all_time = (await api.get("/sandboxes/usage?from=0001-01-01&to=9999-12-31")).json()
    assert len(all_time["points"]) == 401 and all_time["to"] == today.isoformat()
    refused = await api.get("/sandboxes/usage?from=yesterday")
    assert refused.status_code == 422 and "YYYY-MM-DD" in refused.json()["error"]["message"]
