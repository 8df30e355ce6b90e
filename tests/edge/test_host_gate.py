"""Hosts at the agents' door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.edge.test_gate import MOST, Agent, Door, turns
from tests.kit.muxpair import RecordingSink
from wellhead.model.access import ADMIN, Scope, ScopeKind, Secret
from wellhead.model.records import OrganizationId
from wellhead.model.sandboxes import HostId, Lane
from wellhead.net.session import Liveness
from wellhead.wire.frames import Kind
from wellhead.wire.messages import Hello
from wellhead.wire.streams import Reason, StreamKind

JUMPING_CLOCK = True


class HostDoor(Door):
    def __init__(self) -> None:
        super().__init__()
        self.host, self.key = self.host_records.new_host()

    async def host_says(
        self,
        secret: Secret | None = None,
        *,
        lane: str = "interactive",
        host: str | None = None,
        hint: str = "",
        peer: str = "192.0.2.7",
    ) -> Agent:
        """A connection that said hello, and heard the answer."""
        agent = self.agent(peer)
        secret = secret or self.key
        hello = Hello("host:" + (host or self.host), secret.reveal(), "h/1", lane=lane, session_hint=hint)
        agent.mux.control(Kind.HELLO, hello.encode())
        agent.say()
        await turns()
        agent.hear()
        return agent


@pytest.fixture
async def door() -> AsyncIterator[HostDoor]:
    made = HostDoor()
    yield made
    for agent in made.agents:
        agent.hang_up()
    await made.gate.close()


async def test_a_host_with_its_key_is_welcomed_on_each_of_its_lanes(door: HostDoor) -> None:
    keys, bulk = await door.host_says(), await door.host_says(lane="bulk")
    for agent in (keys, bulk):
        assert (agent.welcome.tunnel_id, agent.welcome.name) == (door.host, door.host)
        assert agent.welcome.public_urls == []
    assert door.hosts.door(door.host, Lane.INTERACTIVE) is keys.session
    assert door.hosts.door(door.host, Lane.BULK) is bulk.session
    assert len(door.registry) == 0, "it is no tunnel's"
    assert door.metrics.sessions_opened == {"mux": 2}
    keys.hang_up()
    assert door.hosts.door(door.host, Lane.INTERACTIVE) is bulk.session
    assert door.metrics.sessions_closed == {"closed": 1}


@pytest.mark.parametrize("lane", ["default", "", "INTERACTIVE", "x" * 200])
async def test_another_lane_is_refused_for_good_and_named(door: HostDoor, lane: str) -> None:
    agent = await door.host_says(lane=lane)
    assert agent.refused.final and agent.refused.message.endswith("must be interactive or bulk")
    assert lane[:40] in agent.refused.message and not list(door.hosts.sessions())


async def test_no_other_key_opens_a_host(door: HostDoor) -> None:
    records = door.host_records
    other_host, other_key = records.new_host()
    elsewhere = records.new_key(Scope(ScopeKind.HOST, door.host), OrganizationId("another"))
    for secret in (records.new_key(ADMIN), other_key, elsewhere, Secret("wh_nonsense"), Secret("")):
        agent = await door.host_says(secret or Secret("x"))
        assert (agent.refused.code, agent.refused.final) == ("secret-rejected", True)
        door.credentials._failures.clear()
    for host in (other_host, "host-" + "0" * 25, "", "../" + door.host):
        agent = await door.host_says(host=host or " ")
        assert agent.refused.code == "secret-rejected"
    assert not list(door.hosts.sessions())


async def test_a_host_is_put_off_by_bad_keys_as_agents_are(door: HostDoor) -> None:
    for _ in range(MOST):
        await door.host_says(Secret("bad"))
    late = await door.host_says()
    assert (late.refused.code, late.refused.final) == ("quota", False)
    assert (await door.host_says(peer="192.0.2.8")).welcome


async def test_an_unknown_host_asks_again_while_the_records_are_away(door: HostDoor) -> None:
    door.records.current = False
    assert (await door.host_says()).welcome
    agent = await door.host_says(Secret("wh_perhaps"))
    assert (agent.refused.code, agent.refused.final) == ("records-away", False)


async def test_a_host_is_put_off_while_the_edge_drains_and_those_inside_are_asked_to_go(
    door: HostDoor,
) -> None:
    inside = await door.host_says()
    door.gate.drain()
    inside.hear()
    assert inside.goaways == ["the edge is draining"] and not inside.transport.closed
    assert door.hosts.door(door.host, Lane.INTERACTIVE) is None
    assert (await door.host_says()).refused.code == "draining"


async def test_sessions_end_with_the_hosts_record_and_no_others(door: HostDoor) -> None:
    other, other_key = door.host_records.new_host()
    mine, theirs = await door.host_says(), await door.host_says(other_key, host=other)
    sink = RecordingSink()
    mine.session.open(StreamKind.HTTP, b"e", sink)
    door.host_records.drop_host(door.host)
    assert mine.transport.closed and not theirs.transport.closed
    assert door.hosts.door(door.host, Lane.INTERACTIVE) is None
    mine.hang_up()
    assert sink.resets == [Reason.REMOVED]


async def test_sessions_end_with_their_key_even_if_the_host_reads_nothing(door: HostDoor) -> None:
    agent = await door.host_says()
    door.host_records.revoke(door.key)
    assert agent.transport.closed and not agent.session.usable
    assert door.hosts.door(door.host, Lane.INTERACTIVE) is None
    await asyncio.sleep(1)
    assert agent.transport.aborted


async def test_a_host_opens_no_streams(door: HostDoor) -> None:
    agent, sink = await door.host_says(), RecordingSink()
    agent.mux.start(agent.welcome.window)
    agent.mux.open(StreamKind.HTTP, b"e", sink)
    agent.say()
    agent.hear()
    assert sink.resets == [Reason.REFUSED] and not agent.transport.closed


async def test_a_host_that_dials_a_lane_again_puts_its_older_session_in_doubt(door: HostDoor) -> None:
    older = await door.host_says(hint="one")
    beside = [
        await door.host_says(hint="one", lane="bulk"),
        await door.host_says(hint="two"),
        await door.host_says(),
    ]
    written = [agent.transport.writes for agent in (older, *beside)]
    again = await door.host_says(hint="one")
    assert door.hosts.door(door.host, Lane.INTERACTIVE) is again.session
    assert [agent.transport.writes for agent in (older, *beside)] == [written[0] + 1, *written[1:]]
    await asyncio.sleep(Liveness().probe_seconds + 0.1)
    assert older.transport.aborted and not any(agent.transport.closed for agent in (again, *beside))


async def test_a_host_that_leaves_during_its_hello_leaves_nothing(door: HostDoor) -> None:
    agent = door.agent()
    hello = Hello("host:" + door.host, door.key.reveal(), lane="bulk")
    agent.mux.control(Kind.HELLO, hello.encode())
    agent.say()
    agent.hang_up()
    await turns()
    assert not list(door.hosts.sessions()) and not door.gate._admissions
    assert door.hosts.door(HostId(door.host), Lane.BULK) is None


async def test_closing_ends_hosts_sessions_too(door: HostDoor) -> None:
    agent = await door.host_says()
    await door.gate.close()
    assert agent.transport.closed
