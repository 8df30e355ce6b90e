"""What an HTTP/2 connection has to write: answers first, then frames as they were made, then queued data.

Source: RFC 9113 sections 5.2 and 6.9.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from wellhead.wire.h2_frames import (
    DEFAULT_WINDOW,
    MAX_FRAME,
    PeerSettings,
    header_frames,
    reset_frame,
    window_frame,
)
from wellhead.wire.h2_guard import Guard, H2Terms
from wellhead.wire.h2_stream import BLOCKED, HAS_TURN, LEAVING, OVER, H2Stream
from wellhead.wire.hpack import Encoder, Fields
from wellhead.wire.streams import Buffer

_NOBODY: deque[H2Stream] = deque(maxlen=0)
QUANTUM = 64 * 1024  # bytes a stream may send before it is another's turn


class Outbox:
    """The sending half of a connection."""

    __slots__ = (
        "_control",
        "_credit",
        "_encoder",
        "_guard",
        "_peer",
        "_ready",
        "_ready_size",
        "_replies",
        "_room",
        "_room_owed",
        "_streams",
        "_turns",
        "_wake_driver",
        "_woken",
        "terms",
    )

    def __init__(self, terms: H2Terms, wake: Callable[[], None], *, shared: bool) -> None:
        self.terms = terms
        self._streams: dict[int, H2Stream] = {}  # live ones, by id
        self._guard = Guard(terms)
        self._peer = PeerSettings()
        self._encoder = Encoder(shared=shared)
        self._credit = DEFAULT_WINDOW  # bytes we may send, all streams
        self._room = max(DEFAULT_WINDOW, terms.connection_window)  # bytes the peer may send, all streams
        self._room_owed = 0  # bytes received, credit not yet written
        self._wake_driver = wake
        self._woken = False
        # Answers and credit, which may overtake. Whatever changes how a frame is understood may not:
        # heads, RST_STREAM, the SETTINGS acknowledgement and GOAWAY stand among the ready frames.
        self._control: list[bytes] = []
        self._ready: list[Buffer] = []
        self._ready_size = 0  # body bytes among them
        self._replies = 0  # frames among both that the peer made us write
        self._turns = (
            _NOBODY  # made when first needed: a deque takes 760 bytes, and most connections are idle
        )

    @property
    def pending(self) -> bool:
        """Whether ``take`` would give something."""
        if self._ready or self._control or (self._turns and self._credit > 0):
            return True
        return self._owes_credit()

    def _owes_credit(self) -> bool:
        return self._room_owed * 4 >= self._room + self._room_owed

    def take(self, room: int) -> list[Buffer]:
        """What to write now, in order; empty when there is nothing.

        Answers and ready frames come whole (of body bytes at most READY_MAX among them). Queued data
        follows, a quantum of each stream in turn, until ``room`` bytes are taken (the last frame may pass
        it) or the windows are used up. Writers that waited hear ``on_writable`` before it returns; ask
        ``pending`` after it.
        """
        if self._owes_credit():
            # Given when it is written, so that a peer which reads nothing may not send for ever.
            owed, self._room_owed = self._room_owed, 0
            self._room += owed
            self._control.append(window_frame(0, owed))
        out: list[Buffer] = [*self._control, *self._ready] if self._control else self._ready
        self._control = []
        self._ready = []
        room -= self._ready_size
        self._ready_size = 0
        self._replies = 0
        if self._turns:
            writable = self._take_turns(out, room)
            if writable:
                self._call_writers(writable)
        self._woken = False
        return out

    def _take_turns(self, out: list[Buffer], room: int) -> list[H2Stream]:
        turns = self._turns
        low_water = self.terms.low_water
        writable: list[H2Stream] = []
        while turns and room > 0 and self._credit > 0:
            stream = turns.popleft()
            stream._flags &= ~HAS_TURN
            if stream._flags & OVER:
                continue
            most = max(room, MAX_FRAME)
            quantum = QUANTUM if turns else most
            taken = stream._take_turn(out, min(quantum, most, stream._credit, self._credit))
            room -= taken
            self._credit -= taken
            if not stream._flags & OVER:
                if stream._can_go():
                    stream._flags |= HAS_TURN
                    turns.append(stream)
                if stream._flags & BLOCKED and stream.queued <= low_water:
                    writable.append(stream)
        return writable

    def _call_writers(self, writable: list[H2Stream]) -> None:
        self._woken = True  # a take inside a take would be written before it
        for stream in writable:
            if stream._flags & (BLOCKED | OVER | LEAVING) == BLOCKED:
                stream._flags &= ~BLOCKED
                stream.sink.on_writable()

    # For streams and the receiving half

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            self._wake_driver()

    def _put_headers(
        self, stream_id: int, fields: Fields, end: bool, more: Fields | None = None, lead: bytes = b""
    ) -> None:
        encoder = self._encoder
        known = encoder.known.get(id(fields))
        if known is not None and known[0] is fields and more is None:  # fast path, see ``Encoder.encode``
            block = lead + known[1] if lead else known[1]
        elif more is None:
            block = encoder.encode(fields, lead)
        else:
            block = encoder.encode(fields, lead, once=True) + encoder.encode(more)
        self._ready.append(header_frames(stream_id, block, end))
        if not self._woken:
            self._wake()

    def _put_credit(self, stream_id: int, count: int) -> None:
        self._control.append(window_frame(stream_id, count))
        self._wake()

    def _put_ready(self, frame: bytes) -> None:
        self._ready.append(frame)
        self._wake()

    def _put_reply(self, frames: list[bytes] | list[Buffer], frame: bytes) -> None:
        """Queue an answer that the peer made necessary: only so many may wait."""
        frames.append(frame)
        self._replies += 1
        self._guard.replies(self._replies)
        self._wake()

    def _put_reset(self, stream_id: int, code: int) -> None:
        self._put_ready(reset_frame(stream_id, code))

    def _give_turn(self, stream: H2Stream) -> None:
        if not stream._flags & HAS_TURN:
            stream._flags |= HAS_TURN
            if self._turns is _NOBODY:
                self._turns = deque()
            self._turns.append(stream)
        if self._credit > 0:
            self._wake()

    def _count_data(self, frames: int) -> None:
        self._guard.data_sent += frames
