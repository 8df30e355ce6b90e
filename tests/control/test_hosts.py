from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta

import httpx
import pytest

from tests.control.conftest import PUBLIC, Clock
from tests.kit.control import built
from tests.kit.fake_hosts import MACHINE, FakeHost, FakeHosts, join, seen
from wellhead.control.fleet import Fleet
from wellhead.control.host_watch import HostWatch
from wellhead.control.store import Store
from wellhead.errors import RateLimited, SecretRejected, Unavailable
from wellhead.model.access import Secret
from wellhead.model.records import SERVER, OrganizationId
from wellhead.model.sandboxes import HostId, HostStatus, Lane
from wellhead.settings import ServerSettings


@pytest.fixture
def fleet(store: Store, hosts: FakeHosts, settings: ServerSettings, clock: Clock) -> Fleet:
    """One whose watch goes by the test's clock."""
    made = Fleet(store, hosts.call, settings, PUBLIC)
    made.watch = HostWatch(store, made.hub, settings, made.is_busy, clock.monotonic)
    return made


async def status(api: httpx.AsyncClient, host: FakeHost) -> str:
    return str((await api.get(f"/hosts/{host.id}")).json()["status"])


async def sandbox(api: httpx.AsyncClient) -> str:
    answer = await api.post("/sandboxes", json={})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def status_of(api: httpx.AsyncClient, sandbox_id: str) -> str:
    return str((await api.get(f"/sandboxes/{sandbox_id}")).json()["status"])


async def test_a_host_joins_by_a_token_that_is_good_once_and_has_a_key_of_its_own(
    api: httpx.AsyncClient, stranger: httpx.AsyncClient, store: Store
) -> None:
    made = (await api.post("/hosts", json={"name": "attic"})).json()
    assert made["host"]["status"] == "pending" and made["host"]["name"] == "attic"
    body = {**MACHINE, "token": made["token"], "runtime": "namespace", "agent": "wellhead-host/1\n"}
    joined = await stranger.post("/api/v1/hosts/join", json=body)
    assert joined.status_code == 201 and joined.json()["host_id"] == made["host"]["id"]
    assert joined.json()["edge"] == PUBLIC.api_url.removeprefix("https://")
    host, key = HostId(joined.json()["host_id"]), Secret(joined.json()["key"])
    assert (await store.directory.admit_host(host, key))[0].id == host
    again = await stranger.post("/api/v1/hosts/join", json=body)
    assert again.status_code == 401 and again.json()["error"]["code"] == "unauthorized"
    shown = (await api.get(f"/hosts/{host}")).json()
    assert shown["status"] == "offline" and shown["runtime"] == "namespace"
    assert shown["agent"] == "wellhead-host/1\\n" and shown["templates"] == MACHINE["templates"]
    listed = (await api.get("/tunnels", headers={"X-API-Key": key.reveal()})).json()
    assert listed == {"tunnels": []}, "a host's key opens nothing else"


async def test_a_token_is_good_for_an_hour(
    api: httpx.AsyncClient, stranger: httpx.AsyncClient, store: Store, clock: Clock
) -> None:
    made = (await api.post("/hosts", json={})).json()
    clock.pass_by(timedelta(hours=1))
    body = {**MACHINE, "token": made["token"], "runtime": "process"}
    assert (await stranger.post("/api/v1/hosts/join", json=body)).status_code == 401
    await store.hosts.forget_tokens()
    assert (await stranger.post("/api/v1/hosts/join", json=body)).status_code == 401


async def test_wrong_tokens_are_counted_as_wrong_keys(store: Store, clock: Clock) -> None:
    app = built(store, PUBLIC, ServerSettings(loopback_exempt=False, api_failures_per_address_per_minute=2))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
        body = {**MACHINE, "token": "x", "runtime": "process"}
        said = [(await client.post("/api/v1/hosts/join", json=body)).status_code for _ in range(3)]
    assert said == [401, 401, 429]


async def test_a_host_is_online_when_it_has_a_session_and_has_reported(
    api: httpx.AsyncClient, fleet: Fleet, hosts: FakeHosts
) -> None:
    host = await join(fleet, hosts, api)
    assert await status(api, host) == "online"
    await host.report(leaving=True)
    assert await status(api, host) == "offline"
    fleet.watch.seen(seen(host.id))
    await host.report()
    assert await status(api, host) == "offline", "it has no session"
    fleet.watch.seen(seen(host.id, Lane.BULK))
    await fleet.watch.tick()
    assert await status(api, host) == "online"


async def test_a_host_without_a_session_is_unreachable_after_a_while_and_its_sandboxes_are_missing(
    api: httpx.AsyncClient, fleet: Fleet, hosts: FakeHosts, clock: Clock
) -> None:
    host = await join(fleet, hosts, api)
    made = await sandbox(api)
    fleet.watch.seen(seen(host.id))
    clock.pass_by(timedelta(seconds=14))
    await fleet.watch.tick()
    assert await status(api, host) == "online" and await status_of(api, made) == "running"
    clock.pass_by(timedelta(seconds=1))
    await fleet.watch.tick()
    assert await status(api, host) == "unreachable" and await status_of(api, made) == "missing"
    fleet.watch.seen(seen(host.id, *Lane))
    await fleet.watch.tick()
    assert await status(api, host) == "online" and await status_of(api, made) == "missing", "nobody said"
    await host.report()
    assert await status_of(api, made) == "running"


async def test_a_host_that_reported_before_its_session_is_back_is_believed_then(
    api: httpx.AsyncClient, fleet: Fleet, hosts: FakeHosts, clock: Clock
) -> None:
    host = await join(fleet, hosts, api)
    made = await sandbox(api)
    fleet.watch.seen(seen(host.id))
    clock.pass_by(timedelta(seconds=15))
    await fleet.watch.tick()
    await host.report()
    assert await status(api, host) == "unreachable" and await status_of(api, made) == "missing"
    fleet.watch.seen(seen(host.id, *Lane))
    await fleet.watch.tick()
    assert await status(api, host) == "online" and await status_of(api, made) == "running"


async def test_a_host_that_does_not_report_is_unreachable_though_it_has_a_session(
    api: httpx.AsyncClient, fleet: Fleet, hosts: FakeHosts, clock: Clock
) -> None:
    host = await join(fleet, hosts, api)
    made = await sandbox(api)
    clock.pass_by(timedelta(seconds=90))
    await fleet.watch.tick()
    assert await status(api, host) == "unreachable" and await status_of(api, made) == "missing"
    hosts.sandboxes[host.id][made] = "paused"
    await host.report()
    assert await status(api, host) == "online" and await status_of(api, made) == "paused"


async def test_after_a_restart_hosts_have_time_to_come_back(
    api: httpx.AsyncClient,
    fleet: Fleet,
    hosts: FakeHosts,
    store: Store,
    settings: ServerSettings,
    clock: Clock,
) -> None:
    host = await join(fleet, hosts, api)
    clock.pass_by(timedelta(hours=1))
    fresh = HostWatch(store, fleet.hub, settings, fleet.is_busy, clock.monotonic)
    await fresh.tick()
    assert fresh.is_present(host.id)
    clock.pass_by(timedelta(seconds=15))
    await fresh.tick()
    assert not fresh.is_present(host.id) and await status(api, host) == "unreachable"


async def test_what_a_host_did_by_itself_is_known_by_its_report(
    api: httpx.AsyncClient, fleet: Fleet, hosts: FakeHosts, clock: Clock
) -> None:
    host = await join(fleet, hosts, api)
    paused, gone = await sandbox(api), await sandbox(api)
    hosts.sandboxes[host.id] = {paused: "paused"}
    await host.report()
    assert await status_of(api, paused) == "running", "the report may be older than the record"
    clock.pass_by(timedelta(seconds=10))
    await host.report()
    assert await status_of(api, paused) == "paused" and await status_of(api, gone) == "stopped"
    assert "no more" in (await api.get(f"/sandboxes/{gone}")).json()["reason"]


async def test_why_a_sandbox_ended_is_kept_as_its_host_says(
    api: httpx.AsyncClient, fleet: Fleet, hosts: FakeHosts, clock: Clock
) -> None:
    host = await join(fleet, hosts, api)
    made = await sandbox(api)
    clock.pass_by(timedelta(seconds=10))
    told = await host.report(sandboxes=[{"id": made, "status": "error", "reason": "its first process died"}])
    assert told == {"destroy": [], "draining": False}
    shown = (await api.get(f"/sandboxes/{made}")).json()
    assert (shown["status"], shown["reason"]) == ("error", "its first process died")


async def test_when_a_sandbox_was_last_used_comes_with_reports(
    api: httpx.AsyncClient, fleet: Fleet, hosts: FakeHosts, clock: Clock
) -> None:
    host = await join(fleet, hosts, api)
    made = await sandbox(api)
    clock.pass_by(timedelta(seconds=60))
    at = clock() + timedelta(seconds=5)
    await host.report(sandboxes=[{"id": made, "status": "running", "last_active_at": at.timestamp()}])
    shown = (await api.get(f"/sandboxes/{made}")).json()
    assert abs(datetime.fromisoformat(shown["last_active_at"]) - at) < timedelta(seconds=1)


async def test_what_a_host_should_not_have_it_is_told(
    api: httpx.AsyncClient, fleet: Fleet, hosts: FakeHosts
) -> None:
    host = await join(fleet, hosts, api)
    unknown = "cl-" + "0" * 25
    hosts.sandboxes[host.id] = {unknown: "running"}
    assert await host.report() == {"destroy": [unknown], "draining": False}
    await api.patch(f"/hosts/{host.id}", json={"draining": True})
    assert (await host.report())["draining"] is True
    assert await status(api, host) == "draining"


async def test_a_host_with_sandboxes_is_not_forgotten_but_by_force(
    api: httpx.AsyncClient, fleet: Fleet, hosts: FakeHosts, store: Store
) -> None:
    host = await join(fleet, hosts, api)
    made = await sandbox(api)
    answer = await api.delete(f"/hosts/{host.id}")
    assert answer.status_code == 409 and answer.json()["sandbox_ids"] == [made]
    assert answer.json()["error"]["code"] == "host_has_sandboxes"
    removed: list[HostId] = []
    store.directory.on_host_removed(removed.append)
    assert (await api.delete(f"/hosts/{host.id}?force=true")).status_code == 204
    assert removed == [host.id] and await status_of(api, made) == "stopped" and hosts.sandboxes[host.id] == {}
    with pytest.raises(SecretRejected):
        await store.directory.admit_host(host.id, Secret(host.key))
    answer = await api.post(f"/hosts/{host.id}/report", json={}, headers={"X-API-Key": host.key})
    assert answer.status_code == 401
    assert (await api.get("/hosts")).json() == []


async def test_a_host_shows_what_it_has_promised(
    api: httpx.AsyncClient, fleet: Fleet, hosts: FakeHosts
) -> None:
    host = await join(fleet, hosts, api)
    first = await sandbox(api)
    await sandbox(api)
    await api.post(f"/sandboxes/{first}/pause")
    shown = (await api.get(f"/hosts/{host.id}")).json()
    taken = [shown[f"{what}_reserved"] for what in ("vcpus", "memory_mb", "disk_mb")]
    assert shown["sandboxes"] == 2 and taken == [1, 768, 10240]


async def test_a_report_of_a_full_host_is_taken(
    api: httpx.AsyncClient, fleet: Fleet, hosts: FakeHosts
) -> None:
    host = await join(fleet, hosts, api)
    there = [{"id": f"cl-{n:025}", "status": "running", "address": "10.12.0.1" * 20} for n in range(1000)]
    told = await host.report(sandboxes=there)
    assert isinstance(told["destroy"], list) and len(told["destroy"]) == 1000


async def test_a_report_is_the_hosts_own(api: httpx.AsyncClient, fleet: Fleet, hosts: FakeHosts) -> None:
    first, second = await join(fleet, hosts, api), await join(fleet, hosts, api)
    body = {**MACHINE, "boot": "b", "sandboxes": []}
    for key in (second.key, api.headers["X-API-Key"]):
        answer = await api.post(f"/hosts/{first.id}/report", json=body, headers={"X-API-Key": key})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_an_organization_has_no_more_hosts_than_it_may(
    store: Store, organization: OrganizationId
) -> None:
    await store.hosts.create(organization, None, 1, SERVER)
    with pytest.raises(RateLimited, match="1 hosts, at most 1 are allowed by hosts_per_organization"):
        await store.hosts.create(organization, None, 1, SERVER)


async def test_keys_for_hosts_are_made_for_hosts_of_the_organization_only(
    api: httpx.AsyncClient, stranger: httpx.AsyncClient, fleet: Fleet, hosts: FakeHosts, store: Store
) -> None:
    host = await join(fleet, hosts, api)
    _, theirs = await store.create_organization("theirs")
    new = {"label": "x", "scopes": [f"host:{host.id}"]}
    assert (await api.post("/keys", json=new)).status_code == 201
    refused = await stranger.post("/api/v1/keys", json=new, headers={"X-API-Key": theirs.reveal()})
    assert refused.status_code == 404 and "names no host of this organization" in refused.json()["detail"]
    unknown = {"label": "x", "scopes": ["host:host-0"]}
    assert (await api.post("/keys", json=unknown)).status_code == 404


async def test_the_watch_goes_on_though_the_database_is_away(
    api: httpx.AsyncClient, fleet: Fleet, hosts: FakeHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = await join(fleet, hosts, api)
    monkeypatch.setattr("wellhead.control.host_watch.TICK_SECONDS", 0.001)
    turned, turn = asyncio.Event(), fleet.store.hosts.turn
    failures = [Unavailable(503, "away"), RuntimeError("a bug")]

    async def failing(host_id: HostId, to: HostStatus) -> object:
        if failures:
            raise failures.pop()
        turned.set()
        return await turn(host_id, to)

    monkeypatch.setattr(fleet.store.hosts, "turn", failing)
    await host.report(leaving=False)
    watching = asyncio.create_task(fleet.watch.run())
    fleet.watch.seen(seen(host.id))
    monkeypatch.setattr(fleet.watch, "_away_seconds", 0)
    async with asyncio.timeout(10):
        await turned.wait()
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    assert not failures
