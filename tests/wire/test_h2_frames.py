"""Frames as hyperframe reads them, and what SETTINGS leave behind."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hyperframe.frame import Frame as TheirFrame
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.h2talk import frames
from wellhead.wire import h2_frames
from wellhead.wire.h2_frames import CONTINUATION, END_HEADERS, END_STREAM, HEADERS, PeerSettings

ids = st.integers(1, 2**31 - 1)


def theirs(data: bytes) -> Any:
    found, length = TheirFrame.parse_frame_header(memoryview(data[:9]))
    assert len(data) == 9 + length
    found.parse_body(memoryview(data[9:]))
    return found


@given(ids, st.integers(0, 13), st.integers(1, 2**31 - 1))
def test_frames_mean_to_others_what_they_mean_to_us(stream_id: int, code: int, count: int) -> None:
    reset = theirs(h2_frames.reset_frame(stream_id, code))
    assert (type(reset).__name__, reset.stream_id, reset.error_code) == ("RstStreamFrame", stream_id, code)
    credit = theirs(h2_frames.window_frame(stream_id, count))
    assert (credit.stream_id, credit.window_increment) == (stream_id, count)
    goaway = theirs(h2_frames.goaway_frame(stream_id, code))
    assert (goaway.last_stream_id, goaway.error_code, goaway.additional_data) == (stream_id, code, b"")
    ping = theirs(h2_frames.ping_frame(b"12345678", h2_frames.ACK))
    assert (ping.opaque_data, set(ping.flags)) == (b"12345678", {"ACK"})
    assert theirs(h2_frames.settings_frame({4: count, 8: 1})).settings == {4: count, 8: 1}
    assert set(theirs(h2_frames.SETTINGS_ACK).flags) == {"ACK"}


@given(st.binary(max_size=200), st.booleans(), st.integers(1, 50))
def test_a_block_that_is_too_long_for_a_frame_goes_on_in_others(block: bytes, end: bool, most: int) -> None:
    found = frames(h2_frames.header_frames(7, block, end, most))
    assert b"".join(one.payload for one in found) == block
    assert [one.kind for one in found] == [HEADERS] + [CONTINUATION] * (len(found) - 1)
    assert [one.flags & END_HEADERS for one in found] == [0] * (len(found) - 1) + [END_HEADERS]
    assert found[0].flags & END_STREAM == end
    assert all(len(one.payload) <= most and one.stream_id == 7 for one in found)


def test_settings_are_taken_over_in_order_and_unknown_ones_are_ignored() -> None:
    settings = PeerSettings()
    given_ = {1: 10, 2: 0, 3: 20, 5: 2**24 - 1, 6: 40, 8: 1, 0xABCD: 7, 4: 2**31 - 1}
    settings.read(b"".join(struct.pack("!HI", *item) for item in given_.items()), of_server=True)
    settings.read(struct.pack("!HIHI", 4, 5, 4, 6), of_server=True)
    assert (settings.header_table, settings.max_streams, settings.max_frame) == (10, 20, 2**24 - 1)
    assert (settings.max_list, settings.connect_protocol, settings.window) == (40, True, 6)


@pytest.mark.parametrize("value", [0, 1])
def test_a_client_may_say_whether_it_takes_pushes(value: int) -> None:
    PeerSettings().read(struct.pack("!HI", 2, value), of_server=False)
