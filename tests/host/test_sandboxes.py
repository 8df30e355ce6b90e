"""The table of sandboxes: life, activity, capacity, and what it does unasked."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.kit.runtimes import FakeRuntime, FakeTemplates
from wellhead.errors import HostBusy, HostConflict, HostError, HostInvalid, HostNotFound, HostState
from wellhead.host.asked import Asked
from wellhead.host.capacity import Bounds, Capacity
from wellhead.host.sandboxes import Sandboxes
from wellhead.host.table import Table
from wellhead.host.ttl import Caretaker
from wellhead.model.sandboxes import SandboxId, SandboxStatus, new_sandbox_id

ROOM = Capacity(vcpus=8, memory_mb=4096, disk_mb=100_000, sandboxes=4)
S = SandboxStatus


class House:
    """A table with a clock that a test sets."""

    def __init__(self, state: Path, runtime: FakeRuntime | None = None) -> None:
        self.now = 1000.0
        self.changes = 0
        self.state = state
        self.runtime = runtime or FakeRuntime(state)
        self.templates = FakeTemplates()
        self.table = Table(lambda: self.now, lambda: self.now + 1e9)
        self.table.on_change = self._changed
        bounds = Bounds(vcpus=16, memory_mb=8192)
        self.all = Sandboxes(self.table, self.runtime, self.templates, ROOM, state, bounds=bounds)
        self.care = Caretaker(self.all)

    def _changed(self) -> None:
        self.changes += 1

    async def created(self, **options: object) -> SandboxId:
        sandbox = new_sandbox_id()
        await self.all.create(Asked(sandbox, "minimal", **options))  # type: ignore[arg-type]  # of a test
        return sandbox

    async def pass_seconds(self, seconds: float) -> None:
        self.now += seconds
        await self.care.look()
        await self.all.settle()

    def status(self, sandbox: SandboxId) -> SandboxStatus:
        return self.table.entry(sandbox).status

    def ledger(self) -> list[str]:
        return sorted(path.stem for path in (self.state / "ledger").glob("*"))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


async def _life(state: Path) -> None:
    house = House(state)
    sandbox = await house.created(env={"A": "1"})
    entry = house.table.running(sandbox)
    assert entry.guest_socket == state / f"{sandbox}.sock" and entry.env == {"A": "1"}
    assert (await house.all.pause(sandbox)).status is S.PAUSED
    with pytest.raises(HostState, match="is paused, not running"):
        house.table.running(sandbox)
    with pytest.raises(HostState, match="is paused, not running"):
        await house.all.pause(sandbox)
    assert (await house.all.resume(sandbox)).status is S.RUNNING
    with pytest.raises(HostState, match="is running, not paused"):
        await house.all.resume(sandbox)
    assert house.ledger() == [sandbox]
    await house.all.destroy(sandbox)
    await house.all.destroy(sandbox)
    assert entry.ended.is_set() and entry.status is S.STOPPED
    assert house.ledger() == [] and house.runtime.there == {}
    assert [each.id for each in house.table.ended()] == [sandbox]
    with pytest.raises(HostNotFound):
        house.table.entry(sandbox)


def test_a_sandbox_is_made_frozen_thawed_and_ended_and_leaves_nothing(state: Path) -> None:
    asyncio.run(_life(state))


async def _fails_to_begin(state: Path) -> None:
    house = House(state)
    house.runtime.fails["create"] = HostError("the disk is full")
    with pytest.raises(HostError, match="the disk is full"):
        await house.created()
    house.runtime.fails["create"] = ZeroDivisionError()
    with pytest.raises(HostError, match="the host failed: ZeroDivisionError"):
        await house.created()
    assert house.table.all() == [] and house.ledger() == [] and house.table.used().sandboxes == 0
    (state / "ledger").rmdir()
    (state / "ledger").touch()
    with pytest.raises(HostError, match="ledger is not a directory") as raised:
        await house.created()
    assert raised.value.status == 502 and house.table.all() == []


def test_nothing_half_made_stays_where_a_create_fails(state: Path) -> None:
    asyncio.run(_fails_to_begin(state))


async def _bounds(state: Path) -> None:
    house = House(state)
    for wrong, says in (
        ({"vcpus": 0.0}, "vcpus must be 0.1 to 16, not 0"),
        ({"vcpus": float("nan")}, "vcpus must be"),
        ({"memory_mb": 9000}, "memory_mb must be 64 to 8192, not 9000"),
        ({"disk_mb": 1}, "disk_mb must be 64"),
        ({"timeout_seconds": -1.0}, "timeout_seconds must be 0"),
        ({"memory_mb": 5000}, "memory of 5000 MiB, this host has 4096 MiB"),
    ):
        with pytest.raises(HostInvalid, match=says):
            await house.created(**wrong)
    with pytest.raises(HostNotFound, match="no template nothing"):
        await house.all.create(Asked(new_sandbox_id(), "nothing"))
    sandbox = await house.created(memory_mb=4000)
    with pytest.raises(HostBusy, match="memory of 512 MiB, this host has 96 MiB left of 4096 MiB"):
        await house.created()
    with pytest.raises(HostConflict, match="is on this host already"):
        await house.all.create(Asked(sandbox, "minimal", memory_mb=64))
    await house.all.destroy(sandbox)
    for _ in range(ROOM.sandboxes):
        await house.created(memory_mb=64)
    with pytest.raises(HostBusy, match="this host has 4 sandboxes, at most 4 allowed"):
        await house.created(memory_mb=64)
    house.all.draining = True
    with pytest.raises(HostBusy, match="takes no new sandboxes"):
        await house.created(memory_mb=64)


def test_what_is_out_of_bounds_or_has_no_room_is_refused_by_name(state: Path) -> None:
    asyncio.run(_bounds(state))


async def _abandoned(state: Path) -> None:
    house = House(state)
    go = house.runtime.holds["create"] = asyncio.Event()
    asking = asyncio.ensure_future(house.created())
    await house.runtime.asked.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    (entry,) = house.table.all()
    assert entry.status is S.STARTING
    ending = asyncio.ensure_future(house.all.destroy(entry.id))
    go.set()
    await ending
    assert house.table.all() == [] and house.runtime.there == {}


def test_a_create_that_nobody_waits_for_is_finished_and_then_ended_as_asked(state: Path) -> None:
    asyncio.run(_abandoned(state))


async def _idle(state: Path) -> None:
    house = House(state)
    sandbox, ever = await house.created(timeout_seconds=60.0, memory_mb=64), await house.created(memory_mb=64)
    await house.pass_seconds(59)
    house.table.touch(sandbox)
    await house.pass_seconds(59)
    assert house.status(sandbox) is S.RUNNING
    changes = house.changes
    await house.pass_seconds(1)
    assert house.status(sandbox) is S.PAUSED and house.status(ever) is S.RUNNING
    assert house.changes > changes
    (told,) = house.table.happenings.waiting()
    assert (told.sandbox, told.event) == (sandbox, "auto_paused")
    house.table.happenings.taken(told.number - 1)
    assert house.table.happenings.waiting() == [told]
    house.table.happenings.taken(told.number)
    assert house.table.happenings.waiting() == []
    await house.all.resume(sandbox)
    await house.pass_seconds(59)
    assert house.status(sandbox) is S.RUNNING


def test_a_sandbox_without_activity_is_paused_at_its_time_and_that_is_told_until_taken(state: Path) -> None:
    asyncio.run(_idle(state))


async def _working(state: Path) -> None:
    house = House(state)
    sandbox = await house.created(timeout_seconds=60.0)
    with house.table.busy(sandbox) as entry:
        assert entry.id == sandbox
        await house.pass_seconds(10_000)
        assert house.status(sandbox) is S.RUNNING
    await house.pass_seconds(59)
    assert house.status(sandbox) is S.RUNNING
    await house.pass_seconds(1)
    assert house.status(sandbox) is S.PAUSED
    with pytest.raises(HostState), house.table.busy(sandbox):
        pass
    await house.all.resume(sandbox)
    await house.all.set_timeout(sandbox, 5.0)
    await house.pass_seconds(5)
    assert house.status(sandbox) is S.PAUSED


def test_a_command_that_runs_is_never_frozen_midway(state: Path) -> None:
    asyncio.run(_working(state))


async def _cannot_freeze(state: Path) -> None:
    house = House(state)
    sandbox = await house.created(timeout_seconds=60.0)
    house.runtime.fails["pause"] = HostError("it does not stand still")
    with pytest.raises(HostError, match="does not stand still"):
        await house.all.pause(sandbox)
    assert house.status(sandbox) is S.RUNNING
    await house.pass_seconds(60)
    assert house.table.all() == [] and house.runtime.there == {}
    (told,) = house.table.happenings.waiting()
    assert told.event == "auto_destroyed" and "does not stand still" in told.detail
    (ended,) = house.table.ended()
    assert ended.status is S.STOPPED and "could not be paused" in ended.reason
    house.table.taken([ended])
    assert house.table.ended() == []


def test_an_idle_sandbox_that_cannot_be_paused_is_ended_and_told(state: Path) -> None:
    asyncio.run(_cannot_freeze(state))


async def _dead(state: Path) -> None:
    house = House(state)
    sandbox = await house.created()
    entry = house.table.entry(sandbox)
    house.runtime.dead.add(sandbox)
    await house.pass_seconds(1)
    assert house.table.all() == [] and house.runtime.calls[-1] == "destroy" and entry.ended.is_set()
    assert [each.event for each in house.table.happenings.waiting()] == ["died"]


def test_what_is_left_of_a_dead_sandbox_is_freed(state: Path) -> None:
    asyncio.run(_dead(state))


async def _stuck(state: Path) -> None:
    house = House(state)
    sandbox = await house.created()
    house.runtime.fails["destroy"] = HostError("the mount is busy")
    with pytest.raises(HostError, match="the mount is busy"):
        await house.all.destroy(sandbox)
    entry = house.table.entry(sandbox)
    assert entry.status is S.ERROR and "the mount is busy" in entry.reason
    assert house.table.used().sandboxes == 1
    del house.runtime.fails["destroy"]
    await house.all.destroy(sandbox)
    assert house.table.all() == []


def test_a_sandbox_that_could_not_be_ended_stays_to_be_ended_again(state: Path) -> None:
    asyncio.run(_stuck(state))


async def _again(state: Path) -> None:
    before = House(state)
    kept = await before.created(timeout_seconds=60.0, env={"A": "1"}, memory_mb=64)
    paused, lost = await before.created(memory_mb=64), await before.created(memory_mb=64)
    await before.all.pause(paused)
    del before.runtime.there[lost]
    after = House(state, before.runtime)
    after.now += 500
    assert await after.all.recover() == 2
    entry = after.table.running(kept)
    assert (entry.timeout_seconds, entry.env) == (60.0, {"A": "1"})
    assert entry.started_at == before.table.entry(kept).started_at
    assert after.status(paused) is S.PAUSED
    assert [(each.id, each.status) for each in after.table.ended()] == [(lost, S.STOPPED)]
    told = {(each.sandbox, each.event) for each in after.table.happenings.waiting()}
    assert told == {(kept, "recovered"), (paused, "recovered"), (lost, "died")}
    assert after.ledger() == sorted([kept, paused])
    await after.pass_seconds(60)
    assert after.status(kept) is S.PAUSED


def test_a_new_program_finds_the_sandboxes_of_the_one_before_as_they_were(state: Path) -> None:
    asyncio.run(_again(state))


async def _copied(state: Path) -> None:
    house = House(state)
    sandbox = await house.created()
    assert await house.all.snapshot(sandbox, "mine") >= 5000
    assert house.status(sandbox) is S.RUNNING and "mine" in house.templates.names()
    assert house.runtime.calls[-3:] == ["pause", "snapshot", "resume"]
    assert list((state / "staging").iterdir()) == []
    with pytest.raises(HostConflict, match="there is a template mine already"):
        await house.all.snapshot(sandbox, "mine")
    await house.all.snapshot(sandbox, "mine", overwrite=True)
    await house.all.pause(sandbox)
    await house.all.snapshot(sandbox, "other")
    assert house.status(sandbox) is S.PAUSED and house.runtime.calls[-1] == "snapshot"


def test_a_snapshot_is_taken_of_what_stands_still_and_leaves_the_sandbox_as_it_was(state: Path) -> None:
    asyncio.run(_copied(state))


async def _not_copied(state: Path) -> None:
    house = House(state)
    sandbox = await house.created()
    house.runtime.fails["snapshot"] = HostError("no space")
    with pytest.raises(HostError, match="no space"):
        await house.all.snapshot(sandbox, "mine")
    assert house.status(sandbox) is S.RUNNING and list((state / "staging").iterdir()) == []
    house.runtime.fails["resume"] = HostError("frozen for good")
    with pytest.raises(HostError, match="frozen for good"):
        await house.all.snapshot(sandbox, "mine")
    assert house.status(sandbox) is S.PAUSED and "frozen for good" in house.table.entry(sandbox).reason
    del house.runtime.fails["resume"]
    assert (await house.all.resume(sandbox)).reason == ""


def test_a_snapshot_that_fails_leaves_a_sandbox_that_can_go_on(state: Path) -> None:
    asyncio.run(_not_copied(state))
