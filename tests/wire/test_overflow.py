"""How a second stream is offered and recognised; what passes on both is played in ``tests/host``."""

from __future__ import annotations

import pytest

from wellhead.errors import StateError
from wellhead.wire.envelope import read_envelope
from wellhead.wire.overflow import ALLOWANCE, OverflowSender, continuation, continued, offer, take_offer
from wellhead.wire.pair import join
from wellhead.wire.streams import Buffer, HeadKind

ENVELOPE = b"GET /x HTTP/1.1\r\nHost: h\r\nAccept: */*\r\nX-Request-Id: 7\r\n\r\n"
REPLY = b"HTTP/1.1 200 OK\r\n\r\n"


class Heard:
    """A sink that counts."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.resets: list[int] = []
        self.size = self.writable = 0

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        self.heads.append(head)
        self.size += len(data)

    def on_data(self, data: Buffer, end: bool) -> None:
        self.size += len(data)

    def on_reset(self, reason: int) -> None:
        self.resets.append(reason)

    def on_writable(self) -> None:
        self.writable += 1


def test_an_offer_stands_before_the_request_id_and_is_taken_out_again() -> None:
    offered = offer(ENVELOPE, b"T1")
    assert offered.endswith(b"\r\nWellhead-Overflow: T1\r\nX-Request-Id: 7\r\n\r\n")
    read_envelope(offered)
    assert take_offer(offered) == (ENVELOPE, b"T1")
    assert take_offer(ENVELOPE) == (ENVELOPE, b"")


def test_a_continuation_is_an_envelope_that_names_its_token() -> None:
    envelope = continuation(b"T1")
    assert read_envelope(envelope).target == b"/overflow/T1"
    assert continued(envelope) == b"T1"


@pytest.mark.parametrize("envelope", [ENVELOPE, b"", b"POST /overflow/T1 HTTP/1.1\r\n", b"GET /overflows/T"])
def test_other_envelopes_continue_nothing(envelope: bytes) -> None:
    assert continued(envelope) is None


def _overflowing() -> tuple[OverflowSender, Heard]:
    near, far = join()
    visitor, program = Heard(), Heard()
    near.sink = visitor
    sender = OverflowSender(far, lambda: None)
    sender.sink = program
    sender.head(HeadKind.REPLY, REPLY)
    return sender, visitor


def test_what_waits_for_its_second_stream_is_counted_and_ends_once() -> None:
    sender, visitor = _overflowing()
    assert sender.send(bytes(ALLOWANCE))
    before = sender.wants_more
    assert not sender.send(b"more", True)
    assert (before, sender.wants_more, sender.queued, visitor.size) == (False, True, 4, ALLOWANCE)
    with pytest.raises(StateError, match="after its end"):
        sender.send(b"x")
    with pytest.raises(StateError, match="after its end"):
        sender.head(HeadKind.TRAILERS, b"\r\n", b"", True)
    sender.reset(1)
    assert (sender.wants_more, sender.queued, visitor.resets) == (False, 0, [1])
    assert sender.send(b"x") and sender.head(HeadKind.REPLY, REPLY), "nobody hears it"


def test_a_second_stream_that_is_there_at_once_holds_nobody_up() -> None:
    """As where both ends are in one process: the mark is answered before ``send`` has returned."""
    near, far = join()
    visitor, program, second = Heard(), Heard(), Heard()
    sender = OverflowSender(far, lambda: None)
    sender.sink = program

    class Edge(Heard):
        def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
            super().on_head(kind, head, data, end)
            if kind is HeadKind.INTERIM:
                here, there = join()
                here.sink = second
                sender.go_on(there)

    near.sink = visitor = Edge()
    assert sender.head(HeadKind.REPLY, REPLY, bytes(ALLOWANCE + 10))
    assert (visitor.size, second.size, program.writable) == (ALLOWANCE, 10, 0)
    assert sender.send(bytes(7)) and second.size == 17
