from __future__ import annotations

from datetime import datetime, timedelta

import httpx

from tests.control.conftest import Clock
from tests.kit.fake_hosts import FakeHost, FakeHosts
from wellhead.control.store import Store
from wellhead.model.sandboxes import SandboxId, SandboxStatus


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
