from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import httpx
import pytest

from tests.control.conftest import PUBLIC, Clock
from tests.kit.fake_hosts import FakeHost, FakeHosts, join
from wellhead.control.fleet import Fleet
from wellhead.control.store import Store
from wellhead.control.store.sandboxes import Asked
from wellhead.errors import RateLimited
from wellhead.model.records import SERVER, OrganizationId
from wellhead.model.sandboxes import SandboxId, SandboxStatus
from wellhead.settings import ServerSettings


async def created(api: httpx.AsyncClient, **asked: object) -> dict[str, object]:
    answer = await api.post("/sandboxes", json=asked)
    assert answer.status_code == 201, answer.text
    made: dict[str, object] = answer.json()
    return made


def error(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_a_sandbox_is_made_at_a_host_and_runs_when_the_create_answers(
    api: httpx.AsyncClient, host: FakeHost, hosts: FakeHosts, store: Store
) -> None:
    made = await created(api, metadata={"team": "red"}, timeout_sec=5, envs={"A": "b"})
    assert made["status"] == "running" and made["template"] == "minimal-ubuntu" and made["host_id"] == host.id
    assert (made["vcpus"], made["memory_mb"], made["disk_size_mb"], made["timeout_sec"]) == (1, 512, 5120, 60)
    assert made["guest_ip"] == "10.12.0.1" and made["metadata"] == {"team": "red"}
    assert datetime.fromisoformat(str(made["created_at"])).tzinfo is not None
    call = hosts.calls[-1]
    assert (call.host, call.method, call.target) == (host.id, "POST", "/control/sandboxes")
    assert call.body == {
        "id": made["id"],
        "template": "minimal-ubuntu",
        "vcpus": 1,
        "memory_mb": 512,
        "disk_mb": 5120,
        "timeout_seconds": 60,
        "env": {"A": "b"},
    }
    view = store.directory.sandbox(SandboxId(str(made["id"])))
    assert view is not None and view.status is SandboxStatus.RUNNING and view.host_id == host.id


async def test_capsules_and_the_older_clients_prefix_are_other_names_of_the_same(
    api: httpx.AsyncClient, stranger: httpx.AsyncClient, host: FakeHost
) -> None:
    headers = {"Authorization": api.headers["X-API-Key"].join(("Bearer ", ""))}
    old = await stranger.post("/legacy/api/v1/capsules/", json={}, headers=headers)
    assert old.status_code == 201 and old.json()["template"] == "minimal"
    new = await stranger.post("/api/v1/capsules", json={}, headers=headers)
    assert new.status_code == 201 and new.json()["template"] == "minimal-ubuntu"
    for path in (
        "/api/v1/sandboxes",
        "/api/v1/capsules/",
        "/legacy/api/v1/capsules",
        "/legacy/api/v1/sandboxes",
    ):
        listed = await stranger.get(path, headers=headers)
        assert [each["id"] for each in listed.json()] == [new.json()["id"], old.json()["id"]], path
    assert (await stranger.get("/api/v1/tunnels", headers=headers)).status_code == 401, (
        "a bearer opens no other"
    )
    assert error(await stranger.get("/legacy/api/v1/tunnels", headers=headers)) == (404, "not_found")


async def test_destroying_twice_is_as_once_and_the_record_stays(
    api: httpx.AsyncClient, host: FakeHost, hosts: FakeHosts, store: Store, clock: Clock
) -> None:
    made = await created(api)
    for _ in range(2):
        assert (await api.delete(f"/sandboxes/{made['id']}")).status_code == 204
    assert hosts.sandboxes[host.id] == {}
    assert (await api.get(f"/sandboxes/{made['id']}")).json()["status"] == "stopped"
    assert (await api.get("/sandboxes")).json() == []
    assert [each["id"] for each in (await api.get("/sandboxes?status=stopped")).json()] == [made["id"]]
    sandbox = SandboxId(str(made["id"]))
    assert store.directory.sandbox(sandbox) is not None, "for a while it is known what became of it"
    clock.pass_by(timedelta(minutes=11))
    store.sandboxes.forget_over()
    assert store.directory.sandbox(sandbox) is None


async def test_a_host_that_fails_leaves_the_record_in_error_and_the_create_can_be_repeated(
    api: httpx.AsyncClient, host: FakeHost, hosts: FakeHosts
) -> None:
    hosts.refusals["POST /control/sandboxes$"] = (500, "agent_error", "no veth\x1b left")
    once = {"Idempotency-Key": "k-1"}
    answer = await api.post("/sandboxes", json={}, headers=once)
    assert error(answer) == (502, "agent_error") and answer.json()["error"]["message"] == "no veth\\x1b left"
    (failed,) = (await api.get("/sandboxes?status=error")).json()
    assert failed["reason"] == "no veth\\x1b left" and (await api.get("/sandboxes")).json() == []
    hosts.refusals.clear()
    assert (await api.post("/sandboxes", json={}, headers=once)).status_code == 201
    assert (await api.delete(f"/sandboxes/{failed['id']}")).status_code == 204
    assert (await api.get(f"/sandboxes/{failed['id']}")).json()["status"] == "stopped"


async def test_a_repeat_under_the_same_idempotency_key_finds_the_same_sandbox(
    api: httpx.AsyncClient, host: FakeHost, hosts: FakeHosts
) -> None:
    once = {"Idempotency-Key": "k-1"}
    hosts.held = asyncio.Event()
    first = asyncio.create_task(api.post("/sandboxes", json={"vcpus": 2}, headers=once))
    await hosts.asked.wait()
    second = asyncio.create_task(api.post("/sandboxes", json={"vcpus": 2}, headers=once))
    await asyncio.sleep(0)
    hosts.held.set()
    made, again = await first, await second
    assert made.status_code == again.status_code == 201 and made.json()["id"] == again.json()["id"]
    assert again.headers["Idempotency-Replayed"] == "true" and again.json()["status"] == "running"
    assert len(hosts.sandboxes[host.id]) == 1
    other = await api.post("/sandboxes", json={"vcpus": 1}, headers=once)
    assert error(other) == (409, "conflict")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"vcpus": 99}, "vcpus 99: at most 8 allowed by max_sandbox_vcpus"),
        ({"memory_mb": 1_000_000}, "memory_mb 1000000: at most 16384 allowed by max_sandbox_memory_mb"),
        ({"disk_size_mb": 1_000_000}, "disk_size_mb 1000000: at most 51200 allowed by max_sandbox_disk_mb"),
        ({"memory_mb": 1}, '"memory_mb" "1": input should be greater than or equal to 64'),
        ({"timeout_sec": -1}, '"timeout_sec" "-1": '),
        ({"metadata": {"a b": "c"}}, 'label "a b" is not'),
        ({"metadata": {"a": "c" * 65}}, "label a of 65 characters, at most 64"),
        ({"metadata": {"vmm_version": "1"}}, "label vmm_version is reserved"),
        ({"metadata": {f"l{n}": "" for n in range(21)}}, "21 labels, at most 20"),
        ({"envs": {"1X": "y"}}, '"1X" is not the name of a variable'),
        ({"template": "../x"}, 'template name "../x" is not'),
        ({"host_id": "host-1"}, '"host-1" is not the id of a host'),
        ({"nothing": 1}, '"nothing" is not a field'),
    ],
)
async def test_what_is_out_of_bounds_is_refused_with_the_value_and_the_bound(
    api: httpx.AsyncClient, host: FakeHost, asked: dict[str, object], said: str
) -> None:
    answer = await api.post("/sandboxes", json=asked)
    assert error(answer) == (422, "invalid_request") and said in answer.json()["error"]["message"]
    assert (await api.get("/sandboxes")).json() == []


async def test_no_template_is_404_and_no_room_503(
    api: httpx.AsyncClient, fleet: Fleet, hosts: FakeHosts
) -> None:
    assert error(await api.post("/sandboxes", json={})) == (503, "no_hosts_available"), "there is no host"
    host = await join(fleet, hosts, api, memory_mb=1000)
    assert error(await api.post("/sandboxes", json={"template": "jupyter"})) == (404, "not_found")
    await created(api, memory_mb=700)
    answer = await api.post("/sandboxes", json={"memory_mb": 700})
    assert (
        error(answer) == (503, "no_hosts_available")
        and "700 MiB of memory" in answer.json()["error"]["message"]
    )
    assert int(answer.headers["Retry-After"]) >= 1
    assert (await api.patch(f"/hosts/{host.id}", json={"draining": True})).json()["status"] == "draining"
    assert error(await api.post("/sandboxes", json={"memory_mb": 64})) == (503, "no_hosts_available")


async def test_sandboxes_go_to_the_host_that_is_least_loaded(
    api: httpx.AsyncClient, fleet: Fleet, hosts: FakeHosts
) -> None:
    small = await join(fleet, hosts, api, vcpus=64, memory_mb=1024)
    large = await join(fleet, hosts, api, vcpus=64, memory_mb=5000)
    placed = [(await created(api))["host_id"] for _ in range(6)]
    assert placed.count(large.id) == 5 and placed.count(small.id) == 1
    asked = await created(api, host_id=small.id, memory_mb=64)
    assert asked["host_id"] == small.id


async def test_an_organization_has_no_more_sandboxes_than_it_may(
    store: Store, hosts: FakeHosts, api: httpx.AsyncClient, host: FakeHost, organization: OrganizationId
) -> None:
    fleet = Fleet(store, hosts.call, ServerSettings(sandboxes_per_organization=1), PUBLIC)
    await created(api)
    with pytest.raises(RateLimited, match="1 sandboxes, at most 1 are allowed by sandboxes_per_organization"):
        await fleet.create(organization, Asked("minimal", 1, 64, 64), None, {}, SERVER)


async def test_pausing_and_resuming_are_of_the_record_first_and_then_of_the_host(
    api: httpx.AsyncClient, host: FakeHost, hosts: FakeHosts, store: Store
) -> None:
    made = await created(api)
    path = f"/sandboxes/{made['id']}"
    assert error(await api.post(f"{path}/resume")) == (409, "invalid_state")
    hosts.held = asyncio.Event()
    pausing = asyncio.create_task(api.post(f"{path}/pause"))
    await hosts.asked.wait()
    assert hosts.calls[-1].target == f"/control{path}/pause"
    view = store.directory.sandbox(SandboxId(str(made["id"])))
    assert view is not None and view.status is SandboxStatus.PAUSING
    hosts.held.set()
    assert (await pausing).json()["status"] == "paused"
    assert error(await api.post(f"{path}/pause")) == (409, "invalid_state")
    answer = await api.post(f"{path}/ping")
    assert error(answer) == (409, "invalid_state") and "is paused, it must be running" in answer.text
    assert (await api.post(f"{path}/resume")).json()["status"] == "running"
    assert (await api.post(f"{path}/ping")).status_code == 204
    assert hosts.calls[-1].target == f"/control{path}/ping"


async def test_a_pause_that_the_host_cannot_do_is_taken_back(
    api: httpx.AsyncClient, host: FakeHost, hosts: FakeHosts
) -> None:
    made = await created(api)
    hosts.refusals["/pause$"] = (503, "no_hosts_available", "busy")
    assert error(await api.post(f"/sandboxes/{made['id']}/pause")) == (503, "no_hosts_available")
    assert (await api.get(f"/sandboxes/{made['id']}")).json()["status"] == "running"
    hosts.away.add(host.id)
    assert error(await api.post(f"/sandboxes/{made['id']}/pause")) == (503, "host_unavailable")
    assert (await api.get(f"/sandboxes/{made['id']}")).json()["status"] == "running"


async def test_timeout_and_labels_can_be_changed(
    api: httpx.AsyncClient, host: FakeHost, hosts: FakeHosts
) -> None:
    made = await created(api, metadata={"a": "b"})
    changed = await api.patch(f"/sandboxes/{made['id']}", json={"timeout_sec": 10})
    assert changed.json()["timeout_sec"] == 60 and changed.json()["metadata"] == {"a": "b"}
    assert (hosts.calls[-1].method, hosts.calls[-1].body) == ("PATCH", {"timeout_seconds": 60})
    calls = len(hosts.calls)
    changed = await api.patch(f"/sandboxes/{made['id']}", json={"metadata": {}})
    assert changed.json()["metadata"] == {} and len(hosts.calls) == calls, "labels are no matter of the host"
    await api.delete(f"/sandboxes/{made['id']}")
    changes: list[dict[str, object]] = [{"timeout_sec": 0}, {"metadata": {}}]
    for change in changes:
        assert error(await api.patch(f"/sandboxes/{made['id']}", json=change)) == (409, "invalid_state")


async def test_a_sandbox_whose_host_is_away_is_over_at_once_and_destroyed_when_that_is_back(
    api: httpx.AsyncClient, host: FakeHost, hosts: FakeHosts
) -> None:
    made = await created(api)
    hosts.away.add(host.id)
    assert (await api.delete(f"/sandboxes/{made['id']}")).status_code == 204
    assert (await api.get(f"/sandboxes/{made['id']}")).json()["status"] == "stopped"
    hosts.away.clear()
    assert (await host.report())["destroy"] == [made["id"]]


async def test_what_is_done_with_sandboxes_is_in_the_audit(api: httpx.AsyncClient, host: FakeHost) -> None:
    made = await created(api)
    path = f"/sandboxes/{made['id']}"
    await api.post(f"{path}/pause")
    await api.post(f"{path}/resume")
    await api.post("/snapshots", json={"sandbox_id": made["id"], "name": "mine"})
    await api.patch(path, json={"metadata": {"a": "b"}})
    await api.delete("/snapshots/mine")
    await api.delete(path)
    await api.delete(f"/hosts/{host.id}")
    entries = (await api.get("/audit")).json()["entries"]
    said = [entry["action"] for entry in reversed(entries) if entry["action"].partition(".")[0] != "key"]
    assert said[1:] == [
        *("host.create", "host.join", "sandbox.create", "sandbox.pause", "sandbox.resume"),
        *("snapshot.create", "sandbox.update", "snapshot.delete", "sandbox.destroy", "host.delete"),
    ]
    assert all(entry["key_last4"] for entry in entries if entry["action"].startswith("sandbox"))


async def test_lists_can_be_filtered(api: httpx.AsyncClient, host: FakeHost) -> None:
    plain, other = await created(api), await created(api, template="minimal")
    await api.post(f"/sandboxes/{other['id']}/pause")

    async def ids(query: str) -> list[object]:
        return [each["id"] for each in (await api.get(f"/sandboxes?{query}")).json()]

    assert await ids("template=minimal") == [other["id"]] == await ids("status=paused")
    assert await ids(f"host_id={host.id}&limit=1") == [other["id"]] and await ids("host_id=none") == []
    assert await ids("status=running") == [plain["id"]]
    assert (await api.get("/sandboxes?status=sleeping")).status_code == 422
