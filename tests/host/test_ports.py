"""What the host makes of requests for ports, whatever runs the sandboxes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.port_house import Door, PortHouse
from tests.kit.runtimes import FakeRuntime
from tests.kit.upstreams import Peer, Visitor, envelope, free_port, serving, visit
from wellhead.errors import NothingListens
from wellhead.host.entry import Entry
from wellhead.host.port_dial import LONGEST_PAUSE_SECONDS
from wellhead.host.port_pool import REACHED_SECONDS, STIRRED_SECONDS
from wellhead.host.port_terms import PortTerms
from wellhead.host.runtime.runtime import SandboxSpec, Template
from wellhead.model.sandboxes import SandboxId, SandboxStatus, new_sandbox_id
from wellhead.wire.muxstream import MuxStream
from wellhead.wire.streams import Buffer, Reason, StreamKind

S = SandboxStatus
BOTH_LOOPS = True


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class CountingRuntime(FakeRuntime):
    """How often a port was tried."""

    tries = 0

    async def connect_port(self, sandbox: SandboxId, port: int) -> socket.socket:
        self.tries += 1
        return await super().connect_port(sandbox, port)


class House(PortHouse):
    def __init__(self, place: Path, terms: PortTerms | None = None) -> None:
        self.runtime = CountingRuntime(place)
        self.clock = Clock()
        super().__init__(self.runtime, terms)
        self.table.clock = self.clock

    async def new(self) -> Entry:
        """A sandbox in which nothing was begun for long."""
        entry = self.add(await self.runtime.create(SandboxSpec(new_sandbox_id(), Template("minimal"))))
        self.clock.now += 10 * STIRRED_SECONDS
        return entry

    async def later(self, seconds: float) -> None:
        """After so long of the table's clock, once."""
        self.clock.now += seconds
        self.ports.look()
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def house_of(place: Path, **terms: float) -> AsyncIterator[House]:
    house = House(place, PortTerms(**terms))  # type: ignore[arg-type]  # a test names them
    async with asyncio.timeout(60):
        try:
            yield house
        finally:
            await house.ports.aclose()


async def answering(peer: Peer) -> None:
    while True:
        head = await peer.request()
        if b"Upgrade: websocket" in head:
            await peer.converse(head)
            return
        await peer.reply(head)


async def refused(visitor: Visitor) -> int | None:
    return (await visitor.over()).reason


# Where a request goes


async def test_a_stream_that_is_for_no_port_goes_on_to_the_application(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def otherwise(stream: MuxStream, kind: StreamKind, asked: bytes, data: Buffer, end: bool) -> None:
        seen.append(asked)

    async with house_of(tmp_path) as house:
        accept = house.ports.before(otherwise)
        asked = envelope("GET", "/", "X-Wellhead-Port: cl-1/80")
        accept(None, StreamKind.HTTP, asked, b"", True)  # type: ignore[arg-type]  # nobody looks at it
    assert seen == [asked]


@pytest.mark.parametrize("status", [S.PAUSING, S.PAUSED, S.RESUMING, S.STOPPING, S.ERROR])
async def test_only_a_sandbox_that_runs_is_asked(tmp_path: Path, status: SandboxStatus) -> None:
    async with house_of(tmp_path) as house, serving(answering) as server:
        entry = await house.new()
        for warm in (False, True):  # the port was never asked for, and was
            entry.status = status
            assert await refused(house.ask(entry.id, server.port)) == Reason.REFUSED
            entry.status = S.RUNNING
            assert (await house.ask(entry.id, server.port).over()).status == 200 or warm
        assert len(server.peers) == 1


async def test_unknown_sandboxes_and_raw_streams_are_refused(tmp_path: Path) -> None:
    async with house_of(tmp_path) as house, serving(answering) as server:
        entry = await house.new()
        assert await refused(house.ask(new_sandbox_id(), server.port)) == Reason.REFUSED
        raw = visit(Door(house.ports, entry.id, server.port), envelope(), kind=StreamKind.TCP)
        assert await refused(raw) == Reason.REFUSED
        for port in (0, 65536, -1):
            assert await refused(visit(Door(house.ports, entry.id, port), envelope())) == Reason.REFUSED
        assert not server.peers and not house.runtime.tries


async def test_a_copy_that_is_being_made_does_not_turn_requests_away(tmp_path: Path) -> None:
    async with house_of(tmp_path) as house, serving(answering) as server:
        entry = await house.new()
        house.pass_through(entry, S.SNAPSHOTTING)
        assert (await house.ask(entry.id, server.port).over()).status == 200


@pytest.mark.parametrize(("policy", "host"), [("rewrite", "localhost:{}"), ("preserve", "t.localhost")])
async def test_host_is_what_the_setting_says(tmp_path: Path, policy: str, host: str) -> None:
    async with serving(answering) as server:
        house = House(tmp_path, PortTerms(host_header=policy))
        entry = await house.new()
        visitor = await house.ask(entry.id, server.port).over()
        await house.ports.aclose()
    assert f"\r\nHost: {host.format(server.port)}\r\n".encode() in visitor.body


# A port that refuses


async def test_a_port_on_which_nothing_is_awaited_is_tried_twice(tmp_path: Path) -> None:
    async with house_of(tmp_path) as house:
        entry = await house.new()
        assert await refused(house.ask(entry.id, free_port())) == Reason.UPSTREAM_UNREACHABLE
        assert house.runtime.tries == 2


async def test_a_port_is_awaited_after_something_was_begun_and_after_it_was_there(tmp_path: Path) -> None:
    async with house_of(tmp_path, retry_seconds=10) as house:
        entry, port = await house.new(), free_port()

        async def is_awaited() -> bool:
            visitor = house.ask(entry.id, port)
            await asyncio.sleep(0.2)
            async with serving(answering, port=port):
                return (await visitor.over()).reason is None

        assert not await is_awaited()
        house.table.stir(entry.id)
        assert await is_awaited()
        house.clock.now += STIRRED_SECONDS
        assert await is_awaited()  # for it was there a while ago
        house.clock.now += REACHED_SECONDS
        assert not await is_awaited()


async def test_many_requests_for_a_port_that_comes_up_try_it_no_more_often_than_one(tmp_path: Path) -> None:
    async with house_of(tmp_path, retry_seconds=20) as house:
        entry, port = await house.new(), free_port()
        house.table.stir(entry.id)
        began = time.monotonic()
        visitors = [house.ask(entry.id, port) for _ in range(200)]
        await asyncio.sleep(0.4)
        alone = 3 + (time.monotonic() - began) / LONGEST_PAUSE_SECONDS
        assert house.runtime.tries <= 200 + alone
        async with serving(answering, port=port):
            assert {(await each.over()).status for each in visitors} == {200}


async def test_who_waited_for_a_visitor_that_left_is_not_forgotten(tmp_path: Path) -> None:
    async with house_of(tmp_path, retry_seconds=20) as house:
        entry, port = await house.new(), free_port()
        house.table.stir(entry.id)
        first, second = house.ask(entry.id, port), house.ask(entry.id, port)
        await asyncio.sleep(0.05)
        first.stream.reset(Reason.CANCELLED)
        await asyncio.sleep(0.05)
        async with serving(answering, port=port):
            assert (await second.over()).status == 200


async def test_a_port_that_was_never_there_leaves_nothing(tmp_path: Path) -> None:
    async with house_of(tmp_path) as house:
        entry = await house.new()
        for _ in range(3):
            assert await refused(house.ask(entry.id, free_port())) == Reason.UPSTREAM_UNREACHABLE
        assert not house.ports.pools and not house.ports.open_connections(entry)


# How many


async def test_the_ports_of_a_sandbox_share_its_connections(tmp_path: Path) -> None:
    async def slow(peer: Peer) -> None:
        await peer.closed()

    async with house_of(tmp_path, connections=4) as house, serving(slow) as one, serving(slow) as two:
        entry, other = await house.new(), await house.new()
        held = [house.ask(entry.id, server.port) for server in (one, one, two, two)]
        assert await refused(house.ask(entry.id, one.port)) == Reason.OVERLOADED
        held.append(house.ask(other.id, one.port))  # another sandbox has its own
        await asyncio.sleep(0.05)
        assert [each.reason for each in held] == [None] * 5


async def test_an_unused_connection_makes_room_for_another_port(tmp_path: Path) -> None:
    async with house_of(tmp_path, connections=1) as house, serving(answering) as one:
        async with serving(answering) as two:
            entry = await house.new()
            for server in (one, two, one):
                assert (await house.ask(entry.id, server.port).over()).status == 200
            await one.peers[0].writer.wait_closed()
        assert house.ports.open_connections(entry) == 1


async def test_what_is_not_used_is_closed_and_forgotten(tmp_path: Path) -> None:
    async with house_of(tmp_path, idle_seconds=0.2) as house, serving(answering) as server:
        entry = await house.new()
        await house.ask(entry.id, server.port).over()
        await server.peers[0].writer.wait_closed()
        await house.later(1)
        assert len(house.ports.pools) == 1  # it is remembered that there was somebody
        await house.later(REACHED_SECONDS + 1)
        assert not house.ports.pools


# Activity


async def test_requests_and_bytes_are_activity_and_an_open_conversation_is_none(tmp_path: Path) -> None:
    async def trickle(peer: Peer) -> None:
        head = await peer.request()
        if b"Upgrade" in head:
            await peer.converse(head)
            return
        await peer.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await peer.say(b"1\r\nx\r\n")
            await asyncio.sleep(0.005)

    async with house_of(tmp_path) as house, serving(trickle) as server:
        entry = await house.new()

        async def is_active() -> bool:
            await house.later(10)
            return entry.last_active == house.clock.now

        entry.last_active = 0.0
        streaming = house.ask(entry.id, server.port)
        assert entry.last_active == house.clock.now
        for count in (5, 10, 15):
            await streaming.until(lambda v, wanted=count: len(v.body) > wanted)  # type: ignore[misc]
            assert await is_active()
        streaming.stream.reset(Reason.CANCELLED)
        talking = house.converse(entry.id, server.port)
        await talking.until(lambda v: bool(v.heads))
        await is_active()
        assert not await is_active() and not await is_active()
        talking.stream.send(b"\x81\x82\0\0\0\0hi")
        await talking.until(lambda v: bool(v.body))
        assert await is_active()
        assert not await is_active()


async def test_a_request_that_is_worked_on_is_activity(tmp_path: Path) -> None:
    async def think(peer: Peer) -> None:
        await peer.closed()

    async with house_of(tmp_path) as house, serving(think) as server:
        entry = await house.new()
        house.ask(entry.id, server.port)
        await asyncio.sleep(0.02)
        for _ in range(3):
            await house.later(10)
            assert entry.last_active == house.clock.now


# Ends


async def test_a_thousand_sandboxes_at_one_address_never_hear_of_one_another(tmp_path: Path) -> None:
    port, said = free_port(), b""

    async def say(peer: Peer) -> None:
        word = said  # whose server this is: it goes on to answer as long as it is asked
        while True:
            await peer.request()
            await peer.reply(word)

    async with house_of(tmp_path) as house, serving(say, port=port) as server:
        entry = await house.new()
        await house.ask(entry.id, port).over()
        fds = len(os.listdir("/proc/self/fd"))
        for number in range(1000):
            house.end(entry)
            entry = await house.new()
            said = b"%d" % number
            for _ in range(2):
                assert (await house.ask(entry.id, port).over()).body == said
            assert len(house.ports.pools) == 1
        assert len(server.peers) == 1001  # none of them served two
        house.end(entry)
        await asyncio.gather(*(peer.writer.wait_closed() for peer in server.peers))
        assert not house.ports.pools
        assert len(os.listdir("/proc/self/fd")) < fds
        assert {task.get_name() for task in asyncio.all_tasks()} & {"upstream dial"} == set()


async def test_a_sandbox_that_ends_takes_its_dials_and_its_requests_along(tmp_path: Path) -> None:
    async def think(peer: Peer) -> None:
        await peer.closed()

    async with house_of(tmp_path) as house, serving(think) as server:
        entry = await house.new()
        house.table.stir(entry.id)
        waiting = [house.ask(entry.id, server.port), house.ask(entry.id, free_port())]
        await asyncio.sleep(0.05)
        house.end(entry)
        async with asyncio.timeout(1):
            assert [await refused(each) for each in waiting] == [Reason.UPSTREAM_FAILED] * 2
            await server.peers[0].writer.wait_closed()
        assert house.runtime.calls.count("connect_port") == house.runtime.tries
        assert await refused(house.ask(entry.id, server.port)) == Reason.REFUSED


async def test_a_runtime_that_fails_leaves_the_others_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with house_of(tmp_path) as house, serving(answering) as server:
        entry, other = await house.new(), await house.new()
        assert (await house.ask(other.id, server.port).over()).status == 200
        house.runtime.fails["connect_port"] = RuntimeError("out of order")
        assert await refused(house.ask(entry.id, server.port)) == Reason.UPSTREAM_UNREACHABLE
        house.runtime.fails["connect_port"] = NothingListens("nobody")
        assert await refused(house.ask(entry.id, server.port)) == Reason.UPSTREAM_UNREACHABLE
        assert (await house.ask(other.id, server.port).over()).status == 200
    assert "dial failed" in caplog.text
