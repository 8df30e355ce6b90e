"""Whose turn it is to send: queued data in fair shares, interactive streams before the others.

Source: docs/reference/wire.md, "Order and fairness".
"""

from __future__ import annotations

from collections import deque

from wellhead.wire.frames import MAX_DATA
from wellhead.wire.muxstream import (
    BLOCKED,
    DATA,
    DATA_END,
    ENDING,
    GOT_END,
    HAS_TURN,
    HEAD,
    HEAD_END,
    HEADER,
    HEADER_U32,
    INTERACTIVE,
    LOW_WATER,
    OVER,
    SENT_END,
    MuxStream,
    QueuedHead,
)
from wellhead.wire.streams import Buffer

QUANTUM = 64 * 1024  # bytes a stream may send before it is another's turn
SHORT_QUANTUM = 16 * 1024  # the same while an interactive stream is open


_NOBODY: deque[MuxStream] = deque(maxlen=0)


class Turns:
    """The streams of a mux that have something queued which may go out."""

    __slots__ = ("_bulk", "_interactive", "interactive_open")

    def __init__(self) -> None:
        self.interactive_open = 0  # live streams that are marked interactive
        # Made when first needed: a deque takes 760 bytes, and most sessions are idle.
        self._interactive: deque[MuxStream] = _NOBODY
        self._bulk: deque[MuxStream] = _NOBODY

    def __bool__(self) -> bool:
        return bool(self._bulk or self._interactive)

    def clear(self) -> None:
        """Nobody sends any more."""
        self._interactive.clear()
        self._bulk.clear()

    def give(self, stream: MuxStream) -> None:
        """Let ``stream`` have a turn, after those that wait for one."""
        flags = stream._flags = stream._flags | HAS_TURN
        if flags & INTERACTIVE:
            if self._interactive is _NOBODY:
                self._interactive = deque()
            self._interactive.append(stream)
        else:
            if self._bulk is _NOBODY:
                self._bulk = deque()
            self._bulk.append(stream)

    def take(self, out: list[Buffer], room: int) -> list[MuxStream]:
        """Put about ``room`` body bytes in frames into ``out``; returns whose writers may go on."""
        writable: list[MuxStream] = []
        least = min(room, SHORT_QUANTUM)
        while room > 0:
            turns = self._interactive or self._bulk
            if not turns:
                break
            stream = turns.popleft()
            flags = stream._flags = stream._flags & ~HAS_TURN
            if flags & OVER:
                continue
            if self.interactive_open:
                quantum = SHORT_QUANTUM
            else:
                quantum = QUANTUM if self._bulk else MAX_DATA
            taken = _take_turn(stream, out, min(quantum, max(room, least), stream._credit))
            room -= taken
            queued = stream._queued = stream._queued - taken
            stream._credit -= taken
            if stream._can_go():
                self.give(stream)
            if stream._flags & BLOCKED and queued <= LOW_WATER and queued <= stream._credit:
                writable.append(stream)
        return writable


def _take_turn(stream: MuxStream, out: list[Buffer], budget: int) -> int:
    """Put frames of one stream into ``out``; returns how many body bytes, at most ``budget``."""
    queue = stream._queue
    ending = stream._flags & ENDING
    stream_id = stream.id
    taken = 0
    while queue:
        item = queue[0]
        if isinstance(item, tuple):
            kind, head = item
            queue.popleft()
            word = (4 + len(head)) << 8 | (HEAD_END if ending and not queue else HEAD)
            out.append(HEADER_U32(word, stream_id, kind << 24 | len(head)))
            out.append(head)
            continue
        if budget <= taken:
            return taken
        at = len(out)
        out.append(b"")
        size = _take_data(queue, out, budget - taken)
        taken += size
        out[at] = HEADER(size << 8 | (DATA_END if ending and not queue else DATA), stream_id)
    if ending:
        stream._flags |= SENT_END
        if stream._flags & GOT_END:
            stream._mux._forget(stream)
    return taken


def _take_data(queue: deque[Buffer | QueuedHead], out: list[Buffer], budget: int) -> int:
    """Move body bytes, at most ``budget`` and up to the next head, from ``queue`` to ``out``."""
    taken = 0
    while queue and taken < budget:
        item = queue[0]
        if isinstance(item, tuple):
            break
        size = len(item)
        if size > budget - taken:
            size = budget - taken
            view = memoryview(item)
            out.append(view[:size])
            queue[0] = view[size:]
        else:
            out.append(item)
            queue.popleft()
        taken += size
    return taken
