"""Agents at the zone name: who is let in, who takes over from whom, and who has to go."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import cast

import pytest

from tests.kit.doors import FakeDoor
from tests.kit.h2talk import frames
from tests.kit.house import status
from tests.kit.zone import HOST, KEY_ID, OURS, TUNNEL, VIEW, Answer, Zone
from wellhead.edge.intake.session import SUPERSEDED_CODE, SUPERSEDED_DATA
from wellhead.errors import LocalStateError, SecretRejected, TunnelForbidden, TunnelRemoved, WellheadError
from wellhead.model.records import TunnelStatus
from wellhead.net.session import Session
from wellhead.visitors import pages
from wellhead.wire.h2_frames import HEADERS, SETTINGS
from wellhead.wire.intake import MAX_POOL, Hello

JUMPING_CLOCK = True
GET = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


async def hello_with(zone: Zone, *fields: tuple[bytes, bytes], without: bytes = b"") -> Answer:
    """A hello with other fields, and one less."""
    agent = zone.agent()
    kept = [field for field in agent.caller.hello() if field[0] != without]
    answer = agent.ask([*kept, *fields])
    await asyncio.sleep(0.1)
    agent.talk()
    return answer


# Hello


@pytest.mark.parametrize("options", [{}, {"key": "wh_good"}, {"user_agent": OURS}])
async def test_a_good_credential_is_answered_with_a_session(zone: Zone, options: dict[str, str]) -> None:
    agent = zone.agent(**options)
    answer = await agent.hello()
    assert (answer.status, answer.get(b"content-type")) == (200, b"application/json")
    hello = Hello.read(answer.body)
    assert len(hello.owner_token) * 6 >= 128
    assert (hello.pool, hello.idle_seconds, hello.deadline_seconds) == (32, 300, 30)
    assert zone.records.opened == [agent.session.id]
    assert (hello.ours is not None) is (options.get("user_agent") == OURS)


async def test_the_agents_limits_are_announced_before_the_hello_is_answered(zone: Zone) -> None:
    agent = zone.agent()
    assert (agent.h2.peer.max_streams, agent.h2.peer.window) == (100, 256 * 1024)
    answer = agent.ask(agent.caller.hello())
    await asyncio.sleep(0.1)
    agent.connection.flush()
    kinds = [(one.kind, one.stream_id) for one in frames(agent.transport.written)]
    assert kinds.index((SETTINGS, 0)) < kinds.index((HEADERS, 1))
    agent.talk()
    assert answer.status == 200
    assert (agent.h2.peer.max_streams, agent.h2.peer.window) == (2000, 1 << 20)
    assert agent.h2.peer_connects and agent.h2.credit > 15 << 20


@pytest.mark.parametrize(("asked", "given"), [(None, 32), (1, 1), (5, 5), (0, 1), (100, MAX_POOL)])
async def test_the_pool_that_is_asked_for_is_echoed_within_its_bounds(
    zone: Zone, asked: int | None, given: int
) -> None:
    answer = await zone.agent().hello(asked)
    assert Hello.read(answer.body).pool == given


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (SecretRejected("nobody's"), 401),
        (TunnelForbidden("another's"), 403),
        (TunnelRemoved("pending"), 503),
        (LocalStateError("broken"), 503),
    ],
)
async def test_each_refusal_has_its_status_and_leaves_the_connection(
    zone: Zone, error: WellheadError, expected: int
) -> None:
    zone.records.error = error
    agent = zone.agent()
    assert (await agent.hello()).status == expected
    zone.records.error = None
    assert (await agent.hello()).status == 200
    assert sum(zone.metrics.hellos_refused.values()) == 1


async def test_a_credential_that_the_records_may_not_have_yet_is_put_off(zone: Zone) -> None:
    zone.records.current = False
    answer = await zone.agent(secret="whs_new").hello()
    assert (answer.status, answer.get(b"retry-after")) == (503, b"5")


async def test_a_directory_that_does_not_answer_is_no_reason_to_leave_an_agent_waiting(zone: Zone) -> None:
    zone.records.gates = [asyncio.Event()]
    agent = zone.agent()
    answer = await agent.hello()
    assert not answer.fields
    await zone.wait(5.1)
    assert answer.status == 503


async def test_too_many_bad_credentials_of_a_network_are_put_off_on_both_carriers(zone: Zone) -> None:
    for _ in range(10):
        assert (await zone.agent(secret="whs_bad").hello()).status == 401
    answer = await zone.agent().hello()
    assert (answer.status, answer.get(b"retry-after")) == (429, b"60")
    assert (await zone.agent(peer="198.51.100.1").hello()).status == 200


@pytest.mark.parametrize(
    ("fields", "without", "expected"),
    [
        ([(b"x-pool-size", b"many")], b"", 400),
        ([(b"x-filler", b"x" * 5000)], b"", 431),
        ([], b"x-tunnel-id", 401),
        ([], b"x-tunnel-secret", 401),
    ],
)
async def test_a_hello_that_says_too_much_or_too_little_is_refused(
    zone: Zone, fields: list[tuple[bytes, bytes]], without: bytes, expected: int
) -> None:
    assert (await hello_with(zone, *fields, without=without)).status == expected


async def test_a_hello_has_no_body_and_is_a_post(zone: Zone) -> None:
    agent = zone.agent()
    fields = agent.caller.hello()
    assert agent.ask([(b":method", b"GET"), *fields[1:]]).status == 400
    unfinished = agent.ask([field for field in fields if field[0] != b"content-length"], end=False)
    assert unfinished.status == 400


async def test_a_connection_says_hello_once(zone: Zone) -> None:
    agent = await zone.welcomed(parked=1)
    assert (await agent.hello()).status == 409
    zone.records.gates = [asyncio.Event()]
    hurried = zone.agent()
    hurried.ask(hurried.caller.hello())
    assert hurried.ask(hurried.caller.hello()).status == 409
    zone.records.gates = []


async def test_nothing_else_is_answered_before_a_hello(zone: Zone) -> None:
    agent = zone.agent()
    assert agent.park(1, token=b"stolen").status == 401
    assert agent.reply(b"r1").status == 404
    assert agent.ask([*agent.caller.hello()[:3], (b":path", b"/_system/connect")]).status == 404


async def test_the_control_plane_is_served_beside_the_carrier(zone: Zone) -> None:
    agent = zone.agent()
    for _ in range(2):
        asked = agent.ask([*agent.caller.hello()[:3], (b":path", b"/api/v1/tunnels/"), (b"accept", b"*/*")])
        zone.house.door.stream.reply(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"[]")
        agent.talk()
        assert (asked.status, asked.body) == (200, b"[]")
        if agent.connection.session is None:
            assert (await agent.hello()).status == 200


# The edge is busy, full, or on its way out


async def test_a_full_edge_answers_a_hello_and_closes(zone: Zone) -> None:
    agent = zone.agent()
    agent.connection._refusal = pages.EDGE_FULL
    answer = await agent.hello()
    assert (answer.status, answer.get(b"retry-after")) == (503, b"5")
    assert agent.transport.closed


async def test_a_draining_edge_answers_a_hello_that_comes_late_and_closes(zone: Zone) -> None:
    agent = zone.agent()
    zone.gate.drain()
    agent.connection.drain()
    assert not agent.goaways, "its hello may be on its way"
    answer = await agent.hello()
    assert answer.status == 503
    await zone.wait(1)
    assert agent.transport.closed


async def test_who_says_nothing_does_not_hold_up_a_drain(zone: Zone) -> None:
    agent = zone.agent()
    zone.gate.drain()
    await zone.house.ingress.drain(30)
    assert agent.transport.closed


async def test_a_hello_under_way_is_answered_before_a_draining_edge_closes(zone: Zone) -> None:
    zone.records.gates = [waits := asyncio.Event()]
    agent = zone.agent()
    answer = await agent.hello()
    zone.gate.drain()
    waits.set()
    await zone.wait(1)
    assert answer.status == 503


# Takeover


@pytest.mark.parametrize("options", [{"key": "wh_good"}, {"user_agent": OURS}])
async def test_an_agent_that_knows_takeovers_is_told_and_stays_away(
    zone: Zone, options: dict[str, str]
) -> None:
    first = await zone.welcomed(4, **options)
    second = await zone.welcomed(4, **options)
    first.talk()
    assert first.goaways == [(SUPERSEDED_CODE, SUPERSEDED_DATA)]
    assert {answer.status for answer in first.intakes} == {409}
    assert {answer.get(b"inkbox-reason") for answer in first.intakes} == {b"intake-superseded"}
    visit = zone.visit()
    visit.says(GET)
    second.talk()
    assert len(second.envelopes) == 1 and not first.envelopes
    second.reply(second.envelopes[0].request_id, b"second")
    assert visit.transport.take().endswith(b"second")
    await zone.wait(2)
    assert first.transport.closed and zone.records.closed == [zone.records.opened[0]]


async def test_an_agent_with_a_secret_is_closed_without_a_word(zone: Zone) -> None:
    first = await zone.welcomed()
    await zone.welcomed()
    first.talk()
    assert first.transport.closed and not first.goaways
    assert all(not answer.fields for answer in first.intakes)


async def test_a_superseded_agent_may_answer_what_it_was_given(zone: Zone) -> None:
    first = await zone.welcomed()
    visit = zone.visit()
    visit.says(GET)
    first.talk()
    await zone.welcomed()
    await zone.wait(2)
    assert not first.transport.closed
    first.reply(first.envelopes[0].request_id, b"late")
    assert visit.transport.take().endswith(b"late")
    await zone.wait(0.5)
    assert first.transport.closed


async def test_two_agents_that_do_not_know_takeovers_change_places_so_often_and_no_more(zone: Zone) -> None:
    agents = [await zone.welcomed(parked=1)]
    for _ in range(10):
        agents.append(await zone.welcomed(parked=1))
    late = await zone.agent().hello()
    assert (late.status, late.get(b"retry-after")) == (429, b"10")
    assert [agent.transport.closed for agent in agents] == [True] * 10 + [False]
    await zone.wait(61)
    assert (await zone.agent().hello()).status == 200


async def test_agents_of_ours_take_over_as_often_as_they_like(zone: Zone) -> None:
    for _ in range(100):
        await zone.welcomed(parked=1, user_agent=OURS)
    await zone.wait(2)
    assert len(zone.gate._sessions) == 1


async def test_a_takeover_leaves_the_sessions_of_the_native_carrier_and_both_are_chosen(zone: Zone) -> None:
    native = FakeDoor()
    zone.house.registry.add(TUNNEL, cast(Session, native))
    first = await zone.welcomed(key="wh_good")
    second = await zone.welcomed(key="wh_good")
    await zone.wait(2)
    assert first.transport.closed and first.session.superseded
    assert zone.house.registry.lines[TUNNEL].sessions == [native, second.session]
    visits = [zone.visit() for _ in range(4)]
    for visit in visits:
        visit.connection.data_received(GET)
        native.load = len(native.opened)
    second.talk()
    assert (len(native.opened), len(second.envelopes)) == (2, 2)
    for envelope in second.envelopes:
        second.reply(envelope.request_id)
    for visit in visits:
        visit.connection.connection_lost(None)
    zone.house.registry.remove(TUNNEL, cast(Session, native))


async def test_no_credential_is_written_down(zone: Zone, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    good = await zone.welcomed(key="wh_good", user_agent=OURS)
    for options in ({"key": "wh_stolen"}, {"secret": "whs_stolen"}, {"tunnel": "wh_misplaced"}):
        assert (await zone.agent(**options).hello()).status == 401
    good.park(token=b"whs_stolen")
    good.ask([*good.caller.response(b"whs_stolen"), (b"inkbox-status", b"whs_stolen")])
    await zone.wait(1)
    good.hang_up()
    text = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert "session opened" in text and "session refused" in text
    assert not [word for word in ("wh_", "whs_", good.token.decode()) if word in text]


async def test_a_hello_that_is_overtaken_by_a_later_one_has_lost(zone: Zone) -> None:
    first_waits, second_waits = asyncio.Event(), asyncio.Event()
    zone.records.gates = [first_waits, second_waits]
    first, second = zone.agent(), zone.agent()
    lost, won = first.ask(first.caller.hello()), second.ask(second.caller.hello())
    await asyncio.sleep(0.1)
    second_waits.set()
    await zone.wait(0.1)
    first_waits.set()
    await zone.wait(0.1)
    assert won.status == 200
    assert (lost.status, lost.json["reason"]) == (409, "hello-superseded")


# Records that change


async def test_a_rotated_secret_breaks_no_live_session(zone: Zone) -> None:
    agent = await zone.welcomed()
    zone.records.secret = "whs_new"
    visit = zone.visit()
    visit.says(GET)
    agent.talk()
    assert agent.reply(agent.envelopes[0].request_id, b"still here").status == 200
    assert visit.transport.take().endswith(b"still here")
    assert (await zone.agent().hello()).status == 401


async def test_a_removed_tunnels_agent_with_a_secret_is_closed_at_once_without_a_goaway(zone: Zone) -> None:
    agent = await zone.welcomed()
    visit = zone.visit()
    visit.says(GET)
    agent.talk()
    zone.records.views[TUNNEL] = replace(VIEW, status=TunnelStatus.PENDING_REMOVAL, name="gone")
    for call in zone.records.removed:
        call(TUNNEL)
    assert status(visit.transport.take()) == 404
    agent.talk()
    assert agent.transport.closed and not agent.goaways


async def test_a_revoked_key_ends_its_sessions_and_no_others(zone: Zone) -> None:
    agent = await zone.welcomed(key="wh_good")
    for call in zone.records.revoked:
        call(KEY_ID)
    agent.talk()
    assert agent.transport.closed and [code for code, _ in agent.goaways] == [0]
    other = await zone.welcomed()
    for call in zone.records.revoked:
        call(KEY_ID)
    other.talk()
    assert not other.transport.closed


async def test_an_end_of_hello_by_the_agent_is_no_session(zone: Zone) -> None:
    zone.records.gates = [waits := asyncio.Event()]
    agent = zone.agent()
    agent.ask(agent.caller.hello())
    agent.hang_up()
    waits.set()
    await asyncio.sleep(0.1)
    assert not zone.records.opened
