"""Hosts that do what the control plane asks of them, in memory: what answers in place of the edge."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field

import httpx

from wellhead.control.fleet import Fleet
from wellhead.errors import LinkError
from wellhead.model.sandboxes import HostId, Lane
from wellhead.wire.feed import HostSeen

TEMPLATES = ["minimal", "minimal-ubuntu"]
MACHINE: dict[str, object] = {"vcpus": 4, "memory_mb": 8192, "disk_mb": 100_000, "templates": TEMPLATES}


@dataclass
class Call:
    host: HostId
    method: str
    target: str
    body: dict[str, object]
    seconds: float


@dataclass
class FakeHosts:
    """``sandboxes``: by host and id, their statuses. ``refusals``: by target, status, code and message."""

    sandboxes: dict[HostId, dict[str, str]] = field(default_factory=dict)
    away: set[HostId] = field(default_factory=set)
    refusals: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    held: asyncio.Event | None = None  # until it is set nobody is answered
    asked: asyncio.Event = field(default_factory=asyncio.Event)  # somebody waits for that

    async def call(
        self, host: HostId, method: str, target: str, body: str, seconds: float
    ) -> tuple[int, str]:
        call = Call(host, method, target, json.loads(body or "{}"), seconds)
        self.calls.append(call)
        if self.held is not None:
            self.asked.set()
            await self.held.wait()
        if host in self.away:
            raise LinkError("the host has no session")
        for pattern, (status, code, message) in self.refusals.items():
            if re.search(pattern, f"{method} {target}"):
                return status, json.dumps({"error": {"code": code, "message": message}})
        return self._answer(call)

    def _answer(self, call: Call) -> tuple[int, str]:
        there = self.sandboxes.setdefault(call.host, {})
        parts = call.target.split("/")[2:]
        if parts == ["sandboxes"]:
            there[str(call.body["id"])] = "running"
            return 201, json.dumps({"id": call.body["id"], "status": "running", "address": "10.12.0.1"})
        if parts[0] == "templates":
            return 204, ""
        if parts[1] not in there:
            return 404, json.dumps({"error": {"code": "not_found", "message": "no such sandbox here"}})
        match (call.method, *parts[2:]):
            case ("DELETE",):
                del there[parts[1]]
                return 204, ""
            case ("POST", "pause" | "resume" as verb):
                there[parts[1]] = "paused" if verb == "pause" else "running"
                return 200, json.dumps({"id": parts[1], "status": there[parts[1]]})
            case ("POST", "snapshot"):
                return 200, json.dumps({"name": call.body["name"], "size_bytes": 4096})
            case ("POST", "ping") | ("PATCH",):
                return 204, ""
        raise AssertionError(f"what is {call}?")


@dataclass
class FakeHost:
    """One that has joined by REST, and reports by its own key."""

    id: HostId
    key: str
    hosts: FakeHosts
    api: httpx.AsyncClient
    boot: str = "boot-1"
    machine: dict[str, object] = field(default_factory=lambda: dict(MACHINE))

    async def report(self, **more: object) -> dict[str, object]:
        there = self.hosts.sandboxes.get(self.id, {})
        said = [{"id": each, "status": status} for each, status in there.items()]
        body = {"boot": self.boot, "sandboxes": said, **self.machine, **more}
        headers = {"X-API-Key": self.key}
        answer = await self.api.post(f"/hosts/{self.id}/report", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        told: dict[str, object] = answer.json()
        return told


def seen(host: HostId, *lanes: Lane) -> HostSeen:
    """What the edge tells of a host's sessions."""
    return HostSeen(host, list(lanes), "192.0.2.9", "wellhead-host/1")


async def join(fleet: Fleet, hosts: FakeHosts, api: httpx.AsyncClient, **machine: object) -> FakeHost:
    """A host of the caller's organization, online."""
    made = await api.post("/hosts", json={})
    assert made.status_code == 201, made.text
    body = {
        **MACHINE,
        "token": made.json()["token"],
        "runtime": "process",
        "agent": "wellhead-host/1",
        **machine,
    }
    joined = await api.post("/hosts/join", json=body, headers={"X-API-Key": ""})
    assert joined.status_code == 201, joined.text
    host = FakeHost(HostId(joined.json()["host_id"]), joined.json()["key"], hosts, api)
    host.machine.update(machine)
    fleet.watch.seen(seen(host.id, *Lane))
    await host.report()
    return host
