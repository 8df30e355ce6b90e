"""The control plane's orders, as HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.kit.runtimes import FakeRuntime, FakeTemplates
from wellhead.errors import HostError
from wellhead.host.api.app import build
from wellhead.host.api.control import control_routes
from wellhead.host.capacity import Capacity
from wellhead.host.metrics import Metrics
from wellhead.host.sandboxes import Sandboxes
from wellhead.host.table import Table
from wellhead.model.sandboxes import new_sandbox_id


class Orders:
    def __init__(self, state: Path) -> None:
        self.runtime, self.templates = FakeRuntime(state), FakeTemplates("minimal", "other")
        self.table = Table()
        room = Capacity(8, 4096, 10**6, 4)
        sandboxes = Sandboxes(self.table, self.runtime, self.templates, room, state)
        metrics = Metrics(self.table, self.runtime)
        app = build(self.table, metrics, control_routes(sandboxes, metrics, self.templates))
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://host")
        self._runner = asyncio.Runner()

    def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        return self._runner.run(self._client.request(method, path, **request))

    def close(self) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()

    def create(self, **members: object) -> tuple[int, dict[str, object]]:
        body = {"id": new_sandbox_id(), "template": "minimal"} | members
        answer = self.ask("POST", "/control/sandboxes", json=body)
        return answer.status_code, answer.json()


@pytest.fixture
def orders(tmp_path: Path) -> Iterator[Orders]:
    tmp_path.chmod(0o700)
    made = Orders(tmp_path)
    yield made
    made.close()


def test_a_sandbox_is_made_looked_at_changed_and_ended(orders: Orders) -> None:
    status, view = orders.create(vcpus=2, memory_mb=256, disk_mb=1000, timeout_seconds=60, env={"A": "b"})
    assert status == 201
    place = f"/control/sandboxes/{view['id']}"
    assert view["status"] == "running" and view["address"] == "10.12.0.1" and view["memory_mb"] == 256
    assert orders.table.entry(str(view["id"])).env == {"A": "b"}
    assert orders.ask("GET", place).json()["status"] == "running"
    assert orders.ask("POST", place + "/pause").json()["status"] == "paused"
    assert orders.ask("POST", place + "/ping").status_code == 409
    assert orders.ask("POST", place + "/resume").json()["status"] == "running"
    assert orders.ask("POST", place + "/ping").status_code == 204
    assert orders.ask("PATCH", place, json={"timeout_seconds": 5}).json()["timeout_seconds"] == 5
    assert [each["id"] for each in orders.ask("GET", "/control/inventory").json()["sandboxes"]] == [
        view["id"]
    ]
    assert [orders.ask("DELETE", place).status_code for _ in range(2)] == [204, 204]
    assert orders.ask("GET", place).status_code == 404


def test_snapshots_become_templates_that_can_be_removed(orders: Orders) -> None:
    _, view = orders.create()
    place = f"/control/sandboxes/{view['id']}/snapshot"
    answer = orders.ask("POST", place, json={"name": "mine"}).json()
    assert answer["name"] == "mine" and answer["size_bytes"] >= 5000
    assert orders.ask("POST", place, json={"name": "mine"}).status_code == 409
    assert orders.ask("POST", place, json={"name": "mine", "overwrite": True}).status_code == 200
    assert orders.ask("GET", "/control/templates").json() == {"templates": ["mine", "minimal", "other"]}
    assert orders.ask("DELETE", "/control/templates/mine").status_code == 204
    assert orders.ask("DELETE", "/control/templates/mine").status_code == 404


@pytest.mark.parametrize(
    ("members", "status", "says"),
    [
        ({"id": "cl-1"}, 400, "is not the id of a sandbox"),
        ({"id": "cl-" + "z" * 25}, 400, "is not the id of a sandbox"),
        ({"template": "../etc"}, 400, "template name"),
        ({"template": "absent"}, 404, "there is no template absent"),
        ({"vcpus": "many"}, 400, "vcpus:"),
        ({"memory_mb": 10**9}, 400, "memory_mb must be 64 to 16384, not 1e+09"),
        ({"timeout_seconds": -5}, 400, "timeout_seconds must be 0"),
        ({"env": {"A": 1}}, 400, "env.A:"),
    ],
)
def test_a_bad_order_is_refused_with_its_word(
    orders: Orders, members: dict[str, object], status: int, says: str
) -> None:
    answered, body = orders.create(**members)
    error = body["error"]
    assert isinstance(error, dict)
    assert answered == status and error["code"] in ("invalid_request", "not_found")
    assert says in error["message"]


def test_what_is_no_json_is_refused_and_what_fails_is_told(orders: Orders) -> None:
    answer = orders.ask("POST", "/control/sandboxes", content=b"{")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    orders.runtime.fails["create"] = HostError("the disk is full")
    assert orders.create() == (502, {"error": {"code": "agent_error", "message": "the disk is full"}})


def test_a_host_that_drains_takes_nothing_new(orders: Orders) -> None:
    assert orders.ask("POST", "/control/drain").json() == {"draining": True}
    status, body = orders.create()
    assert status == 503 and body["error"] == {
        "code": "no_hosts_available",
        "message": "this host is leaving and takes no new sandboxes",
    }
    orders.ask("POST", "/control/drain", json={"draining": False})
    assert orders.create()[0] == 201
