"""Slots: intakes that are parked again whatever came of them, and nothing asked in haste."""

from __future__ import annotations

import logging

import pytest

from tests.agent.intake.conftest import MakeAgent, Upstream, a_line
from tests.agent.intake.test_request import GET, POST
from tests.kit.scripted_edge import scripted_edge, welcoming
from wellhead.agent.intake.slots import Slots
from wellhead.net.authority import LocalAuthority
from wellhead.net.uplink import Status
from wellhead.wire.h2 import Fields, H2Sink, H2Stream, H2Terms

BOTH_LOOPS = True


# A table without a wire


class Intake:
    """What ``Parking`` gives for an intake: the slot is told by hand."""

    def __init__(self, sink: H2Sink) -> None:
        self.sink = sink

    def consumed(self, count: int) -> None: ...


class Table:
    """A session that writes down what its slots do, and whose clock stands still."""

    def __init__(self, pool: int) -> None:
        self.now = 100.0
        self.room = 1000
        self.intakes: list[Intake] = []
        self.ended: list[str] = []
        calls: list[Fields] = [[(b"x-pool-slot", b"%d" % number)] for number in range(pool)]
        self.slots = Slots(self, calls, uniform=lambda low, high: high)
        self.slots.fill()

    def may_park(self) -> bool:
        return self.room > 0

    def park(self, fields: Fields, sink: H2Sink) -> H2Stream:
        self.room -= 1
        self.intakes.append(Intake(sink))
        return self.intakes[-1]  # type: ignore[return-value]  # as much of one as a slot needs

    def delivered(self, fields: Fields, intake: H2Stream, slot: object, end: bool) -> bool:
        return (b"inkbox-request-id", b"1") in fields

    def forgotten(self) -> None:
        self.ended.append("forgotten")

    def taken(self) -> None:
        self.ended.append("taken")

    def say(self, status: int, *more: tuple[bytes, bytes]) -> None:
        """Answer every parked intake."""
        intakes, self.intakes = self.intakes, []
        for intake in intakes:
            self.room += 1
            intake.sink.on_headers([(b":status", b"%d" % status), *more], True)

    def wait(self, seconds: float) -> int:
        """Let time pass; how many intakes are parked then."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + 0.25)
            self.slots.tick(self.now)
            self.slots.fill()
        return len(self.intakes)


@pytest.mark.parametrize("status", [200, 408])
def test_an_idle_refresh_is_parked_again_at_once_and_quietly(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    table = Table(32)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            table.wait(60)
            table.say(status, (b"inkbox-reason", b"intake-idle-cap"))
            table.slots.fill()
            assert len(table.intakes) == 32
    assert not caplog.records


@pytest.mark.parametrize("status", [200, 408, 204, 403, 410, 503])
def test_an_edge_that_answers_in_haste_is_asked_ever_more_slowly(status: int) -> None:
    table = Table(4)
    asked = 0
    for _ in range(4 * 60):
        asked += len(table.intakes)
        table.say(status)
        table.wait(0.25)
    assert asked <= 4 * (60 / 5 + 10)  # a minute, every 5 s in the end


def test_a_refusal_is_logged_once_for_all_slots(caplog: pytest.LogCaptureFixture) -> None:
    table = Table(32)
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            table.say(503, (b"inkbox-reason", b"busy"))
            table.wait(10)
    assert len(caplog.records) == 1
    assert "status=503" in caplog.text and "reason=busy" in caplog.text


def test_retry_after_is_heeded() -> None:
    table = Table(2)
    table.say(503, (b"retry-after", b"20"))
    assert table.wait(19.5) == 0
    assert table.wait(1) == 2


def test_what_was_delivered_makes_the_pauses_short_again() -> None:
    table = Table(1)
    for _ in range(6):
        table.say(503)
        table.wait(10)
    sink = table.intakes[0].sink
    sink.freed()  # type: ignore[attr-defined]  # a slot: an envelope was delivered there
    table.intakes.pop(0)
    table.say(503)
    assert table.wait(0.5) == 1


def test_a_slot_that_was_reset_is_parked_again() -> None:
    table = Table(2)
    for intake in table.intakes:
        table.room += 1
        intake.sink.on_reset(8)
    table.intakes = []
    table.slots.fill()
    assert len(table.intakes) == 2


def test_without_room_a_slot_waits_for_it() -> None:
    table = Table(2)
    table.room = -2
    table.say(408)
    table.slots.fill()
    assert not table.intakes
    table.room = 5
    table.slots.fill()
    assert len(table.intakes) == 2


def test_a_401_and_a_takeover_are_the_sessions_affair() -> None:
    table = Table(2)
    table.say(401, (b"inkbox-reason", b"owner-token-invalid"))
    assert table.ended == ["forgotten", "forgotten"]
    for status in (409, 403, 503):
        table = Table(1)
        table.say(status, (b"inkbox-reason", b"intake-superseded"))
        assert table.ended == ["taken"]


# On the wire


async def test_the_edges_pool_size_is_parked(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with scripted_edge(ca, welcoming(32)) as edge:
        agent(edge)
        line = await edge.line(parked=32)
        assert sorted(int(one.get(b"x-pool-slot")) for one in line.parked) == list(range(32))
        assert {one.get(b"x-owner-token") for one in line.parked} == {"owner-token-1"}
        assert not any(one.get(b"x-tunnel-secret") for one in line.parked)


async def test_many_slots_that_meet_a_401_end_the_session_once(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with scripted_edge(ca, welcoming(32)) as edge:
        our = agent(edge)
        line = await edge.line(parked=32)
        for intake in line.parked:
            intake.reply(401, (b"inkbox-reason", b"owner-token-invalid"))
        line.flush()
        await edge.line(1, parked=32)
        assert len(edge.hellos) == 2
        assert our.statuses == [Status.CONNECTED, Status.RECONNECTING, Status.CONNECTED]
        assert len(line.intakes) == 32


async def test_a_request_that_fails_in_the_agent_costs_no_slot(
    ca: LocalAuthority, agent: MakeAgent, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(upstream: Upstream) -> None:
        raise ValueError("a bug")

    async with scripted_edge(ca, welcoming(2)) as edge:
        our = agent(edge)
        our.answers = fails
        line = await edge.line(parked=2)
        for number in range(5):
            await line.deliver(f"req-{number}", *GET)
            reply = await line.reply_to(f"req-{number}")
            assert reply.get(b"inkbox-status") == "500"
        await line.until(lambda: len(line.parked) == 2)
        assert len(edge.lines) == 1


async def test_streams_that_are_not_to_be_had_are_waited_for_and_nothing_is_dropped(
    ca: LocalAuthority, agent: MakeAgent
) -> None:
    """Six streams and four slots: with so few the SDKs lose ten of twelve replies."""
    async with a_line(ca, agent, welcoming(4), terms=H2Terms(max_streams=6), parked=4) as (our, line):
        for first in (0, 6):
            for number in range(first, first + 6):
                await line.deliver(f"req-{number}", *GET)
            for number in range(first, first + 6):
                (await our.stream(number)).reply(b"%d" % number)
            for number in range(first, first + 6):
                assert bytes((await line.reply_to(f"req-{number}")).body) == b"%d" % number
        await line.until(lambda: len(line.parked) == 4)


async def test_replies_that_find_no_stream_wait_for_one(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with a_line(ca, agent, welcoming(2), terms=H2Terms(max_streams=3), parked=2) as (our, line):
        uploads = [await line.deliver(f"req-{number}", *POST, body=None) for number in range(2)]
        for number in range(2):  # while both uploads hold their streams
            (await our.stream(number)).reply(b"%d" % number)
        for intake in uploads:
            intake.stream.data(b"x", True)
        line.flush()
        for number in range(2):
            assert bytes((await line.reply_to(f"req-{number}")).body) == b"%d" % number
        await line.until(lambda: len(line.parked) == 2)


async def test_a_single_stream_is_enough_for_one_request_after_another(
    ca: LocalAuthority, agent: MakeAgent
) -> None:
    async with scripted_edge(ca, welcoming(8), terms=H2Terms(max_streams=1)) as edge:
        our = agent(edge)
        our.answers = lambda upstream: upstream.reply(b"x")
        for number in range(5):
            line = await edge.line(parked=1)
            await line.deliver(f"req-{number}", *GET)
            await line.reply_to(f"req-{number}")


async def test_an_upload_takes_no_slot_from_an_edge_of_ours(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with a_line(ca, agent, welcoming(1, ours=True)) as (our, line):
        uploads = [await line.deliver(f"req-{number}", *POST, body=None) for number in range(4)]
        for number, intake in enumerate(uploads):
            upstream = await our.stream(number)
            intake.stream.data(b"x", True)
            line.flush()
            await upstream.until(lambda upstream=upstream: upstream.ended)  # type: ignore[misc]
            upstream.reply()
            await line.reply_to(f"req-{number}")
