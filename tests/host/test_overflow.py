"""A long reply goes on in a second stream, and nobody who reads or writes it can tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.muxpair import Accepted, MuxPair, RecordingSink
from wellhead.host.overflow import Overflow
from wellhead.wire.mux import MuxStream
from wellhead.wire.overflow import ALLOWANCE, MARK, OverflowReceiver, continuation, offer
from wellhead.wire.streams import Buffer, HeadKind, Reason, Sink, Stream, StreamKind
from wellhead.wire.window import INITIAL_WINDOW

ENVELOPE = b"POST /sandboxes/cl-1/exec HTTP/1.1\r\nHost: h\r\nX-Request-Id: 1\r\n\r\n"
REPLY = b"HTTP/1.1 200 OK\r\n\r\n"
TRAILERS = b"X-Exit: 0\r\n\r\n"
FILL = bytes(n * 31 % 251 for n in range(251 * 4000))


@dataclass
class Program:
    """What answers at the host: the stream it was given, and what it heard."""

    stream: Stream
    envelope: bytes
    heard: RecordingSink = field(default_factory=RecordingSink)


class Lanes:
    """The edge and a host with two sessions; ``visitor`` is what the edge reads, ``program`` answers."""

    def __init__(self, *, lazy: bool = False, end: bool = True) -> None:
        self.interactive, self.bulk = MuxPair(lazy=True), MuxPair(lazy=True)
        self.programs: list[Program] = []
        self.overflow = Overflow(self._answer)
        self.lost: set[MuxPair] = set()
        for pair in (self.interactive, self.bulk):
            pair.dialler.on_accept = self._accept
        self.visitor = RecordingSink(lazy=lazy)
        self.stream = OverflowReceiver(self.visitor, self._more)
        self.stream.main = self.interactive.acceptor.mux.open(
            StreamKind.HTTP, offer(ENVELOPE, b"T"), self.stream, b"", end
        )
        self.visitor.stream = cast(MuxStream, self.stream)
        self.settle()

    def _accept(self, accepted: Accepted, data: Buffer, end: bool) -> None:
        self.overflow.accept(accepted.stream, accepted.kind, accepted.envelope, data, end)

    def _answer(self, stream: Stream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
        program = Program(stream, envelope)
        program.heard.stream = cast(MuxStream, stream)
        stream.sink = program.heard
        self.programs.append(program)

    def _more(self, sink: Sink) -> Stream | None:
        pair = next((each for each in (self.bulk, self.interactive) if each not in self.lost), None)
        if pair is None:
            return None
        return pair.acceptor.mux.open(StreamKind.HTTP, continuation(b"T"), sink, b"", True)

    @property
    def pairs(self) -> list[MuxPair]:
        return [pair for pair in (self.interactive, self.bulk) if pair not in self.lost]

    @property
    def program(self) -> Program:
        return self.programs[0]

    def settle(self) -> None:
        while any(end.mux.pending for pair in self.pairs for end in pair.ends):
            for pair in self.pairs:
                pair.settle()

    def lose(self, pair: MuxPair) -> None:
        self.lost.add(pair)
        for end in pair.ends:
            end.mux.lost()

    def streams(self) -> int:
        return sum(len(end.mux.streams) for pair in self.pairs for end in pair.ends)


def test_a_short_reply_stays_on_its_stream_and_the_program_sees_no_offer() -> None:
    lanes = Lanes()
    assert lanes.program.envelope == ENVELOPE
    lanes.program.stream.head(HeadKind.REPLY, REPLY, FILL[:ALLOWANCE])
    lanes.program.stream.send(b"", True)
    lanes.settle()
    assert lanes.visitor.data == FILL[:ALLOWANCE] and lanes.visitor.ended == 1
    assert not lanes.bulk.dialler.accepted and not lanes.overflow._senders and not lanes.streams()


@pytest.mark.parametrize("sizes", [[ALLOWANCE + 1], [ALLOWANCE, 1], [1, 10 * ALLOWANCE], [700_000]])
@pytest.mark.parametrize("trailers", [False, True])
def test_what_is_beyond_the_allowance_comes_on_the_bulk_lane_in_order(
    sizes: list[int], trailers: bool
) -> None:
    lanes, size = Lanes(), sum(sizes)
    lanes.program.stream.head(HeadKind.REPLY, REPLY)
    for at, count in enumerate(sizes):
        start = sum(sizes[:at])
        lanes.program.stream.send(FILL[start : start + count])
    if trailers:
        lanes.program.stream.head(HeadKind.TRAILERS, TRAILERS, b"", True)
    else:
        lanes.program.stream.send(b"", True)
    lanes.settle()
    assert lanes.visitor.data == FILL[:size]
    assert lanes.visitor.heads == [(HeadKind.REPLY, REPLY)] + [(HeadKind.TRAILERS, TRAILERS)] * trailers
    assert lanes.visitor.ended == 1 and not lanes.visitor.resets
    assert not lanes.overflow._senders and not lanes.streams(), "nothing is left"
    assert [end.mux.held for pair in lanes.pairs for end in pair.ends] == [0] * 4


def test_the_first_stream_carries_the_allowance_and_no_byte_more() -> None:
    lanes = Lanes(lazy=True)
    lanes.program.stream.head(HeadKind.REPLY, REPLY, FILL[:700_000])
    lanes.settle()
    assert lanes.interactive.acceptor.mux.held == ALLOWANCE
    assert lanes.bulk.acceptor.mux.held == INITIAL_WINDOW


def test_a_slow_reader_holds_the_writer_up_and_lets_it_go_on() -> None:
    lanes = Lanes(lazy=True)
    stream = lanes.program.stream
    assert stream.head(HeadKind.REPLY, REPLY, FILL[:ALLOWANCE])
    assert not stream.send(FILL[ALLOWANCE : 2 * ALLOWANCE]), "until the second stream is open"
    lanes.settle()
    assert lanes.program.heard.writable == 1
    sent = 2 * ALLOWANCE
    while stream.send(FILL[sent : sent + 50_000]):
        sent += 50_000
        lanes.settle()
        assert sent < 900_000, "the window is full at some time"
    sent += 50_000
    lanes.stream.consumed(len(lanes.visitor.data))
    lanes.settle()
    assert lanes.program.heard.writable == 2 and lanes.visitor.data == FILL[:sent]


def test_what_the_visitor_says_goes_on_the_first_stream_before_and_behind_the_allowance() -> None:
    lanes = Lanes(end=False)
    lanes.stream.send(b"before ")
    lanes.program.stream.head(HeadKind.REPLY, REPLY, FILL[:200_000])
    lanes.settle()
    lanes.stream.send(b"behind", True)
    lanes.settle()
    assert lanes.program.heard.data == b"before behind" and lanes.program.heard.ended == 1
    lanes.program.stream.send(b"", True)
    lanes.settle()
    assert lanes.visitor.ended == 1 and not lanes.streams()


def _overflowing(**options: bool) -> Lanes:
    lanes = Lanes(**options)
    lanes.program.stream.head(HeadKind.REPLY, REPLY, FILL[:200_000])
    lanes.settle()
    return lanes


def test_a_visitor_that_leaves_ends_both_streams() -> None:
    lanes = _overflowing()
    lanes.stream.reset(Reason.CANCELLED)
    lanes.settle()
    assert lanes.program.heard.resets == [Reason.CANCELLED] and not lanes.streams()


def test_a_visitor_that_leaves_before_the_second_stream_leaves_nothing() -> None:
    lanes = Lanes()
    lanes.program.stream.head(HeadKind.REPLY, REPLY, FILL[:200_000])
    lanes.stream.reset(Reason.CANCELLED)
    lanes.settle()
    assert lanes.program.heard.resets == [Reason.CANCELLED]
    assert not lanes.overflow._senders and not lanes.streams()


def test_a_program_that_gives_up_is_no_end() -> None:
    lanes = _overflowing()
    lanes.program.stream.reset(Reason.INTERNAL)
    lanes.settle()
    assert len(lanes.visitor.resets) == 1 and not lanes.visitor.ended and not lanes.streams()


@pytest.mark.parametrize("lane", ["interactive", "bulk"])
def test_either_lane_lost_is_a_visible_end_for_both_sides(lane: str) -> None:
    lanes = _overflowing()
    lanes.lose(getattr(lanes, lane))
    lanes.settle()
    assert len(lanes.visitor.resets) == 1 and not lanes.visitor.ended
    assert len(lanes.program.heard.resets) == 1
    assert not lanes.streams() and not lanes.overflow._senders


def test_without_the_bulk_lane_the_rest_comes_beside_on_the_interactive_one() -> None:
    lanes = Lanes()
    lanes.lose(lanes.bulk)
    lanes.program.stream.head(HeadKind.REPLY, REPLY, FILL[:200_000], True)
    lanes.settle()
    assert lanes.visitor.data == FILL[:200_000] and lanes.visitor.ended == 1 and not lanes.streams()


def test_bulk_lost_when_all_was_read_before_is_no_loss() -> None:
    lanes = _overflowing()
    lanes.program.stream.send(b"", True)
    lanes.settle()
    lanes.lose(lanes.bulk)
    assert lanes.visitor.ended == 1 and not lanes.visitor.resets


@pytest.mark.parametrize("token", [b"T", b"other", b""])
def test_a_second_stream_that_nobody_waits_for_is_refused(token: bytes) -> None:
    lanes = Lanes()
    _, sink = lanes.bulk.acceptor.open(continuation(token), end=True)
    lanes.settle()
    assert sink.resets == [Reason.REFUSED]
    lanes.program.stream.head(HeadKind.REPLY, REPLY, FILL[:200_000], True)
    lanes.settle()
    assert lanes.visitor.data == FILL[:200_000]


@pytest.mark.parametrize("before", [0, ALLOWANCE - 1])
def test_a_mark_at_another_place_is_a_breach(before: int) -> None:
    lanes = Lanes()
    main = lanes.interactive.dialler.accepted[0].stream
    main.head(HeadKind.REPLY, REPLY, FILL[:before])
    main.head(HeadKind.INTERIM, MARK)
    lanes.settle()
    assert lanes.visitor.resets == [Reason.PROTOCOL] and not lanes.streams()


@pytest.mark.parametrize(
    "breach",
    [
        lambda main: main.send(b"more"),
        lambda main: main.head(HeadKind.INTERIM, MARK),
        lambda main: main.head(HeadKind.TRAILERS, TRAILERS, b"", True),
    ],
)
def test_bytes_on_the_first_stream_behind_the_mark_are_a_breach(breach: Callable[[Stream], object]) -> None:
    lanes = _overflowing()
    breach(lanes.interactive.dialler.accepted[0].stream)
    lanes.settle()
    assert lanes.visitor.resets == [Reason.PROTOCOL] and not lanes.streams()


def test_what_a_terminal_writes_goes_before_everything_else() -> None:
    lanes = Lanes()
    edge, host = lanes.interactive.acceptor, lanes.interactive.dialler
    _, files = edge.open(b"GET /sandboxes/cl-1/files/read HTTP/1.1\r\nHost: h\r\n\r\n")
    _, terminal = edge.open(b"GET /sandboxes/cl-1/pty HTTP/1.1\r\nHost: h\r\n\r\n")
    lanes.settle()
    _, download, keys = lanes.programs
    download.stream.send(FILL[:200_000])
    keys.stream.send(FILL[:20_000])
    lanes.interactive.carry(host, 20_000)
    assert terminal.data == FILL[:20_000] and not files.data


ACTS = st.one_of(
    st.tuples(st.just("send"), st.sampled_from([1, 1000, 16_385, ALLOWANCE - 1, ALLOWANCE, 150_000])),
    st.tuples(st.just("take"), st.integers(1, 400_000)),
    st.tuples(st.just("carry"), st.integers(0, 3)),
    st.tuples(st.just("say"), st.integers(1, 100_000)),
)


@settings(max_examples=150, deadline=None)
@given(
    acts=st.lists(ACTS, max_size=40),
    end=st.sampled_from(["end", "trailers", "reset", "leave", "lose-bulk", "lose-interactive"]),
    beside=st.sampled_from([0, 5, ALLOWANCE, ALLOWANCE + 1]),
)
def test_whatever_the_order_the_reader_gets_what_was_written(
    acts: list[tuple[str, int]], end: str, beside: int
) -> None:
    lanes = Lanes(lazy=True, end=False)
    stream, heard = lanes.program.stream, lanes.program.heard
    sent = said = taken = 0
    free = stream.head(HeadKind.REPLY, REPLY, FILL[:beside])
    sent += beside
    told = 0  # times that the writer was let go on
    for what, count in acts:
        if what == "send" and (free or heard.writable > told):
            told = heard.writable
            free = stream.send(FILL[sent : sent + count])
            sent = min(sent + count, len(FILL))
        elif what == "take":
            count = min(count, len(lanes.visitor.data) - taken)
            lanes.stream.consumed(count)
            taken += count
        elif what == "carry":
            pair = lanes.pairs[count & 1]
            pair.carry(pair.ends[count >> 1], 20_000)
        elif what == "say":
            lanes.stream.send(FILL[said : said + count])
            said += count
        assert lanes.visitor.data == FILL[: len(lanes.visitor.data)]
        assert lanes.interactive.acceptor.mux.held <= ALLOWANCE
    if end == "end":
        stream.send(b"", True)
    elif end == "trailers":
        stream.head(HeadKind.TRAILERS, TRAILERS, b"", True)
    elif end == "reset":
        stream.reset(Reason.INTERNAL)
    elif end == "leave":
        lanes.stream.reset(Reason.CANCELLED)
    else:
        lanes.lose(lanes.bulk if end == "lose-bulk" else lanes.interactive)
        if not lanes.visitor.resets:
            stream.send(b"", True)
    for _ in range(30):
        lanes.settle()
        lanes.stream.consumed(len(lanes.visitor.data) - taken)
        taken = len(lanes.visitor.data)
    if end in ("end", "trailers") or (end == "lose-bulk" and not lanes.visitor.resets):
        assert lanes.visitor.data == FILL[:sent] and lanes.visitor.ended == 1
        assert heard.data == FILL[: len(heard.data)] and not heard.resets
        lanes.stream.send(b"", True)
    else:
        assert not lanes.visitor.ended
        assert lanes.visitor.data == FILL[: len(lanes.visitor.data)]
    lanes.stream.reset(Reason.CANCELLED)
    lanes.settle()
    assert not lanes.streams() and not lanes.overflow._senders
