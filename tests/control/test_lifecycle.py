"""A tunnel's secret and end: rotation, removal for good, and the duty that does it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.control.conftest import Clock
from wellhead.control.store import Store
from wellhead.control.store.duty import SIGHTING_SECONDS, Duty, Sightings, SteadyClock
from wellhead.control.store.rows import Filter
from wellhead.errors import ApiError, NotFound, SecretRejected, Unavailable
from wellhead.model.access import Secret
from wellhead.model.records import RESTORE_GRACE, OrganizationId, TlsMode, TunnelId, TunnelStatus


async def created(api: httpx.AsyncClient, name: str = "my-agent") -> tuple[str, Secret]:
    body = (await api.post("/tunnels/", json={"tunnel_name": name})).json()
    return f"/tunnels/{body['tunnel']['id']}", Secret(body["connect_secret"])


@pytest.mark.parametrize("hard", [False, True])
async def test_after_a_rotation_the_old_secret_fails_and_the_new_one_is_good(
    store: Store, api: httpx.AsyncClient, hard: bool
) -> None:
    ended: list[TunnelId] = []
    store.directory.on_removed(ended.append)
    path, old = await created(api)
    answer = await api.post(f"{path}/rotate-secret", params={"hard": "true"} if hard else None)
    assert answer.status_code == 200 and answer.json().keys() == {"connect_secret"}
    new = Secret(answer.json()["connect_secret"])
    assert (await store.directory.admit("my-agent", new, "", "")).tunnel.name == "my-agent"
    with pytest.raises(SecretRejected):
        await store.directory.admit("my-agent", old, "", "")
    assert bool(ended) == hard, "live sessions stay, but for a hard rotation"


async def test_a_rotation_outlives_the_process(file: Path) -> None:
    store = await Store.open(file)
    organization, _ = await store.create_organization("ours")
    row, old = await store.create_tunnel(organization, "my-agent", TlsMode.EDGE)
    new = await store.rotate_secret(organization, row.id)
    await store.close()
    store = await Store.open(file)
    await store.directory.admit("my-agent", new, "", "")
    with pytest.raises(SecretRejected):
        await store.directory.admit("my-agent", old, "", "")
    await store.close()


async def test_force_delete_is_for_what_is_pending_and_frees_the_name(
    store: Store, api: httpx.AsyncClient
) -> None:
    path, secret = await created(api)
    refused = await api.delete(f"{path}/force")
    assert (refused.status_code, refused.json()["detail"]) == (
        409,
        "tunnel my-agent is active, it cannot become deleted",
    )
    await api.delete(path)
    gone = await api.delete(f"{path}/force")
    assert (gone.status_code, gone.json()["status"]) == (200, "deleted")
    for method, target in (
        ("GET", path), ("DELETE", path), ("DELETE", f"{path}/force"), ("POST", f"{path}/restore"),
        ("POST", f"{path}/rotate-secret"),
    ):  # fmt: skip
        assert (await api.request(method, target)).status_code == 404
    assert (await api.get("/tunnels/")).json() == {"tunnels": []}
    with pytest.raises(SecretRejected):
        await store.directory.admit("my-agent", secret, "", "")
    again, other = await created(api)
    assert again != path
    assert (await store.directory.admit("my-agent", other, "", "")).tunnel.id == TunnelId(again[9:])


async def test_whatever_comes_together_ends_in_a_lawful_status(
    store: Store, organization: OrganizationId
) -> None:
    row, _ = await store.create_tunnel(organization, "my-agent", TlsMode.EDGE)
    moves: list[Callable[[OrganizationId, str], Awaitable[object]]]
    moves = [store.delete_tunnel, store.restore_tunnel, store.force_delete_tunnel, store.rotate_secret]
    order = itertools.islice(itertools.cycle(moves), 60)
    results = await asyncio.gather(*(move(organization, row.id) for move in order), return_exceptions=True)
    assert all(
        not isinstance(result, BaseException)
        or (isinstance(result, ApiError) and result.status in (404, 409))
        for result in results
    ), results
    live = store.directory.tunnel("my-agent")
    try:
        status = (await store.tunnel(organization, row.id)).status
    except NotFound:
        status = TunnelStatus.DELETED
    assert (live is not None) == (status is TunnelStatus.ACTIVE)


# The duty


async def test_what_is_overdue_is_released_after_two_sightings(
    store: Store, organization: OrganizationId, clock: Clock
) -> None:
    row, _ = await store.create_tunnel(organization, "my-agent", TlsMode.EDGE)
    await store.delete_tunnel(organization, row.id)
    clock.ahead = RESTORE_GRACE
    await store.ending.release_overdue(1000.0)
    await store.ending.release_overdue(1000.0 + SIGHTING_SECONDS - 1)
    assert (await store.tunnel(organization, row.id)).status is TunnelStatus.PENDING_REMOVAL
    await store.ending.release_overdue(1000.0 + SIGHTING_SECONDS)
    assert await store.tunnels(organization) == []
    again, _ = await store.create_tunnel(organization, "my-agent", TlsMode.EDGE)
    entries = await store.audit.page(organization, 2)
    assert [(entry.action, entry.key_id) for entry in entries] == [
        ("tunnel.create", None),
        ("tunnel.release", None),
    ]
    assert [found.id for found in await store.tunnels(organization, Filter(name="my-agent"))] == [again.id]


async def test_a_clock_that_jumps_and_is_put_right_releases_nothing(
    store: Store, organization: OrganizationId, clock: Clock
) -> None:
    row, _ = await store.create_tunnel(organization, "my-agent", TlsMode.EDGE)
    await store.delete_tunnel(organization, row.id)
    clock.ahead = timedelta(days=365)
    await store.ending.release_overdue(0.0)
    clock.ahead = timedelta()
    await store.ending.release_overdue(60.0)
    clock.ahead = timedelta(days=365)
    await store.ending.release_overdue(SIGHTING_SECONDS + 1)
    assert (await store.tunnel(organization, row.id)).status is TunnelStatus.PENDING_REMOVAL
    clock.ahead = timedelta()
    await store.restore_tunnel(organization, row.id)


def test_a_jump_of_the_clock_is_believed_when_it_has_lasted_and_not_before() -> None:
    wall, at = datetime(2026, 1, 1, tzinfo=UTC), 0.0
    clock = SteadyClock(lambda: wall, lambda: at)
    assert clock.now() == wall and clock.certain() is None, "a start may be in a wrong time"
    at, wall = at + SIGHTING_SECONDS, wall + timedelta(seconds=SIGHTING_SECONDS + 1)
    assert clock.now() == clock.certain() == wall, "a clock that is put right little by little is no jump"
    for day in (timedelta(days=1), timedelta(days=-1)):
        before, wall = wall, wall + day
        assert clock.now() == before and clock.certain() is None
        at, wall = at + SIGHTING_SECONDS - 1, wall + timedelta(seconds=SIGHTING_SECONDS - 1)
        assert clock.now() == before + timedelta(seconds=SIGHTING_SECONDS - 1)
        at, wall = at + 1, wall + timedelta(seconds=1)
        assert clock.now() == clock.certain() == wall


async def test_the_deadline_outlives_restarts(file: Path, clock: Clock) -> None:
    store = await Store.open(file, clock)
    organization, _ = await store.create_organization("ours")
    row, _ = await store.create_tunnel(organization, "my-agent", TlsMode.EDGE)
    await store.delete_tunnel(organization, row.id)
    await store.close()
    clock.ahead = RESTORE_GRACE + timedelta(hours=1)
    store = await Store.open(file, clock, lambda: 0.0)
    await store.ending.release_overdue(0.0)
    await store.ending.release_overdue(SIGHTING_SECONDS)
    assert await store.tunnels(organization) == []
    await store.close()
    store = await Store.open(file, clock)
    assert store.directory.tunnel("my-agent") is None and await store.tunnels(organization) == []
    await store.close()


@given(st.lists(st.tuples(st.floats(0, 300), st.booleans()), max_size=50))
def test_nothing_is_believed_that_was_not_seen_all_the_time(looks: list[tuple[float, bool]]) -> None:
    sightings, now, since = Sightings(), 0.0, None
    for passed, over in looks:
        now += passed
        since = (now if since is None else since) if over else None
        believed = sightings.over(["a"] if over else [], now)
        assert bool(believed) == (since is not None and now - since >= SIGHTING_SECONDS)


class Work:
    """What a duty calls; the first calls fail."""

    def __init__(self, errors: list[Exception]) -> None:
        self.errors: Iterator[Exception] = iter(errors)
        self.done = asyncio.Event()

    async def often(self) -> None:
        if error := next(self.errors, None):
            raise error
        self.done.set()

    async def release(self, now: float) -> None:
        pass


async def test_a_duty_goes_on_after_whatever_goes_wrong(caplog: pytest.LogCaptureFixture) -> None:
    work = Work([Unavailable(503, "locked"), ZeroDivisionError("a bug")])
    duty = Duty(work.often, work.release, tick_seconds=0.001)
    async with asyncio.timeout(5):
        await work.done.wait()
        await duty.close()
    said = [record.getMessage() for record in caplog.records]
    assert said == ['duty put off error="503: locked"', "duty failed"]


async def test_a_restored_tunnel_is_what_it_was(api: httpx.AsyncClient) -> None:
    body: dict[str, Any] = (
        await api.post(
            "/tunnels/", json={"tunnel_name": "my-agent", "description": "d", "metadata": {"a": 1}}
        )
    ).json()
    path = f"/tunnels/{body['tunnel']['id']}"
    await api.delete(path)
    restored = (await api.post(f"{path}/restore")).json()
    assert restored | {"updated_at": None} == body["tunnel"] | {"updated_at": None}
