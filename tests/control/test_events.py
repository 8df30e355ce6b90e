from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from tests.control.conftest import PUBLIC
from tests.kit.asgi import served
from tests.kit.fake_hosts import FakeHost, FakeHosts
from wellhead.control import events
from wellhead.control.events import Event, EventKind, Hub
from wellhead.control.fleet import Fleet
from wellhead.control.store import Store
from wellhead.errors import ApiError
from wellhead.model.records import OrganizationId
from wellhead.model.snapshot import utc_now

OURS, THEIRS = OrganizationId("ours"), OrganizationId("theirs")


@pytest.fixture
def hub() -> Hub:
    return Hub(utc_now, PUBLIC)


def event(kind: EventKind = EventKind.HOST_UP) -> Event:
    return Event(kind, utc_now())


async def told(stream: AsyncIterator[bytes]) -> dict[str, object]:
    """The next event."""
    async with asyncio.timeout(10):
        name, data, end = (await anext(stream)).decode().split("\n", 2)
    said: dict[str, object] = json.loads(data.removeprefix("data: "))
    assert name == f"event: {said['event']}" and end == "\n"
    return said


async def test_an_organization_hears_of_its_own_from_when_it_listens(hub: Hub) -> None:
    hub.publish(OURS, event(EventKind.HOST_DOWN))
    ours, theirs = hub.stream(OURS), hub.stream(THEIRS)
    assert (await told(ours))["event"] == (await told(theirs))["event"] == "connected"
    hub.publish(OURS, event())
    hub.publish(THEIRS, event(EventKind.HOST_DOWN))
    assert (await told(ours))["event"] == "host.up" and (await told(theirs))["event"] == "host.down"


async def test_a_comment_comes_where_nothing_happens(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEEPALIVE_SECONDS", 0.01)
    stream = hub.stream(OURS)
    await told(stream)
    async with asyncio.timeout(10):
        assert await anext(stream) == b": keepalive\n\n"
    hub.publish(OURS, event())
    assert (await told(stream))["event"] == "host.up"


async def test_who_reads_too_slowly_is_let_go_and_holds_nothing(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "WAITING_MAX", 2)
    slow = hub.stream(OURS)
    await told(slow)
    for _ in range(5):
        hub.publish(OURS, event())
    assert len([frame async for frame in slow]) == 2 and not hub._listeners


async def test_whoever_leaves_is_forgotten(hub: Hub) -> None:
    stream = hub.stream(OURS)
    await told(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    assert not hub._listeners


async def test_an_organization_has_no_more_streams_than_it_may(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LISTENERS_MAX", 1)
    hub.check_room(OURS)
    stream = hub.stream(OURS)
    await told(stream)
    with pytest.raises(ApiError, match="1 event streams are open, at most 1"):
        hub.check_room(OURS)
    hub.check_room(THEIRS)
    hub.close()
    assert [frame async for frame in stream] == []
    hub.check_room(OURS)


async def test_what_is_done_with_a_sandbox_is_told_with_who_did_it(
    api: httpx.AsyncClient, host: FakeHost, hosts: FakeHosts, fleet: Fleet, organization: OrganizationId
) -> None:
    stream = fleet.hub.stream(organization)
    await told(stream)
    made = (await api.post("/sandboxes", json={})).json()
    said = await told(stream)
    assert said["event"] == "capsule.create" and said["outcome"] == "success"
    assert said["resource"] == {"id": made["id"], "type": "sandbox"}
    assert said["actor"]["type"] == "api_key" and said["sandbox"]["status"] == "running"  # type: ignore[index]
    await api.post(f"/sandboxes/{made['id']}/pause")
    assert (await told(stream))["event"] == "capsule.pause"
    hosts.refusals["/resume$"] = (500, "agent_error", "no memory")
    await api.post(f"/sandboxes/{made['id']}/resume")
    failed = await told(stream)
    assert (failed["event"], failed["outcome"], failed["error"]) == ("capsule.resume", "error", "no memory")
    await api.post("/snapshots", json={"sandbox_id": made["id"], "name": "mine"})
    assert (await told(stream))["resource"] == {"id": "mine", "type": "template"}
    await api.delete(f"/sandboxes/{made['id']}")
    assert (await told(stream))["event"] == "capsule.destroy"
    await host.report(leaving=True)
    assert (await told(stream))["resource"] == {"id": host.id, "type": "host"}


async def test_events_are_streamed_and_head_asks_for_no_stream(
    app: FastAPI, api: httpx.AsyncClient, fleet: Fleet, store: Store
) -> None:
    path = "/api/v1/events/stream"
    async with (
        served(app) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=api.headers, timeout=20) as client,
    ):
        assert (await client.head(path)).headers["content-type"].startswith("text/event-stream")
        async with client.stream("GET", path) as answer:
            assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
            lines = answer.aiter_lines()
            assert await anext(lines) == "event: connected"
            (await client.post("/api/v1/hosts", json={})).raise_for_status()
            fleet.hub.publish(OURS, event())
            fleet.hub.close()
            assert [line async for line in lines][-1] == "", "it ends with the server"
