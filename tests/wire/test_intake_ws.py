"""Bridges: the outer frames, the envelopes in them, and the examples of the specification."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.test_ws_frames import MASK, OPCODES, cut, not_last
from wellhead.wire.intake_ws import (
    EnvelopeDecoder,
    OuterDecoder,
    binary_envelope,
    close_envelope,
    cut_reason,
    outer_frame,
    spoken_code,
    text_envelope,
)
from wellhead.wire.ws_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    NO_STATUS,
    PING,
    PONG,
    TEXT,
    Binary,
    Broken,
    Close,
    Event,
    Ping,
    Text,
)

KEY = bytes((1, 2, 3, 4))
MESSAGES = st.one_of(
    st.builds(Text, st.text(max_size=60).map(str.encode)),
    st.builds(Binary, st.binary(max_size=60)),
)


def envelope(body: object) -> bytes:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return len(text).to_bytes(4, "big") + text


def encoded(message: Event) -> bytes:
    if isinstance(message, Text):
        return text_envelope(message.data)
    assert isinstance(message, Binary)
    return binary_envelope(message.data)


def joined(events: list[Event]) -> list[Event]:
    """Neighbouring bytes put together: how they were chopped is chance."""
    found: list[Event] = []
    for event in events:
        if isinstance(event, Binary) and found and isinstance(found[-1], Binary):
            found[-1] = Binary(bytes(found[-1].data) + bytes(event.data))
        else:
            found.append(event)
    return found


# The examples of the specification's appendix A


def test_the_examples_of_envelopes() -> None:
    assert text_envelope(b"hi").hex() == "0000001b7b2274797065223a2274657874222c2264617461223a226869227d"
    assert binary_envelope(b"\x00\x01\x02\xff").hex() == (
        "000000237b2274797065223a2262696e617279222c2264617461223a22414145432f773d3d227d"
    )
    assert close_envelope(1000).hex() == (
        "000000287b2274797065223a22636c6f7365222c22636f6465223a313030302c22726561736f6e223a22227d"
    )


def test_the_examples_of_outer_frames() -> None:
    hi = text_envelope(b"hi")
    assert outer_frame(hi, mask=None) == bytes.fromhex("821f") + hi
    masked = "829f010203040102031f7a20777d7167213e2376667c75202f26656377652338216c68207e"
    assert outer_frame(hi, mask=KEY).hex() == masked
    clean = outer_frame(b"\x03\xe8clean-eof", mask=KEY, opcode=CLOSE)
    assert clean.hex() == "888b0102030402ea606864636d29646d65"
    assert OuterDecoder(masked=True, text=False).receive(clean) == [Close(1000, "clean-eof")]
    assert outer_frame(bytes(300), mask=None)[:4].hex() == "827e012c"
    assert outer_frame(bytes(70000), mask=None)[:10].hex() == "827f0000000000011170"


# The outer layer


def test_payloads_are_told_as_they_come() -> None:
    decoder = OuterDecoder(masked=True)
    data = outer_frame(b"abcdef", mask=KEY)
    assert decoder.receive(data[:8]) == [Binary(b"ab")]
    assert decoder.receive(data[8:]) == [Binary(b"cdef")]


def test_a_continuation_and_a_text_frame_are_more_bytes() -> None:
    data = not_last(outer_frame(b"a", mask=None)) + outer_frame(b"b", mask=None, opcode=CONTINUATION)
    decoder = OuterDecoder(masked=None)
    assert joined(decoder.receive(data + outer_frame(b"c", mask=KEY, opcode=TEXT))) == [Binary(b"abc")]


def test_in_a_tcp_connection_a_text_frame_breaks_the_rules() -> None:
    data = outer_frame(b"a", mask=None) + outer_frame(b"b", mask=None, opcode=TEXT)
    assert OuterDecoder(masked=None, text=False).receive(data) == [Binary(b"a"), Broken(1002, "text-frame")]


def test_pings_are_told_pongs_and_empty_frames_are_not_and_a_close_is_the_end() -> None:
    data = b"".join([
        outer_frame(b"1", mask=KEY, opcode=PING),
        outer_frame(b"2", mask=KEY, opcode=PONG),
        outer_frame(b"", mask=KEY),
        outer_frame(b"\x03\xe9", mask=KEY, opcode=CLOSE),
        outer_frame(b"late", mask=KEY),
    ])  # fmt: skip
    decoder = OuterDecoder(masked=True)
    assert decoder.receive(data) == [Ping(b"1"), Close(1001, "")]
    assert decoder.receive(outer_frame(b"later", mask=KEY)) == []


@given(
    st.lists(st.tuples(OPCODES, st.one_of(st.binary(max_size=9), st.just(b"\x03\xe8ok")), st.booleans())),
    st.lists(st.integers(0, 400)),
    st.booleans(),
)
def test_how_outer_frames_are_chopped_changes_nothing(
    said: list[tuple[int, bytes, bool]], places: list[int], text: bool
) -> None:
    frames = [(outer_frame(payload, mask=MASK, opcode=opcode), last) for opcode, payload, last in said]
    data = b"".join([one if last else not_last(one) for one, last in frames])
    whole, chopped = OuterDecoder(masked=True, text=text), OuterDecoder(masked=True, text=text)
    events = [event for part in cut(data, places) for event in chopped.receive(part)]
    assert joined(events) == joined(whole.receive(data))


# Envelopes


@given(st.lists(MESSAGES), st.lists(st.integers(0, 900)))
def test_messages_arrive_as_they_were_however_they_are_chopped(
    messages: list[Event], places: list[int]
) -> None:
    decoder = EnvelopeDecoder(1000)
    data = b"".join([encoded(message) for message in messages])
    assert [event for part in cut(data, places) for event in decoder.receive(part)] == messages
    assert (decoder.unfinished, decoder.dropped) == (0, 0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        [],
        {},
        {"type": "text"},
        {"type": "text", "data": 1},
        {"type": "shout", "data": "x"},
        {"type": "binary", "data": "AAE"},
        {"type": "binary", "data": "AA E="},
        {"type": "binary", "data": "AAEé"},
    ],
)
def test_an_envelope_that_means_nothing_is_dropped_and_the_next_one_is_told(body: object) -> None:
    decoder = EnvelopeDecoder(200_000)
    assert decoder.receive(envelope(body) + text_envelope(b"next")) == [Text(b"next")]
    assert decoder.dropped == 1


def test_the_order_of_members_blanks_and_escapes_do_not_matter() -> None:
    decoder = EnvelopeDecoder(1000)
    body = b'\n{ "data" : "\\u00e4\\n\xc3\xa4", "extra": [1], "type": "text" } '
    assert decoder.receive(envelope(body)) == [Text("ä\nä".encode())]


def test_half_of_a_surrogate_pair_becomes_a_replacement() -> None:
    """JavaScript's JSON can say what UTF-8 cannot."""
    decoder = EnvelopeDecoder(1000)
    (event,) = decoder.receive(envelope(b'{"type":"text","data":"a\\ud83db\\ud83d\\ude00"}'))
    assert event == Text("a\N{REPLACEMENT CHARACTER}b\N{GRINNING FACE}".encode())


def test_the_first_close_is_the_last_that_is_told() -> None:
    decoder = EnvelopeDecoder(1000)
    assert decoder.receive(close_envelope(4001, "bye") + close_envelope(1000)) == [Close(4001, "bye")]
    assert decoder.receive(text_envelope(b"late")) == []


@pytest.mark.parametrize(
    "body, meaning",
    [
        ({"type": "close"}, Close(NO_STATUS, "")),
        ({"type": "close", "code": "1000", "reason": 5}, Close(NO_STATUS, "")),
        ({"type": "close", "code": True}, Close(NO_STATUS, "")),
        ({"type": "close", "code": 4001, "reason": None}, Close(4001, "")),
        ({"type": "close", "code": 4001, "reason": "\ud83d"}, Close(4001, "\N{REPLACEMENT CHARACTER}")),
    ],
)
def test_a_close_that_says_little_closes_all_the_same(body: object, meaning: Close) -> None:
    assert EnvelopeDecoder(1000).receive(envelope(body)) == [meaning]


def test_an_envelope_over_the_limit_is_refused_by_its_length() -> None:
    decoder = EnvelopeDecoder(100)
    assert decoder.receive(text_envelope(b"x") + (101).to_bytes(4, "big")) == [
        Text(b"x"), Broken(1009, "envelope-too-big"),
    ]  # fmt: skip
    assert decoder.receive(bytes(200)) == []


def test_what_is_unfinished_can_be_asked() -> None:
    decoder = EnvelopeDecoder(100)
    decoder.receive(text_envelope(b"x") + text_envelope(b"hello")[:9])
    assert decoder.unfinished == 9


@given(st.integers(-1, 70000), st.text(max_size=200))
def test_whatever_an_agent_says_a_close_can_be_sent(code: int, reason: str) -> None:
    (event,) = EnvelopeDecoder(1000).receive(close_envelope(code, reason))
    assert isinstance(event, Close)
    assert event.code == spoken_code(code) and event.reason == cut_reason(reason)
    assert len(event.reason.encode()) <= 123 and reason.startswith(event.reason)
    assert 1000 <= event.code < 5000


def test_codes_that_may_not_be_spoken_are_replaced() -> None:
    codes = (1000, 4001, NO_STATUS, 1006, 1015, 0, 70000)
    assert [spoken_code(code) for code in codes] == [1000, 4001, 1000, 1011, 1011, 1011, 1011]
    assert outer_frame(b"", mask=None, opcode=BINARY) == b"\x82\x00"
