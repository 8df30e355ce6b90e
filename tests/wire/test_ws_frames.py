"""Frames of a WebSocket, read as they come: what is told, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.errors import WebSocketError
from wellhead.wire.ws import FrameFollower
from wellhead.wire.ws_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    NO_STATUS,
    PING,
    PONG,
    TEXT,
    Broken,
    Close,
    FrameReader,
    Piece,
    frame,
    may_be_spoken,
    read_close,
)

MASK = b"\x01\xfe\x80\x7f"
OPCODES = st.sampled_from([CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG])


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The bytes, chopped at these places."""
    edges = sorted({min(place, len(data)) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in zip(edges, edges[1:], strict=False)]


def wholes(pieces: list[Piece]) -> list[tuple[int, bytes, bool]]:
    """Pieces of the same message put together: how they were chopped is chance."""
    found: list[tuple[int, bytes, bool]] = []
    open_at: int | None = None
    for opcode, data, last in pieces:
        if opcode >= CLOSE:
            found.append((opcode, bytes(data), True))
        elif open_at is None:
            found.append((opcode, bytes(data), last))
            open_at = None if last else len(found) - 1
        else:
            found[open_at] = (opcode, found[open_at][1] + bytes(data), last)
            open_at = None if last else open_at
    return found


def not_last(data: bytes) -> bytes:
    """A frame without its FIN."""
    return bytes((data[0] & 0x7F,)) + data[1:]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70000])
@pytest.mark.parametrize("mask", [None, MASK])
def test_what_is_written_is_read(size: int, mask: bytes | None) -> None:
    payload = bytes(range(256)) * (size // 256 + 1)
    data = frame(BINARY, payload[:size], mask)
    reader = FrameReader(masked=mask is not None)
    assert reader.read(data) == [(BINARY, payload[:size], True)]
    again = FrameReader(masked=None)
    pieces = [piece for part in cut(data, [*range(20), len(data) - 1]) for piece in again.read(part)]
    assert wholes(pieces) == [(BINARY, payload[:size], True)]


def test_a_payload_is_told_before_its_frame_is_complete() -> None:
    data = frame(BINARY, b"abcdef", MASK)
    reader = FrameReader(masked=True)
    assert reader.read(data[:9]) == [(BINARY, b"abc", False)]
    assert reader.read(data[9:]) == [(BINARY, b"def", True)]


def test_a_fragment_tells_of_the_message_that_it_belongs_to() -> None:
    reader = FrameReader(masked=False)
    data = not_last(frame(TEXT, b"a")) + frame(PING, b"?") + frame(CONTINUATION, b"b")
    assert reader.read(data) == [(TEXT, b"a", False), (PING, b"?", True), (TEXT, b"b", True)]


def test_frames_that_carry_nothing_are_counted() -> None:
    reader = FrameReader(masked=False)
    reader.read(frame(PING, b"") + frame(PONG, b"x") + frame(BINARY, b"") + frame(BINARY, b"y"))
    assert reader.idle == 3


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"\xc2\x00", "reserved-bits"),
        (b"\x83\x00", "opcode"),
        (b"\x8b\x00", "opcode"),
        (b"\x09\x00", "fragmented-control"),
        (b"\x89\x7e", "long-control"),
        (b"\x80\x00", "continuation"),
        (b"\x02\x00\x82\x00", "continuation"),
        (b"\x82\x80", "mask"),
        (b"\x82\x7e\x00\x7d", "padded-length"),
        (b"\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff", "padded-length"),
        (b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00", "padded-length"),
    ],
)
def test_what_the_protocol_forbids_ends_it(data: bytes, reason: str) -> None:
    reader = FrameReader(masked=False)
    reader.read(data)
    assert reader.broken == Broken(1002, reason)
    assert reader.read(frame(BINARY, b"x")) == []


def test_a_client_that_does_not_mask_is_refused() -> None:
    reader = FrameReader(masked=True)
    reader.read(frame(BINARY, b"x"))
    assert reader.broken == Broken(1002, "mask")


def test_a_message_may_be_as_long_as_the_limit_and_no_longer() -> None:
    good = FrameReader(masked=False, max_message=10)
    assert good.read(not_last(frame(BINARY, b"12345")) + frame(CONTINUATION, b"67890"))
    assert good.broken is None
    bad = FrameReader(masked=False, max_message=10)
    pieces = bad.read(not_last(frame(BINARY, b"12345")) + frame(CONTINUATION, b"678901")[:2])
    assert pieces == [(BINARY, b"12345", False)]  # what came before is told
    assert bad.broken == Broken(1009, "message-too-big")  # by its header alone


@given(st.lists(st.tuples(OPCODES, st.binary(max_size=130), st.booleans())), st.lists(st.integers(0, 2000)))
def test_how_bytes_are_chopped_changes_nothing(
    said: list[tuple[int, bytes, bool]], places: list[int]
) -> None:
    data = b"".join([
        frame(op, payload, MASK) if last else not_last(frame(op, payload, MASK)) for op, payload, last in said
    ])  # fmt: skip
    whole, chopped = FrameReader(masked=True, max_message=300), FrameReader(masked=True, max_message=300)
    expected = whole.read(data)
    pieces = [piece for part in cut(data, places) for piece in chopped.read(part)]
    assert wholes(pieces) == wholes(expected)
    assert (chopped.broken, chopped.idle) == (whole.broken, whole.idle)


@given(st.lists(st.one_of(st.binary(max_size=20), st.builds(frame, OPCODES, st.binary(max_size=140)))))
def test_what_is_let_pass_here_passes_the_follower_of_headers_too(parts: list[bytes]) -> None:
    data = b"".join(parts)
    reader, follower = (
        FrameReader(masked=False, max_message=200),
        FrameFollower(from_client=False, max_message=200),
    )
    pieces = reader.read(data)
    try:
        follower.feed(data)
    except WebSocketError as error:
        close = [bytes(piece.data) for piece in pieces if piece.opcode == CLOSE]
        expected = reader.broken or read_close(close[0])
        assert isinstance(expected, Broken) and expected.code == error.close_code


@pytest.mark.parametrize(
    "payload, meaning",
    [
        (b"", Close(NO_STATUS, "")),
        (b"\x03\xe8", Close(1000, "")),
        (b"\x0f\xa1bye", Close(4001, "bye")),
        (b"\x03", Broken(1002, "close-code")),
        (b"\x03\xed", Broken(1002, "close-code")),  # 1005
        (b"\x03\xe7", Broken(1002, "close-code")),  # 999
        (b"\x13\x88", Broken(1002, "close-code")),  # 5000
        (b"\x03\xe8\xff", Broken(1007, "utf-8")),
    ],
)
def test_a_close_is_judged(payload: bytes, meaning: Close | Broken) -> None:
    assert read_close(payload) == meaning


def test_codes_that_are_never_on_the_wire() -> None:
    unspoken = [code for code in range(1000, 1020) if not may_be_spoken(code)]
    assert unspoken == [1004, 1005, 1006, 1015, 1016, 1017, 1018, 1019]
    assert [may_be_spoken(code) for code in (0, 999, 2999, 3000, 4999, 5000)] == [
        False, False, False, True, True, False,
    ]  # fmt: skip
