from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from wellhead.control.store import Store
from wellhead.control.store.rows import Filter
from wellhead.errors import Conflict, NameUnavailable, NotFound, SecretRejected
from wellhead.model import access
from wellhead.model.access import ADMIN, Scope, ScopeKind, Secret
from wellhead.model.records import RESTORE_GRACE, OrganizationId, TlsMode, TunnelId, TunnelStatus

STRANGER = OrganizationId("00000000-0000-4000-8000-000000000000")


async def test_the_first_start_makes_an_admin_key_and_the_second_none(file: Path) -> None:
    store = await Store.open(file)
    key = await store.bootstrap()
    assert key is not None and access.well_formed(key, access.API_KEY)
    assert await store.directory.is_admin(key)
    assert await store.bootstrap() is None
    await store.close()
    store = await Store.open(file)
    assert await store.bootstrap() is None
    assert await store.directory.is_admin(key)
    await store.close()


async def test_a_first_key_that_could_not_be_kept_is_none(store: Store) -> None:
    kept: list[Secret] = []

    def fail(key: Secret) -> None:
        kept.append(key)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        await store.bootstrap(fail)
    assert not await store.directory.is_admin(kept[0])
    assert await store.bootstrap(kept.append) is kept[1]
    assert await store.directory.is_admin(kept[1])


async def test_a_created_tunnel_outlives_the_process(file: Path) -> None:
    store = await Store.open(file)
    key = await store.bootstrap()
    assert key is not None
    record = store.directory.key(key)
    assert record is not None
    row, secret = await store.create_tunnel(
        record.organization_id, "my-agent", TlsMode.EDGE, "text", {"a": [1, "é"]}
    )
    await store.close()

    store = await Store.open(file)
    view = store.directory.tunnel("my-agent")
    assert view is not None and view.id == row.id
    assert (await store.directory.admit("my-agent", secret, "", "")).tunnel == view
    again = await store.tunnel(record.organization_id, row.id)
    assert (again.description, again.metadata_) == ("text", {"a": [1, "é"]})
    assert again.created_at == row.created_at and again.created_at.tzinfo is not None
    await store.close()


async def test_fifty_at_once_for_one_name_make_one_tunnel(store: Store, organization: OrganizationId) -> None:
    results = await asyncio.gather(
        *(store.create_tunnel(organization, "my-agent", TlsMode.EDGE) for _ in range(50)),
        return_exceptions=True,
    )
    assert Counter(type(result) for result in results) == {tuple: 1, NameUnavailable: 49}
    assert len(await store.tunnels(organization)) == 1


async def test_tunnels_are_listed_oldest_first_and_found_by_name(
    store: Store, organization: OrganizationId
) -> None:
    for name in ("bbb", "aaa", "ccc"):
        await store.create_tunnel(organization, name, TlsMode.EDGE)
    assert [row.name for row in await store.tunnels(organization)] == ["bbb", "aaa", "ccc"]
    assert [row.name for row in await store.tunnels(organization, Filter(name="aaa"))] == ["aaa"]
    assert await store.tunnels(organization, Filter(name="ddd")) == []


async def test_another_organizations_tunnel_is_as_if_it_were_not(
    store: Store, organization: OrganizationId
) -> None:
    row, _ = await store.create_tunnel(organization, "my-agent", TlsMode.EDGE)
    assert await store.tunnels(STRANGER) == []
    for attempt in (
        store.tunnel(STRANGER, row.id),
        store.update_tunnel(STRANGER, row.id, description="x"),
        store.delete_tunnel(STRANGER, row.id),
        store.restore_tunnel(STRANGER, row.id),
        store.tunnel(organization, "nonsense"),
    ):
        with pytest.raises(NotFound, match="404: no such tunnel"):
            await attempt
    with pytest.raises(Conflict):
        await store.create_tunnel(STRANGER, "my-agent", TlsMode.EDGE)


async def test_an_update_changes_what_is_given_and_none_clears(
    store: Store, organization: OrganizationId
) -> None:
    row, _ = await store.create_tunnel(organization, "my-agent", TlsMode.EDGE, "text", {"a": 1})
    row = await store.update_tunnel(organization, row.id, metadata={"b": 2})
    assert (row.description, row.metadata_) == ("text", {"b": 2})
    row = await store.update_tunnel(organization, row.id, description=None)
    assert (row.description, row.metadata_) == (None, {"b": 2})
    assert row.updated_at > row.created_at


async def test_a_delete_stops_traffic_at_once_and_keeps_the_name(
    store: Store, organization: OrganizationId
) -> None:
    row, secret = await store.create_tunnel(organization, "my-agent", TlsMode.EDGE)
    row = await store.delete_tunnel(organization, row.id)
    assert row.status is TunnelStatus.PENDING_REMOVAL
    assert row.restore_deadline_at == row.updated_at + RESTORE_GRACE
    assert store.directory.tunnel("my-agent") is None
    again = await store.delete_tunnel(organization, row.id)
    assert again.restore_deadline_at == row.restore_deadline_at
    with pytest.raises(Conflict, match="taken"):
        await store.create_tunnel(organization, "my-agent", TlsMode.EDGE)
    row = await store.restore_tunnel(organization, row.id)
    assert (row.status, row.restore_deadline_at) == (TunnelStatus.ACTIVE, None)
    admission = await store.directory.admit("my-agent", secret, "", "")
    assert admission.tunnel == store.directory.tunnel("my-agent")


async def test_restoring_is_for_what_is_pending_removal(store: Store, organization: OrganizationId) -> None:
    row, _ = await store.create_tunnel(organization, "my-agent", TlsMode.EDGE)
    with pytest.raises(Conflict, match="is active, there is nothing to restore"):
        await store.restore_tunnel(organization, row.id)


async def test_after_its_deadline_a_tunnel_is_not_restored(file: Path) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    store = await Store.open(file, lambda: now)
    key = await store.bootstrap()
    record = store.directory.key(key) if key is not None else None
    assert record is not None
    row, _ = await store.create_tunnel(record.organization_id, "my-agent", TlsMode.EDGE)
    await store.delete_tunnel(record.organization_id, row.id)
    now += RESTORE_GRACE
    with pytest.raises(Conflict, match="could be restored until 2030-01-02"):
        await store.restore_tunnel(record.organization_id, row.id)
    now -= timedelta(seconds=1)
    await store.restore_tunnel(record.organization_id, row.id)
    await store.close()


async def test_deletes_and_restores_at_once_end_in_a_lawful_status(
    store: Store, organization: OrganizationId
) -> None:
    row, _ = await store.create_tunnel(organization, "my-agent", TlsMode.EDGE)
    moves = [store.delete_tunnel, store.restore_tunnel] * 20
    results = await asyncio.gather(*(move(organization, row.id) for move in moves), return_exceptions=True)
    assert all(isinstance(result, Conflict) or hasattr(result, "status") for result in results)
    row = await store.tunnel(organization, row.id)
    assert (row.status is TunnelStatus.ACTIVE) == (store.directory.tunnel("my-agent") is not None)


async def test_a_scoped_key_connects_to_its_tunnel_alone(store: Store, organization: OrganizationId) -> None:
    first, _ = await store.create_tunnel(organization, "first", TlsMode.EDGE)
    await store.create_tunnel(organization, "second", TlsMode.EDGE)
    record, key = await store.create_key(organization, [Scope(ScopeKind.TUNNEL, first.id)])
    assert record.last4 == key.reveal()[-4:]
    assert (await store.directory.admit("first", key, "", "")).tunnel.id == first.id
    with pytest.raises(SecretRejected):
        await store.directory.admit("second", key, "", "")


async def test_presence_is_written_and_a_restart_disconnects_everybody(file: Path) -> None:
    store = await Store.open(file)
    key = await store.bootstrap()
    record = store.directory.key(key) if key is not None else None
    assert record is not None
    row, _ = await store.create_tunnel(record.organization_id, "my-agent", TlsMode.EDGE)
    store.directory.session_opened(TunnelId(row.id), "s_1", "192.0.2.7", "test")
    await store.close()  # with the session still open, as after a crash

    store = await Store.open(file)
    row = await store.tunnel(record.organization_id, row.id)
    assert not row.currently_connected and row.last_connected_ip_addr == "192.0.2.7"
    assert row.last_connected_at is not None and row.last_disconnected_at is not None
    presence = store.directory.presence(TunnelId(row.id))
    assert not presence.connected and presence.last_connected_at == row.last_connected_at
    await store.close()


async def test_an_expired_key_stays_expired_after_a_restart(file: Path) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    store = await Store.open(file, lambda: now)
    admin = await store.bootstrap()
    record = store.directory.key(admin) if admin is not None else None
    assert record is not None
    _, key = await store.create_key(record.organization_id, [ADMIN], expires_at=now + timedelta(hours=1))
    assert store.directory.key(key) is not None
    await store.close()
    now += timedelta(hours=2)
    store = await Store.open(file, lambda: now)
    assert store.directory.key(key) is None
    await store.close()
