"""Two ends joined without a wire keep the promises that a stream on a wire keeps."""

from __future__ import annotations

import pytest

from wellhead.errors import StateError
from wellhead.wire.pair import WINDOW, PairStream, join
from wellhead.wire.streams import Buffer, HeadKind, Reason

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Heard:
    """A sink that writes down what it hears; ``stream`` is its own end."""

    def __init__(self, stream: PairStream) -> None:
        self.stream = stream
        self.said: list[tuple[object, ...]] = []
        self.writable = 0
        self.eager = False  # consumes at once
        stream.sink = self

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        self.said.append((kind, head, bytes(data), end))

    def on_data(self, data: Buffer, end: bool) -> None:
        self.said.append((bytes(data), end))
        if self.eager:
            self.stream.consumed(len(data))

    def on_reset(self, reason: int) -> None:
        self.said.append(("reset", reason))

    def on_writable(self) -> None:
        self.writable += 1


def joined(opened_with: int = 0, ended: bool = False) -> tuple[Heard, Heard]:
    near, far = join(opened_with, ended)
    return Heard(near), Heard(far)


def test_what_one_end_sends_the_other_hears_at_once() -> None:
    near, far = joined()
    near.stream.send(b"ask")
    far.stream.head(HeadKind.REPLY, HEAD, b"hi")
    far.stream.send(b"", True)
    assert far.said == [(b"ask", False)]
    assert near.said == [(HeadKind.REPLY, HEAD, b"hi", False), (b"", True)]


def test_one_end_may_end_while_the_other_goes_on() -> None:
    near, far = joined()
    near.stream.send(b"all", True)
    far.stream.send(b"still")
    assert near.said == [(b"still", False)]


def test_a_stream_that_was_opened_ended_takes_no_more() -> None:
    near, _ = joined(3, True)
    assert near.stream.send(b"", True)
    with pytest.raises(StateError):
        near.stream.send(b"more")


def test_bytes_and_heads_after_the_end_are_a_mistake_of_ours() -> None:
    near, far = joined()
    near.stream.send(b"all", True)
    with pytest.raises(StateError):
        near.stream.send(b"more")
    with pytest.raises(StateError):
        near.stream.head(HeadKind.TRAILERS, b"\r\n", b"", True)
    assert near.stream.send(b"", True), "an end said twice is one"
    assert far.said == [(b"all", True)]


def test_a_writer_is_stopped_at_the_window_and_started_at_half_of_it() -> None:
    near, far = joined()
    assert near.stream.send(b"x" * (WINDOW - 1))
    assert not near.stream.send(b"x")
    far.stream.consumed(WINDOW // 2 - 1)
    assert near.writable == 0
    far.stream.consumed(1)
    assert near.writable == 1
    far.stream.consumed(WINDOW // 2)
    assert near.writable == 1, "told once"


def test_a_reader_that_consumes_at_once_never_stops_the_writer() -> None:
    near, far = joined()
    far.eager = True
    assert all(near.stream.send(b"x" * 65536) for _ in range(20))


def test_the_bytes_beside_the_envelope_count() -> None:
    near, far = joined(WINDOW - 1)
    assert not near.stream.send(b"x")
    far.stream.consumed(WINDOW)
    assert near.writable == 1


def test_more_consumed_than_was_sent_is_a_mistake_of_ours() -> None:
    near, far = joined()
    near.stream.send(b"abc")
    with pytest.raises(StateError, match="4 bytes consumed, 3 are held"):
        far.stream.consumed(4)


def test_a_reset_is_heard_by_the_other_end_once_and_silences_both() -> None:
    near, far = joined()
    near.stream.reset(Reason.CANCELLED)
    near.stream.reset(Reason.CANCELLED)
    far.stream.reset(Reason.INTERNAL)
    assert far.said == [("reset", Reason.CANCELLED)] and near.said == []
    assert near.stream.send(b"x") and far.stream.head(HeadKind.REPLY, HEAD)
    far.stream.consumed(5)
    assert near.said == [] and near.writable == 0


def test_a_reset_after_both_ends_have_ended_is_nobodys_news() -> None:
    near, far = joined(0, True)
    far.stream.head(HeadKind.REPLY, HEAD, b"", True)
    near.stream.reset(Reason.CANCELLED)
    assert far.said == []


def test_a_sink_may_reset_the_stream_while_it_hears() -> None:
    near, far = joined()

    class Rude(Heard):
        def on_data(self, data: Buffer, end: bool) -> None:
            self.stream.reset(Reason.OVERLOADED)

    Rude(far.stream)
    assert near.stream.send(b"x" * WINDOW), "a stream that is over holds nobody up"
    assert near.said == [("reset", Reason.OVERLOADED)]


def test_a_stream_without_a_sink_shows_the_mistake() -> None:
    near, _ = join()
    with pytest.raises(StateError, match="before its sink was set"):
        near.send(b"x")
