"""Two muxes held to each other in every order of calls, takes and chopping.

The machine writes down what each end sends on each stream and what the other end is told. At every
moment what arrived is a beginning of what was sent, and the books balance; at the end, when everything
is delivered and consumed, it is all of it, once and in order, and nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
)

from wellhead.wire.mux import Mux, MuxStream, Role
from wellhead.wire.muxstream import EAGER_PIECES
from wellhead.wire.streams import Buffer, HeadKind, StreamKind

KiB = 1024
SIZES = st.sampled_from([0, 1, 7, 1000, 16 * KiB, 16 * KiB + 1, 40_000, 64 * KiB, 64 * KiB + 1, 150_000])
ROOMS = st.sampled_from([1, 1000, 16 * KiB, 100_000, 2**30])
PERIOD = 251
FILL = bytes(n * 31 % PERIOD for n in range(300_000))


@dataclass
class Log:
    """One half of one stream, as sent or as told."""

    salt: int  # what its bytes are, from place to place: other in every half
    size: int = 0
    heads: list[tuple[int, HeadKind, int]] = field(default_factory=list)  # where, which, and how long
    ended: bool = False

    def expect(self, size: int) -> bytes:
        """The next bytes."""
        start = (self.size + self.salt) % PERIOD
        return FILL[start : start + size]

    def is_beginning_of(self, other: Log) -> bool:
        if self.ended:
            return self == other
        return self.size <= other.size and other.heads[: len(self.heads)] == self.heads


class Party:
    """One end of one stream: the mux's stream, what was sent on it and what it told."""

    def __init__(self, end: EndOfLine, stream: MuxStream | None, number: int, accepter: bool) -> None:
        self.end = end
        self.maybe_stream = stream
        self.sent = Log(2 * number + accepter)
        self.told = Log(2 * number + (not accepter))
        self.unconsumed = 0
        self.resets = 0
        self.was_reset = False  # by us
        self.waits = False  # send returned False
        self.next_act: Callable[[Party], None] | None = None  # done inside the next callback
        end.parties.append(self)

    @property
    def stream(self) -> MuxStream:
        assert self.maybe_stream is not None
        return self.maybe_stream

    @property
    def over(self) -> bool:
        return self.resets > 0 or self.was_reset or (self.sent.ended and self.told.ended)

    @property
    def may_send(self) -> bool:
        return not (self.sent.ended or self.resets or self.was_reset)

    # What it does

    def data(self, size: int, end: bool) -> bytes:
        """The next bytes to send, and a note that they are sent."""
        data = self.sent.expect(size)
        self.sent.size += size
        self.sent.ended = end
        return data

    def send(self, size: int, end: bool) -> None:
        if self.may_send:
            self.heed(self.stream.send(self.data(size, end), end))

    def head(self, kind: HeadKind, size: int, first: int, end: bool) -> None:
        if self.may_send:
            self.sent.heads.append((self.sent.size, kind, size))
            self.heed(self.stream.head(kind, FILL[:size], self.data(first, end), end))

    def reset(self) -> None:
        self.was_reset = self.was_reset or not self.stream.over
        self.unconsumed = 0
        self.stream.reset(1)

    def consume(self, most: int) -> None:
        count = min(most, self.unconsumed)
        self.unconsumed -= count
        self.stream.consumed(count)

    def heed(self, may_go_on: bool) -> None:
        self.waits = self.waits or not may_go_on

    # What it is told

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        assert head == FILL[: len(head)]
        self.told.heads.append((self.told.size, kind, len(head)))
        self.on_data(data, end)

    def on_data(self, data: Buffer, end: bool) -> None:
        assert not self.told.ended, "told after its end"
        assert not self.resets and not self.was_reset, "told after a reset"
        assert len(data) or end or self.told.heads
        assert data == self.told.expect(len(data))
        self.told.size += len(data)
        self.told.ended = end
        self.unconsumed += len(data)
        self.act()

    def on_reset(self, reason: int) -> None:
        assert reason == 1
        self.resets += 1
        self.unconsumed = 0
        self.waits = False
        assert not self.was_reset, "told of a reset after our own"
        self.act()

    def on_writable(self) -> None:
        assert self.waits and not self.resets and not self.was_reset
        self.waits = False
        self.act()

    def act(self) -> None:
        if self.next_act is not None:
            act, self.next_act = self.next_act, None
            act(self)


class EndOfLine:
    """A mux with what it opened and accepted, and the bytes on their way to it."""

    def __init__(self, role: Role, window: int) -> None:
        self.parties: list[Party] = []
        self.accepted: dict[int, Party] = {}  # by order of opening, as the bytes in the envelope say
        self.coming = bytearray()
        self.woken = False
        self.eager: EndOfLine | None = None  # whom to write to as soon as there is something to write
        self.busy = False
        self.mux = Mux(role, self.opened, self.wake, window=window, window_max=4 * window)

    def wake(self) -> None:
        assert not self.woken or len(self.mux._ready) > EAGER_PIECES, "woken twice without a take"
        self.woken = True
        if self.eager is not None and not self.busy:
            self.eager.coming += self.take(100_000)

    def opened(self, stream: MuxStream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
        assert kind is StreamKind.TCP
        number = int(envelope)
        stream.sink = party = self.accepted[number] = Party(self, stream, number, True)
        if len(data) or end:
            party.on_data(data, end)

    def take(self, room: int) -> bytes:
        self.woken = False
        return b"".join(self.mux.take(room))

    def receive(self, read: bytes) -> None:
        self.busy = True
        self.mux.receive(read)
        self.busy = False


class Machine(RuleBasedStateMachine):
    """A dialler and an acceptor, and a line between them."""

    openers: Bundle[int] = Bundle("openers")

    @initialize(
        window=st.sampled_from([16 * KiB, 64 * KiB]),
        seen=st.sampled_from([0, 0x7FFFFFF8, 0xFFFFFFF8]),
        rtt=st.booleans(),
        eager=st.booleans(),
    )
    def start(self, window: int, seen: int, rtt: bool, eager: bool) -> None:
        self.ends = [EndOfLine(role, window) for role in Role]
        self.pairs: list[tuple[Party, int]] = []  # opener, and the key of the accepter
        self.now = 1.0 if rtt else 0.0
        for end, first in zip(self.ends, (1, 2), strict=True):
            end.mux.now = self.now
            end.eager = self.other(end) if eager else None
            end.mux.start(window)
            other = self.other(end).mux
            end.mux._next_id = other._next_peer_id = seen + first

    def other(self, end: EndOfLine) -> EndOfLine:
        return self.ends[1 - self.ends.index(end)]

    def party(self, number: int, accepter: bool) -> Party | None:
        opener, key = self.pairs[number]
        return self.other(opener.end).accepted.get(key) if accepter else opener

    # Rules

    @rule(target=openers, side=st.integers(0, 1), size=SIZES, end=st.booleans(), interactive=st.booleans())
    def open(self, side: int, size: int, end: bool, interactive: bool) -> int:
        return self.open_at(self.ends[side], size, end, interactive)

    def open_at(self, end_of_line: EndOfLine, size: int, end: bool, interactive: bool) -> int:
        number = len(self.pairs)
        party = Party(end_of_line, None, number, False)
        self.pairs.append((party, number))
        data = party.data(size, end)
        party.maybe_stream = end_of_line.mux.open(
            StreamKind.TCP, b"%d" % number, party, data, end, interactive=interactive
        )
        party.waits = party.stream._flags & 16 != 0
        return number

    @rule(number=openers, accepter=st.booleans(), size=SIZES, end=st.booleans())
    def send(self, number: int, accepter: bool, size: int, end: bool) -> None:
        if party := self.party(number, accepter):
            party.send(size, end)

    @rule(
        number=openers,
        accepter=st.booleans(),
        shape=st.sampled_from([(HeadKind.INTERIM, False), (HeadKind.REPLY, False), (HeadKind.REPLY, True)]),
        size=st.sampled_from([0, 30, 64 * KiB]),
        first=SIZES,
    )
    def head(self, number: int, accepter: bool, shape: tuple[HeadKind, bool], size: int, first: int) -> None:
        if party := self.party(number, accepter):
            party.head(shape[0], size, first, shape[1])

    @rule(number=openers, accepter=st.booleans(), size=st.sampled_from([0, 30]))
    def trailers(self, number: int, accepter: bool, size: int) -> None:
        if party := self.party(number, accepter):
            party.head(HeadKind.TRAILERS, size, 0, True)

    @rule(number=openers, accepter=st.booleans())
    def reset(self, number: int, accepter: bool) -> None:
        if party := self.party(number, accepter):
            party.reset()

    @rule(number=openers, accepter=st.booleans(), most=SIZES)
    def consume(self, number: int, accepter: bool, most: int) -> None:
        if party := self.party(number, accepter):
            party.consume(most)

    @rule(number=openers, accepter=st.booleans())
    def prefer(self, number: int, accepter: bool) -> None:
        if party := self.party(number, accepter):
            party.stream.mark_interactive()

    @rule(
        number=openers,
        accepter=st.booleans(),
        what=st.sampled_from(["send", "end", "reset", "consume", "open"]),
    )
    def act_inside_the_next_callback(self, number: int, accepter: bool, what: str) -> None:
        party = self.party(number, accepter)
        if party is None:
            return
        acts: dict[str, Callable[[Party], None]] = {
            "send": lambda party: party.send(20_000, False),
            "end": lambda party: party.send(1, True),
            "reset": lambda party: party.reset(),
            "consume": lambda party: party.consume(2**30),
            "open": lambda party: void(self.open_at(party.end, 5, True, False)),
        }
        party.next_act = acts[what]

    @rule(side=st.integers(0, 1), room=ROOMS)
    def take(self, side: int, room: int) -> None:
        end = self.ends[side]
        self.other(end).coming += end.take(room)

    @rule(
        side=st.integers(0, 1),
        sizes=st.lists(st.one_of(st.sampled_from([1, 5, 8, 13, 2**30]), st.integers(1, 20_000)), min_size=1),
    )
    def deliver(self, side: int, sizes: list[int]) -> None:
        end = self.ends[side]
        self.now += 0.01 if self.now else 0.0
        end.mux.now = self.now
        for size in sizes:
            read = bytes(end.coming[:size])
            del end.coming[:size]
            end.receive(read)

    @rule(target=openers, side=st.integers(0, 1))
    def ping(self, side: int) -> MultipleResults[int]:
        if self.now:
            self.ends[side].mux.ping(self.now)
        return multiple()

    # What holds at every moment

    @invariant()
    def the_books_balance(self) -> None:
        for end in self.ends:
            held = 0
            for party in end.parties:
                stream = party.stream
                assert stream._credit >= 0 and stream._room >= 0 and stream._owed >= 0
                assert stream.held == party.unconsumed
                held += party.unconsumed
                assert stream._queued == sum(
                    len(item) for item in stream._queue or () if not isinstance(item, tuple)
                )
                if not party.may_send and not party.sent.ended:
                    assert not stream._queued
            assert end.mux.held == held
            live = {id(stream) for stream in end.mux.streams.values()}
            for party in end.parties:
                assert (id(party.stream) in live) is (not party.stream.over)
                if party.resets or party.was_reset:
                    assert party.stream.over

    @invariant()
    def what_waits_to_be_written_was_announced(self) -> None:
        for end in self.ends:
            if end.mux._ready or end.mux._control:
                assert end.mux.pending

    @invariant()
    def what_was_told_is_a_beginning_of_what_was_sent(self) -> None:
        for number in range(len(self.pairs)):
            opener, accepter = self.party(number, False), self.party(number, True)
            if opener is not None and accepter is not None:
                assert accepter.told.is_beginning_of(opener.sent)
                assert opener.told.is_beginning_of(accepter.sent)

    # And at the end

    def settle(self) -> None:
        for _ in range(10_000):
            for side in range(2):
                self.take(side, 2**30)
                self.deliver(side, [2**30])
            for end in self.ends:
                for party in end.parties:
                    party.consume(2**30)
            if not any(end.mux.pending or end.coming for end in self.ends):
                return
        raise AssertionError("the line never falls silent")

    def teardown(self) -> None:
        if not hasattr(self, "ends"):
            return
        self.settle()
        for opener, key in self.pairs:
            accepter = self.other(opener.end).accepted.get(key)
            assert accepter is not None
            if opener.over or accepter.over:
                continue
            assert opener.stream._credit == accepter.stream._room
            assert accepter.stream._credit == opener.stream._room
        for end in self.ends:
            for party in list(end.parties):
                party.next_act = None
                party.send(0, True)
        self.settle()
        self.check_that_all_is_over()

    def check_that_all_is_over(self) -> None:
        for opener, key in self.pairs:
            accepter = self.other(opener.end).accepted[key]
            assert opener.over and accepter.over
            if not (opener.was_reset or accepter.was_reset):
                assert not opener.resets and not accepter.resets
                assert accepter.told == opener.sent and opener.told == accepter.sent
            for party in (opener, accepter):
                assert party.resets <= 1
                assert not party.waits or party.was_reset, "a writer waits for ever"
        for end in self.ends:
            mux = end.mux
            assert not mux.streams and not mux.held and not mux.pending
            assert (
                not mux._turns.interactive_open and not mux._ready_size and not mux._partial and not mux._left
            )


def void(number: int) -> None:
    """An act gives nothing back."""


Machine.TestCase.settings = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestTwoMuxes = Machine.TestCase
