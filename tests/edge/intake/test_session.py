"""An agent's session: who is handed what, where answers go, and what becomes of them when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.kit.house import Visit, status
from tests.kit.zone import HOST, OURS, Answer, Zone
from wellhead.net.session import Liveness
from wellhead.wire.h2_frames import ErrorCode

JUMPING_CLOCK = True


def get(target: str = "/") -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


def asks(zone: Zone, target: str = "/") -> Visit:
    """A visitor that has asked for something."""
    visit = zone.visit()
    visit.connection.data_received(get(target))
    return visit


def path(envelope: Answer) -> bytes:
    return envelope.get(b"inkbox-path")


@pytest.fixture
async def patient() -> AsyncIterator[Zone]:
    """A zone where few may wait, and not for long."""
    made = Zone(max_waiting=2, wait_seconds=1.0)
    yield made
    leaks = made.leaks()
    await made.close()
    assert not leaks


# Intakes


async def test_intakes_are_answered_in_the_order_they_were_parked(zone: Zone) -> None:
    agent = await zone.welcomed(3)
    visits = [asks(zone, f"/{number}") for number in range(3)]
    agent.talk()
    assert [path(answer) for answer in agent.intakes] == [b"/0", b"/1", b"/2"]
    for visit, envelope in zip(visits, agent.envelopes, strict=True):
        assert agent.reply(envelope.request_id, path(envelope)).status == 200
        assert visit.transport.take().endswith(path(envelope))


async def test_requests_wait_for_the_next_intake_in_their_order(zone: Zone) -> None:
    agent = await zone.welcomed(1)
    visits = [asks(zone, f"/{number}") for number in range(4)]
    agent.talk()
    while len(agent.envelopes) < 4:
        agent.park()
    assert [path(answer) for answer in agent.envelopes] == [b"/0", b"/1", b"/2", b"/3"]
    for visit, envelope in zip(visits, agent.envelopes, strict=True):
        agent.reply(envelope.request_id, b"ok")
        assert status(visit.transport.take()) == 200


async def test_no_more_wait_than_may_and_none_for_longer_than_it_may(patient: Zone) -> None:
    await patient.welcomed(0)
    visits = [asks(patient) for _ in range(3)]
    await asyncio.sleep(0.1)
    refused = visits[2].transport.take()
    assert status(refused) == 503 and b"\r\nRetry-After: " in refused
    assert not visits[0].transport.take() and not visits[1].transport.take()
    await patient.wait(1.2)
    assert [status(visit.transport.take()) for visit in visits[:2]] == [503, 503]
    assert {line.reason for line in patient.house.lines} == {"no-slot"}


async def test_a_visitor_that_leaves_while_it_waits_is_handed_to_nobody(zone: Zone) -> None:
    agent = await zone.welcomed(0)
    asks(zone).connection.connection_lost(None)
    agent.park()
    assert not agent.envelopes and agent.parked == 1


async def test_an_intake_that_the_agent_gave_up_is_handed_nothing(zone: Zone) -> None:
    agent = await zone.welcomed(2)
    stream = agent.intakes[0].stream
    assert stream is not None
    stream.reset(ErrorCode.CANCEL)
    agent.talk()
    visit = asks(zone)
    agent.talk()
    assert agent.intakes[1].request_id
    agent.reply(agent.intakes[1].request_id)
    assert status(visit.transport.take()) == 200


async def test_a_wrong_owner_token_is_told_so_that_the_agent_says_hello_again(zone: Zone) -> None:
    agent = await zone.welcomed(1)
    wrong = agent.park(1, token=b"stolen")
    assert (wrong.status, wrong.get(b"inkbox-reason")) == (401, b"owner-token-invalid")
    other = await zone.welcomed(0, peer="198.51.100.1", user_agent=OURS)
    assert other.park(1, token=agent.token).status == 401


@pytest.mark.parametrize(("answer", "expected"), [("quiet", 200), ("408", 408), ("off", 0)])
async def test_an_intake_that_was_parked_for_long_is_ended_as_it_is_set(answer: str, expected: int) -> None:
    zone = Zone(idle_seconds=60.0, idle_answer=answer)
    agent = await zone.welcomed(2)
    await zone.wait(61)
    assert [each.status for each in agent.intakes] == [expected] * 2
    assert not agent.envelopes
    await zone.close()


# Replies


async def test_a_reply_is_good_once_and_for_its_own_tunnel(zone: Zone) -> None:
    agent = await zone.welcomed()
    visit = asks(zone)
    agent.talk()
    request_id = agent.envelopes[0].request_id
    assert agent.reply(request_id, b"one").status == 200
    assert agent.reply(request_id, b"two").status == 410
    assert agent.reply(b"nobody-asked").status == 404
    assert visit.transport.take().endswith(b"one")


async def test_a_reply_is_acknowledged_before_its_visitor_takes_it(zone: Zone) -> None:
    agent = await zone.welcomed()
    visit = zone.visit()
    visit.transport.clogged = True
    visit.says(get())
    agent.talk()
    assert agent.reply(agent.envelopes[0].request_id, b"x" * 200_000).status == 200
    visit.transport.unclog()


async def test_a_reply_that_comes_on_another_connection_is_taken(zone: Zone) -> None:
    agent = await zone.welcomed(key="wh_good")
    visit = asks(zone)
    agent.talk()
    agent.session.drain()
    successor = await zone.welcomed(key="wh_good")
    agent.hang_up()
    assert not visit.transport.take()
    assert successor.reply(agent.envelopes[0].request_id, b"moved").status == 200
    assert visit.transport.take().endswith(b"moved")


async def test_an_answer_that_does_not_come_in_time_is_a_504(zone: Zone) -> None:
    agent = await zone.welcomed()
    visit = asks(zone)
    agent.talk()
    await zone.wait(31)
    assert not visit.transport.take()
    await zone.wait(1.5)
    assert status(visit.transport.take()) == 504
    assert agent.reply(agent.envelopes[0].request_id).status == 410


async def test_a_reply_without_a_status_is_no_reply(zone: Zone) -> None:
    agent = await zone.welcomed()
    visit = asks(zone)
    agent.talk()
    request_id = agent.envelopes[0].request_id
    assert agent.ask([*agent.caller.response(request_id), (b"inkbox-status", b"99")]).status == 200
    assert status(visit.transport.take()) == 502


# The end of a session


async def test_a_lost_agents_visitors_are_told_at_once(zone: Zone) -> None:
    agent = await zone.welcomed(1)
    handed, waiting = asks(zone), asks(zone)
    agent.talk()
    agent.hang_up()
    assert (status(handed.transport.take()), status(waiting.transport.take())) == (503, 503)
    assert [line.reason for line in zone.house.lines] == ["overloaded", "agent-lost"]


async def test_what_no_agent_was_handed_goes_to_another(zone: Zone) -> None:
    agent = await zone.welcomed(0)
    visit = asks(zone)
    other = await zone.welcomed(1)
    agent.talk()
    other.talk()
    assert not agent.envelopes and len(other.envelopes) == 1
    other.reply(other.envelopes[0].request_id, b"other")
    assert visit.transport.take().endswith(b"other")


async def test_a_draining_agent_with_a_secret_finishes_and_is_closed_without_a_goaway(zone: Zone) -> None:
    agent = await zone.welcomed()
    visit = asks(zone)
    agent.talk()
    zone.gate.drain()
    await zone.wait(3)
    agent.reply(agent.envelopes[0].request_id, b"done")
    assert visit.transport.take().endswith(b"done")
    await zone.wait(0.5)
    assert agent.transport.closed and not agent.goaways


async def test_a_draining_agent_of_ours_is_told_at_once_and_answers_where_it_was_asked(zone: Zone) -> None:
    agent = await zone.welcomed(2, user_agent=OURS)
    visit = asks(zone)
    agent.talk()
    zone.gate.drain()
    agent.talk()
    assert agent.goaways == [(0, b'{"reason":"drain"}')]
    assert agent.parked == 1, "its intakes are not ended: it would park them again"
    assert agent.reply(agent.envelopes[0].request_id, b"done").status == 200
    assert visit.transport.take().endswith(b"done")
    await zone.wait(29)
    assert not agent.transport.closed
    await zone.wait(2)
    assert agent.transport.closed


async def test_an_sdk_with_a_key_may_answer_before_it_is_asked_to_go(zone: Zone) -> None:
    agent = await zone.welcomed(key="wh_good")
    visit = asks(zone)
    agent.talk()
    zone.gate.drain()
    await zone.wait(5)
    assert not agent.goaways, "it drops its connection, and with it its reply"
    agent.reply(agent.envelopes[0].request_id, b"done")
    assert visit.transport.take().endswith(b"done")
    await zone.wait(0.5)
    assert [code for code, _ in agent.goaways] == [0]
    assert (await zone.agent().hello()).status == 503


async def test_an_agent_of_ours_that_leaves_is_handed_nothing_more_and_may_finish(zone: Zone) -> None:
    agent = await zone.welcomed(2, user_agent=OURS)
    visit = asks(zone)
    agent.talk()
    agent.h2.announce_leaving()
    agent.talk()
    assert agent.parked == 0
    assert status(asks(zone).transport.take()) == 503
    assert agent.reply(agent.envelopes[0].request_id, b"done").status == 200
    assert visit.transport.take().endswith(b"done")
    await zone.wait(0.5)
    assert agent.transport.closed


# Whether it is there


async def test_a_silent_agent_is_asked_and_one_that_does_not_answer_is_given_up(zone: Zone) -> None:
    liveness = Liveness()
    agent = await zone.welcomed()
    await zone.wait(60)
    assert not agent.transport.closed
    agent.silent = True
    await zone.wait(liveness.ping_seconds + liveness.pong_seconds + 0.5)
    assert agent.transport.aborted
    agent.hang_up()
    assert zone.metrics.sessions_closed["session-lost"] == 1


async def test_an_agent_that_was_given_something_is_missed_within_five_seconds(zone: Zone) -> None:
    agent = await zone.welcomed()
    visit = asks(zone)
    agent.silent = True
    await zone.wait(5)
    assert agent.transport.aborted
    agent.hang_up()
    assert status(visit.transport.take()) == 503


async def test_a_busy_program_whose_machine_answers_is_waited_for(
    zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = await zone.welcomed()
    monkeypatch.setattr(agent.connection, "acknowledged", lambda: True)
    visit = asks(zone)
    agent.silent = True
    await zone.wait(15)
    assert not agent.transport.aborted
    agent.silent = False
    agent.talk()
    agent.reply(agent.envelopes[0].request_id, b"at last")
    assert visit.transport.take().endswith(b"at last")


async def test_an_edge_that_stood_still_gives_up_nobody_for_it(zone: Zone) -> None:
    agent = await zone.welcomed()
    agent.session.probe()
    zone.gate._looked -= 60
    agent.session.pulse._answer_by -= 60
    await asyncio.sleep(0.3)
    assert not agent.transport.aborted
    agent.talk()


# Its connection


async def test_a_window_that_leaked_away_makes_the_agent_dial_again(zone: Zone) -> None:
    agent = await zone.welcomed(1)
    # What the agent consumed and never credits: bytes of a bridge that had ended.
    agent.connection._h2._credit = 20_000
    agent.connection._h2._peer.max_list = 65536
    await zone.wait(13)
    assert agent.transport.closed
    agent.hang_up()
    assert zone.metrics.sessions_closed["window-leaked"] == 1


async def test_a_promoted_connection_has_no_longest_age_and_none_that_is_idle(zone: Zone) -> None:
    agent = await zone.welcomed()
    await zone.wait(4200)
    assert not agent.transport.closed and not agent.goaways


async def test_an_agent_is_no_visitor(zone: Zone) -> None:
    before = len(zone.house.ingress)
    agent = zone.agent()
    assert len(zone.house.ingress) == before + 1
    await agent.hello()
    assert len(zone.house.ingress) == before


async def test_the_longest_wait_costs_no_stream(zone: Zone) -> None:
    agent = await zone.welcomed(1000)
    assert agent.parked == 1000
    visits = [asks(zone, f"/{number}") for number in range(200)]
    agent.talk()
    for visit, envelope in zip(visits, agent.envelopes, strict=True):
        agent.reply(envelope.request_id, b"ok")
        assert status(visit.transport.take()) == 200
