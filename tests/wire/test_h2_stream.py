"""One stream: what it sends and when, what it is owed, and how it ends."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.h2talk import GET, HUGE, OK, POST, ByHand, End, exchange, frame
from wellhead.errors import StateError
from wellhead.wire.h2 import H2Role
from wellhead.wire.h2_frames import (
    DATA,
    END_STREAM,
    HEADERS,
    PADDED,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    settings_frame,
    window_frame,
)
from wellhead.wire.h2_stream import H2Stream

KiB = 1024
FILL = bytes(n * 31 % 251 for n in range(300 * KiB))


def answering(window: int = 65535, **changes: Any) -> tuple[ByHand, H2Stream]:
    """A request that waits for its reply, from a peer with this window."""
    hand = ByHand(settings={4: window}, **changes)
    hand.send(window_frame(0, 2**30) + hand.head(1))
    stream = hand.server.stream(1)
    stream.headers(OK)
    hand.got()
    return hand, stream


def sent(hand: ByHand, room: int = HUGE) -> list[tuple[int, int, bool]]:
    """DATA frames: stream, size, whether it ends."""
    found = [one for one in hand.got(room) if one.kind == DATA]
    return [(one.stream_id, len(one.payload), one.flags & END_STREAM != 0) for one in found]


def test_small_data_goes_out_as_it_is() -> None:
    hand, stream = answering()
    body = b"x" * 100
    assert stream.data(body, True)
    pieces = hand.server.connection.take(HUGE)
    assert pieces[-1] is body
    assert stream.over and hand.server.connection.idle


def test_an_empty_piece_that_ends_nothing_is_no_frame() -> None:
    hand, stream = answering()
    assert stream.data(b"")
    assert not hand.server.connection.pending


def test_no_frame_is_larger_than_every_peer_takes() -> None:
    hand, stream = answering(window=300_000)
    stream.data(FILL[:40_000], True)
    assert sent(hand) == [(1, 16384, False), (1, 16384, False), (1, 7232, True)]


def test_what_the_window_does_not_take_waits_for_credit() -> None:
    hand, stream = answering(window=10)
    stream.data(b"x" * 15)
    stream.data(b"", True)
    assert sent(hand) == [(1, 10, False)]
    assert not hand.server.connection.pending
    hand.send(window_frame(1, 3))
    assert sent(hand) == [(1, 3, False)]
    hand.send(window_frame(1, 100))
    assert sent(hand) == [(1, 2, True)]


def test_the_connections_window_holds_back_all_streams_and_lets_them_go_in_turn() -> None:
    hand = ByHand(settings={4: 2**20})
    for stream_id in (1, 3):
        hand.send(hand.head(stream_id))
        hand.server.stream(stream_id).data(FILL[: 100 * KiB])
    assert sum(size for _, size, _ in sent(hand)) == 65535
    assert not hand.server.connection.pending
    hand.server.stream(1).data(b"y")
    assert not hand.server.connection.pending
    before = hand.server.wakes
    hand.send(window_frame(0, 80 * KiB))
    assert hand.server.wakes == before + 1
    assert {stream_id for stream_id, _, _ in sent(hand)} == {1, 3}


def test_a_bulk_stream_does_not_hold_up_a_small_one() -> None:
    hand, bulk = answering(window=2**20)
    bulk.data(FILL[: 256 * KiB])
    hand.send(hand.head(3))
    hand.server.stream(3).data(b"small", True)
    assert sent(hand, 16 * KiB)[0] == (3, 5, True)


def test_a_smaller_window_makes_open_streams_owe_and_an_end_needs_no_credit() -> None:
    hand, stream = answering(window=100)
    stream.data(b"x" * 80)
    hand.got()
    hand.send(settings_frame({4: 50}))  # 20 left, 50 taken away: 30 owed
    stream.data(b"y" * 10)
    hand.send(window_frame(1, 30))
    assert not sent(hand)
    hand.send(window_frame(1, 4))
    assert sent(hand) == [(1, 4, False)]
    hand.send(settings_frame({4: 100}))
    assert sent(hand) == [(1, 6, False)]
    hand.send(settings_frame({4: 0}))
    stream.data(b"")
    assert not sent(hand)
    stream.data(b"", True)
    assert sent(hand) == [(1, 0, True)]


def test_an_end_is_heard_however_small_the_window_became() -> None:
    server = End(H2Role.SERVER, greedy=False, window=0)
    hand = ByHand()
    server.connection.receive(PREFACE + settings_frame({}))
    server.connection.receive(hand.head(1, POST, end=False) + hand.data(1, b"x"))
    server.connection.receive(frame(SETTINGS, 1))
    server.connection.receive(hand.data(1, b"", True))
    assert server.ears[1].ended and not server.ears[1].resets


def test_trailers_go_out_behind_what_is_queued() -> None:
    hand, stream = answering(window=10)
    stream.data(b"x" * 15)
    stream.headers([(b"grpc-status", b"0")], end=True)
    assert sent(hand) == [(1, 10, False)]
    hand.send(window_frame(1, 100))
    data, trailers = hand.got()
    assert (len(data.payload), trailers.kind, trailers.flags & END_STREAM) == (5, HEADERS, END_STREAM)
    assert (b"grpc-status", b"0") in list(hand.decoder.decode(trailers.payload, raw=True))
    assert stream.over


def test_a_writer_is_stopped_above_the_high_water_and_told_at_the_low_one() -> None:
    hand, stream = answering(window=0, high_water=64 * KiB, low_water=16 * KiB)
    assert stream.data(FILL[: 64 * KiB])
    assert not stream.data(b"x")
    assert stream.queued == 64 * KiB + 1
    hand.send(window_frame(1, 48 * KiB))
    hand.got()
    assert hand.server.ears[1].writable == 0
    hand.send(window_frame(1, 1))
    hand.got()
    assert hand.server.ears[1].writable == 1
    assert stream.queued == 16 * KiB


def test_a_writer_that_goes_on_inside_take_is_asked_for_after_it() -> None:
    hand, stream = answering(window=100_000)
    stream.data(FILL[: 90 * KiB])

    def go_on() -> None:
        stream.data(b"more")

    hand.server.ears[1].on_writable = go_on  # type: ignore[method-assign]
    hand.got()
    assert hand.server.connection.pending
    assert sent(hand) == [(1, 4, False)]


def test_credit_is_given_when_half_a_window_is_consumed() -> None:
    hand = ByHand(greedy=False, window=1000)
    hand.send(hand.head(1, POST, end=False) + hand.data(1, b"x" * 600))
    stream = hand.server.stream(1)
    stream.consumed(499)
    assert not hand.got()
    stream.consumed(1)
    (credit,) = hand.got()
    assert (credit.kind, credit.stream_id, credit.number) == (WINDOW_UPDATE, 1, 500)
    assert stream.held == hand.server.connection.held == 100
    with pytest.raises(StateError):
        stream.consumed(101)


def test_padding_is_credited_without_anybodys_help() -> None:
    hand = ByHand(greedy=False, window=1000)
    hand.send(hand.head(1, POST, end=False))
    for _ in range(10):
        hand.send(frame(DATA, PADDED, 1, b"\xff" + b"x" + b"\0" * 255))
        hand.got()
    assert hand.server.ears[1].body == b"x" * 10
    assert hand.server.connection.held == 10


def test_a_complete_request_is_owed_no_credit() -> None:
    hand = ByHand(greedy=True, window=1000)
    hand.send(hand.head(1, POST, end=False) + hand.data(1, b"x" * 1000, True))
    assert not hand.got()


def test_a_window_smaller_than_the_usual_one_holds_once_the_peer_knows_of_it() -> None:
    server = End(H2Role.SERVER, greedy=False, window=1000)
    hand = ByHand()
    server.connection.receive(PREFACE + settings_frame({}))
    server.connection.receive(hand.head(1, POST, end=False) + hand.data(1, b"x" * 16384))
    assert not server.ears[1].resets
    server.connection.receive(frame(SETTINGS, 1))
    server.connection.receive(hand.head(3, POST, end=False) + hand.data(3, b"x" * 1000))
    assert not server.ears[3].resets
    server.connection.receive(hand.data(3, b"x"))
    assert server.ears[3].resets == [ErrorCode.FLOW_CONTROL_ERROR]


def test_a_reset_drops_what_is_queued_and_held_and_tells_only_the_peer() -> None:
    hand = ByHand(settings={4: 10}, greedy=False)
    hand.send(hand.head(1, POST, end=False) + hand.data(1, b"x" * 100))
    stream = hand.server.stream(1)
    stream.data(b"y" * 100)
    hand.got()
    stream.reset(ErrorCode.INTERNAL_ERROR)
    stream.reset(ErrorCode.CANCEL)
    assert hand.resets() == [(1, ErrorCode.INTERNAL_ERROR)]
    assert not hand.server.ears[1].resets
    assert (hand.server.connection.held, stream.queued, hand.server.connection.streams) == (0, 0, 0)
    stream.consumed(50)
    stream.headers(OK)
    assert stream.data(b"z")
    assert not hand.server.connection.pending


def test_a_stream_that_is_reset_while_it_waits_for_its_turn_has_none() -> None:
    hand, stream = answering(window=2**20)
    stream.data(FILL[: 100 * KiB])
    stream.reset(ErrorCode.INTERNAL_ERROR)
    assert [one.kind for one in hand.got()] == [RST_STREAM]
    assert not hand.server.connection.pending


def test_a_reset_after_both_ends_says_nothing() -> None:
    hand, stream = answering()
    stream.data(b"x", True)
    stream.reset(ErrorCode.CANCEL)
    assert RST_STREAM not in [one.kind for one in hand.got()]


def test_a_whole_reply_goes_out_before_the_rest_of_the_request_is_refused() -> None:
    hand = ByHand(settings={4: 10})
    hand.send(hand.head(1, POST, end=False))
    stream = hand.server.stream(1)
    stream.data(b"y" * 15, True)
    stream.reset(ErrorCode.NO_ERROR)
    hand.send(hand.data(1, b"nobody wants this") + hand.data(1, b""))
    assert not hand.server.ears[1].body and hand.server.connection.held == 0
    assert sent(hand) == [(1, 10, False)]
    hand.send(window_frame(1, 5))
    kinds = [(one.kind, one.flags & END_STREAM) for one in hand.got()]
    assert kinds == [(DATA, END_STREAM)]
    assert hand.resets() == [(1, ErrorCode.NO_ERROR)]
    assert hand.server.connection.idle


def test_a_peer_that_ends_its_request_after_all_gets_no_reset() -> None:
    hand = ByHand(settings={4: 10})
    hand.send(hand.head(1, POST, end=False))
    hand.server.stream(1).data(b"y" * 15, True)
    hand.server.stream(1).reset(ErrorCode.NO_ERROR)
    hand.send(hand.data(1, b"", True) + window_frame(1, 5))
    assert [one.kind for one in hand.got()] == [DATA]
    assert hand.server.connection.idle


def test_nothing_is_said_after_the_end() -> None:
    _, stream = answering()
    stream.data(b"", True)
    stream.data(b"", True)
    with pytest.raises(StateError, match="1 bytes sent on stream 1 after its end"):
        stream.data(b"x")
    with pytest.raises(StateError, match="head sent on stream 1 after its end"):
        stream.headers(OK)


def test_a_stream_that_nobody_listens_to_is_a_bug_that_shows() -> None:
    hand = ByHand()
    hand.server._on_stream = lambda *_: None  # type: ignore[method-assign]
    hand.server.connection._on_stream = lambda *_: None
    with pytest.raises(StateError):
        hand.send(hand.head(1, POST, end=False) + hand.data(1, b"x"))


def test_sinks_may_answer_and_open_streams_from_inside_a_call() -> None:
    client, server = End(H2Role.CLIENT), End(H2Role.SERVER)
    exchange(client, server)
    ear = client.open()
    again = []

    def repeat(fields: object, end: bool) -> None:
        again.append(client.open(GET))

    ear.on_headers = repeat  # type: ignore[method-assign]
    exchange(client, server)
    server.stream(1).headers(OK, end=True)
    exchange(client, server)
    assert server.heads.keys() == {1, 3} and len(again) == 1


def test_all_of_it_goes_at_once_or_nothing_of_it() -> None:
    hand, stream = answering(window=40_000)
    assert not stream.whole(FILL[:40_001])
    assert not sent(hand)
    assert stream.whole(FILL[:32_768])
    assert stream.credit == 7_232
    assert sent(hand) == [(1, 16384, False), (1, 16384, False)]
    assert stream.whole(b"", True)
    assert sent(hand) == [(1, 0, True)]
    with pytest.raises(StateError):
        stream.whole(b"more")


def test_what_goes_at_once_takes_its_credit_before_anybody_else_can() -> None:
    hand = ByHand(settings={4: 65535})
    for stream_id in (1, 3):
        hand.send(hand.head(stream_id))
    assert hand.server.stream(1).whole(FILL[:60_000])
    assert hand.server.connection.credit == 5_535
    assert not hand.server.stream(3).whole(FILL[:5_536])
    hand.server.stream(3).data(FILL[:40_000])
    found = sent(hand)
    assert [size for stream_id, size, _ in found if stream_id == 1] == [16384, 16384, 16384, 10_848]
    assert [stream_id for stream_id, _, _ in found][:4] == [1, 1, 1, 1]


def test_nothing_goes_at_once_past_what_waits_on_its_own_stream() -> None:
    hand, stream = answering(window=10)
    stream.data(b"x" * 15)
    hand.got()
    hand.send(window_frame(1, 5))
    assert not stream.whole(b"y")
    assert sent(hand) == [(1, 5, False)]
    hand.send(window_frame(1, 5))
    assert stream.whole(b"y")
    stream.reset(ErrorCode.CANCEL)
    assert stream.whole(b"nobody hears it")
