"""Two connections of ours held to each other in every order of calls, takes and changed windows.

What arrives is a beginning of what was sent, nobody sends more than it may, the books of held bytes
balance, and when everything is carried and consumed nothing is left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from tests.kit.h2talk import OK, POST, Ear, End
from wellhead.wire.h2 import H2Role
from wellhead.wire.h2_frames import settings_frame

SIZES = st.sampled_from([0, 1, 7, 1000, 16384, 16385, 40_000, 65535, 100_000])
ROOMS = st.sampled_from([1, 1000, 100_000, 2**30])
FILL = bytes(n * 31 % 251 for n in range(2_000_000))


@dataclass
class Half:
    """One direction of one stream: who sends, how much, and who hears it."""

    sender: Ear
    hearer: Ear
    sent: int = 0
    ended: bool = False


class TwoConnections(RuleBasedStateMachine):
    halves = Bundle("halves")

    def __init__(self) -> None:
        super().__init__()
        self.client = End(H2Role.CLIENT, greedy=False, window=50_000, connection_window=100_000)
        self.server = End(H2Role.SERVER, greedy=False, window=70_000, settings_per_second=10_000)
        self.wires = {self.client: b"", self.server: b""}  # on the way to
        self.all: list[Half] = []
        self.carry_all()

    def other(self, end: End) -> End:
        return self.server if end is self.client else self.client

    def take(self, end: End, room: int = 2**30) -> bool:
        data = end.take(room)
        self.wires[self.other(end)] += data
        return bool(data)

    def deliver(self, end: End, count: int) -> None:
        data, self.wires[end] = self.wires[end][:count], self.wires[end][count:]
        if data:
            end.connection.receive(data)

    def carry_all(self) -> None:
        busy = True
        while busy:
            busy = False
            for end in (self.client, self.server):
                busy = self.take(end) or busy
                self.deliver(self.other(end), 2**30)

    @rule(target=halves)
    def open(self) -> object:
        if not self.client.connection.may_open:
            return multiple()
        there = self.client.open(POST, end=False)
        self.carry_all()
        assert there.stream is not None
        back = self.server.ears[there.stream.id]
        self.server.stream(there.stream.id).headers(OK)
        new = [Half(there, back), Half(back, there)]
        self.all += new
        return multiple(*new)

    @rule(half=halves, size=SIZES, end=st.booleans())
    def send(self, half: Half, size: int, end: bool) -> None:
        if half.ended or half.sender.resets or half.sent + size > len(FILL):
            return
        assert half.sender.stream is not None
        half.sender.stream.data(FILL[half.sent : half.sent + size], end)
        half.sent += size
        half.ended = end

    @rule(half=halves, share=st.sampled_from([0.1, 0.5, 1.0]))
    def consume(self, half: Half, share: float) -> None:
        stream = half.hearer.stream
        assert stream is not None
        stream.consumed(int(stream.held * share + 0.99))

    @rule(side=st.booleans(), room=ROOMS)
    def take_some(self, side: bool, room: int) -> None:
        self.take(self.client if side else self.server, room)

    @rule(side=st.booleans(), count=st.sampled_from([1, 9, 100, 20_000, 2**30]))
    def deliver_some(self, side: bool, count: int) -> None:
        self.deliver(self.client if side else self.server, count)

    @rule(window=st.sampled_from([0, 1, 1000, 65535, 200_000]))
    def change_the_clients_window(self, window: int) -> None:
        """As another program could; what is on the way arrives first, so that both books change at once."""
        self.carry_all()
        connection = self.client.connection
        for stream in connection._streams.values():
            stream._room += window - connection.terms.window
        connection.terms = replace(connection.terms, window=window)
        self.server.connection.receive(settings_frame({4: window}))

    @invariant()
    def what_arrived_is_a_beginning_of_what_was_sent(self) -> None:
        for half in self.all:
            assert not half.hearer.resets
            assert half.hearer.body == FILL[: len(half.hearer.body)]
            assert len(half.hearer.body) <= half.sent
            if half.hearer.ended:
                assert half.ended and len(half.hearer.body) == half.sent

    @invariant()
    def the_books_balance(self) -> None:
        for end in (self.client, self.server):
            held = 0
            for half in self.all:
                stream = half.hearer.stream
                if stream is not None and stream._connection is end.connection:
                    held += stream.held
            assert held == end.connection.held

    def teardown(self) -> None:
        self.change_the_clients_window(1000)
        before = -1
        while before != (before := sum(len(half.hearer.body) for half in self.all)):
            for half in self.all:
                self.consume(half, 1.0)
            self.carry_all()
        for half in self.all:
            assert len(half.hearer.body) == half.sent
            assert half.hearer.ended == half.ended


TestTwoConnections = TwoConnections.TestCase
TestTwoConnections.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
