"""Frames between a host and a guest, however the bytes come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.errors import ProtocolError
from wellhead.wire.guest import (
    PAYLOAD_MAX,
    GuestFrame,
    GuestFrames,
    frame,
    message,
    numbered,
    read_message,
    read_numbered,
)

_FRAMES = st.lists(st.tuples(st.sampled_from(GuestFrame), st.binary(max_size=50)), max_size=20)


@given(frames=_FRAMES, cuts=st.lists(st.integers(0, 1500)))
def test_frames_are_the_same_however_they_are_cut(
    frames: list[tuple[GuestFrame, bytes]], cuts: list[int]
) -> None:
    data = b"".join(frame(*each) for each in frames)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    reader = GuestFrames()
    seen: list[tuple[GuestFrame, bytes]] = []
    for begin, end in zip(places, places[1:], strict=False):
        seen += reader.receive(data[begin:end])
    assert seen == frames


@given(data=st.binary(max_size=200))
def test_anything_is_read_or_refused(data: bytes) -> None:
    try:
        list(GuestFrames().receive(data))
    except ProtocolError as error:
        assert "frame" in str(error)


@pytest.mark.parametrize("size", [PAYLOAD_MAX + 9, 1 << 31])
def test_a_payload_above_its_bound_is_refused_before_it_comes(size: int) -> None:
    with pytest.raises(ProtocolError, match=str(size)):
        list(GuestFrames().receive(size.to_bytes(4, "big") + b"\1"))


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ProtocolError, match="kind 5"):
        list(GuestFrames().receive(b"\0\0\0\0\5"))


def test_frames_before_a_fault_are_given_out() -> None:
    reader = GuestFrames()
    found = reader.receive(frame(GuestFrame.INPUT, b"good") + b"\0\0\0\0\xff")
    assert next(found) == (GuestFrame.INPUT, b"good")
    with pytest.raises(ProtocolError):
        next(found)


def test_what_is_left_when_a_reader_stops_midway_is_kept() -> None:
    reader = GuestFrames()
    found = reader.receive(frame(GuestFrame.INPUT, b"one") + frame(GuestFrame.END))
    assert next(found)[1] == b"one"
    del found
    assert list(reader.receive(b"")) == [(GuestFrame.END, b"")]


def test_numbers_and_messages_are_read_as_they_were_written() -> None:
    ((kind, payload),) = GuestFrames().receive(numbered(1 << 40, b"data"))
    assert kind is GuestFrame.OUTPUT
    assert read_numbered(payload) == (1 << 40, b"data")
    ((kind, payload),) = GuestFrames().receive(message({"a": "é", "b": [1]}))
    assert kind is GuestFrame.MESSAGE
    assert read_message(payload) == {"a": "é", "b": [1]}


@pytest.mark.parametrize("payload", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'"x"'])
def test_what_is_no_object_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_message(payload)


@pytest.mark.parametrize("payload", [b"", b"1234567"])
def test_output_without_a_number_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_numbered(payload)
