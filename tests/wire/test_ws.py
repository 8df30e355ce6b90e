"""WebSockets: what passes, what is refused, and where a frame of ours may stand."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from wellhead.errors import HttpError, StateError, WebSocketError
from wellhead.wire.request import read_request_fields
from wellhead.wire.ws import (
    FrameFollower,
    accept_key,
    check_accept,
    check_handshake,
    close_frame,
    ping_frame,
)

MASK = b"abcd"
CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = False
) -> bytes:
    """A frame; its payload is not really masked, nobody looks."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    mask = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, mask | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, mask | 126, size)
    else:
        head = struct.pack("!BBQ", first, mask | 127, size)
    return head + (MASK if masked else b"") + payload


def server() -> FrameFollower:
    return FrameFollower(from_client=False)


def state(follower: FrameFollower) -> tuple[bool, bool]:
    return follower.closed, follower.at_boundary


def refusal(data: bytes, follower: FrameFollower | None = None) -> tuple[int, str]:
    with pytest.raises(WebSocketError) as caught:
        (follower or server()).feed(data)
    return caught.value.close_code, caught.value.reason


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70000])
@pytest.mark.parametrize("masked", [False, True])
def test_frames_of_every_length_pass_in_one_piece_and_byte_by_byte(size: int, masked: bool) -> None:
    data = frame(BINARY, bytes(size), masked=masked)
    whole = FrameFollower(from_client=masked)
    assert whole.feed(data) == len(data)
    assert whole.at_boundary
    chopped = FrameFollower(from_client=masked)
    head = len(data) - size
    for at in range(head):
        assert chopped.at_boundary is (at == 0)
        assert chopped.feed(data[at : at + 1]) == 1
    assert chopped.at_boundary is (size == 0)
    assert chopped.feed(memoryview(data)[head:]) == size
    assert chopped.at_boundary


def test_several_frames_pass_together() -> None:
    follower = server()
    data = (
        frame(TEXT, b"a", fin=False)
        + frame(PING, b"p")
        + frame(CONT, b"b")
        + frame(PONG)
        + frame(BINARY, b"c")
    )
    assert follower.feed(data) == len(data)
    assert follower.pings == 2
    assert follower.feed(b"") == 0
    assert follower.at_boundary


def test_an_empty_read_changes_nothing() -> None:
    follower = server()
    follower.feed(b"\x82")
    assert follower.feed(b"") == 0
    assert not follower.at_boundary
    assert follower.feed(b"\x01") == 1
    assert not follower.at_boundary
    assert follower.feed(b"x") == 1
    assert follower.at_boundary


def test_masks_are_for_clients() -> None:
    assert refusal(frame(TEXT, b"x", masked=True)) == (1002, "mask")
    assert refusal(frame(TEXT, b"x"), FrameFollower(from_client=True)) == (1002, "mask")
    assert refusal(frame(PING), FrameFollower(from_client=True)) == (1002, "mask")


@pytest.mark.parametrize("rsv", [1, 2, 4, 7])
def test_reserved_bits_need_an_extension(rsv: int) -> None:
    assert refusal(frame(TEXT, b"x", rsv=rsv)) == (1002, "reserved-bits")
    assert FrameFollower(from_client=False, extensions=True).feed(frame(TEXT, b"x", rsv=rsv)) == 3
    for extensions in (False, True):
        follower = FrameFollower(from_client=False, extensions=extensions)
        assert refusal(frame(PING, rsv=rsv), follower) == (1002, "reserved-bits")


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_unknown_opcodes_are_refused(opcode: int) -> None:
    assert refusal(frame(opcode)) == (1002, "opcode")


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_control_frames_are_short_and_whole(opcode: int) -> None:
    assert server().feed(frame(opcode, bytes(125))) == 127
    assert refusal(frame(opcode, bytes(126))) == (1002, "long-control")
    assert refusal(frame(opcode, bytes(65536))) == (1002, "long-control")
    assert refusal(frame(opcode, fin=False)) == (1002, "fragmented-control")


def test_messages_are_continued_as_they_were_begun() -> None:
    assert refusal(frame(CONT, b"x")) == (1002, "continuation")
    assert refusal(frame(TEXT) + frame(CONT)) == (1002, "continuation")
    assert refusal(frame(TEXT, fin=False) + frame(TEXT)) == (1002, "continuation")
    assert refusal(frame(TEXT, fin=False) + frame(CONT, fin=False) + frame(BINARY)) == (1002, "continuation")
    good = frame(TEXT, fin=False) + frame(CONT, fin=False) + frame(CONT) + frame(TEXT)
    assert server().feed(good) == len(good)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"\x82\x7e\x00\x7d", "padded-length"),
        (b"\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff", "padded-length"),
        (b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00", "length"),
        (b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", "length"),
        (b"\x89\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", "long-control"),
        (b"\x88\x01\x03", "close-code"),
    ],
)
def test_lengths_are_judged_before_their_payload_comes(header: bytes, reason: str) -> None:
    assert refusal(header) == (1002, reason)


def test_the_largest_frame_is_streamed() -> None:
    follower = server()
    assert follower.feed(b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff" + bytes(100)) == 110
    assert follower.feed(bytes(100_000)) == 100_000
    assert not follower.at_boundary


def test_a_message_may_have_a_limit() -> None:
    def limited() -> FrameFollower:
        return FrameFollower(from_client=False, max_message=10)

    good = (
        frame(TEXT, bytes(10))
        + frame(TEXT, bytes(4), fin=False)
        + frame(PING, bytes(20))
        + frame(CONT, bytes(6))
    )
    assert limited().feed(good * 2) == 2 * len(good)
    assert refusal(frame(TEXT, bytes(11)), limited()) == (1009, "message-too-big")
    assert refusal(frame(TEXT, bytes(4), fin=False) + frame(CONT, bytes(7)), limited()) == (
        1009,
        "message-too-big",
    )
    assert refusal(b"\x82\x7f\x00\x00\x00\x10\x00\x00\x00\x00", limited()) == (1009, "message-too-big")


def test_nothing_passes_behind_a_close() -> None:
    close = frame(CLOSE, b"\x03\xe8bye")
    follower = server()
    assert follower.feed(frame(TEXT, b"x") + close + frame(TEXT, b"y")) == 3 + len(close)
    assert follower.closed and follower.at_boundary
    assert follower.feed(frame(TEXT, b"z")) == 0
    assert follower.feed(b"\xff\xff") == 0


def test_a_chopped_close_is_a_close() -> None:
    close = frame(CLOSE, b"\x03\xe8bye")
    for cut in range(1, len(close)):
        follower = server()
        assert follower.feed(close[:cut]) == cut
        assert state(follower) == (False, False)
        assert follower.feed(close[cut:] + b"more") == len(close) - cut
        assert state(follower) == (True, True)
    empty = server()
    assert empty.feed(frame(CLOSE) + b"more") == 2
    assert empty.closed


def test_after_a_refusal_the_boundary_is_that_of_what_was_forwarded() -> None:
    follower = server()
    follower.feed(frame(TEXT, b"x"))
    refusal(frame(TEXT, b"y") + b"\xff\xff", follower)
    assert follower.at_boundary
    inside = server()
    inside.feed(frame(TEXT, b"xyz")[:3])
    refusal(b"yz" + b"\xff\xff", inside)
    assert not inside.at_boundary


FRAMES = st.lists(
    st.one_of(
        st.builds(lambda size: [frame(BINARY, bytes(size))], st.sampled_from([0, 1, 125, 126, 300, 70_000])),
        st.builds(lambda payload: [frame(PING, payload)], st.binary(max_size=20)),
        st.builds(
            lambda sizes: [
                frame(TEXT, b"", fin=False),
                *(part for size in sizes for part in (frame(CONT, bytes(size), fin=False), frame(PONG))),
                frame(CONT, b"end"),
            ],
            st.lists(st.sampled_from([0, 5, 130]), max_size=3),
        ),
    ),
    max_size=6,
).map(lambda groups: [one for group in groups for one in group])


@given(FRAMES, st.lists(st.integers(0, 200_000), max_size=20), st.booleans())
def test_chopping_changes_nothing(frames: list[bytes], cuts: list[int], close: bool) -> None:
    wire = b"".join(frames)
    boundaries = {0}
    for one in frames:
        boundaries.add(max(boundaries) + len(one))
    behind = frame(CLOSE, b"\x03\xe8") + b"garbage" if close else b""
    end = len(wire) + (4 if close else 0)
    if close:
        boundaries.add(end)
    data = wire + behind
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    follower = server()
    passed = 0
    for start, stop in zip(places, places[1:], strict=False):
        passed += follower.feed(data[start:stop])
        assert passed == min(stop, end)
        assert follower.at_boundary is (passed in boundaries)
    assert follower.closed is close
    assert follower.pings == sum(one[0] in (0x89, 0x8A) for one in frames)


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=6), st.booleans())
def test_chopping_does_not_make_a_bad_stream_good(data: bytes, cuts: list[int], from_client: bool) -> None:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    whole, chopped = FrameFollower(from_client=from_client), FrameFollower(from_client=from_client)
    try:
        expected = whole.feed(data)
    except WebSocketError:
        with pytest.raises(WebSocketError):
            for start, stop in zip(places, places[1:], strict=False):
                chopped.feed(data[start:stop])
    else:
        got = sum(chopped.feed(data[start:stop]) for start, stop in zip(places, places[1:], strict=False))
        assert got == expected
        assert (whole.closed, whole.at_boundary, whole.pings) == (
            chopped.closed,
            chopped.at_boundary,
            chopped.pings,
        )


@given(st.sampled_from([Opcode.TEXT, Opcode.PING, Opcode.BINARY]), st.binary(max_size=125), st.booleans())
def test_frames_of_another_library_pass(opcode: Opcode, payload: bytes, from_client: bool) -> None:
    data = Frame(opcode, payload).serialize(mask=from_client)
    assert FrameFollower(from_client=from_client).feed(data) == len(data)


def test_our_own_frames() -> None:
    assert close_frame(1001) == b"\x88\x02\x03\xe9"
    assert close_frame(1014, "agent-lost") == b"\x88\x0c\x03\xf6agent-lost"
    assert ping_frame() == b"\x89\x00"
    assert ping_frame(b"x") == b"\x89\x01x"
    assert close_frame(1001, "hi", mask=b"\1\2\3\4") == b"\x88\x84\1\2\3\4\x02\xeb\x6b\x6d"
    assert ping_frame(b"hello", mask=b"\0\0\0\0") == b"\x89\x85\0\0\0\0hello"
    long = close_frame(1001, "é" * 100)
    assert len(long) == 2 + 124 and long[4:].decode() == "é" * 61
    with pytest.raises(StateError):
        ping_frame(bytes(126))


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 5000, 65536])
def test_codes_that_are_never_on_the_wire(code: int) -> None:
    with pytest.raises(StateError):
        close_frame(code)


GOOD = {
    b"Host": b"a",
    b"Connection": b"Upgrade",
    b"Upgrade": b"websocket",
    b"Sec-WebSocket-Key": b"dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Version": b"13",
}


def handshake(method: bytes = b"GET", **changes: bytes) -> tuple[int, str] | None:
    lines = GOOD | {name.replace("_", "-").encode(): value for name, value in changes.items()}
    block = b"".join(b"%b: %b\r\n" % line for line in lines.items() if line[1] != b"-")
    try:
        check_handshake(method, read_request_fields(block))
    except HttpError as error:
        return error.status, error.reason
    return None


def test_handshakes() -> None:
    assert handshake() is None
    assert handshake(Content_Length=b"0") is None
    assert handshake(b"POST") == (400, "websocket-method")
    assert handshake(b"get") == (400, "websocket-method")
    assert handshake(Content_Length=b"5") == (400, "websocket-body")
    assert handshake(Transfer_Encoding=b"chunked") == (400, "websocket-body")


@pytest.mark.parametrize("version", [b"-", b"", b"8", b"12", b"14", b"13, 8", b"013"])
def test_another_version_is_told_which_one_we_speak(version: bytes) -> None:
    assert handshake(**{"Sec_WebSocket_Version": version}) == (426, "websocket-version")


@pytest.mark.parametrize(
    "key",
    [b"-", b"", b"x", b"dGhlIHNhbXBsZSBub25jZQ=", b"dGhlIHNhbXBsZSBub25jZQ===", b"dGhlIHNhbXBsZSBub25jZR=="]
    + [
        b"dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
        b"dGhlIHNhbXBsZSBub25j",
        b"dGhlIHNhb-BsZSBub25jZQ==",
    ],
)
def test_a_bad_key_is_refused(key: bytes) -> None:
    assert handshake(**{"Sec_WebSocket_Key": key}) == (400, "websocket-key")


def test_a_server_must_answer_the_key() -> None:
    key = b"dGhlIHNhbXBsZSBub25jZQ=="
    assert accept_key(key) == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 section 1.3
    check_accept(b"A: 1\r\nsec-websocket-ACCEPT:  s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", key)
    for bad in (
        b"",
        b"Sec-WebSocket-Accept: x\r\n",
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" * 2,
    ):
        with pytest.raises(HttpError) as caught:
            check_accept(bad, key)
        assert (caught.value.status, caught.value.reason) == (502, "websocket-accept")
