from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.control.conftest import PUBLIC
from tests.kit.fake_hosts import FakeHost, FakeHosts
from wellhead.control import wakes
from wellhead.control.fleet import Fleet
from wellhead.control.store import Store
from wellhead.control.wakes import Wakes
from wellhead.errors import HostAway, HostBusy
from wellhead.model.records import OrganizationId
from wellhead.model.sandboxes import SandboxId, SandboxStatus, new_sandbox_id
from wellhead.settings import ServerSettings

SANDBOX = new_sandbox_id()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Resuming:
    """Fails while there are ``errors``; ``gate`` holds it up."""

    def __init__(self) -> None:
        self.asked: list[SandboxId] = []
        self.errors: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, sandbox: SandboxId) -> None:
        self.asked.append(sandbox)
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited, which takes no time here."""
    pauses, sleep = list[float](), asyncio.sleep

    async def at_once(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(wakes.asyncio, "sleep", at_once)  # type: ignore[attr-defined]
    return pauses


async def done(wakes: Wakes) -> None:
    async with asyncio.timeout(10):
        while wakes._waking:
            await asyncio.wait(wakes._waking.values())


async def test_a_sandbox_is_resumed_once_however_many_wait_for_it() -> None:
    resuming = Resuming()
    all_ = Wakes(resuming)
    resuming.gate.clear()
    other = new_sandbox_id()
    for _ in range(100):
        all_.wake(SANDBOX)
    all_.wake(other)
    await asyncio.sleep(0)
    all_.wake(SANDBOX)
    resuming.gate.set()
    await done(all_)
    assert resuming.asked == [SANDBOX, other]
    all_.wake(SANDBOX)
    await done(all_)
    assert resuming.asked == [SANDBOX, other, SANDBOX], "it was paused anew"


async def test_a_failure_is_no_storm_of_tries(slept: list[float], caplog: pytest.LogCaptureFixture) -> None:
    resuming, clock = Resuming(), Clock()
    all_ = Wakes(resuming, clock)
    resuming.errors = [HostAway("gone")] * 6
    for _ in range(6):
        for _ in range(10):
            all_.wake(SANDBOX)
        await done(all_)
    assert len(resuming.asked) == 6
    assert slept == [1, 2, 4, 8, 10], "before each try but the first, as the time stands still"
    assert len([each for each in caplog.records if "sandbox not resumed" in each.getMessage()]) == 6
    clock.now += wakes.PAUSE_MAX_SECONDS
    all_.wake(SANDBOX)
    await done(all_)
    assert slept[-1] <= 0 and not all_._failed, "it went well, and is forgotten"


async def test_a_fault_of_ours_is_logged_and_ends_nothing(
    slept: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    resuming = Resuming()
    all_ = Wakes(resuming, Clock())
    resuming.errors = [ValueError("a fault")]
    all_.wake(SANDBOX)
    await done(all_)
    assert any(each.levelname == "ERROR" for each in caplog.records)
    all_.wake(SANDBOX)
    await done(all_)
    assert resuming.asked == [SANDBOX] * 2


async def test_failures_of_sandboxes_that_nobody_asks_for_are_forgotten(slept: list[float]) -> None:
    resuming, clock = Resuming(), Clock()
    all_ = Wakes(resuming, clock)
    resuming.errors = [HostBusy("full")] * 100
    for _ in range(100):
        all_.wake(new_sandbox_id())
        await done(all_)
        clock.now += 10
    assert len(all_._failed) <= 8


async def test_closing_gives_up_what_is_under_way() -> None:
    resuming = Resuming()
    all_ = Wakes(resuming)
    resuming.gate.clear()
    all_.wake(SANDBOX)
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await all_.aclose()
    all_.wake(SANDBOX)
    assert not all_._waking and len(resuming.asked) == 1


# Of a fleet


@pytest.fixture
async def paused(api: httpx.AsyncClient, host: FakeHost) -> SandboxId:
    """One that a request resumes."""
    made = (await api.post("/sandboxes", json={"auto_resume": True})).json()
    await api.post(f"/sandboxes/{made['id']}/pause")
    return SandboxId(made["id"])


def resumes(hosts: FakeHosts) -> int:
    return sum(call.target.endswith("/resume") for call in hosts.calls)


def status(store: Store, sandbox: SandboxId) -> SandboxStatus:
    view = store.directory.sandbox(sandbox)
    assert view is not None
    return view.status


async def told(stream: AsyncIterator[bytes]) -> dict[str, object]:
    async with asyncio.timeout(10):
        said: dict[str, object] = json.loads((await anext(stream)).decode().split("data: ")[1])
    return said


async def test_a_visitor_resumes_a_sandbox_that_says_so(
    fleet: Fleet, hosts: FakeHosts, store: Store, paused: SandboxId, organization: OrganizationId,
    api: httpx.AsyncClient,
) -> None:  # fmt: skip
    stream = fleet.hub.stream(organization)
    await told(stream)
    for _ in range(5):
        fleet.wakes.wake(paused)
    await done(fleet.wakes)
    assert status(store, paused) is SandboxStatus.RUNNING and resumes(hosts) == 1
    event = await told(stream)
    assert (event["event"], event["outcome"]) == ("capsule.resume", "success")
    assert event["metadata"] == {"reason": "auto_resumed"} and event["actor"] == {"type": "system"}
    newest = (await api.get("/audit")).json()["entries"][0]
    assert (newest["action"], newest["target_id"]) == ("sandbox.auto_resume", paused)
    fleet.wakes.wake(paused)
    await done(fleet.wakes)
    assert resumes(hosts) == 1, "it runs"


async def test_nothing_is_resumed_that_does_not_say_so(
    fleet: Fleet, hosts: FakeHosts, store: Store, paused: SandboxId, api: httpx.AsyncClient
) -> None:
    await api.patch(f"/sandboxes/{paused}", json={"auto_resume": False})
    fleet.wakes.wake(paused)
    fleet.wakes.wake(new_sandbox_id())
    await done(fleet.wakes)
    assert status(store, paused) is SandboxStatus.PAUSED and resumes(hosts) == 0


async def test_a_sandbox_that_is_just_being_paused_is_resumed_behind_that(
    fleet: Fleet, hosts: FakeHosts, store: Store, paused: SandboxId, api: httpx.AsyncClient
) -> None:
    await api.post(f"/sandboxes/{paused}/resume")
    hosts.held = asyncio.Event()
    pausing = asyncio.create_task(api.post(f"/sandboxes/{paused}/pause"))
    await hosts.asked.wait()
    assert status(store, paused) is SandboxStatus.PAUSING
    fleet.wakes.wake(paused)
    hosts.held.set()
    assert (await pausing).status_code == 200
    await done(fleet.wakes)
    assert status(store, paused) is SandboxStatus.RUNNING


async def test_a_host_that_fails_is_told_of_and_leaves_it_paused(
    fleet: Fleet, hosts: FakeHosts, store: Store, paused: SandboxId, organization: OrganizationId
) -> None:
    stream = fleet.hub.stream(organization)
    await told(stream)
    hosts.refusals["/resume$"] = (503, "no_hosts_available", "no memory")
    fleet.wakes.wake(paused)
    await done(fleet.wakes)
    event = await told(stream)
    assert (event["outcome"], event["error"]) == ("error", "no memory")
    assert event["metadata"] == {"reason": "auto_resumed"} and status(store, paused) is SandboxStatus.PAUSED


async def test_a_server_that_ends_leaves_no_wake_behind(
    store: Store, hosts: FakeHosts, paused: SandboxId
) -> None:
    fleet = Fleet(store, hosts.call, ServerSettings(), PUBLIC)
    hosts.held = asyncio.Event()
    hosts.asked.clear()
    fleet.wakes.wake(paused)
    await hosts.asked.wait()
    async with asyncio.timeout(10):
        await fleet.aclose()
    assert not fleet.wakes._waking
