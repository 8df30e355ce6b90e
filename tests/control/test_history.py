"""How long is kept what is over."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select

from tests.control.conftest import PUBLIC, Clock
from tests.kit.control import built
from tests.kit.fake_hosts import FakeHost
from wellhead.control.store import Store
from wellhead.control.store.creation import Once, Terms
from wellhead.control.store.duty import SIGHTING_SECONDS
from wellhead.control.store.history import BATCH, KEPT, History
from wellhead.control.store.sandbox_tables import RunRow, SandboxOnceRow
from wellhead.control.store.tables import ApiKeyRow, AuditRow, Base, IdempotencyRow, TunnelRow
from wellhead.errors import Unavailable
from wellhead.model.access import ADMIN
from wellhead.model.records import KeyId, OrganizationId, TlsMode
from wellhead.settings import ServerSettings

TABLES: tuple[type[Base], ...] = (AuditRow, TunnelRow, ApiKeyRow, IdempotencyRow)


async def kept(store: Store) -> list[int]:
    """How many rows of each table there are."""
    async with store._database.reading() as session:
        return [await session.scalar(select(func.count()).select_from(each)) or 0 for each in TABLES]


@pytest.fixture
def history(store: Store, clock: Clock) -> History:
    """One that the store's own duty does not ask."""
    return History(store._database, store.directory.drop_key, clock)


async def ended(store: Store, ours: OrganizationId, clock: Clock) -> None:
    """A deleted tunnel, a revoked key and an expired one, beside what lives on."""
    for name in ("stays", "goes"):
        row = (await store.create_once(ours, name, TlsMode.EDGE, terms=Terms(Once.of(name, {})))).row
    await store.delete_tunnel(ours, row.id)
    await store.force_delete_tunnel(ours, row.id)
    revoked, _ = await store.keys.create(ours, [ADMIN])
    await store.keys.revoke(ours, revoked.id)
    await store.keys.create(ours, [ADMIN], clock() + timedelta(hours=1))
    await store.keys.create(ours, [ADMIN], clock() + KEPT * 3)
    clock.ahead += timedelta(hours=2)


async def test_what_ended_is_forgotten_when_its_time_is_over_and_what_lives_is_not(
    store: Store, history: History, organization: OrganizationId, clock: Clock
) -> None:
    await ended(store, organization, clock)
    before = await kept(store)
    assert before == [10, 2, 4, 2]
    clock.ahead += KEPT - timedelta(hours=3)
    await history.forget(0)
    await history.forget(SIGHTING_SECONDS)
    assert await kept(store) == [*before[:3], 0], "of idempotency keys a day is kept"
    clock.ahead += timedelta(hours=4)
    await history.forget(2 * SIGHTING_SECONDS)
    assert await kept(store) == [*before[:3], 0], "seen too old for the first time"
    await history.forget(3 * SIGHTING_SECONDS)
    assert await kept(store) == [0, 1, 2, 0]
    assert [row.name for row in await store.tunnels(organization)] == ["stays"]
    assert store.directory.tunnel("stays") is not None


async def test_a_clock_that_jumps_and_is_put_right_costs_no_history(
    store: Store, history: History, organization: OrganizationId, clock: Clock
) -> None:
    await ended(store, organization, clock)
    before = (await kept(store))[:3]
    right = clock.ahead
    for turn in range(6):  # wrong at every second look
        clock.ahead = right if turn % 2 else right + 10 * KEPT
        await history.forget(turn * SIGHTING_SECONDS)
    assert (await kept(store))[:3] == before
    clock.ahead = right + 10 * KEPT
    await history.forget(6 * SIGHTING_SECONDS)
    await history.forget(7 * SIGHTING_SECONDS)
    assert (await kept(store))[:3] == [0, 1, 1], "a clock that stays is believed"


async def test_a_long_history_goes_in_batches_oldest_first(
    store: Store, organization: OrganizationId, clock: Clock
) -> None:
    async with store._database.writing() as session:
        for number in range(2 * BATCH + 10):
            session.add(AuditRow(organization_id=organization, at=clock(), action="x", target_id=str(number)))
    middle = clock()
    clock.ahead = timedelta(hours=1)
    await store.create_tunnel(organization, "young", TlsMode.EDGE)
    await store.history.forget_until(middle)
    assert [row.action for row in await store.audit.page(organization, 10)] == ["tunnel.create"]


async def test_a_forgotten_key_is_forgotten_in_memory_too(
    store: Store, organization: OrganizationId, clock: Clock
) -> None:
    record, key = await store.keys.create(organization, [ADMIN], clock() + timedelta(hours=1))
    told: list[KeyId] = []
    store.directory.on_revoked(told.append)
    clock.ahead = timedelta(hours=2)
    await store.history.forget_until(clock())
    clock.ahead = timedelta()
    assert told == [record.id] and store.directory.key(key) is None, "though it would be live again"


async def test_the_duty_does_it_and_the_settings_say_how_long(store: Store) -> None:
    built(store, PUBLIC, ServerSettings(history_days=30))
    assert store.history.kept == timedelta(days=30)
    assert store._duty._release == store._seldom


async def test_the_files_stay_small_however_often_a_record_changes(
    file: Path, store: Store, api: httpx.AsyncClient
) -> None:
    made = (await api.post("/tunnels/", json={"tunnel_name": "my-agent"})).json()["tunnel"]["id"]

    async def churn() -> int:
        for number in range(300):
            await api.patch(f"/tunnels/{made}", json={"metadata": {"a": "x" * 4000, "n": number}})
        await store.history.forget_until(store.clock())
        return sum(each.stat().st_size for each in file.parent.iterdir())

    first = await churn()
    assert max([await churn() for _ in range(3)]) < first * 1.3


# When keys were last used


async def test_the_last_use_of_a_key_shows_at_once_and_is_written_later(
    store: Store, api: httpx.AsyncClient, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = (await api.post("/keys", json={"label": "ci", "scopes": ["admin"]})).json()
    key_id = body["record"]["id"]
    assert body["record"]["last_used_at"] is None

    async def shown() -> str | None:
        last: str | None = (await api.get(f"/keys/{key_id}")).json()["last_used_at"]
        return last

    async def at_rest() -> str | None:
        async with store._database.reading() as session:
            at = await session.scalar(select(ApiKeyRow.last_used_at).where(ApiKeyRow.id == key_id))
        return None if at is None else at.isoformat().replace("+00:00", "Z")

    assert await shown() is None
    await api.get("/tunnels/", headers={"X-API-Key": body["api_key"]})
    first = await shown()
    assert first is not None and await at_rest() is None
    await store.uses.write()
    assert await at_rest() == first == await shown()
    clock.ahead = timedelta(minutes=5)
    await api.get("/keys", headers={"X-API-Key": body["api_key"]})
    second = await shown()
    assert second is not None and second > first and await at_rest() == first

    def locked() -> None:
        raise Unavailable(503, "locked")

    with monkeypatch.context() as patched, pytest.raises(Unavailable):
        patched.setattr(store._database, "writing", locked)
        await store.uses.write()
    assert await shown() == second, "what could not be written is not lost"
    await store.uses.write()
    assert await at_rest() == second


async def test_closing_writes_when_keys_were_last_used(file: Path) -> None:
    store = await Store.open(file)
    organization, key = await store.create_organization("ours")
    record = store.directory.key(key)
    assert record is not None
    store.uses.note(record.id)
    noted = store.uses.last(await store.keys.one(organization, record.id))
    await store.close()
    store = await Store.open(file)
    assert noted is not None and (await store.keys.one(organization, record.id)).last_used_at == noted
    await store.close()


async def test_a_refused_key_and_many_requests_leave_no_line_to_write(
    store: Store, api: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    await stranger.get("/api/v1/keys", headers={"X-API-Key": "wh_" + "a" * 57})
    assert not store.uses._unwritten
    for _ in range(20):
        await api.get("/tunnels/")
    assert len(store.uses._unwritten) == 1


async def test_sandboxes_that_are_over_and_their_runs_are_forgotten_in_the_end(
    store: Store, clock: Clock, api: httpx.AsyncClient, host: FakeHost
) -> None:
    over, kept = [
        (await api.post("/sandboxes", json={}, headers={"Idempotency-Key": f"k-{n}"})).json()["id"]
        for n in range(2)
    ]
    await api.delete(f"/sandboxes/{over}")
    clock.pass_by(timedelta(days=1))
    await store.history.forget_until(clock() - timedelta(days=2))
    assert (await api.get(f"/sandboxes/{over}")).status_code == 200
    await store.history.forget_until(clock())
    assert (await api.get(f"/sandboxes/{over}")).status_code == 404
    assert (await api.get(f"/sandboxes/{kept}")).status_code == 200
    async with store._database.reading() as session:
        assert [run.sandbox_id for run in await session.scalars(select(RunRow))] == [kept]
    await store.history.forget(0.0)
    async with store._database.reading() as session:
        assert list(await session.scalars(select(SandboxOnceRow))) == [], "a day later it can be used again"
