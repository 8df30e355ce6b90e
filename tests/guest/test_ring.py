"""The last bytes of an output, held to a list that forgets nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wellhead.guest.ring import MARKS_MAX, Ring

_WRITES = st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=40)), max_size=60)


def _all(ring: Ring, after: int, most: int = 1000) -> list[tuple[int, int]]:
    """Every byte from a number on, with its channel."""
    seen: list[tuple[int, int]] = []
    while after < ring.end:
        piece = ring.read(after, most)
        assert piece.number == after
        assert 0 < len(piece.data) <= most
        seen += [(piece.channel, byte) for byte in piece.data]
        after += len(piece.data)
    return seen


@given(capacity=st.integers(1, 64), writes=_WRITES, most=st.integers(1, 70))
def test_what_is_kept_is_the_end_of_what_was_written(
    capacity: int, writes: list[tuple[int, bytes]], most: int
) -> None:
    ring = Ring(capacity)
    written: list[tuple[int, int]] = []
    for channel, data in writes:
        ring.append(data, channel)
        written += [(channel, byte) for byte in data]
        assert ring.end == len(written)
        assert ring.start == max(0, len(written) - capacity)
        assert _all(ring, ring.start, most) == written[ring.start :]


@given(writes=_WRITES, at=st.integers(0, 100))
def test_a_reader_that_keeps_up_misses_nothing(writes: list[tuple[int, bytes]], at: int) -> None:
    ring = Ring(64)
    seen: list[tuple[int, int]] = []
    written: list[tuple[int, int]] = []
    for channel, data in writes:
        ring.append(data, channel)
        written += [(channel, byte) for byte in data]
        seen += _all(ring, len(seen))
    assert seen == written


def test_a_piece_is_of_one_channel() -> None:
    ring = Ring(100)
    for channel, data in ((1, b"ab"), (1, b"c"), (2, b"d"), (1, b"e")):
        ring.append(data, channel)
    assert ring.read(0, 100) == (0, 1, b"abc")
    assert ring.read(1, 1) == (1, 1, b"b")
    assert ring.read(3, 100) == (3, 2, b"d")
    assert [ring.changes(number) for number in range(5)] == [2, 2, 2, 1, 0]


def test_changes_of_channel_are_kept_no_longer_than_their_bound() -> None:
    ring = Ring(1 << 20)
    for number in range(3 * MARKS_MAX):
        ring.append(b"x", number % 2)
    assert ring.end - ring.start == MARKS_MAX
    assert len(_all(ring, ring.start)) == MARKS_MAX


def test_memory_is_taken_for_what_came_and_no_more() -> None:
    ring = Ring(1 << 30)
    ring.append(b"few")
    assert ring.read(0, 10).data == b"few"
