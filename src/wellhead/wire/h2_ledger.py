"""Which streams of an HTTP/2 connection live, how they end, and what is remembered of those that did.

Source: RFC 9113 section 5.1.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from wellhead.errors import H2Error
from wellhead.wire.h2_frames import ErrorCode
from wellhead.wire.h2_guard import H2Terms
from wellhead.wire.h2_outbox import Outbox
from wellhead.wire.h2_stream import GOT_END, LEAVING, SENT_END, H2Stream

_VIOLATIONS = frozenset(
    (
        ErrorCode.PROTOCOL_ERROR,
        ErrorCode.FLOW_CONTROL_ERROR,
        ErrorCode.STREAM_CLOSED,
        ErrorCode.FRAME_SIZE_ERROR,
    )
)
_REMEMBERED_RESETS = 1000  # streams that we reset: what was under way to them is no violation


class H2Role(enum.Enum):
    """Which end of the connection this is."""

    SERVER = "server"
    CLIENT = "client"


class Ledger(Outbox):
    """The streams of a connection."""

    __slots__ = (
        "_clock",
        "_doom",
        "_last_id",
        "_lingering",
        "_next_id",
        "_note",
        "_reset_ids",
        "held",
        "role",
    )

    def __init__(
        self,
        role: H2Role,
        terms: H2Terms,
        wake: Callable[[], None],
        clock: Callable[[], float],
        note: Callable[[str], None],
        shared: bool,
    ) -> None:
        super().__init__(terms, wake, shared=shared)
        self.role = role
        self.held = 0  # bytes received and not yet consumed, all streams
        self._clock = clock
        self._note = note
        self._doom: H2Error | None = None  # found where nobody can be told: raised at the next turn
        self._last_id = 0  # the last stream the peer opened
        self._next_id = 1  # of ours
        # Bytes that the peer may have under way to each: it cannot have known.
        self._reset_ids: dict[int, int] = {}
        self._lingering: dict[int, float] = {}  # streams that are over and still running, until when

    def _got_end(self, stream: H2Stream) -> None:
        stream._flags |= GOT_END
        if stream._flags & SENT_END:
            self._streams.pop(stream.id, None)

    def _break_stream(self, stream: H2Stream, code: int) -> None:
        """Reset a stream because of its peer, and tell its sink."""
        was_leaving = stream._flags & LEAVING
        stream._give_up()
        if self.role is H2Role.SERVER:
            self._linger(stream.id, self._clock())
        self._was_reset(stream, code)
        self._guard.replies(self._replies)
        if not was_leaving:
            stream.sink.on_reset(code)

    def _was_reset(self, stream: H2Stream, code: int) -> None:
        """A stream of which we have given up both halves."""
        self._streams.pop(stream.id, None)
        self._ignore(stream.id, stream._room)
        self._replies += 1
        self._put_reset(stream.id, code)
        if code in _VIOLATIONS and self._doom is None:
            try:
                self._guard.violation(self._clock())
            except H2Error as error:
                self._doom = error  # the caller may be the program, which did nothing wrong

    def _reply_reset(self, stream_id: int, code: int) -> None:
        self._replies += 1
        self._put_reset(stream_id, code)
        self._guard.replies(self._replies)

    def _ignore(self, stream_id: int, room: int) -> None:
        """What is under way for this stream is no violation; of body bytes as much as it had room for."""
        ids = self._reset_ids
        ids[stream_id] = room
        if len(ids) > _REMEMBERED_RESETS:
            del ids[next(iter(ids))]

    def _is_known(self, stream_id: int) -> bool:
        """Whether a stream was ever opened; stream 0 never."""
        if stream_id & 1:
            return stream_id <= self._last_id if self.role is H2Role.SERVER else stream_id < self._next_id
        return False

    def _linger(self, stream_id: int, now: float) -> None:
        self._lingering[stream_id] = now + self.terms.linger_seconds

    def _stopped(self, stream_id: int) -> None:
        self._lingering.pop(stream_id, None)

    def _running(self, now: float) -> int:
        """Live streams, and those that are over but whose work may not have stopped yet."""
        lingering = self._lingering
        while lingering:
            stream_id, until = next(iter(lingering.items()))
            if until > now:
                break
            del lingering[stream_id]
        return len(self._streams) + len(lingering)

    def _shed(self) -> None:
        """Too much is held: the stream that holds most goes."""
        stream = max(self._streams.values(), key=_held, default=None)
        if stream is not None and stream.held:
            self._note("held")
            self._break_stream(stream, ErrorCode.ENHANCE_YOUR_CALM)


def _held(stream: H2Stream) -> int:
    return stream.held
