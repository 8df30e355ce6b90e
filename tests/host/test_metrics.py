"""What sandboxes took, over time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.kit.runtimes import FakeRuntime, FakeTemplates
from wellhead.errors import HostInvalid, HostNotFound
from wellhead.host.asked import Asked
from wellhead.host.capacity import Capacity
from wellhead.host.metrics import Metrics, Point, Ring
from wellhead.host.runtime.runtime import Usage
from wellhead.host.sandboxes import Sandboxes
from wellhead.host.table import Table
from wellhead.model.sandboxes import new_sandbox_id


def _usage(cpu_seconds: float, memory: int = 1000) -> Usage:
    return Usage(cpu_seconds, memory, 2000, 3)


def test_a_ring_keeps_the_last_points_in_order_and_no_more() -> None:
    ring = Ring(1.0, 3)
    for second in range(6):
        ring.add(float(second), _usage(second * 0.5, memory=second))
    assert ring.points(0.0) == [Point(at, 50.0, int(at), 2000) for at in (3.0, 4.0, 5.0)]
    assert ring.points(4.0) == [Point(5.0, 50.0, 5, 2000)]
    assert ring.latest() == Point(5.0, 50.0, 5, 2000)


def test_a_coarse_ring_has_the_mean_of_all_that_was_between_two_points() -> None:
    ring = Ring(30.0, 10)
    for tick in range(121):
        ring.add(tick / 2, _usage(20.0 if tick >= 40 else 0.0))
    assert [(point.at, round(point.cpu_percent, 3)) for point in ring.points(0.0)] == [
        (30.0, 66.667),
        (60.0, 0.0),
    ]


async def _sampled(state: Path) -> None:
    now = 1e9
    runtime = FakeRuntime(state)
    table = Table(wall=lambda: now)
    sandboxes = Sandboxes(table, runtime, FakeTemplates(), Capacity(8, 4096, 10**6, 4), state)
    metrics = Metrics(table, runtime)
    sandbox = new_sandbox_id()
    await sandboxes.create(Asked(sandbox, "minimal"))
    await metrics.sample()  # it cannot be measured yet, which is no failure
    assert metrics.points(sandbox, "10m") == [] and metrics.usage(sandbox) is None
    for tick in range(2 * 700):
        now = 1e9 + tick / 2
        runtime.usages[sandbox] = _usage(tick / 4)
        await metrics.sample()
    fine, coarse = metrics.points(sandbox, "5m"), metrics.points(sandbox, "2h")
    assert (len(fine), len(metrics.points(sandbox, "10m")), len(coarse)) == (600, 1200, 23)
    assert {round(point.cpu_percent) for point in fine + coarse} == {50}
    assert len(metrics.points(sandbox, "24h")) == 2
    latest = metrics.latest(sandbox)
    assert latest is not None and latest.at == now
    await sandboxes.pause(sandbox)
    now += 1
    await metrics.sample()
    assert metrics.latest(sandbox) == latest
    with pytest.raises(HostInvalid, match='range "3m" is none of 5m, 10m'):
        metrics.points(sandbox, "3m")
    await sandboxes.destroy(sandbox)
    await metrics.sample()
    assert metrics.usage(sandbox) is None
    with pytest.raises(HostNotFound):
        metrics.points(sandbox, "10m")


def test_samples_of_a_sandbox_are_kept_finely_for_minutes_and_coarsely_for_a_day(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    asyncio.run(_sampled(tmp_path))
