"""The mux: streams, windows, order, fairness, limits; two of them joined in memory."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.muxpair import Accepted, MuxPair, RecordingSink
from wellhead.errors import FlowError, FrameError, HelloError, ProtocolError, SessionLost, StateError
from wellhead.wire import mux as mux_module
from wellhead.wire.frames import MAX_DATA, MAX_HEAD, Frame, Kind, read_frames
from wellhead.wire.messages import Hello
from wellhead.wire.mux import MAX_PONGS, Mux, MuxStream, Role
from wellhead.wire.muxstream import ENDING, HIGH_WATER, READY_MAX, SMALL
from wellhead.wire.streams import Buffer, HeadKind, Reason, StreamKind
from wellhead.wire.turns import QUANTUM, SHORT_QUANTUM

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
WINDOW = 256 * 1024
KiB = 1024


def no_open(stream: MuxStream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
    raise AssertionError("nobody opens a stream here")


def lone(role: Role = Role.ACCEPTOR, **options: int) -> tuple[Mux, list[bool]]:
    """A started mux without a peer, and its wakes."""
    wakes: list[bool] = []
    mux = Mux(role, no_open, lambda: wakes.append(True), **options)
    mux.start(WINDOW)
    return mux, wakes


def sent(mux: Mux, room: int = 2**30) -> list[Frame]:
    frames, rest = read_frames(b"".join(mux.take(room)))
    assert not rest
    return frames


def opened(pair: MuxPair, interactive: bool = False) -> tuple[MuxStream, RecordingSink, Accepted]:
    """A TCP stream from the acceptor to the dialler."""
    stream, sink = pair.acceptor.open(kind=StreamKind.TCP, interactive=interactive)
    pair.settle()
    return stream, sink, pair.dialler.accepted[-1]


# The life of a stream


def test_a_small_exchange_is_two_frames_and_leaves_nothing() -> None:
    pair = MuxPair()
    stream, sink = pair.acceptor.open(b"GET", end=True)
    request = pair.acceptor.take()
    pair.dialler.mux.receive(request)
    accepted = pair.dialler.accepted[0]
    assert (accepted.envelope, accepted.sink.ended) == (b"GET", 1)
    accepted.stream.head(HeadKind.REPLY, HEAD, b"hello", True)
    reply = pair.dialler.take()
    pair.acceptor.mux.receive(reply)
    assert (sink.heads, sink.data, sink.ended) == ([(HeadKind.REPLY, HEAD)], b"hello", 1)
    assert [len(read_frames(data)[0]) for data in (request, reply)] == [1, 1]
    assert stream.over and accepted.stream.over
    for end in pair.ends:
        assert not end.mux.streams and not end.mux.held and not end.mux.pending


def test_both_ends_open_streams_at_once_without_clash() -> None:
    pair = MuxPair()
    ids = [end.open(b"x")[0].id for _ in range(3) for end in pair.ends]
    assert ids == [1, 2, 3, 4, 5, 6]
    pair.settle()
    assert [accepted.stream.id for accepted in pair.dialler.accepted] == [2, 4, 6]
    assert [accepted.stream.id for accepted in pair.acceptor.accepted] == [1, 3, 5]


@pytest.mark.parametrize(
    "size", [0, 1, SMALL, SMALL + 1, 64 * KiB, 64 * KiB + 1, WINDOW, WINDOW + 1, 5 * WINDOW]
)
@pytest.mark.parametrize("how", ["open", "head", "send"])
def test_bytes_of_any_size_arrive_however_they_are_handed_over(how: str, size: int) -> None:
    pair = MuxPair()
    data = random.Random(size).randbytes(size)
    if how == "open":
        pair.acceptor.open(b"envelope", data, True)
    else:
        stream, _ = pair.acceptor.open(b"envelope")
        if how == "head":
            stream.head(HeadKind.REPLY, HEAD, data, True)
        else:
            stream.send(data, True)
    pair.settle()
    accepted = pair.dialler.accepted[0]
    assert accepted.sink.data == data
    assert accepted.sink.ended == 1
    assert accepted.sink.heads == ([(HeadKind.REPLY, HEAD)] if how == "head" else [])


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_what_is_told_does_not_depend_on_how_the_network_chops(seed: int, most: int) -> None:
    def play(chop: Callable[[], int]) -> list[tuple[object, ...]]:
        rng = random.Random(seed)
        pair = MuxPair()
        streams = [pair.acceptor.open(rng.randbytes(rng.randrange(40)))[0] for _ in range(3)]
        for _ in range(12):
            stream = rng.choice(streams)
            verb = rng.randrange(8)
            data = rng.randbytes(rng.choice([0, 1, 5, 300, 20_000]))
            if stream.over or stream._flags & ENDING:
                continue
            if verb == 0:
                stream.reset(rng.randrange(1, 9))
            elif verb == 1:
                stream.head(HeadKind.REPLY, data[:300], data[300:])
            elif verb == 2:
                stream.send(data, True)
            else:
                stream.send(data)
        wire = pair.acceptor.take_all()
        start = 0
        while start < len(wire):
            stop = start + chop()
            pair.dialler.mux.receive(wire[start:stop])
            start = stop
        return [
            (a.envelope, a.sink.heads, bytes(a.sink.data), a.sink.ended, a.sink.resets)
            for a in pair.dialler.accepted
        ]

    rng = random.Random(seed + 1)
    assert play(lambda: 2**30) == play(lambda: rng.randrange(1, most + 1))


def test_large_payloads_are_neither_copied_nor_joined_on_their_way_out() -> None:
    mux, _ = lone()
    stream = mux.open(StreamKind.TCP, b"", RecordingSink())
    mux.take(WINDOW)
    data = bytes(100 * KiB)
    stream.send(data)
    header, payload = mux.take(WINDOW)
    assert payload is data
    assert header == Frame(Kind.DATA, 2, data).encode()[:8]


def test_large_payloads_arrive_as_views_and_small_ones_as_bytes() -> None:
    pair = MuxPair(lazy=True)
    stream, _, accepted = opened(pair)
    stream.send(bytes(SMALL))
    stream.send(bytes(SMALL + 1))
    pair.settle()
    assert [(type(piece), len(piece)) for piece in accepted.sink.pieces] == [
        (bytes, SMALL),
        (memoryview, SMALL + 1),
    ]


def test_data_is_handed_on_before_its_frame_is_whole() -> None:
    pair = MuxPair(lazy=True)
    stream, _, accepted = opened(pair)
    stream.send(b"abcdef", True)
    wire = pair.acceptor.take()
    pair.dialler.mux.receive(wire[:11])
    assert (accepted.sink.data, accepted.sink.ended) == (b"abc", 0)
    pair.dialler.mux.receive(wire[11:])
    assert (accepted.sink.data, accepted.sink.ended) == (b"abcdef", 1)


@pytest.mark.parametrize("chop", [1, 9, 10, 13])
def test_a_stream_is_over_when_the_frame_that_ends_it_came_in_pieces(chop: int) -> None:
    pair = MuxPair()
    stream, sink, accepted = opened(pair)
    accepted.stream.send(b"", True)
    pair.settle()
    stream.send(b"abcdef", True)
    pair.settle(chop)
    assert (accepted.sink.data, accepted.sink.ended) == (b"abcdef", 1)
    assert not pair.dialler.mux.streams and not pair.acceptor.mux.streams


def test_a_stream_reset_in_the_middle_of_a_frame_hears_no_more_of_it() -> None:
    pair = MuxPair()
    stream, _, accepted = opened(pair)
    stream.send(b"abcdef")
    second, _ = pair.acceptor.open(b"next")
    wire = pair.acceptor.take()
    pair.dialler.mux.receive(wire[:11])
    accepted.stream.reset(Reason.CANCELLED)
    pair.dialler.mux.receive(wire[11:])
    assert accepted.sink.data == b"abc"
    assert pair.dialler.accepted[1].envelope == b"next"
    assert pair.dialler.mux.held == 0


def test_wrong_calls_are_state_errors() -> None:
    mux, _ = lone()
    stream = mux.open(StreamKind.HTTP, b"", RecordingSink())
    with pytest.raises(StateError, match="65537 bytes, at most 65536"):
        mux.open(StreamKind.HTTP, bytes(MAX_HEAD + 1), RecordingSink())
    with pytest.raises(StateError, match="65537 bytes, at most 65536"):
        stream.head(HeadKind.REPLY, bytes(MAX_HEAD + 1))
    with pytest.raises(StateError, match="trailers"):
        stream.head(HeadKind.TRAILERS, b"", b"x", True)
    for kind, end in ((HeadKind.TRAILERS, False), (HeadKind.INTERIM, True)):
        with pytest.raises(StateError, match="head of kind"):
            stream.head(kind, b"", b"", end)
    with pytest.raises(StateError, match="1 bytes consumed, 0 are held"):
        stream.consumed(1)
    with pytest.raises(StateError):
        mux.control(Kind.PING, bytes(8))
    with pytest.raises(StateError, match="started before"):
        mux.start(WINDOW)
    stream.send(b"", True)
    stream.send(b"", True)
    with pytest.raises(StateError, match="after its end"):
        stream.send(b"x")
    with pytest.raises(StateError, match="after its end"):
        stream.head(HeadKind.REPLY, b"")
    mux.goaway(Reason.CANCELLED)
    with pytest.raises(StateError, match="after goaway"):
        mux.open(StreamKind.HTTP, b"", RecordingSink())
    mux.lost()
    with pytest.raises(SessionLost):
        mux.open(StreamKind.HTTP, b"", RecordingSink())


def test_what_belongs_to_a_stream_that_runs_may_be_opened_after_goaway() -> None:
    pair = MuxPair()
    pair.acceptor.mux.goaway(Reason.CANCELLED)
    sink = RecordingSink()
    pair.acceptor.mux.open_late(StreamKind.HTTP, b"late", sink)
    pair.settle()
    (late,) = pair.dialler.accepted
    assert (late.envelope, late.sink.ended) == (b"late", 1)
    with pytest.raises(StateError, match="after goaway"):
        pair.acceptor.mux.open(StreamKind.HTTP, b"", sink)
    pair.acceptor.mux.lost()
    with pytest.raises(SessionLost):
        pair.acceptor.mux.open_late(StreamKind.HTTP, b"late", sink)
    unstarted = Mux(Role.ACCEPTOR, lambda *opened: None, lambda: None)
    with pytest.raises(StateError, match="before the hello"):
        unstarted.open_late(StreamKind.HTTP, b"late", sink)


def test_a_stream_without_a_sink_is_a_bug_that_shows() -> None:
    mux = Mux(Role.DIALLER, lambda *opened: None, lambda: None)
    mux.start(WINDOW)
    mux.receive(Frame(Kind.OPEN, 2, bytes([1, 0, 0, 0])).encode())
    with pytest.raises(StateError, match="before its sink was set"):
        mux.receive(Frame(Kind.DATA, 2, b"x").encode())


# Sinks that act inside receive


def test_a_sink_may_reply_reset_open_and_consume_inside_receive() -> None:
    pair = MuxPair(lazy=True)

    def on_accept(accepted: Accepted, data: Buffer, end: bool) -> None:
        accepted.stream.consumed(len(data))
        if accepted.envelope == b"reply":
            accepted.stream.head(HeadKind.REPLY, HEAD, b"", True)
        elif accepted.envelope == b"reset":
            accepted.stream.reset(Reason.REFUSED)
        else:
            pair.dialler.open(b"from inside", b"x", True)

    pair.dialler.on_accept = on_accept
    sinks = [pair.acceptor.open(envelope, b"abc", True)[1] for envelope in (b"reply", b"reset", b"open")]
    pair.settle()
    assert sinks[0].heads and sinks[1].resets == [Reason.REFUSED]
    assert pair.acceptor.accepted[0].envelope == b"from inside"
    assert pair.dialler.mux.held == 0
    assert len(pair.dialler.mux.streams) == 2


def test_a_sink_may_reset_a_stream_whose_frames_follow_in_the_same_read() -> None:
    pair = MuxPair()
    first, _ = pair.acceptor.open(b"first")
    second, _ = pair.acceptor.open(b"second", b"data", True)
    third, _ = pair.acceptor.open(b"third", b"", True)
    first.send(b"late")
    pair.dialler.on_accept = lambda *opened: pair.dialler.accepted[0].stream.reset(Reason.CANCELLED)
    pair.settle()
    assert [accepted.envelope for accepted in pair.dialler.accepted] == [b"first", b"second", b"third"]
    assert pair.dialler.accepted[0].sink.data == b""


def test_what_a_sink_raises_goes_to_the_driver_and_nothing_is_read_after_it() -> None:
    pair = MuxPair()
    stream, _, accepted = opened(pair)

    class Broken(RecordingSink):
        def on_data(self, data: Buffer, end: bool) -> None:
            raise ZeroDivisionError

    accepted.stream.sink = Broken()
    stream.send(b"x")
    wire = pair.acceptor.take()
    with pytest.raises(ZeroDivisionError):
        pair.dialler.mux.receive(wire)
    pair.dialler.mux.receive(b"anything at all")


def test_a_driver_may_take_inside_on_wake() -> None:
    mux, written = eager()
    stream = mux.open(StreamKind.TCP, b"", RecordingSink())
    stream.send(b"small")
    stream.send(bytes(100 * KiB))
    stream.send(b"", True)
    frames = read_frames(b"".join(written))[0]
    assert [(frame.kind, len(frame.payload), frame.end) for frame in frames] == [
        (Kind.OPEN, 4, False),
        (Kind.DATA, 5, False),
        (Kind.DATA, 100 * KiB, False),
        (Kind.DATA, 0, True),
    ]


def eager() -> tuple[Mux, list[bytes]]:
    """A mux whose driver takes as soon as it is woken, and what it wrote."""
    written: list[bytes] = []

    def on_wake() -> None:
        taken = b"".join(mux.take(WINDOW))
        written.append(taken)

    mux = Mux(Role.ACCEPTOR, no_open, on_wake)
    mux.start(WINDOW)
    return mux, written


def test_a_writer_whose_bytes_were_written_at_once_is_not_stopped() -> None:
    mux, _ = eager()
    sink = RecordingSink()
    stream = mux.open(StreamKind.TCP, b"", sink)
    assert stream.send(bytes(100 * KiB))
    assert (stream.queued, sink.writable) == (0, 0)


def test_what_a_writer_sends_inside_take_follows_what_was_taken() -> None:
    mux, written = eager()
    sent_so_far = bytearray()

    class Chatty(RecordingSink):
        def on_writable(self) -> None:
            for number in range(100):
                piece = bytes([number])
                sent_so_far.extend(piece)
                stream.send(piece)

    stream = mux.open(StreamKind.TCP, b"", Chatty())
    big = bytes([255]) * (WINDOW + 1)
    sent_so_far += big
    assert not stream.send(big)
    mux.receive(Frame(Kind.CREDIT, 2, (1000).to_bytes(4, "big")).encode())
    written.append(b"".join(mux.take(WINDOW)))
    frames = read_frames(b"".join(written))[0]
    assert b"".join(frame.payload for frame in frames if frame.kind is Kind.DATA) == sent_so_far


# Back-pressure


def test_a_writer_is_stopped_when_its_queue_is_full_and_called_when_it_has_drained() -> None:
    pair = MuxPair(lazy=True)
    stream, sink, accepted = opened(pair)
    assert stream.send(bytes(HIGH_WATER))
    assert not stream.send(bytes(1))
    assert sink.writable == 0
    pair.settle()
    assert sink.writable == 1
    assert stream.queued == 0


def test_a_writer_without_credit_is_called_only_when_credit_came() -> None:
    pair = MuxPair(lazy=True)
    stream, sink, accepted = opened(pair)
    assert not stream.send(bytes(WINDOW + 1))
    pair.settle()
    assert (stream.queued, sink.writable, len(accepted.sink.data)) == (1, 0, WINDOW)
    assert not stream.send(b"x")
    accepted.stream.consumed(WINDOW)
    pair.settle()
    assert (stream.queued, sink.writable, len(accepted.sink.data)) == (0, 1, WINDOW + 2)


def test_a_writer_may_go_on_inside_on_writable() -> None:
    pair = MuxPair()
    stream, sink, accepted = opened(pair)
    left = [bytes([n]) * 200 * KiB for n in range(20)]

    class Pump(RecordingSink):
        def on_writable(self) -> None:
            while left and stream.send(left.pop(0), not left):
                pass

    stream.sink = Pump()
    expected = b"".join(left)
    stream.sink.on_writable()
    pair.settle()
    assert accepted.sink.data == expected
    assert accepted.sink.ended == 1


def test_a_reader_that_consumes_nothing_holds_one_window_and_nobody_up() -> None:
    pair = MuxPair(lazy=True)
    slow, _, held = opened(pair)
    slow.send(bytes(3 * WINDOW))
    pair.settle()
    quick, _, free = opened(pair)
    quick.send(b"ping", True)
    pair.settle()
    assert (len(held.sink.data), held.stream.held, pair.dialler.mux.held) == (WINDOW, WINDOW, WINDOW + 4)
    assert free.sink.data == b"ping"


def test_bytes_are_held_until_consumed_even_after_both_ends() -> None:
    pair = MuxPair(lazy=True)
    pair.acceptor.open(b"", b"hello", True)
    pair.settle()
    accepted = pair.dialler.accepted[0]
    accepted.stream.head(HeadKind.REPLY, HEAD, b"", True)
    assert not pair.dialler.mux.streams
    assert pair.dialler.mux.held == 5
    accepted.stream.consumed(2)
    assert pair.dialler.mux.held == 3
    accepted.stream.reset(Reason.CANCELLED)
    assert pair.dialler.mux.held == 0
    accepted.stream.consumed(3)
    assert pair.dialler.mux.held == 0
    pair.settle()
    assert pair.acceptor.mux.streams == {}


def test_the_streams_that_hold_most_are_shed_when_all_together_hold_too_much() -> None:
    mux = Mux(Role.DIALLER, lambda *opened: sinks.append(accept(opened[0])), lambda: None, held_max=100_000)
    sinks: list[RecordingSink] = []

    def accept(stream: MuxStream) -> RecordingSink:
        stream.sink = sink = RecordingSink(stream, lazy=True)
        return sink

    mux.start(WINDOW)
    for stream_id, size in ((2, 60_000), (4, 30_000), (6, 20_000)):
        mux.receive(Frame(Kind.OPEN, stream_id, bytes([3, 0, 0, 0]) + bytes(size)).encode())
    assert [sink.resets for sink in sinks] == [[Reason.OVERLOADED], [], []]
    assert mux.held == 50_000
    assert sent(mux) == [Frame(Kind.RESET, 2, Reason.OVERLOADED.to_bytes(4, "big"))]


# Growth


def grow(rtt: float, bytes_per_second: float, seconds: float = 2.0) -> int:
    """The window after so long a download, with a clock and a network of ``rtt``."""
    pair = MuxPair()
    acceptor, dialler = pair.acceptor.mux, pair.dialler.mux
    stream, _, accepted = opened(pair)
    now = 10.0
    dialler.now = acceptor.now = now
    dialler.ping(now)
    wire = pair.dialler.take()
    acceptor.receive(wire)
    dialler.now = now = now + rtt
    dialler.receive(pair.acceptor.take())
    while now < 10.0 + seconds:
        while stream.queued < 8 * 1024 * KiB:
            stream.send(bytes(64 * KiB))
        for _ in range(4):  # what the line takes in a quarter of a round trip
            dialler.now = now
            dialler.receive(pair.acceptor.take(int(bytes_per_second * rtt / 4)))
            now += rtt / 4
        acceptor.now = now
        acceptor.receive(pair.dialler.take_all())
    return accepted.stream._size


def test_a_window_grows_to_about_twice_the_bandwidth_delay_product() -> None:
    size = grow(rtt=0.1, bytes_per_second=10e6)
    assert 1.5e6 < size < 3e6


def test_a_window_does_not_grow_beyond_its_most() -> None:
    assert grow(rtt=0.5, bytes_per_second=100e6, seconds=10) == 4 * 1024 * KiB


def test_a_window_of_a_near_peer_stays_as_it_was_until_its_reader_has_shown_that_it_reads() -> None:
    assert grow(rtt=0.0005, bytes_per_second=100e6, seconds=0.1) == WINDOW
    assert WINDOW < grow(rtt=0.0005, bytes_per_second=100e6, seconds=0.3) <= 2 * WINDOW


def test_the_window_of_a_reader_that_becomes_slow_shrinks_by_credit_that_is_not_given() -> None:
    pair = MuxPair()
    stream, _, accepted = opened(pair)
    mux, theirs = pair.dialler.mux, accepted.stream
    mux.now, mux.rtt_min = 10.0, 0.1
    theirs._size = theirs._room = stream._credit = 4 * 1024 * KiB  # as a fast download left them
    for _ in range(400):
        stream.send(bytes(64 * KiB))
        pair.settle()
        mux.now += 1.0
        assert theirs._size == theirs._room + theirs._owed + theirs.held
    assert theirs._size == WINDOW and stream._credit <= WINDOW


def test_a_lone_stream_fills_a_distant_link_within_a_second() -> None:
    # 20 MB/s and 22 ms there and back, 28 ms while it is busy; 16 KiB are on the wire for a step. What is
    # owed and not announced cannot be sent: a stream that looks slow because of that never gets more.
    pair = MuxPair()
    stream, _, accepted = opened(pair)
    pair.dialler.mux.rtt_min = 0.022
    size, way = 16 * KiB, 17  # bytes of a step, steps of a way
    step = size / 20e6
    there, back = deque([b""] * way), deque([b""] * way)
    stream.send(bytes(32 * 1024 * KiB))
    arrived = 0
    for number in range(int(1.25 / step)):
        for end, from_peer, to_peer in ((pair.acceptor, back, there), (pair.dialler, there, back)):
            end.mux.now = 10.0 + number * step
            end.mux.receive(from_peer.popleft())
            to_peer.append(end.take(size))
        if number == int(1.0 / step):
            arrived = len(accepted.sink.data)
    assert len(accepted.sink.data) - arrived >= 0.9 * 0.25 * 20e6


def test_a_window_does_not_grow_without_a_clock() -> None:
    pair = MuxPair()
    stream, _, accepted = opened(pair)
    stream.send(bytes(20 * WINDOW))
    pair.settle()
    assert accepted.stream._size == WINDOW


def test_the_smallest_round_trip_is_kept() -> None:
    pair = MuxPair()
    mux, peer = pair.dialler.mux, pair.acceptor.mux
    heard: list[float] = []
    mux.on_pong = heard.append
    for sent_at, back_at in ((1.0, 1.5), (2.0, 2.25), (3.0, 4.0)):
        mux.now = sent_at
        mux.ping(sent_at)
        peer.receive(pair.dialler.take())
        mux.now = back_at
        mux.receive(pair.acceptor.take())
    assert heard == [0.5, 0.25, 1.0]
    assert mux.rtt_min == 0.25


def test_each_end_measures_the_round_trip_soon_after_the_hello() -> None:
    ends = {role: Mux(role, no_open, lambda: None) for role in Role}
    dialler, acceptor = ends[Role.DIALLER], ends[Role.ACCEPTOR]
    now = 5.0
    for mux in (acceptor, dialler):
        mux.now = now
        mux.start(WINDOW)
    for source, target in ((dialler, acceptor), (acceptor, dialler), (dialler, acceptor)):
        now += 0.05
        target.now = now
        target.receive(b"".join(source.take(WINDOW)))
    assert dialler.rtt_min == pytest.approx(0.1)
    assert acceptor.rtt_min == pytest.approx(0.1)
    assert not dialler.pending and not acceptor.pending


# Order and fairness


def test_control_frames_go_before_what_waits() -> None:
    mux, _ = lone()
    stream = mux.open(StreamKind.TCP, b"", RecordingSink())
    stream.send(bytes(100 * KiB))
    mux.receive(Frame(Kind.PING, 0, b"12345678").encode())
    assert [frame.kind for frame in sent(mux)] == [Kind.PONG, Kind.OPEN, Kind.DATA]


def test_a_reset_does_not_overtake_the_open_of_its_stream() -> None:
    mux, _ = lone()
    stream = mux.open(StreamKind.TCP, b"", RecordingSink())
    stream.send(bytes(100 * KiB))
    stream.reset(Reason.CANCELLED)
    stream.reset(Reason.CANCELLED)
    assert [frame.kind for frame in sent(mux)] == [Kind.OPEN, Kind.RESET]
    assert not mux.pending


def test_streams_take_turns() -> None:
    mux, _ = lone()
    streams = [mux.open(StreamKind.TCP, b"", RecordingSink()) for _ in range(3)]
    mux.take(WINDOW)
    for stream in streams:
        stream.send(bytes(150 * KiB), True)
    turns = [(frame.stream_id, len(frame.payload), frame.end) for frame in sent(mux)]
    assert turns == [
        *((stream.id, QUANTUM, False) for stream in streams),
        *((stream.id, QUANTUM, False) for stream in streams),
        *((stream.id, 150 * KiB - 2 * QUANTUM, True) for stream in streams),
    ]


def test_a_stream_alone_sends_long_frames() -> None:
    mux, _ = lone()
    stream = mux.open(StreamKind.TCP, b"", RecordingSink())
    stream.send(bytes(WINDOW))
    assert [len(frame.payload) for frame in sent(mux)] == [4, MAX_DATA]


def test_small_pieces_share_a_frame_in_the_queue() -> None:
    mux, _ = lone()
    stream = mux.open(StreamKind.TCP, b"", RecordingSink())
    mux.take(WINDOW)
    stream.send(bytes(SMALL + 1))
    for _ in range(5):
        stream.send(b"abc")
    assert [len(frame.payload) for frame in sent(mux)] == [SMALL + 1 + 15]


def test_take_stops_near_its_room() -> None:
    mux, _ = lone()
    streams = [mux.open(StreamKind.TCP, b"", RecordingSink()) for _ in range(5)]
    mux.take(WINDOW)
    for stream in streams:
        stream.send(bytes(WINDOW))
    for room in (1, 1000, 20_000, 100_000):
        size = sum(len(frame.payload) for frame in sent(mux, room))
        assert room <= size <= room + SHORT_QUANTUM
    assert mux.pending


def test_an_interactive_stream_goes_before_bulk_and_makes_its_turns_short() -> None:
    mux, _ = lone()
    bulk = [mux.open(StreamKind.TCP, b"", RecordingSink()) for _ in range(2)]
    terminal = mux.open(StreamKind.TCP, b"", RecordingSink(), interactive=True)
    mux.take(WINDOW)
    for stream in bulk:
        stream.send(bytes(WINDOW))
    assert [len(frame.payload) for frame in sent(mux, 40_000)] == [SHORT_QUANTUM] * 3
    terminal.send(b"x" * (SMALL + 1))
    frames = sent(mux, 40_000)
    assert frames[0].stream_id == terminal.id
    assert [len(frame.payload) for frame in frames[2:]] == [SHORT_QUANTUM] * 2
    terminal.send(b"", True)
    mux.receive(Frame(Kind.DATA, terminal.id, b"", True).encode())
    mux.take(0)
    assert len(sent(mux, QUANTUM)[0].payload) == QUANTUM


@pytest.mark.parametrize("how", ["head", "data", "send", "queued", "reset", "peer reset"])
def test_turns_are_long_again_when_the_last_interactive_stream_is_over(how: str) -> None:
    pair = MuxPair()
    stream, _, accepted = opened(pair, interactive=True)
    mux = pair.acceptor.mux
    accepted.stream.mark_interactive()
    accepted.stream.mark_interactive()
    if how == "reset":
        stream.reset(Reason.CANCELLED)
    elif how == "peer reset":
        accepted.stream.reset(Reason.CANCELLED)
    elif how == "head":
        stream.send(b"", True)
        accepted.stream.head(HeadKind.REPLY, HEAD, b"", True)
    elif how == "data":
        stream.send(b"", True)
        accepted.stream.send(b"", True)
    else:
        accepted.stream.send(b"", True)
        pair.settle()
        stream.send(b"" if how == "send" else bytes(100 * KiB), True)
    pair.settle()
    assert not mux.streams and not pair.dialler.mux.streams
    assert mux._turns.interactive_open == 0
    assert pair.dialler.mux._turns.interactive_open == 0
    accepted.stream.mark_interactive()
    assert pair.dialler.mux._turns.interactive_open == 0


def test_a_stream_that_becomes_interactive_goes_first_from_its_next_turn_on() -> None:
    mux, _ = lone()
    first, second = (mux.open(StreamKind.TCP, b"", RecordingSink()) for _ in range(2))
    mux.take(WINDOW)
    for stream in (first, second):
        stream.send(bytes(100 * KiB))
    second.mark_interactive()
    order = [frame.stream_id for frame in sent(mux)]
    assert order[:2] == [first.id, second.id]
    assert order[2:].index(first.id) == order.count(second.id) - 1


def test_a_bulk_stream_does_not_hold_up_a_small_one() -> None:
    pair = MuxPair()
    bulk, _, _ = opened(pair)
    bulk.send(bytes(WINDOW))
    small, sink = pair.acceptor.open(b"GET", end=True)
    frames = sent(pair.acceptor.mux, 1)
    assert frames[0].kind is Kind.OPEN


def test_small_sends_of_a_stream_do_not_pile_up_before_others() -> None:
    mux, _ = lone()
    busy = mux.open(StreamKind.TCP, b"", RecordingSink())
    other = mux.open(StreamKind.TCP, b"", RecordingSink())
    mux.take(WINDOW)
    for _ in range(20):
        busy.send(bytes(10 * KiB))
    other.send(b"x")
    before = 0
    for frame in sent(mux):
        if frame.stream_id == other.id:
            break
        before += len(frame.payload)
    assert before <= READY_MAX + QUANTUM


def test_a_wake_comes_once_for_all_that_is_not_taken() -> None:
    mux, wakes = lone()
    stream = mux.open(StreamKind.TCP, b"", RecordingSink())
    stream.send(b"a")
    stream.send(bytes(100 * KiB))
    mux.ping(1.0)
    assert len(wakes) == 1
    mux.take(WINDOW)
    assert not mux.pending
    stream.reset(Reason.CANCELLED)
    assert len(wakes) == 2


def test_a_stream_without_credit_is_not_pending() -> None:
    mux, wakes = lone()
    stream = mux.open(StreamKind.TCP, b"", RecordingSink())
    stream.send(bytes(2 * WINDOW))
    mux.take(2**30)
    assert not mux.pending and mux.take(2**30) == []
    wakes.clear()
    mux.receive(Frame(Kind.CREDIT, stream.id, (1000).to_bytes(4, "big")).encode())
    assert wakes == [True]
    assert [len(frame.payload) for frame in sent(mux)] == [1000]


# Hello, goaway, the end


@pytest.mark.parametrize("kind", [Kind.OPEN, Kind.DATA, Kind.HEAD, Kind.RESET, Kind.CREDIT])
def test_a_stream_before_the_hello_is_an_error(kind: Kind) -> None:
    mux = Mux(Role.ACCEPTOR, no_open, lambda: None)
    with pytest.raises(ProtocolError):
        mux.receive(Frame(kind, 1, bytes(4)).encode())
    with pytest.raises(StateError, match="before the hello"):
        Mux(Role.ACCEPTOR, no_open, lambda: None).open(StreamKind.TCP, b"", RecordingSink())


def test_hello_and_welcome_are_handed_on_and_streams_may_follow_in_the_same_read() -> None:
    pair = MuxPair()
    acceptor = Mux(Role.ACCEPTOR, no_open, lambda: None)
    dialler = Mux(Role.DIALLER, pair.dialler._opened, lambda: None)
    heard: list[tuple[int, bytes]] = []

    def on_hello(kind: int, payload: bytes) -> None:
        heard.append((kind, payload))
        acceptor.start(Hello.decode(payload).window)
        acceptor.control(Kind.WELCOME, b"{}")
        acceptor.open(StreamKind.TCP, b"first", RecordingSink())

    def on_welcome(kind: int, payload: bytes) -> None:
        heard.append((kind, payload))
        dialler.start(1000)

    acceptor.on_control, dialler.on_control = on_hello, on_welcome
    hello = Hello(tunnel="a", secret="s", window=20_000).encode()
    dialler.control(Kind.HELLO, hello)
    acceptor.receive(b"".join(dialler.take(WINDOW)))
    dialler.receive(b"".join(acceptor.take(WINDOW)))
    assert heard == [(Kind.HELLO, hello), (Kind.WELCOME, b"{}")]
    assert pair.dialler.accepted[0].envelope == b"first"
    assert next(iter(acceptor.streams.values()))._credit == 20_000
    assert pair.dialler.accepted[0].stream._credit == 1000


def test_a_hello_that_nobody_expects_is_an_error() -> None:
    mux = Mux(Role.ACCEPTOR, no_open, lambda: None)
    with pytest.raises(HelloError, match="nobody expects"):
        mux.receive(Frame(Kind.HELLO, 0, b"{}").encode())


def test_the_end_of_the_connection_is_told_to_every_live_stream_once() -> None:
    pair = MuxPair(lazy=True)
    _, first = pair.acceptor.open(b"", b"data")
    over, second = pair.acceptor.open(b"")
    over.reset(Reason.CANCELLED)
    pair.carry(pair.acceptor)
    pair.dialler.mux.lost()
    pair.dialler.mux.lost()
    pair.acceptor.mux.lost(Reason.SESSION_LOST)
    assert pair.dialler.accepted[0].sink.resets == [Reason.SESSION_LOST]
    assert pair.dialler.mux.held == 0 and not pair.dialler.mux.streams and not pair.dialler.mux.pending
    assert first.resets == [Reason.SESSION_LOST]
    assert second.resets == []
    for stream in (over, pair.dialler.accepted[0].stream):
        assert stream.send(b"x")
        stream.head(HeadKind.REPLY, HEAD)
        stream.reset(Reason.CANCELLED)
        stream.consumed(5)
    assert not pair.acceptor.mux.pending and not pair.dialler.mux.pending


def test_every_sink_hears_of_the_end_even_when_one_of_them_raises() -> None:
    mux, _ = lone()

    class Broken(RecordingSink):
        def on_reset(self, reason: int) -> None:
            raise ZeroDivisionError

    sink = RecordingSink()
    mux.open(StreamKind.TCP, b"", Broken())
    mux.open(StreamKind.TCP, b"", sink)
    with pytest.raises(ZeroDivisionError):
        mux.lost()
    assert sink.resets == [Reason.SESSION_LOST]


def test_a_connection_lost_inside_a_sink_ends_the_read() -> None:
    pair = MuxPair()
    for envelope in (b"first", b"second"):
        pair.acceptor.open(envelope, b"x", True)
    pair.dialler.on_accept = lambda *opened: pair.dialler.mux.lost()
    pair.dialler.mux.receive(pair.acceptor.take())
    assert [accepted.envelope for accepted in pair.dialler.accepted] == [b"first"]
    assert not pair.dialler.mux.streams and not pair.dialler.mux.pending


# Ids


def test_ids_wrap_and_leave_out_those_still_in_use() -> None:
    pair = MuxPair()
    first = [pair.acceptor.open(b"long")[0] for _ in range(2)]
    pair.settle()
    jumps = (0x7FFFFFFE, 0xFFFFFFFC)
    for jump in jumps:
        pair.acceptor.mux._next_id = jump
        pair.acceptor.open(b"jump", end=True)
        pair.settle()
    later = [pair.acceptor.open(b"later", b"x", True)[0] for _ in range(3)]
    pair.settle()
    assert [stream.id for stream in later] == [0xFFFFFFFE, 6, 8]
    assert [accepted.stream.id for accepted in pair.dialler.accepted] == [2, 4, *jumps, 0xFFFFFFFE, 6, 8]
    first[0].send(b"still here")
    pair.settle()
    assert pair.dialler.accepted[0].sink.data == b"still here"


def test_odd_ids_wrap_to_one() -> None:
    pair = MuxPair()
    for jump in (0x7FFFFFFD, 0xFFFFFFFB):
        pair.dialler.mux._next_id = jump
        pair.dialler.open(b"jump", end=True)
        pair.settle()
    later = [pair.dialler.open(b"later")[0].id for _ in range(3)]
    pair.settle()
    assert later == [0xFFFFFFFD, 0xFFFFFFFF, 1]
    assert [accepted.stream.id for accepted in pair.acceptor.accepted[2:]] == later


# Bounds


def test_streams_beyond_the_limit_are_refused_and_the_session_goes_on() -> None:
    pair = MuxPair(max_streams=2)
    sinks = [pair.acceptor.open(b"x", b"data")[1] for _ in range(4)]
    pair.settle()
    assert [sink.resets for sink in sinks] == [[], [], [Reason.REFUSED], [Reason.REFUSED]]
    pair.dialler.accepted[0].stream.reset(Reason.CANCELLED)
    pair.settle()
    _, late = pair.acceptor.open(b"y")
    pair.settle()
    assert late.resets == []
    assert pair.dialler.accepted[-1].envelope == b"y"


def test_a_flood_of_pings_is_an_error_and_answered_pings_are_none() -> None:
    mux, _ = lone()
    ping = Frame(Kind.PING, 0, b"12345678").encode()
    for _ in range(5):
        mux.receive(ping * MAX_PONGS)
        mux.take(1)
    with pytest.raises(ProtocolError, match="1001 pings"):
        mux.receive(ping * (MAX_PONGS + 1))


def test_a_peer_that_opens_and_never_reads_its_refusals_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mux_module, "MAX_RESETS", 100)
    mux = Mux(Role.DIALLER, lambda stream, *_: stream.reset(Reason.REFUSED), lambda: None)
    mux.start(WINDOW)
    with pytest.raises(ProtocolError, match="at most 100"):
        for stream_id in range(2, 1000, 2):
            mux.receive(Frame(Kind.OPEN, stream_id, bytes([1, 0, 0, 0])).encode())
    assert not mux.streams


def test_nothing_is_remembered_of_streams_that_are_over() -> None:
    pair = MuxPair(lazy=True)
    for _ in range(2000):
        stream, _ = pair.acceptor.open(b"x", b"y")
        pair.settle()
        stream.reset(Reason.CANCELLED)
        pair.dialler.accepted.clear()
        pair.settle()
    for end in pair.ends:
        mux = end.mux
        assert not mux.streams and not mux.held
        assert not mux._turns and not mux._ready and not mux._control


def test_a_frame_begun_and_never_finished_costs_no_more_than_what_arrived() -> None:
    mux = Mux(Role.DIALLER, no_open, lambda: None)
    mux.start(WINDOW)
    mux.receive(Frame(Kind.OPEN, 2, bytes(131_000)).encode()[:20])
    assert len(mux._partial) == 20


@pytest.mark.parametrize("size", [1, 9, 100])
def test_an_envelope_that_drips_in_is_put_together_once(size: int) -> None:
    pair = MuxPair()
    envelope = bytes(range(256)) * 200
    pair.acceptor.open(envelope, b"body", True)
    wire = pair.acceptor.take()
    for start in range(0, len(wire), size):
        pair.dialler.mux.receive(wire[start : start + size])
    assert pair.dialler.accepted[0].envelope == envelope
    assert pair.dialler.accepted[0].sink.data == b"body"


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_are_taken_or_a_protocol_error(data: bytes) -> None:
    mux = Mux(Role.DIALLER, lambda stream, *_: setattr(stream, "sink", RecordingSink(stream)), lambda: None)
    mux.start(WINDOW)
    try:
        mux.receive(data)
    except ProtocolError:
        pass


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(Kind)), st.booleans(), st.integers(0, 6), st.binary(min_size=0, max_size=12)
        ),
        max_size=12,
    )
)
def test_any_frames_are_taken_or_a_protocol_error(frames: list[tuple[Kind, bool, int, bytes]]) -> None:
    mux = Mux(Role.DIALLER, lambda stream, *_: setattr(stream, "sink", RecordingSink(stream)), lambda: None)
    mux.start(WINDOW)
    mux.open(StreamKind.TCP, b"", RecordingSink())
    try:
        for kind, end, stream_id, payload in frames:
            mux.receive(Frame(kind, stream_id, payload, end and kind in (1, 2, 3)).encode())
    except ProtocolError:
        pass
    assert mux.held >= 0


def test_flow_and_frame_errors_name_the_value_and_the_bound() -> None:
    mux, _ = lone(window=1000, window_max=1000)
    mux.open(StreamKind.TCP, b"", RecordingSink())
    with pytest.raises(FlowError, match="1001 bytes on stream 2, only 1000 were allowed"):
        mux.receive(Frame(Kind.DATA, 2, bytes(1001)).encode())
    mux, _ = lone()
    with pytest.raises(FrameError, match="262145 bytes, at most 262144 allowed"):
        mux.receive(Frame(Kind.DATA, 2, bytes(MAX_DATA + 1)).encode())


@pytest.mark.parametrize("size", [HIGH_WATER, HIGH_WATER + 1, WINDOW, WINDOW + 1, 2 * WINDOW])
def test_a_driver_that_takes_at_once_never_leaves_a_writer_stopped_for_good(size: int) -> None:
    """What was written inside ``send`` is no reason to stop: nobody would call ``on_writable`` any more."""
    pair = MuxPair()
    stream, sink, _ = opened(pair)
    told: list[int] = []
    taken: list[Buffer] = []
    mux = pair.acceptor.mux
    mux._on_wake = lambda: taken.extend(mux.take(2**30))
    sink.on_writable = lambda: told.append(len(told))  # type: ignore[method-assign]  # watches one call
    flowing = stream.send(bytes(size))
    assert not told
    assert flowing == (size <= WINDOW)
    assert sum(map(len, taken)) >= min(size, WINDOW)
