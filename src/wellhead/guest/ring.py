"""The last bytes of an output, by number, and of which channel each was.

The number of a byte is how many came before it, since the output began. What is too old is overwritten;
whoever asks for it learns where what is kept begins. Pure: no loop, no descriptors.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from operator import itemgetter
from typing import NamedTuple

MARKS_MAX = 4096  # changes of channel that are kept, so that they cannot outweigh the bytes

_offset = itemgetter(0)


class Piece(NamedTuple):
    """Bytes that follow one another, of one channel; ``number`` is that of the first."""

    number: int
    channel: int
    data: bytes


class Ring:
    """Keeps the last ``capacity`` bytes; takes memory only for as many as ever came."""

    __slots__ = ("_floor", "_kept", "_marks", "capacity", "end")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.end = 0  # the number that the next byte will have
        self._floor = 0
        self._kept = bytearray()
        self._marks: deque[tuple[int, int]] = deque()  # number where a channel begins, and the channel

    @property
    def start(self) -> int:
        """The number of the oldest byte that is kept; ``end`` where there is none."""
        return max(self._floor, self.end - self.capacity)

    def append(self, data: bytes, channel: int = 0) -> None:
        if not data:
            return
        marks = self._marks
        if not marks or marks[-1][1] != channel:
            marks.append((self.end, channel))
        self.end += len(data)
        view = memoryview(data)[-self.capacity :]
        at = (self.end - len(view)) % self.capacity
        head = min(len(view), self.capacity - at)
        kept = self._kept
        if len(kept) < at + head:
            kept.extend(bytes(at + head - len(kept)))
        kept[at : at + head] = view[:head]
        kept[: len(view) - head] = view[head:]
        if len(marks) > MARKS_MAX:
            marks.popleft()
            self._floor = marks[0][0]
        start = self.start
        while len(marks) > 1 and marks[1][0] <= start:
            marks.popleft()

    def read(self, after: int, most: int) -> Piece:
        """What comes from number ``after`` on, at most ``most`` bytes; ``start`` <= ``after`` < ``end``."""
        marks = self._marks
        mark = bisect_right(marks, after, key=_offset)
        stop = marks[mark][0] if mark < len(marks) else self.end
        count = min(stop - after, most)
        at = after % self.capacity
        with memoryview(self._kept) as kept:
            data = bytes(kept[at : at + count])
            if len(data) < count:
                data += kept[: count - len(data)]
        return Piece(after, marks[mark - 1][1], data)

    def changes(self, after: int) -> int:
        """How many changes of channel come after this number."""
        return len(self._marks) - bisect_right(self._marks, after, key=_offset)
