from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.control.conftest import PUBLIC
from tests.kit.fake_hosts import FakeHost, FakeHosts, join, seen
from wellhead.control.fleet import Fleet
from wellhead.control.store import Store
from wellhead.errors import RateLimited
from wellhead.model.records import SERVER, OrganizationId
from wellhead.model.sandboxes import Lane
from wellhead.settings import ServerSettings

LEGACY = "http://control/legacy/api/v1"


@pytest.fixture
async def sandbox(api: httpx.AsyncClient, host: FakeHost) -> str:
    """One that runs."""
    return str((await api.post("/sandboxes", json={"vcpus": 2})).json()["id"])


async def status_of(api: httpx.AsyncClient, sandbox: str) -> str:
    return str((await api.get(f"/sandboxes/{sandbox}")).json()["status"])


def error(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_a_snapshot_is_a_template_and_its_sandbox_goes_on(
    api: httpx.AsyncClient, host: FakeHost, hosts: FakeHosts, sandbox: str
) -> None:
    made = await api.post("/snapshots", json={"sandbox_id": sandbox, "name": "mine"})
    assert made.status_code == 201, made.text
    shown = made.json()
    assert (shown["name"], shown["type"], shown["size_bytes"], shown["vcpus"]) == (
        "mine",
        "snapshot",
        4096,
        2,
    )
    assert (shown["base"], shown["host_id"], shown["protected"]) == ("minimal-ubuntu", host.id, False)
    assert hosts.calls[-1].target == f"/control/sandboxes/{sandbox}/snapshot"
    assert hosts.calls[-1].body == {"name": "mine", "overwrite": False}
    assert await status_of(api, sandbox) == "running"
    again = await api.post("/sandboxes", json={"template": "mine"})
    assert again.status_code == 201 and again.json()["template"] == "mine"


async def test_by_the_older_clients_prefix_the_sandbox_is_left_paused(
    api: httpx.AsyncClient, hosts: FakeHosts, sandbox: str
) -> None:
    made = await api.post(f"{LEGACY}/snapshots", json={"sandbox_id": sandbox})
    assert made.status_code == 201 and made.json()["name"].startswith("template-")
    assert await status_of(api, sandbox) == "paused"
    assert [call.target.rpartition("/")[2] for call in hosts.calls[-2:]] == ["pause", "snapshot"]
    again = await api.post("/snapshots", json={"sandbox_id": sandbox})
    assert again.status_code == 201 and await status_of(api, sandbox) == "paused", "it goes on as it was"


async def test_a_name_is_given_once_unless_it_is_to_be_overwritten(
    api: httpx.AsyncClient, hosts: FakeHosts, sandbox: str
) -> None:
    body = {"sandbox_id": sandbox, "name": "mine"}
    first = await api.post("/snapshots", json=body)
    assert error(await api.post("/snapshots", json=body)) == (409, "template_name_taken")
    second = await api.post("/snapshots?overwrite=true", json=body)
    assert second.status_code == 201 and hosts.calls[-1].body["overwrite"] is True
    assert second.json()["created_at"] > first.json()["created_at"]
    assert [each["name"] for each in (await api.get("/snapshots?type=snapshot")).json()] == ["mine"]
    base = {"sandbox_id": sandbox, "name": "minimal"}
    assert error(await api.post("/snapshots?overwrite=true", json=base)) == (409, "template_name_taken")


async def test_two_at_once_do_not_get_the_same_name(
    api: httpx.AsyncClient, hosts: FakeHosts, sandbox: str
) -> None:
    body = {"sandbox_id": sandbox, "name": "mine"}
    hosts.held = asyncio.Event()
    first = asyncio.create_task(api.post("/snapshots", json=body))
    await hosts.asked.wait()
    assert error(await api.post("/snapshots", json=body)) == (409, "template_name_taken")
    hosts.held.set()
    assert (await first).status_code == 201


async def test_a_snapshot_that_the_host_cannot_make_leaves_all_as_it_was(
    api: httpx.AsyncClient, hosts: FakeHosts, sandbox: str
) -> None:
    hosts.refusals["/snapshot$"] = (507, "no_space", "the disk is full")
    answer = await api.post("/snapshots", json={"sandbox_id": sandbox, "name": "mine"})
    assert answer.status_code >= 500 and "the disk is full" in answer.text
    assert await status_of(api, sandbox) == "running"
    assert (await api.get("/snapshots?type=snapshot")).json() == []


async def test_what_is_no_living_sandbox_has_no_snapshot(api: httpx.AsyncClient, sandbox: str) -> None:
    await api.delete(f"/sandboxes/{sandbox}")
    assert error(await api.post("/snapshots", json={"sandbox_id": sandbox})) == (409, "invalid_state")
    assert error(await api.post("/snapshots", json={"sandbox_id": "cl-x"})) == (400, "invalid_request")
    unknown = {"sandbox_id": "cl-" + "0" * 25}
    assert error(await api.post("/snapshots", json=unknown)) == (404, "not_found")


async def test_lists_name_bases_and_snapshots_and_bases_stay(
    api: httpx.AsyncClient, host: FakeHost, hosts: FakeHosts, fleet: Fleet, sandbox: str
) -> None:
    await api.post("/snapshots", json={"sandbox_id": sandbox, "name": "mine"})
    host.machine["templates"] = ["minimal", "minimal-ubuntu", "mine"]
    await host.report()

    async def names(query: str = "") -> list[str]:
        return [each["name"] for each in (await api.get(f"/snapshots{query}")).json()]

    assert await names() == ["minimal", "minimal-ubuntu", "mine"]
    assert await names("?type=base") == ["minimal", "minimal-ubuntu"] and await names("?type=snapshot") == [
        "mine"
    ]
    assert error(await api.delete("/snapshots/minimal")) == (403, "forbidden")
    assert error(await api.delete("/snapshots/nothing")) == (404, "not_found")
    fleet.watch.seen(seen(host.id))
    await host.report(leaving=True)
    assert error(await api.delete("/snapshots/mine")) == (409, "conflict"), "its host is away"
    fleet.watch.seen(seen(host.id, *Lane))
    await host.report()
    assert (await api.delete("/snapshots/mine")).status_code == 204
    assert (hosts.calls[-1].method, hosts.calls[-1].target) == ("DELETE", "/control/templates/mine")
    assert await names() == ["minimal", "minimal-ubuntu"], "at once, not with the next report"


async def test_a_sandbox_of_a_snapshot_goes_where_that_is_kept(
    api: httpx.AsyncClient, host: FakeHost, hosts: FakeHosts, fleet: Fleet, sandbox: str
) -> None:
    await api.post("/snapshots", json={"sandbox_id": sandbox, "name": "mine"})
    other = await join(fleet, hosts, api, vcpus=64, memory_mb=100_000)
    assert (await api.post("/sandboxes", json={})).json()["host_id"] == other.id
    assert (await api.post("/sandboxes", json={"template": "mine"})).json()["host_id"] == host.id
    await api.patch(f"/hosts/{host.id}", json={"draining": True})
    answer = await api.post("/sandboxes", json={"template": "mine"})
    assert error(answer) == (503, "no_hosts_available"), "it is known, and its host takes nothing new"


async def test_an_organization_has_no_more_snapshots_than_it_may(
    store: Store, hosts: FakeHosts, api: httpx.AsyncClient, organization: OrganizationId, sandbox: str
) -> None:
    fleet = Fleet(store, hosts.call, ServerSettings(snapshots_per_organization=1), PUBLIC)
    await fleet.snapshot(organization, sandbox, "one", SERVER, overwrite=False, paused=False)
    with pytest.raises(RateLimited, match="1 snapshots, at most 1 are allowed by snapshots_per_organization"):
        await fleet.snapshot(organization, sandbox, "two", SERVER, overwrite=False, paused=False)
    await fleet.snapshot(organization, sandbox, "one", SERVER, overwrite=True, paused=False)
