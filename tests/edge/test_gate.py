"""Agents at the door: their sessions are real, their transports are not, and the clock jumps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from tests.kit.muxpair import RecordingSink
from tests.kit.notebook import Notebook
from tests.kit.sandboxes import SandboxRecords
from tests.kit.transport import FakeTransport
from wellhead.edge.credentials import REMEMBERED, Credentials
from wellhead.edge.gate import Gate, GateTerms
from wellhead.edge.host_gate import HostGate
from wellhead.edge.hosts import Hosts
from wellhead.edge.metrics import Metrics
from wellhead.edge.registry import Registry
from wellhead.errors import LocalStateError, SecretRejected, TunnelRemoved, WellheadError
from wellhead.model.access import Secret
from wellhead.model.records import (
    Admission,
    KeyId,
    OrganizationId,
    TlsMode,
    TunnelId,
    TunnelStatus,
    TunnelView,
)
from wellhead.net.session import Liveness
from wellhead.wire.frames import Kind
from wellhead.wire.messages import Hello, Refused, Welcome
from wellhead.wire.mux import Mux, Role
from wellhead.wire.streams import Reason, StreamKind

JUMPING_CLOCK = True
MOST = 10  # rejected credentials a minute
VIEW = TunnelView(TunnelId("t_1"), "my-agent", OrganizationId("org"), TunnelStatus.ACTIVE, TlsMode.EDGE)


class Records(Notebook):
    """A directory with one tunnel whose secret is ``good``; ``answer`` may be held back or replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.removed: Callable[[TunnelId], None] = lambda tunnel: None

    def tunnel(self, name: str) -> TunnelView | None:
        return VIEW if name == VIEW.name else None

    def named(self, name: str) -> TunnelView | None:
        return self.tunnel(name)

    def on_removed(self, call: Callable[[TunnelId], None]) -> None:
        self.removed = call

    def on_revoked(self, call: Callable[[KeyId], None]) -> None:
        """No key is ever revoked."""

    async def admit(self, tunnel: str, secret: Secret, peer: str, agent: str) -> Admission:
        self.asked += 1
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        if secret.reveal() != "good":
            raise SecretRejected("not this secret")
        return Admission(VIEW)


class Agent:
    """One connection: the edge's session and the agent's mux."""

    def __init__(self, gate: Gate, peer: str = "192.0.2.7") -> None:
        self.session = gate.session()
        self.transport = FakeTransport(peer)
        self.answers: list[tuple[int, bytes]] = []
        self.goaways: list[str] = []
        self.mux = Mux(Role.DIALLER, lambda *opened: None, lambda: None)
        self.mux.on_control = lambda kind, payload: self.answers.append((kind, payload))
        self.mux.on_goaway = lambda reason, retry_after_ms, text: self.goaways.append(text)
        self.session.connection_made(self.transport)

    def say(self) -> None:
        self.session.data_received(b"".join(self.mux.take(1 << 20)))

    def hear(self) -> None:
        self.mux.receive(self.transport.take())

    async def hello(
        self, secret: str = "good", protocol: int = 1, hint: str = "", features: list[str] | None = None
    ) -> None:
        """Say hello and hear what the edge makes of it at once."""
        hello = Hello("my-agent", secret, protocol=protocol, session_hint=hint, features=features or [])
        self.mux.control(Kind.HELLO, hello.encode())
        self.say()
        await turns()
        self.hear()

    @property
    def welcome(self) -> Welcome:
        kind, payload = self.answers[-1]
        assert kind == Kind.WELCOME, payload
        return Welcome.decode(payload)

    @property
    def refused(self) -> Refused:
        kind, payload = self.answers[-1]
        assert kind == Kind.REFUSED, payload
        return Refused.decode(payload)

    def hang_up(self) -> None:
        self.session.connection_lost(None)


class Door:
    def __init__(self) -> None:
        self.records, self.registry, self.metrics = Records(), Registry(), Metrics()
        terms = GateTerms(
            hello_seconds=5, drain_seconds=30, liveness=Liveness(), loopback_exempt=True,
            rejections_per_minute=MOST, public_urls=lambda view: [f"https://{view.name}.localhost"],
        )  # fmt: skip
        self.credentials = Credentials(
            self.records, asyncio.get_running_loop().time, rejections_per_minute=MOST, loopback_exempt=True
        )
        self.host_records = SandboxRecords()
        self.hosts = Hosts(lambda seen: None)
        host_gate = HostGate(self.host_records, self.credentials, self.hosts)
        self.gate = Gate(self.records, self.credentials, self.registry, self.metrics, terms, host_gate)
        self.agents: list[Agent] = []

    def agent(self, peer: str = "192.0.2.7") -> Agent:
        self.agents.append(Agent(self.gate, peer))
        return self.agents[-1]


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    made = Door()
    yield made
    for agent in made.agents:
        agent.hang_up()
    await made.gate.close()


async def turns() -> None:
    """Let what is ready happen."""
    for _ in range(6):
        await asyncio.sleep(0)


async def test_a_good_secret_is_welcomed_and_its_session_chosen(door: Door) -> None:
    agent = door.agent()
    await agent.hello()
    assert agent.welcome.name == "my-agent" and agent.welcome.public_urls == ["https://my-agent.localhost"]
    assert door.registry.lines[VIEW.id].pick() is agent.session
    assert door.records.opened == [agent.welcome.session] and door.metrics.sessions_opened == {"mux": 1}
    agent.hang_up()
    assert len(door.registry) == 0 and door.records.closed == door.records.opened


async def test_a_feature_that_is_offered_is_in_force_and_one_that_nobody_knows_is_not(door: Door) -> None:
    agent = door.agent()
    await agent.hello(features=["own-certificate", "telepathy"])
    assert agent.welcome.features == ["own-certificate"]
    assert door.registry.lines[VIEW.id].own_certificate
    agent.hang_up()


async def test_streams_go_to_an_agent_only_after_its_welcome(door: Door) -> None:
    agent = door.agent()
    await agent.hello()
    agent.mux.start(agent.welcome.window)
    agent.session.open(StreamKind.HTTP, b"envelope", RecordingSink())
    agent.mux._on_open = lambda stream, kind, envelope, data, end: setattr(stream, "sink", RecordingSink())
    agent.hear()
    assert len(agent.mux.streams) == 1


async def test_who_says_nothing_is_cut_after_five_seconds_and_counted_once(door: Door) -> None:
    agent = door.agent()
    await asyncio.sleep(4.9)
    assert not agent.transport.closed
    await asyncio.sleep(0.2)
    assert agent.transport.aborted
    agent.hang_up()
    assert door.metrics.hellos_refused == {"no-hello": 1}


async def test_a_hello_in_time_stops_that_clock(door: Door) -> None:
    agent = door.agent()
    await agent.hello()
    await asyncio.sleep(6)
    assert not agent.transport.closed


@pytest.mark.parametrize("kind", [Kind.WELCOME, Kind.REFUSED])
async def test_another_first_frame_ends_the_session(door: Door, kind: Kind) -> None:
    agent = door.agent()
    agent.mux.control(kind, b"{}")
    agent.say()
    assert agent.transport.closed
    agent.hang_up()
    assert door.metrics.hellos_refused == {"hello": 1}


async def test_a_hello_that_is_none_ends_the_session(door: Door) -> None:
    agent = door.agent()
    agent.mux.control(Kind.HELLO, b"[]")
    agent.say()
    agent.hang_up()
    assert agent.transport.closed and door.records.asked == 0


async def test_a_second_hello_ends_the_session_before_and_after_the_answer(door: Door) -> None:
    agent, other = door.agent(), door.agent()
    door.records.may_answer.clear()
    await agent.hello()
    await agent.hello()
    assert agent.transport.closed
    door.records.may_answer.set()
    await turns()
    assert len(door.registry) == 0 and not door.records.opened, "nothing is opened on a session that ends"
    await other.hello()
    await other.hello()
    assert other.transport.closed


async def test_a_wrong_secret_is_final(door: Door) -> None:
    agent = door.agent()
    await agent.hello("bad")
    assert (agent.refused.code, agent.refused.final) == ("secret-rejected", True)
    assert agent.transport.closed and door.metrics.hellos_refused == {"secret-rejected": 1}


async def test_another_protocol_is_refused_without_asking_for_the_secret(door: Door) -> None:
    agent = door.agent()
    await agent.hello(protocol=2)
    assert (agent.refused.code, agent.refused.final) == ("version", True) and door.records.asked == 0


async def test_a_removed_tunnel_is_told_so(door: Door) -> None:
    door.records.error = TunnelRemoved("it is being removed")
    agent = door.agent()
    await agent.hello()
    assert agent.refused.code == "tunnel-removed"


async def test_ten_wrong_secrets_in_a_minute_put_an_address_off_and_no_other(door: Door) -> None:
    for _ in range(MOST):
        await door.agent().hello("bad")
    asked = door.records.asked
    late = door.agent()
    await late.hello("good")
    assert (late.refused.code, late.refused.final) == ("quota", False)
    assert late.refused.retry_after_ms > 0 and door.records.asked == asked
    other = door.agent("192.0.2.8")
    await other.hello()
    assert other.welcome
    await asyncio.sleep(61)
    again = door.agent()
    await again.hello()
    assert again.welcome


async def test_addresses_of_one_network_count_as_one(door: Door) -> None:
    for number in range(MOST):
        await door.agent(f"2001:db8::{number:x}").hello("bad")
    late = door.agent("2001:db8::ffff")
    await late.hello()
    assert late.refused.code == "quota"


async def test_failures_of_many_addresses_take_bounded_memory(door: Door) -> None:
    for number in range(REMEMBERED + 10):
        door.credentials._failed(f"2001:db8:{number:x}::1")
    assert len(door.credentials._failures) == REMEMBERED


async def test_this_machine_may_mistype_as_often_as_it_likes(door: Door) -> None:
    for _ in range(MOST + 1):
        await door.agent("127.0.0.1").hello("bad")
    agent = door.agent("127.0.0.1")
    await agent.hello()
    assert agent.welcome


async def test_a_slow_directory_puts_the_agent_off(door: Door) -> None:
    door.records.may_answer.clear()
    agent = door.agent()
    await agent.hello()
    await asyncio.sleep(5.1)
    agent.hear()
    assert (agent.refused.code, agent.refused.final) == ("quota", False) and agent.transport.closed


@pytest.mark.parametrize("error", [LocalStateError("disk"), WellheadError("odd")])
async def test_a_failing_directory_puts_the_agent_off(door: Door, error: WellheadError) -> None:
    door.records.error = error
    agent = door.agent()
    await agent.hello()
    assert not agent.refused.final and agent.transport.closed
    assert "disk" not in agent.refused.message


async def test_an_agent_that_leaves_during_its_hello_leaves_nothing(door: Door) -> None:
    door.records.may_answer.clear()
    agent = door.agent()
    await agent.hello()
    agent.hang_up()
    await turns()
    assert not door.gate._admissions and not door.gate._waiting and not door.records.opened


async def test_draining_asks_agents_to_go_and_puts_new_ones_off(door: Door) -> None:
    inside, late, deciding = door.agent(), door.agent(), door.agent()
    await inside.hello()
    door.records.may_answer.clear()
    await deciding.hello()
    door.gate.drain()
    inside.hear()
    assert inside.goaways and not inside.session.usable and not inside.transport.closed
    await late.hello()
    assert (late.refused.code, late.refused.final) == ("draining", False)
    door.records.may_answer.set()
    await turns()
    deciding.hear()
    assert deciding.refused.code == "draining"


async def test_removing_a_tunnel_ends_its_sessions_and_no_others(door: Door) -> None:
    agent = door.agent()
    await agent.hello()
    door.records.removed(TunnelId("t_2"))
    assert not agent.transport.closed
    door.records.removed(VIEW.id)
    assert agent.transport.is_closing() and not agent.session.usable


async def test_an_agent_opens_no_streams_before_its_hello(door: Door) -> None:
    agent = door.agent()
    agent.mux.start(1 << 16)
    agent.mux.open(StreamKind.HTTP, b"e", RecordingSink())
    agent.say()
    assert agent.transport.closed


async def test_streams_that_an_agent_opens_after_its_hello_are_refused(door: Door) -> None:
    agent, sink = door.agent(), RecordingSink()
    await agent.hello()
    agent.mux.start(agent.welcome.window)
    agent.mux.open(StreamKind.HTTP, b"e", sink)
    agent.say()
    agent.hear()
    assert sink.resets == [Reason.REFUSED] and not agent.transport.closed


async def test_closing_ends_every_connection_whatever_it_waits_for(door: Door) -> None:
    inside, deciding, silent = door.agent(), door.agent(), door.agent()
    await inside.hello()
    door.records.may_answer.clear()
    await deciding.hello()
    await door.gate.close()
    assert [agent.transport.closed for agent in (inside, deciding, silent)] == [True] * 3


async def test_an_agent_that_dials_again_makes_its_older_session_doubtful(door: Door) -> None:
    """It is asked at once and given up soon; that of another process is left in peace."""
    older, stranger = door.agent(), door.agent()
    await older.hello(hint="one")
    await stranger.hello(hint="two")
    written = [agent.transport.writes for agent in (older, stranger)]
    again = door.agent()
    await again.hello(hint="one")
    assert [agent.transport.writes for agent in (older, stranger)] == [written[0] + 1, written[1]]
    await asyncio.sleep(Liveness().probe_seconds + 0.1)
    assert older.transport.aborted and not stranger.transport.closed and not again.transport.closed


async def test_an_older_session_that_answers_stays(door: Door) -> None:
    older, again = door.agent(), door.agent()
    await older.hello(hint="one")
    await again.hello(hint="one")
    older.mux.start(older.welcome.window)
    older.hear()
    older.say()
    await asyncio.sleep(Liveness().probe_seconds + 0.1)
    assert not older.transport.closed


async def test_agents_that_do_not_say_who_they_are_are_not_doubted(door: Door) -> None:
    older, again = door.agent(), door.agent()
    await older.hello()
    await again.hello()
    await asyncio.sleep(Liveness().probe_seconds + 0.1)
    assert not older.transport.closed
