"""Frames: what is written is read back, and a header is judged alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.errors import FrameError
from wellhead.wire.frames import END, LIMITS, RESERVED, Frame, Kind, check_header, read_frames

FLAGGED = (Kind.OPEN, Kind.DATA, Kind.HEAD)
frames = st.builds(
    Frame,
    kind=st.sampled_from(Kind),
    stream_id=st.integers(0, 2**32 - 1),
    payload=st.binary(max_size=4),
).flatmap(
    lambda frame: st.builds(frame._replace, end=st.booleans() if frame.kind in FLAGGED else st.just(False))
)


@given(st.lists(frames, max_size=8), st.binary(max_size=7))
def test_frames_written_are_the_frames_read(written: list[Frame], rest: bytes) -> None:
    data = b"".join(frame.encode() for frame in written)
    assert read_frames(data + rest) == (written, rest)


@given(frames, st.data())
def test_a_frame_that_is_not_whole_is_left_for_later(frame: Frame, data: st.DataObject) -> None:
    encoded = frame.encode()
    cut = data.draw(st.integers(0, len(encoded) - 1))
    assert read_frames(encoded[:cut]) == ([], encoded[:cut])


@pytest.mark.parametrize("kind", Kind)
def test_a_payload_may_be_as_long_as_its_kind_allows_and_no_longer(kind: Kind) -> None:
    limit = LIMITS[kind]
    assert check_header(limit << 8 | kind) == (kind, False, limit)
    with pytest.raises(FrameError, match=f"{limit + 1} bytes, at most {limit} allowed"):
        check_header((limit + 1) << 8 | kind)


@pytest.mark.parametrize("kind", Kind)
def test_the_end_flag_belongs_to_frames_that_carry_a_half(kind: Kind) -> None:
    if kind in FLAGGED:
        assert check_header(kind | END) == (kind, True, 0)
    else:
        with pytest.raises(FrameError, match="END flag"):
            check_header(kind | END)


@pytest.mark.parametrize("number", [n for n in range(64) if n not in set(Kind)])
def test_an_unknown_kind_is_an_error(number: int) -> None:
    with pytest.raises(FrameError, match="not known"):
        check_header(number)


@pytest.mark.parametrize("kind", Kind)
def test_the_reserved_flag_is_an_error_until_negotiated(kind: Kind) -> None:
    with pytest.raises(FrameError, match="not known"):
        check_header(kind | RESERVED)
