"""Masks go on and off, whatever holds the bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wellhead.wire.masking import NO_MASK, masked


@given(st.binary(max_size=5000), st.binary(min_size=4, max_size=4))
def test_a_mask_is_laid_over_byte_by_byte_and_taken_off_by_itself(data: bytes, mask: bytes) -> None:
    expected = bytes(byte ^ mask[at & 3] for at, byte in enumerate(data))
    assert masked(data, mask) == masked(memoryview(data), mask) == expected
    assert masked(expected, mask) == data


def test_the_mask_of_zeros_costs_no_copy() -> None:
    data = b"x" * 100
    assert masked(data, NO_MASK) is data
