"""What a peer may not send, and what it costs: the connection, the stream, or nothing."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.h2talk import GET, POST, ByHand, Clock, End, frame
from wellhead.errors import H2Error
from wellhead.wire.h2 import Fields, H2Connection, H2Role, H2Stream, H2Terms
from wellhead.wire.h2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    settings_frame,
    window_frame,
)

BAD, FLOW, SIZE, CLOSED = (
    ErrorCode.PROTOCOL_ERROR,
    ErrorCode.FLOW_CONTROL_ERROR,
    ErrorCode.FRAME_SIZE_ERROR,
    ErrorCode.STREAM_CLOSED,
)


def u32(number: int) -> bytes:
    return struct.pack("!I", number)


def setting(name: int, value: int) -> bytes:
    return frame(SETTINGS, 0, 0, struct.pack("!HI", name, value))


BEFORE_ANY_STREAM = {
    "DATA on stream 0": (frame(DATA, 0, 0, b"x"), BAD),
    "DATA on an idle stream": (frame(DATA, 0, 1, b"x"), BAD),
    "HEADERS on stream 0": (frame(HEADERS, END_HEADERS, 0, b"\x82"), BAD),
    "HEADERS on an even stream": (frame(HEADERS, END_HEADERS, 2, b"\x82"), BAD),
    "HEADERS with more padding than payload": (frame(HEADERS, END_HEADERS | PADDED, 1, b"\x05\x82"), BAD),
    "HEADERS without room for its padding": (frame(HEADERS, END_HEADERS | PADDED, 1), SIZE),
    "HEADERS without room for its priority": (frame(HEADERS, END_HEADERS | PRIORITIZED, 1, b"abcd"), SIZE),
    "HEADERS that cannot be decoded": (
        frame(HEADERS, END_HEADERS, 1, b"\x80"),
        ErrorCode.COMPRESSION_ERROR,
    ),
    "PRIORITY on stream 0": (frame(PRIORITY, 0, 0, b"\0" * 5), BAD),
    "PRIORITY of four bytes": (frame(PRIORITY, 0, 1, b"\0" * 4), SIZE),
    "RST_STREAM on stream 0": (frame(RST_STREAM, 0, 0, u32(8)), BAD),
    "RST_STREAM on an idle stream": (frame(RST_STREAM, 0, 1, u32(8)), BAD),
    "RST_STREAM of three bytes": (frame(RST_STREAM, 0, 1, b"\0" * 3), SIZE),
    "SETTINGS on a stream": (frame(SETTINGS, 0, 1), BAD),
    "SETTINGS of five bytes": (frame(SETTINGS, 0, 0, b"\0" * 5), SIZE),
    "SETTINGS acknowledged with a payload": (frame(SETTINGS, ACK, 0, b"\0" * 6), SIZE),
    "ENABLE_PUSH of 2": (setting(2, 2), BAD),
    "INITIAL_WINDOW_SIZE of 2**31": (setting(4, 2**31), FLOW),
    "MAX_FRAME_SIZE of 16383": (setting(5, 16383), BAD),
    "MAX_FRAME_SIZE of 2**24": (setting(5, 2**24), BAD),
    "ENABLE_CONNECT_PROTOCOL of 2": (setting(8, 2), BAD),
    "ENABLE_CONNECT_PROTOCOL taken back": (setting(8, 1) + setting(8, 0), BAD),
    "PUSH_PROMISE": (frame(PUSH_PROMISE, END_HEADERS, 1, u32(2) + b"\x82"), BAD),
    "PING on a stream": (frame(PING, 0, 1, b"\0" * 8), BAD),
    "PING of seven bytes": (frame(PING, 0, 0, b"\0" * 7), SIZE),
    "GOAWAY on a stream": (frame(GOAWAY, 0, 1, b"\0" * 8), BAD),
    "GOAWAY of seven bytes": (frame(GOAWAY, 0, 0, b"\0" * 7), SIZE),
    "WINDOW_UPDATE of three bytes": (frame(WINDOW_UPDATE, 0, 0, b"\0" * 3), SIZE),
    "WINDOW_UPDATE of nothing": (window_frame(0, 0), BAD),
    "WINDOW_UPDATE on an idle stream": (window_frame(1, 1), BAD),
    "WINDOW_UPDATE above 2**31 - 1": (window_frame(0, 2**31 - 1), FLOW),
    "CONTINUATION out of nowhere": (frame(CONTINUATION, END_HEADERS, 1, b"\x82"), BAD),
    "a frame above 16384 bytes": (frame(DATA, 0, 1, b"\0" * 16385), SIZE),
    "a frame inside a header block": (frame(HEADERS, 0, 1, b"\x82") + frame(PING, 0, 0, b"\0" * 8), BAD),
    "an unknown frame inside a header block": (frame(HEADERS, 0, 1, b"\x82") + frame(99), BAD),
    "CONTINUATION of another stream": (frame(HEADERS, 0, 1, b"\x82") + frame(CONTINUATION, 0, 3), BAD),
}


@pytest.mark.parametrize("violation", BEFORE_ANY_STREAM)
def test_a_violation_ends_the_connection_with_the_code_of_the_rfc(violation: str) -> None:
    data, code = BEFORE_ANY_STREAM[violation]
    assert ByHand().fails(data)[0] == code


Violation = Callable[[ByHand], bytes]
AFTER_A_STREAM: dict[str, tuple[Violation, int]] = {
    "HEADERS on a closed stream": (lambda hand: hand.head(1), CLOSED),
    "HEADERS on a lower stream that was never opened": (lambda hand: hand.head(3), CLOSED),
}


@pytest.mark.parametrize("violation", AFTER_A_STREAM)
def test_a_stream_that_is_over_is_not_opened_again(violation: str) -> None:
    data, code = AFTER_A_STREAM[violation]
    hand = ByHand()
    hand.send(hand.head(1) + hand.head(5))
    hand.server.stream(1).headers([(b":status", b"204")], end=True)
    assert hand.fails(data(hand))[0] == code


OF_A_STREAM: dict[str, tuple[Violation, int]] = {
    "WINDOW_UPDATE of nothing": (lambda hand: window_frame(1, 0), BAD),
    "WINDOW_UPDATE above 2**31 - 1": (lambda hand: window_frame(1, 2**31 - 1), FLOW),
    "PRIORITY of four bytes": (lambda hand: frame(PRIORITY, 0, 1, b"\0" * 4), SIZE),
    "trailers that do not end": (lambda hand: hand.head(1, [(b"x", b"y")], end=False), BAD),
    "trailers with a pseudo-header": (lambda hand: hand.head(1, [(b":path", b"/")]), BAD),
    "more than the window": (lambda hand: b"".join([hand.data(1, b"\0" * 16384)] * 17), FLOW),
}


@pytest.mark.parametrize("violation", OF_A_STREAM)
def test_a_violation_of_one_stream_costs_that_stream_alone(violation: str) -> None:
    data, code = OF_A_STREAM[violation]
    hand = ByHand(greedy=False)
    hand.send(hand.head(1, POST, end=False) + hand.head(3))
    hand.send(data(hand))
    assert hand.resets() == [(1, code)]
    assert hand.server.ears[1].resets == [code]
    assert not hand.server.ears[1].ended
    assert not hand.server.ears[3].resets


@pytest.mark.parametrize("kind", ["DATA", "HEADERS"])
def test_a_request_that_is_complete_takes_nothing_more(kind: str) -> None:
    hand = ByHand()
    hand.send(hand.head(1, POST, end=True))
    hand.send(hand.data(1, b"x") if kind == "DATA" else hand.head(1, [(b"x", b"y")]))
    assert hand.resets() == [(1, CLOSED)]


def test_data_on_a_stream_that_ended_is_answered_once_and_then_ignored() -> None:
    hand = ByHand()
    hand.send(hand.head(1))
    hand.server.stream(1).headers([(b":status", b"204")], end=True)
    hand.send(hand.data(1, b"x") * 3)
    assert hand.resets() == [(1, CLOSED)]


def test_what_was_under_way_to_a_stream_that_we_reset_is_no_violation() -> None:
    hand = ByHand()
    hand.send(hand.head(1, POST, end=False))
    hand.server.stream(1).reset(ErrorCode.INTERNAL_ERROR)
    assert hand.resets() == [(1, ErrorCode.INTERNAL_ERROR)]
    hand.send(
        hand.data(1, b"x")
        + window_frame(1, 5)
        + hand.head(1, [(b"x", b"y")])
        + frame(RST_STREAM, 0, 1, u32(8))
    )
    assert not hand.got()
    hand.send(hand.head(3))
    assert hand.server.heads[3] == (GET, True)  # the header block in between was decoded


def test_a_window_of_small_frames_under_way_to_a_stream_that_we_reset_is_no_flood() -> None:
    hand = ByHand(window=64 * 1024)
    hand.send(hand.head(1, POST, end=False))
    hand.server.stream(1).reset(ErrorCode.INTERNAL_ERROR)
    for _ in range(64 * 1024 // 32):
        hand.send(hand.data(1, bytes(32)))
    assert hand.fails(hand.data(1, b"x") * 1100) == (ErrorCode.ENHANCE_YOUR_CALM, "glitches")


def test_ends_without_bytes_for_a_stream_that_we_reset_are_glitches() -> None:
    hand = ByHand()
    hand.send(hand.head(1, POST, end=False))
    hand.server.stream(1).reset(ErrorCode.INTERNAL_ERROR)
    assert hand.fails(hand.data(1, b"", end=True) * 1100) == (ErrorCode.ENHANCE_YOUR_CALM, "glitches")


def test_frames_and_settings_that_nobody_knows_are_ignored() -> None:
    hand = ByHand()
    hand.send(frame(99, 255, 7, b"?") + setting(0xFFFF, 1) + hand.head(1))
    assert 1 in hand.server.heads


@pytest.mark.parametrize(
    "greeting",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"P",
        PREFACE[:10] + b"x",
        PREFACE[:-1] + b"\r",
    ],
)
def test_what_is_not_http2_is_refused_as_soon_as_it_shows(greeting: bytes) -> None:
    server = End(H2Role.SERVER)
    if PREFACE.startswith(greeting):
        server.connection.receive(greeting)
        return
    with pytest.raises(H2Error) as caught:
        server.connection.receive(greeting)
    assert (caught.value.error_code, caught.value.reason) == (BAD, "preface")


@pytest.mark.parametrize("first", [frame(PING, 0, 0, b"\0" * 8), frame(SETTINGS, ACK)])
def test_the_first_frame_has_to_be_settings(first: bytes) -> None:
    for end, greeting in ((End(H2Role.SERVER), PREFACE), (End(H2Role.CLIENT), b"")):
        with pytest.raises(H2Error) as caught:
            end.connection.receive(greeting + first)
        assert (caught.value.error_code, caught.value.reason) == (BAD, "preface")


def test_padding_and_priority_are_taken_off() -> None:
    hand = ByHand()
    block = hand.encoder.encode(POST)
    padded = frame(
        HEADERS, END_HEADERS | PADDED | PRIORITIZED, 1, b"\x03" + b"\0\0\0\1\xff" + block + b"\0" * 3
    )
    hand.send(padded + frame(DATA, PADDED | END_STREAM, 1, b"\x04body" + b"\0" * 4))
    assert hand.server.heads[1] == (POST, False)
    assert hand.server.ears[1].body == b"body"
    assert hand.server.ears[1].ended


def test_a_header_block_may_come_in_pieces() -> None:
    hand = ByHand()
    block = hand.encoder.encode(POST)
    hand.send(
        frame(HEADERS, END_STREAM, 1, block[:3])
        + frame(CONTINUATION, 0, 1, b"")
        + frame(CONTINUATION, END_HEADERS, 1, block[3:])
    )
    assert hand.server.heads[1] == (POST, True)


WRONG_LENGTHS: list[tuple[Fields, list[tuple[bytes, bool]]]] = [
    ([(b"content-length", b"5")], [(b"1234", True)]),
    ([(b"content-length", b"5")], [(b"123456", False)]),
    ([(b"content-length", b"5")], [(b"12345", False), (b"6", True)]),
    ([(b"content-length", b"0")], [(b"1", True)]),
]


@pytest.mark.parametrize(("more", "pieces"), WRONG_LENGTHS)
def test_a_body_that_breaks_its_content_length_never_ends_well(
    more: Fields, pieces: list[tuple[bytes, bool]]
) -> None:
    hand = ByHand()
    hand.send(hand.head(1, POST + more, end=False))
    for data, end in pieces:
        hand.send(hand.data(1, data, end))
    assert hand.resets()[0] == (1, BAD)
    assert hand.server.ears[1].resets == [BAD]
    assert not hand.server.ears[1].ended


def test_a_content_length_without_any_body_is_refused_before_anybody_hears_of_it() -> None:
    hand = ByHand()
    hand.send(hand.head(1, [*POST, (b"content-length", b"5")], end=True))
    assert hand.resets() == [(1, BAD)]
    assert not hand.server.heads


def test_trailers_before_the_promised_length_are_refused() -> None:
    hand = ByHand()
    hand.send(hand.head(1, [*POST, (b"content-length", b"5")], end=False) + hand.data(1, b"1234"))
    hand.send(hand.head(1, [(b"x", b"y")]))
    assert hand.server.ears[1].resets == [BAD]


def test_a_body_of_the_promised_length_ends_well() -> None:
    hand = ByHand()
    hand.send(hand.head(1, [*POST, (b"content-length", b"5")], end=False))
    hand.send(hand.data(1, b"123") + hand.data(1, b"45") + hand.data(1, b"", True))
    assert hand.server.ears[1].body == b"12345"
    assert hand.server.ears[1].ended


def test_a_content_length_that_cannot_be_read_is_left_to_who_judges_the_fields() -> None:
    hand = ByHand()
    hand.send(hand.head(1, [*POST, (b"content-length", b"+5")], end=True))
    assert 1 in hand.server.heads


RESPONSES: dict[str, tuple[Fields, bool]] = {
    "no status": ([(b"server", b"x")], False),
    "nothing at all": ([], False),
    "a status of two digits": ([(b":status", b"20")], False),
    "101": ([(b":status", b"101")], False),
    "an interim head that ends": ([(b":status", b"103")], True),
    "a length that is not kept": ([(b":status", b"200"), (b"content-length", b"5")], True),
}


def client_with_a_stream(fields: Fields = GET) -> End:
    client = End(H2Role.CLIENT)
    client.connection.receive(settings_frame({}))
    client.ears[1] = client.open(fields)
    client.take()
    return client


@pytest.mark.parametrize("wrong", RESPONSES)
def test_a_response_that_is_none_costs_its_stream(wrong: str) -> None:
    fields, end = RESPONSES[wrong]
    client = client_with_a_stream()
    hand = ByHand()
    client.connection.receive(hand.head(1, fields, end))
    assert client.ears[1].resets == [BAD]
    assert not client.ears[1].heads


def test_data_before_the_head_costs_its_stream() -> None:
    client = client_with_a_stream()
    client.connection.receive(frame(DATA, 0, 1, b"x"))
    assert client.ears[1].resets == [BAD]


def test_the_length_of_a_reply_to_head_promises_nothing() -> None:
    client = client_with_a_stream([(b":method", b"HEAD"), *GET[1:]])
    client.connection.receive(ByHand().head(1, [(b":status", b"200"), (b"content-length", b"5")], end=True))
    assert client.ears[1].ended
    assert not client.ears[1].resets


def test_interim_heads_the_head_the_body_and_trailers_come_in_order() -> None:
    client, hand = client_with_a_stream(), ByHand()
    heads: list[Fields] = [[(b":status", b"103")], [(b":status", b"200")], [(b"grpc-status", b"0")]]
    client.connection.receive(hand.head(1, heads[0], False) + hand.head(1, heads[1], False))
    client.connection.receive(hand.data(1, b"body") + hand.head(1, heads[2], True))
    assert client.ears[1].heads == heads
    assert client.ears[1].body == b"body"
    assert client.ears[1].ended


@pytest.mark.parametrize("stream_id", [2, 3])
def test_a_server_opens_no_streams(stream_id: int) -> None:
    client = client_with_a_stream()
    with pytest.raises(H2Error) as caught:
        client.connection.receive(ByHand().head(stream_id, [(b":status", b"200")]))
    assert caught.value.error_code == BAD


def test_a_server_that_asks_for_push_is_refused() -> None:
    client = End(H2Role.CLIENT)
    with pytest.raises(H2Error):
        client.connection.receive(setting(2, 1))


class _Indifferent:
    def on_headers(self, fields: Fields, end: bool) -> None: ...
    def on_data(self, data: bytes | memoryview, end: bool) -> None: ...
    def on_reset(self, code: int) -> None: ...
    def on_writable(self) -> None: ...


def _answer(stream: H2Stream, fields: Fields, end: bool) -> None:
    stream.sink = _Indifferent()
    stream.headers([(b":status", b"200")])
    stream.data(b"x" * 100, True)


frame_like = st.builds(
    frame,
    st.integers(0, 10),
    st.sampled_from([0, 1, 4, 5, 8, 9, 12, 13, 32, 37, 255]),
    st.sampled_from([0, 1, 1, 3, 3, 5, 2, 2**31 - 1]),
    st.sampled_from([b"", b"\x82\x84\x87\x41\x01a", b"\0\0\0\1", b"\0\0\0\0\0", b"\0" * 8, b"\xff" * 8])
    | st.binary(max_size=20),
)


@given(
    st.lists(st.binary(max_size=30) | frame_like, max_size=20), st.sampled_from(list(H2Role)), st.booleans()
)
def test_arbitrary_bytes_raise_nothing_but_h2error(pieces: list[bytes], role: H2Role, greeted: bool) -> None:
    clock = Clock()
    connection = H2Connection(
        role, terms=H2Terms(), on_stream=_answer, on_goaway=lambda *_: None, wake=lambda: None, clock=clock
    )
    connection.start()
    if role is H2Role.CLIENT:
        connection.open(GET, False, _Indifferent())
    if greeted:
        connection.receive((PREFACE if role is H2Role.SERVER else b"") + settings_frame({}))
    try:
        for piece in pieces:
            connection.receive(piece)
            connection.take(1 << 20)
            clock.now += 0.25
            connection.tick(clock.now)
    except H2Error as error:
        assert error.reason and error.error_code in list(ErrorCode)
        assert connection.pending
    connection.lost()
    assert connection.held == 0 and connection.streams == 0
