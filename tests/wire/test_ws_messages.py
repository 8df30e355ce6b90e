"""A WebSocket's bytes as whole messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.test_ws_frames import MASK, OPCODES, cut, not_last
from wellhead.wire.ws_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Binary,
    Broken,
    Close,
    Event,
    Ping,
    Text,
    frame,
)
from wellhead.wire.ws_messages import MessageReader


def from_client(max_message: int = 1000) -> MessageReader:
    return MessageReader(from_client=True, max_message=max_message)


def masked(opcode: int, payload: bytes = b"", *, last: bool = True) -> bytes:
    data = frame(opcode, payload, MASK)
    return data if last else not_last(data)


def test_fragments_become_one_message_and_a_ping_between_them_is_told() -> None:
    data = (
        masked(TEXT, b"gr", last=False)
        + masked(PING, b"1")
        + masked(CONTINUATION, b"\xc3", last=False)
        + masked(PONG, b"2")
        + masked(CONTINUATION, b"\xbc\xc3\x9f")
        + masked(BINARY, b"\x00\xff")
    )
    reader = from_client()
    assert reader.receive(data) == [Ping(b"1"), Text("grüß".encode()), Binary(b"\x00\xff")]
    assert reader.idle == 2


def test_an_upstream_speaks_without_a_mask() -> None:
    reader = MessageReader(from_client=False, max_message=10)
    assert reader.receive(frame(BINARY, b"x")) == [Binary(b"x")]
    assert from_client().receive(frame(BINARY, b"x")) == [Broken(1002, "mask")]


@pytest.mark.parametrize("text", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80"])
def test_text_that_is_not_utf8_ends_with_1007(text: bytes) -> None:
    assert from_client().receive(masked(TEXT, text)) == [Broken(1007, "utf-8")]
    parts = masked(TEXT, text[:1], last=False) + masked(CONTINUATION, text[1:])
    assert from_client().receive(parts) == [Broken(1007, "utf-8")]


def test_a_message_over_the_limit_ends_with_1009_and_those_before_it_are_told() -> None:
    data = masked(BINARY, b"x" * 10) + masked(BINARY, b"y" * 11)
    assert from_client(10).receive(data) == [Binary(b"x" * 10), Broken(1009, "message-too-big")]


def test_after_a_close_nothing_is_told() -> None:
    reader = from_client()
    data = masked(CLOSE, b"\x0f\xa1bye") + masked(TEXT, b"late")
    assert reader.receive(data) == [Close(4001, "bye")]
    assert reader.receive(masked(TEXT, b"later")) == []


def test_empty_fragments_without_end_hold_no_memory() -> None:
    reader = from_client()
    reader.receive(masked(TEXT, b"a", last=False))
    assert reader.receive(masked(CONTINUATION, b"", last=False) * 5000) == []
    assert reader.idle == 5000
    assert reader.receive(masked(CONTINUATION, b"b")) == [Text(b"ab")]


@given(
    st.lists(st.tuples(OPCODES, st.one_of(st.binary(max_size=9), st.just(b"\x03\xe8ok")), st.booleans())),
    st.lists(st.integers(0, 400)),
)
def test_how_bytes_are_chopped_changes_nothing(
    said: list[tuple[int, bytes, bool]], places: list[int]
) -> None:
    data = b"".join([masked(opcode, payload, last=last) for opcode, payload, last in said])
    whole, chopped = from_client(20), from_client(20)
    events: list[Event] = [event for part in cut(data, places) for event in chopped.receive(part)]
    assert events == whole.receive(data)
    assert all(not isinstance(event, Close | Broken) for event in events[:-1])
