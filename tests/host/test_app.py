"""A host's program against a server that does what a test says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.kit.certs import authority
from tests.kit.host_server import HOST, HostServer, host_server
from tests.kit.muxpair import RecordingSink
from tests.kit.runtimes import FakeRuntime, FakeTemplates
from tests.kit.upstreams import Peer, envelope, serving
from wellhead.errors import HostRemoved, SecretRejected
from wellhead.host.app import Facts, HostProgram, HostTerms
from wellhead.host.asked import Asked
from wellhead.host.capacity import Capacity
from wellhead.host.membership import Membership
from wellhead.model.sandboxes import new_sandbox_id
from wellhead.net.authority import LocalAuthority
from wellhead.wire.ports import for_port
from wellhead.wire.streams import StreamKind

ROOM = Capacity(vcpus=8, memory_mb=4096, disk_mb=100_000, sandboxes=4)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> LocalAuthority:
    return authority(tmp_path_factory.mktemp("ca"))


@dataclass
class Place:
    server: HostServer
    state: Path
    runtime: FakeRuntime

    def program(self, **terms: Any) -> HostProgram:
        given = HostTerms(ROOM, report_seconds=0.3, drain_seconds=0.1, **terms)
        return HostProgram(self.server.membership(), self.state, self.runtime, FakeTemplates(), given)

    @contextlib.asynccontextmanager
    async def running(self, program: HostProgram) -> AsyncIterator[Facts]:
        """Until the block ends, when it is asked to stop; what it fails with is raised then."""
        stop, online = asyncio.Event(), list[Facts]()
        running = asyncio.ensure_future(program.run(stop, online.append))
        try:
            await self.server.until(lambda: online or running.done())
            if not online:
                await running
            yield online[0]
        finally:
            stop.set()
            await asyncio.wait({running})
        await running


def played(scenario: Any, ca: LocalAuthority, state: Path) -> None:
    async def play() -> None:
        async with host_server(ca) as server:
            work: Coroutine[Any, Any, None] = scenario(Place(server, state, FakeRuntime(state)))
            await work

    state.chmod(0o700)
    asyncio.run(play())


async def _online(place: Place) -> None:
    program, sandbox = place.program(), new_sandbox_id()
    async with place.running(program) as facts:
        assert facts == Facts(HOST, "fake", 0)
        lanes = {(hello.tunnel, hello.lane, hello.secret) for hello in place.server.hellos}
        assert lanes == {(f"host:{HOST}", lane, "wh_key") for lane in ("interactive", "bulk")}
        await program.sandboxes.create(Asked(sandbox, "minimal"))
        await place.server.until(lambda: "running" in place.server.told(sandbox))
    report = place.server.reports[-1]
    assert report["leaving"] and not place.server.reports[0]["leaving"]
    assert (report["vcpus"], report["memory_mb"], report["templates"]) == (8, 4096, ["minimal"])
    assert report["used"]["memory_mb"] == 512
    assert {each["boot"] for each in place.server.reports} == {report["boot"]}
    assert place.server.keys == {"wh_key"}
    assert list(place.runtime.there) == [sandbox] and "destroy" not in place.runtime.calls


def test_a_host_has_two_sessions_tells_how_it_is_and_leaves_its_sandboxes_running(
    ca: LocalAuthority, tmp_path: Path
) -> None:
    played(_online, ca, tmp_path)


async def _ports(place: Place) -> None:
    async def answer(peer: Peer) -> None:
        while True:
            await peer.reply(await peer.request())

    program, sandbox = place.program(), new_sandbox_id()
    async with serving(answer) as app, place.running(program):
        await program.sandboxes.create(Asked(sandbox, "minimal"))
        for number, session in enumerate(place.server.sessions):
            heard = RecordingSink()
            asked = for_port(envelope("GET", f"/{number}", "X-Request-Id: 1"), sandbox, app.port)
            heard.stream = session.mux.open(StreamKind.HTTP, asked, heard, b"", True)
            await place.server.until(lambda heard=heard: heard.ended or heard.resets)  # type: ignore[misc]
            assert heard.data.startswith(b"GET /%d HTTP/1.1\r\n" % number)
        assert len(app.peers) == 1
        place.runtime.holds["destroy"] = asyncio.Event()
        ending = asyncio.ensure_future(program.sandboxes.destroy(sandbox))
        async with asyncio.timeout(1):  # before anything of the sandbox is freed
            await app.peers[0].writer.wait_closed()
        assert not ending.done()
        place.runtime.holds["destroy"].set()
        await ending


def test_requests_for_ports_come_on_either_session_and_end_before_their_sandbox(
    ca: LocalAuthority, tmp_path: Path
) -> None:
    played(_ports, ca, tmp_path)


async def _ended(place: Place) -> None:
    program = place.program(destroy_at_end=True)
    sandbox = new_sandbox_id()
    async with place.running(program):
        await program.sandboxes.create(Asked(sandbox, "minimal"))
    assert place.runtime.there == {}
    assert place.server.told(sandbox)[-1] == "stopped"


def test_a_host_that_is_told_so_ends_its_sandboxes_when_it_ends(ca: LocalAuthority, tmp_path: Path) -> None:
    played(_ended, ca, tmp_path)


def _told(place: Place) -> list[Any]:
    """The events of each report that had some."""
    return [report["events"] for report in place.server.reports if report["events"]]


async def _untaken(place: Place) -> None:
    program, sandbox = place.program(), new_sandbox_id()
    async with place.running(program):
        await program.sandboxes.create(Asked(sandbox, "minimal"))
        place.server.answers = [(503, {})]
        place.runtime.dead.add(sandbox)
        # Two of them, for the answer to the first may be on its way yet.
        await place.server.until(lambda: len(_told(place)) >= 2)
        place.server.answers = [(200, {})]
        await place.server.until(lambda: not place.server.reports[-1]["events"])
    told = _told(place)
    assert all(events == told[0] for events in told)
    assert told[0][0]["event"] == "died" and told[0][0]["id"] == sandbox
    assert place.server.told(sandbox)[-1] == "stopped"


def test_what_happened_is_told_again_until_a_report_is_taken(ca: LocalAuthority, tmp_path: Path) -> None:
    played(_untaken, ca, tmp_path)


async def _unwanted(place: Place) -> None:
    program, sandbox = place.program(), new_sandbox_id()
    async with place.running(program):
        await program.sandboxes.create(Asked(sandbox, "minimal"))
        place.server.answers = [(200, {"destroy": [sandbox, "cl-unknown"], "draining": True}), (200, {})]
        await place.server.until(lambda: "stopped" in place.server.told(sandbox))
    assert place.runtime.there == {}


def test_a_sandbox_that_the_control_plane_does_not_want_is_ended(ca: LocalAuthority, tmp_path: Path) -> None:
    played(_unwanted, ca, tmp_path)


async def _deleted(place: Place) -> None:
    program, sandbox = place.program(), new_sandbox_id()
    place.server.membership().save(place.state)
    no = (404, {"error": {"code": "not_found", "message": "no such host"}})
    with pytest.raises(HostRemoved, match="knows no host .* any more: 404: .*no such host"):
        async with place.running(program):
            await program.sandboxes.create(Asked(sandbox, "minimal"))
            place.server.answers = [no, (200, {})]  # said once, it may be somebody in between
            seen = len(place.server.reports)
            await place.server.until(lambda: len(place.server.reports) >= seen + 3)
            assert sandbox in place.runtime.there
            place.server.answers = [no]
            ended = program.table.entry(sandbox).ended
            async with asyncio.timeout(20):
                await ended.wait()
    assert place.runtime.there == {}
    assert Membership.load(place.state) is None


def test_a_deleted_host_ends_its_sandboxes_and_says_so(ca: LocalAuthority, tmp_path: Path) -> None:
    played(_deleted, ca, tmp_path)


async def _refused(place: Place) -> None:
    place.server.refuses = "secret-rejected"
    with pytest.raises(SecretRejected):
        async with place.running(place.program()):
            pass
    place.server.answers = [(401, {"error": {"code": "unauthorized", "message": "no such key"}})]
    with pytest.raises(HostRemoved):
        async with place.running(place.program()):
            pass


def test_a_refused_session_ends_the_sandboxes_only_where_the_control_plane_says_so_too(
    ca: LocalAuthority, tmp_path: Path
) -> None:
    played(_refused, ca, tmp_path)


async def _left(place: Place) -> None:
    before, sandbox = place.program(), new_sandbox_id()
    async with place.running(before):
        await before.sandboxes.create(Asked(sandbox, "minimal"))
    place.server.membership().save(place.state)
    assert await place.program().leave() == 1
    assert place.runtime.there == {} and Membership.load(place.state) is None
    assert place.server.reports[-1]["leaving"]
    assert place.server.told(sandbox)[-1] == "stopped"


def test_a_host_that_leaves_ends_what_it_has_and_forgets_its_server(
    ca: LocalAuthority, tmp_path: Path
) -> None:
    played(_left, ca, tmp_path)
