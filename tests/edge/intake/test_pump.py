"""What goes to agents that credit in lumps: whole messages, none that cannot be finished."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.kit.h2talk import ByHand
from tests.kit.intake_edge import Ear, IntakeEdge
from tests.kit.lumpy_agent import LumpyBridge
from wellhead.edge.intake.bridge import Bridge
from wellhead.edge.intake.pump import HOLD_SECONDS, LEAK_SECONDS, STALL_SECONDS, FreeLane, Pump
from wellhead.wire.h2_frames import window_frame
from wellhead.wire.intake_ws import outer_frame, text_envelope
from wellhead.wire.streams import Reason
from wellhead.wire.ws_frames import TEXT, frame

MASK = b"\1\2\3\4"
OVERHEAD = len(outer_frame(text_envelope(b""), mask=None)) + 2  # bytes of a long message's frame
PYTHON = {1: 4096, 2: 1, 4: 65535, 5: 16384, 8: 0, 3: 100, 6: 65536}  # its SETTINGS


def says(bridge: Bridge, text: str) -> bool:
    return bridge.send(frame(TEXT, text.encode(), MASK))


@pytest.fixture
def edge() -> IntakeEdge:
    return IntakeEdge()


def talk(edge: IntakeEdge, bridge: Bridge, *sizes: int) -> None:
    for size in sizes:
        says(bridge, "x" * size)
        edge.settle()


def test_messages_as_large_as_they_may_be_pass_back_to_back(edge: IntakeEdge) -> None:
    bridge, _, far = edge.websocket()
    talk(edge, bridge, *[64_900] * 20)
    assert [len(text) for text in far.texts] == [64_900] * 20
    assert not edge.pump.waiting


def test_a_message_that_a_quiet_window_does_not_take_makes_room_for_itself(edge: IntakeEdge) -> None:
    """After 30,000 bytes that were consumed and are not credited, 40,000 do not fit."""
    bridge, _, far = edge.websocket()
    talk(edge, bridge, 30_000)
    assert edge.connection.credit < 40_000, "no lump was due"
    talk(edge, bridge, 40_000)
    assert [len(text) for text in far.texts] == [30_000, 40_000]
    assert 10 in far.frames, "PONG frames made the room"


def test_where_it_is_the_connection_that_lacks_it_a_parked_intake_is_spent(edge: IntakeEdge) -> None:
    first, _, _ = edge.websocket()
    second, _, far = edge.websocket()
    talk(edge, first, 30_000)
    talk(edge, second, 60_000)
    assert [len(text) for text in far.texts] == [60_000]
    assert edge.agent.junk > 0 and 10 not in far.frames
    assert len(edge.parked) == 4, "the slot is back"


def test_a_message_waits_until_an_intake_is_parked_that_can_be_spent() -> None:
    edge = IntakeEdge(slots=0)
    first, _, _ = _websocket(edge)
    second, _, far = _websocket(edge)
    talk(edge, first, 30_000)
    talk(edge, second, 60_000)
    assert not far.texts and edge.pump.waiting
    edge.agent.park()
    edge.settle()
    assert [len(text) for text in far.texts] == [60_000]


def _websocket(edge: IntakeEdge) -> tuple[Bridge, Ear, LumpyBridge]:
    """By the one slot that there is for the while."""
    edge.agent.park()
    made = edge.websocket()
    while edge.parked:  # the slot that came back
        edge._junk(0)
        edge.agent._intakes.clear()
        edge.settle()
    return made


@pytest.mark.parametrize("gap", range(-3, 4))
def test_no_size_is_stuck_at_the_edge_of_a_lump(gap: int) -> None:
    sizes = [32_766 - OVERHEAD + gap, 33_000, 45_000, 64_900]
    edge = IntakeEdge()
    bridge, _, far = edge.websocket()
    talk(edge, bridge, *sizes)
    assert [len(text) for text in far.texts] == sizes


def test_two_bridges_never_have_half_a_message_each(edge: IntakeEdge) -> None:
    """32 kB of a 40 kB envelope on each of two would block one another for good."""
    made = [edge.websocket() for _ in range(2)]
    for _ in range(5):
        for bridge, _, _ in made:
            says(bridge, "y" * 40_000)
    edge.settle()
    assert [len(far.texts) for _, _, far in made] == [5, 5]


def test_a_slow_reader_keeps_no_more_than_half_a_window_and_a_frame(edge: IntakeEdge) -> None:
    slow, _, far = edge.websocket()
    quick, _, near = edge.websocket()
    far.slow = True
    flowing = [says(slow, "z" * 1000) for _ in range(200)]
    edge.settle()
    assert not flowing[-1], "its visitor is not read any more"
    assert edge.connection.credit > 65_535 - 32_768 - 1_200
    edge.request(b"b" * 20_000)
    says(quick, "q" * 10_000)
    edge.settle()
    assert len(edge.agent.envelopes[-1][1]) == 20_000 and len(near.texts) == 1
    far.slow = False
    edge.settle()
    assert len(far.texts) == 200


def test_a_visitor_goes_on_when_there_is_room_again(edge: IntakeEdge) -> None:
    bridge, ear, far = edge.websocket()
    far.slow = True
    while says(bridge, "z" * 5000):
        edge.settle()
    before = ear.writable
    far.slow = False
    edge.settle()
    assert (before, ear.writable) == (0, 1)


def test_a_body_waits_for_a_message_and_the_message_for_no_second_body(edge: IntakeEdge) -> None:
    bridge, _, far = edge.websocket()
    other, _, slow = edge.websocket()
    slow.slow = True
    says(other, "s" * 30_000)
    edge.settle()
    says(bridge, "m" * 60_000)
    assert edge.pump.holds
    edge.request(b"b" * 30_000)
    edge.settle()
    assert not edge.agent.envelopes[2:], "its body is held back"
    slow.slow = False
    edge.settle()
    assert len(far.texts) == 1 and len(edge.agent.envelopes[-1][1]) == 30_000
    assert not edge.pump.holds


def test_nobody_waits_for_long_for_what_a_slow_reader_leaves_no_room_for(edge: IntakeEdge) -> None:
    bridge, _, far = edge.websocket()
    other, _, slow = edge.websocket()
    third, _, near = edge.websocket()
    slow.slow = True
    says(other, "s" * 30_000)
    edge.settle()
    says(bridge, "m" * 60_000)
    says(third, "hello")
    edge.request(b"b" * 10_000)
    edge.after(2 * HOLD_SECONDS, 0.25)
    assert near.texts == ["hello"] and len(edge.agent.envelopes[-1][1]) == 10_000
    assert not far.texts
    slow.slow = False
    edge.after(3)
    assert len(far.texts) == 1


def test_a_large_message_that_no_room_can_be_made_for_is_waited_for_only_so_long() -> None:
    edge = IntakeEdge(slots=0)
    other, _, _ = _websocket(edge)
    bridge, _, far = _websocket(edge)
    third, _, near = _websocket(edge)
    talk(edge, other, 30_000)
    says(bridge, "m" * 60_000)
    says(third, "hello")
    edge.settle()
    assert edge.pump.holds and not near.texts
    edge.after(HOLD_SECONDS + 1)
    assert near.texts == ["hello"] and not far.texts


@pytest.mark.parametrize(
    ("leaked", "size", "seconds"),
    [
        pytest.param(138, 60_000, 0, id="as seen with the SDKs"),
        pytest.param(4_000, 60_000, 0, id="up to a margin"),
        pytest.param(12_000, 50_000, 1, id="much"),
        pytest.param(30_000, 33_000, 1, id="nearly a half"),
    ],
)
def test_a_part_of_the_window_that_leaked_holds_nobody_up(
    edge: IntakeEdge, leaked: int, size: int, seconds: float
) -> None:
    lost, _, far = edge.websocket()
    far.leave()
    says(lost, "x" * (leaked - OVERHEAD))
    far.end()
    edge.settle()
    bridges = [edge.websocket() for _ in range(2)]
    for turn in range(6):
        bridge, _, far = bridges[turn % 2]
        says(bridge, "m" * size)
        says(bridges[1 - turn % 2][0], "n" * (5_000 + turn))
        edge.settle()
        edge.after(seconds, 0.25)
        assert len(far.texts) == turn + 1, turn


def test_a_large_message_that_waits_for_long_costs_the_connection(edge: IntakeEdge) -> None:
    """More has leaked than it can do without, and others go on."""
    lost, _, far = edge.websocket()
    far.leave()
    says(lost, "x" * 10_000)
    far.end()
    edge.settle()
    bridge, _, far = edge.websocket()
    other, _, near = edge.websocket()
    says(bridge, "m" * 60_000)
    for _ in range(int(STALL_SECONDS) - 1):
        says(other, "n" * 3_000)
        edge.after(1, 0.25)
    assert len(near.texts) == STALL_SECONDS - 1 and not edge.recycled
    edge.after(3, 0.25)
    assert edge.recycled == ["window-stalled"]
    assert edge.agent.junk < 5_000_000


def test_bodies_that_were_let_in_before_it_do_not_starve_a_large_message(edge: IntakeEdge) -> None:
    """As long as the window moves, nobody is let past it."""
    bridge, _, far = edge.websocket()
    other, _, near = edge.websocket()
    talk(edge, other, 30_000)
    for _ in range(4):
        edge.request(b"b" * 200_000)
    says(bridge, "m" * 60_000)
    for _ in range(60):
        edge.clock.now += 1
        edge.pump.tick(edge.clock.now)
        says(other, "n")
        edge.to_agent()
        edge.to_edge()
        if far.texts:
            break
    assert far.texts and not edge.recycled
    edge.after(5)
    assert [len(body) for _, body in edge.agent.envelopes][-4:] == [200_000] * 4


def test_a_message_that_nobody_wants_any_more_holds_up_nobody(edge: IntakeEdge) -> None:
    bridge, _, _ = edge.websocket()
    other, _, slow = edge.websocket()
    slow.slow = True
    says(other, "s" * 30_000)
    edge.settle()
    says(bridge, "m" * 60_000)
    before = edge.pump.holds
    bridge.reset(Reason.CANCELLED)
    assert (before, edge.pump.holds) == (True, False)
    edge.request(b"b" * 5_000)
    edge.settle()
    assert len(edge.agent.envelopes[-1][1]) == 5_000


def test_a_window_that_leaked_is_noticed_when_nobody_uses_it(edge: IntakeEdge) -> None:
    """What is queued in the SDK when a bridge ends is never credited."""
    bridge, _, far = edge.websocket()
    far.slow = True
    talk(edge, bridge, *[10_000] * 4)
    far.leave()
    far.end()
    edge.settle()
    assert edge.connection.credit < 32_000
    edge.after(LEAK_SECONDS - 2)
    assert not edge.recycled
    edge.after(4)
    assert edge.recycled == ["window-leaked"]
    edge.after(100)
    assert edge.recycled == ["window-leaked"], "told once"


def test_a_window_that_only_waits_for_its_lump_has_not_leaked(edge: IntakeEdge) -> None:
    bridge, _, far = edge.websocket()
    talk(edge, bridge, 32_700)
    far.end()
    edge.settle()
    edge.after(100)
    assert not edge.recycled


def test_a_connection_whose_window_never_comes_back_is_recycled(edge: IntakeEdge) -> None:
    for _ in range(2):
        bridge, _, far = edge.websocket()
        far.slow = True
        talk(edge, bridge, *[10_000] * 4)
        far.leave()
    bridge, _, far = edge.websocket()
    talk(edge, bridge, 30_000)
    edge.after(STALL_SECONDS - 2)
    assert not edge.recycled
    edge.after(4)
    assert edge.recycled == ["window-stalled"]


def test_a_slow_reader_alone_costs_nobody_the_connection(edge: IntakeEdge) -> None:
    bridge, _, far = edge.websocket()
    far.slow = True
    for _ in range(100):
        says(bridge, "z" * 1000)
    edge.after(200)
    assert not edge.recycled


# Which agents are sent to how


def pump_of(announced: dict[int, int]) -> tuple[ByHand, Pump]:
    hand = ByHand(settings=announced)
    connection = hand.server.connection
    return hand, Pump(connection, hand.server.clock, lambda count: False, lambda reason: None)


@pytest.mark.parametrize(
    ("announced", "exact"),
    [
        pytest.param(PYTHON, True, id="Python"),
        pytest.param({}, False, id="Node"),
        pytest.param({2: 0, 6: 16 << 20}, False, id="Rust"),
        pytest.param({**PYTHON, 4: 1 << 20}, False, id="ours"),
    ],
)
def test_an_agent_is_known_by_its_settings(announced: dict[int, int], exact: bool) -> None:
    hand, pump = pump_of(announced)
    assert pump.exact is exact


def test_a_message_to_an_agent_with_large_windows_goes_in_pieces() -> None:
    hand, pump = pump_of({4: 100_000})
    hand.send(hand.head(1))
    stream = hand.server.stream(1)
    lane = pump.lane(stream, lambda: None)
    assert isinstance(lane, FreeLane) and not lane.max_frame
    assert not lane.put(bytes(300_000))
    assert not pump.waiting and not pump.holds
    assert sum(len(one.payload) for one in hand.got() if one.kind == 0) == 65_535
    hand.send(window_frame(0, 1 << 20) + window_frame(1, 1 << 20))
    assert sum(len(one.payload) for one in hand.got() if one.kind == 0) == 300_000 - 65_535
    lane.end(b"end")
    assert hand.got()[-1].payload == b"end"


# All together


class Bridges(RuleBasedStateMachine):
    """Visitors, bodies and an agent with slow readers, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.edge = IntakeEdge(slots=2)
        self.talks = [self.edge.websocket() for _ in range(3)]
        self.tcp = self.edge.tcp(b"first")
        self.said: list[list[str]] = [[], [], []]
        self.sent = bytearray(b"first")
        self.bodies: list[int] = []
        self.told: list[int] = [0, 0, 0]

    @rule(
        which=st.integers(0, 2),
        size=st.sampled_from([0, 1, 126, 5_000, 20_000, 32_650, 33_000, 50_000, 64_900]),
    )
    def say(self, which: int, size: int) -> None:
        text = chr(97 + len(self.said[which]) % 26) * size
        self.said[which].append(text)
        says(self.talks[which][0], text)

    @rule(size=st.integers(1, 60_000))
    def stream(self, size: int) -> None:
        data = bytes(len(self.sent) + n & 0xFF for n in range(size))
        self.sent += data
        self.tcp[0].send(data)

    @rule(size=st.integers(1, 70_000))
    def body(self, size: int) -> None:
        self.bodies.append(size)
        self.edge.request(bytes(size))

    @rule(which=st.integers(0, 2))
    def answer(self, which: int) -> None:
        self.told[which] += 1
        self.talks[which][2].text("t" * 100)

    @rule(which=st.integers(0, 2), slow=st.booleans())
    def pace(self, which: int, slow: bool) -> None:
        self.talks[which][2].slow = slow

    @rule()
    def to_agent(self) -> None:
        self.edge.to_agent()

    @rule()
    def to_edge(self) -> None:
        self.edge.to_edge()

    @rule()
    def second(self) -> None:
        self.edge.clock.now += 1
        self.edge.pump.tick(self.edge.clock.now)

    @invariant()
    def nothing_is_ever_cut_short(self) -> None:
        """What the agent has of a bridge are whole messages."""
        for _, _, far in [*self.talks, self.tcp]:
            assert not far._wire

    @precondition(lambda self: sum(map(len, self.said)) + len(self.bodies) > 3)
    @rule()
    def all_arrives(self) -> None:
        self._settle()

    def _settle(self) -> None:
        for _, _, far in self.talks:
            far.slow = False
        self.edge.settle()
        self.edge.after(10)  # lumps that were too small are tried again after a rest
        for (_, ear, far), said, told in zip(self.talks, self.said, self.told, strict=True):
            assert far.texts == said
            assert len(ear.data) == 102 * told
        assert self.tcp[2].data == self.sent
        bodies = [
            len(body) for headers, body in self.edge.agent.envelopes if headers["inkbox-request-id"] == "http"
        ]
        assert sorted(bodies) == sorted(self.bodies)
        assert self.edge.connection.credit > 32_768, "a quiet window is at least half open"
        assert all(bridge._lane.queued == 0 for bridge, _, _ in self.talks if bridge._lane)
        assert not self.edge.recycled and not self.edge.pump.waiting and not self.edge.pump.holds

    def teardown(self) -> None:
        self._settle()


Bridges.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
test_everything_arrives_whatever_the_order = Bridges.TestCase
