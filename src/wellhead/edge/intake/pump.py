"""What goes to an agent on its bridges, and when: one pump for each connection of an agent.

An agent with large windows credits what it receives: its frames are queued on their stream like any body.
The Python SDK credits in lumps and only whole messages, see ``wire.intake_credit``: what goes to it on
bridges goes in whole frames, each in one go and only when both windows take it. A frame that is larger than
what a quiet window leaves makes room for itself first: with PONG frames on its bridge, with bytes that answer
a parked intake on the connection.

::

    bridge ── put ──> lane ──> its turn ──> stream.whole
                        │         └──> the connection's window is short: everybody waits (``holds``)
                        └──> its own window is short: only it waits

A lane keeps no more than half of its window unconsumed before it sends on, so that one slow reader behind
the agent does not take the connection's window from all others.

Source: docs/reference/h2-carrier.md, "Credit".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from wellhead.wire.h2 import H2Connection, H2Stream
from wellhead.wire.h2_frames import MAX_FRAME as MAX_DATA
from wellhead.wire.intake_credit import HALF, LUMPY_WINDOW, MAX_FRAME, Move, Step, next_step, pongs
from wellhead.wire.streams import Buffer

LANE_HIGH = 32 * 1024  # bytes waiting in a lane above which its writer is asked to stop
MARGIN = 4096  # bytes of junk beyond those that are due: some of the window may have leaked
HOLD_SECONDS = 2.0  # for which everybody waits for one large frame while the window does not move
TRIES, REST_SECONDS = 3, 2.0  # lumps that were too small, and the rest after them: a reader is slow
PATIENCE_SECONDS = 0.25  # for a lump to come, at least; two round trips otherwise
STALL_SECONDS = 30.0  # for which somebody waits for the connection's window in vain
LEAK_SECONDS = 10.0  # for which an idle connection's window may be short
LEAK_BYTES = 32_000  # what an idle connection's window has at least
_LUMPY_LIST = 65_536  # MAX_HEADER_LIST_SIZE of hyper-h2, which nghttp2 and Rust's h2 do not announce


class Lane(Protocol):
    """The way of one bridge to its agent. Whole outer frames only."""

    max_frame: int  # bytes; a longer one can never be sent; 0: any

    @property
    def queued(self) -> int:
        """Bytes that wait."""

    def put(self, frame: Buffer) -> bool:
        """Send a frame when there is room; False means: stop until told that there is."""

    def end(self, frame: Buffer = b"") -> None:
        """A last frame, perhaps none, and END_STREAM behind it."""

    def clear(self) -> None:
        """Drop what waits."""

    def close(self) -> None:
        """The bridge is over."""


class FreeLane:
    """To an agent that credits what it receives: the stream's own queue."""

    __slots__ = ("_pump", "_stream", "max_frame")

    def __init__(self, pump: Pump, stream: H2Stream) -> None:
        self.max_frame = 0
        self._pump = pump
        self._stream = stream

    @property
    def queued(self) -> int:
        return self._stream.queued

    def put(self, frame: Buffer) -> bool:
        return self._stream.data(frame)

    def end(self, frame: Buffer = b"") -> None:
        self._stream.data(frame, True)

    def clear(self) -> None:
        """What waits is on its stream, and nothing of it is ever cut short."""

    def close(self) -> None:
        self._pump.forget(self)


class ExactLane:
    """To an agent that credits in lumps. ``on_room``: after a ``put`` that returned False."""

    __slots__ = (
        "_blocked", "_ending", "_on_room", "_pump", "frames", "max_frame", "queued", "since", "starved",
        "stream", "waited",
    )  # fmt: skip

    def __init__(self, pump: Pump, stream: H2Stream, on_room: Callable[[], None]) -> None:
        self.max_frame = MAX_FRAME
        self.stream = stream
        self.frames: deque[Buffer] = deque()
        self.queued = 0
        self.starved = False  # it is the connection's window that its first frame waits for
        self.since = 0.0  # when that began, 0: it does not wait for that
        self.waited = False  # everybody has waited for it long enough
        self._pump = pump
        self._on_room = on_room
        self._blocked = False
        self._ending = False

    def put(self, frame: Buffer) -> bool:
        self.frames.append(frame)
        self.queued += len(frame)
        self._pump.turn(self)
        if self.queued <= LANE_HIGH:
            return True
        self._blocked = True
        return False

    def end(self, frame: Buffer = b"") -> None:
        self._ending = True
        if frame:
            self.put(frame)
        elif not self.frames:
            self.stream.data(b"", True)

    def clear(self) -> None:
        self.frames.clear()
        self.queued = 0
        self._pump.drop(self)

    def close(self) -> None:
        self.clear()
        self._pump.forget(self)

    def sent_first(self) -> None:
        """Its first frame went out."""
        self.fed()
        self.queued -= len(self.frames.popleft())

    def fed(self) -> None:
        """It waits for the connection no more."""
        self.starved = self.waited = False
        self.since = 0.0

    @property
    def ends_here(self) -> bool:
        """Behind the first frame comes END_STREAM."""
        return self._ending and len(self.frames) == 1

    def tell_room(self) -> None:
        """Have the writer told, if it waits and there is room."""
        if self._blocked and not self.frames:
            self._blocked = False
            self._on_room()


class Pump:
    """See the module. Made before the agent's SETTINGS are there; asked for lanes after them.

    ``junk(n)`` answers one parked intake with ``n`` bytes that mean nothing, False where none is parked.
    ``recycle(reason)``: this connection's window is lost, another one is needed; called at most once, with
    ``window-leaked`` or ``window-stalled``.

    ``holds``: a frame waits for the connection's window; who sends a body waits with it, see ``later``.
    """

    def __init__(
        self,
        connection: H2Connection,
        clock: Callable[[], float],
        junk: Callable[[int], bool],
        recycle: Callable[[str], None],
    ) -> None:
        self.holds = False
        self._connection = connection
        self._clock = clock
        self._junk = junk
        self._recycle = recycle
        self._lanes: set[Lane] = set()
        self._turns: deque[ExactLane] = deque()  # that may send as far as their own window goes
        self._aside: dict[ExactLane, None] = {}  # that wait for their own window, or have waited too long
        self._later: list[Callable[[], None]] = []
        self._held_since = 0.0
        self._pumped = -1  # the connection's window behind our junk, while its lump is awaited, -1: none is
        self._tries = 0
        self._rest_until = 0.0
        self._going = False
        self._seen = connection.credit
        self._moved_at = clock()
        self._recycled = False

    @property
    def waiting(self) -> bool:
        """Whether ``go`` could do anything."""
        return bool(self._turns or self._aside)

    @property
    def exact(self) -> bool:
        """The agent credits in lumps."""
        peer = self._connection.peer
        return peer.window <= LUMPY_WINDOW and peer.max_list is not None and peer.max_list <= _LUMPY_LIST

    def lane(self, stream: H2Stream, on_room: Callable[[], None]) -> Lane:
        """A new bridge's."""
        lane: Lane = ExactLane(self, stream, on_room) if self.exact else FreeLane(self, stream)
        self._lanes.add(lane)
        return lane

    def later(self, call: Callable[[], None]) -> None:
        """Have ``call`` called once, when ``holds`` has become False."""
        self._later.append(call)

    def go(self) -> None:
        """Send what can go by now: credit came, or an intake was parked."""
        if self._aside:
            back = [lane for lane in self._aside if lane.starved or lane.stream.credit >= HALF]
            for lane in back:
                del self._aside[lane]
            self._turns.extend(back)
        self._run()

    def tick(self, now: float) -> None:
        """Look at what only time can tell; at least once a second."""
        if self.holds and now - max(self._held_since, self._moved_at) >= HOLD_SECONDS:
            self._turns[0].waited = True  # it is asked again whenever credit comes
            self._run()
        elif self.waiting:
            self.go()  # there may be a parked intake now
        credit = self._connection.credit
        if credit != self._seen:
            self._seen, self._moved_at = credit, now
        elif self.exact:
            self._still(credit, now)

    def _still(self, credit: int, now: float) -> None:
        """The connection's window has not moved since the last look."""
        starved = [lane.since for lane in (*self._turns, *self._aside) if lane.starved]
        still = now - self._moved_at
        if self._recycled:
            return
        if (starved and now - min(starved) >= STALL_SECONDS) or (
            still >= STALL_SECONDS and credit <= 0 and self._connection.queues
        ):
            self._give_up("window-stalled")
        elif still >= LEAK_SECONDS and not self._lanes and credit < LEAK_BYTES:
            self._give_up("window-leaked")
        elif starved and credit > 0 and now >= self._rest_until and still >= self._patience:
            self._feed(min(credit, MAX_DATA), now)

    @property
    def _patience(self) -> float:
        return max(PATIENCE_SECONDS, 2 * (self._connection.rtt or 0.0))

    def _give_up(self, reason: str) -> None:
        self._recycled = True
        self._recycle(reason)

    # For lanes

    def turn(self, lane: ExactLane) -> None:
        """A frame was put into it."""
        if len(lane.frames) == 1:
            self._turns.append(lane)
            self._run()

    def drop(self, lane: ExactLane) -> None:
        """It has nothing to send any more."""
        lane.fed()
        self._aside.pop(lane, None)
        if lane in self._turns:
            self._turns.remove(lane)
            self._run()

    def forget(self, lane: Lane) -> None:
        """It is over."""
        self._lanes.discard(lane)

    def _run(self) -> None:
        """Give each its turn, until one needs more of the connection's window than there is."""
        if self._going:
            return
        turns = self._turns
        went: list[ExactLane] = []
        self._going = True
        try:
            while turns:
                lane = turns[0]
                if self._sends(lane):
                    turns.popleft()
                    went.append(lane)
                    if lane.frames:
                        turns.append(lane)
                elif lane.starved and not lane.waited:
                    break
                else:
                    turns.popleft()
                    self._aside[lane] = None
        finally:
            self._going = False
        self._hold(bool(turns))
        for lane in went:
            lane.tell_room()

    def _sends(self, lane: ExactLane) -> bool:
        """Send the lane's first frame, or do what makes room for it; ``starved`` says where it lacks."""
        stream, frame = lane.stream, lane.frames[0]
        own, all_ = stream.credit, self._connection.credit
        lane.starved = False
        if own < HALF and not stream.over:
            return False  # more than a half is not consumed: its credit is on its way, or its reader is slow
        if stream.whole(frame, lane.ends_here):
            if lane.since:
                self._pumped, self._tries = -1, 0
            lane.sent_first()
            return True
        step = next_step(own, all_, len(frame))
        if step.move is Move.PUMP_STREAM:
            stream.whole(pongs(step.size))
        elif len(frame) <= own:
            lane.starved = True
            lane.since = lane.since or self._clock()
            if not self._connection.queues:  # bodies are consumed as they come: they bring it on themselves
                self._make_room(lane, step, all_)
        return False

    def _make_room(self, lane: ExactLane, step: Step, credit: int) -> None:
        """The connection's window is short by a frame: bring on its lump."""
        if 0 <= self._pumped < credit:  # it came, and is too small: not all that was sent is consumed
            self._pumped = -1
            self._tries += 1
            if self._tries >= TRIES:
                self._tries = 0
                self._rest_until = self._clock() + REST_SECONDS
                lane.waited = True
        if step.move is Move.PUMP_CONNECTION and self._clock() >= self._rest_until:
            # What is credited is credited by whole DATA frames: more costs nothing in the last one.
            last = (step.size // MAX_DATA + 1) * MAX_DATA
            self._feed(min(step.size + MARGIN, last, credit), self._clock())

    def _feed(self, size: int, now: float) -> None:
        """Send bytes that are consumed as they come."""
        if self._junk(size):
            self._pumped = self._seen = self._connection.credit
            self._moved_at = now

    def _hold(self, holds: bool) -> None:
        if holds and not self.holds:
            self._held_since = self._clock()
        self.holds = holds
        if not holds and self._later:
            later, self._later = self._later, []
            for call in later:
                call()
