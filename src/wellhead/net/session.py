"""A session: one mux on one transport, the same at both ends.

The mux says what to write, the session when. Writes of one loop turn are joined; with very few
streams open the first frame goes out at once, because waiting for company costs a lone request more
than it saves. Liveness needs no clock in the mux: any byte received proves the peer alive; a peer
that was silent for ``ping_seconds`` is asked, one that was silent while we had something to say is
asked sooner, and one that does not answer is given up. One timer looks after all that was written since
the peer was last heard, so that a request costs none.

Source: docs/reference/wire.md, "Liveness" and "Drain".
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from wellhead.errors import ProtocolError, SessionLost, WellheadError
from wellhead.net.socket_options import unsent
from wellhead.net.sockets import why
from wellhead.net.writing import write_joined
from wellhead.wire.mux import HELD_MAX, Mux, MuxStream, Role, is_answer
from wellhead.wire.streams import Buffer, Reason, StreamKind
from wellhead.wire.window import INITIAL_WINDOW

HIGH_WATER = 256 * 1024  # bytes in the transport above which nothing more is taken from the mux: at most
HIGH_WATER_MIN = 2 * 1024
HIGH_WATER_START = 64 * 1024  # before anything is known of the connection's speed
SLOW_ROOM = 16 * 1024  # below it the kernel's own queue counts as well
SLOW_POLL_SECONDS = 0.005
QUEUE_SECONDS = 0.02  # what waits in the transport cannot be overtaken: no more than leaves in this time
EAGER_STREAMS = 2  # with so few streams open a frame is written at once
GLANCE_SECONDS = 5.0  # how often we look whether the machine slept
DISMISS_SECONDS = 0.5  # for the peer to read the last bytes of a session that is ended

OnOpen = Callable[[MuxStream, StreamKind, bytes, Buffer, bool], None]
OnControl = Callable[["Session", int, bytes], None]
OnLost = Callable[["Session", WellheadError | None], None]


@dataclass(frozen=True, slots=True)
class Liveness:
    """When to ask whether the peer is alive, and how long to wait for its answer. Seconds."""

    ping_seconds: float = 10.0  # silence after which an idle peer is asked
    pong_seconds: float = 5.0  # how long an idle peer may take to answer
    probe_after_seconds: float = 1.5  # silence after which a peer we write to is asked
    probe_seconds: float = 3.0  # how long that peer may take


def boot_time() -> float:
    """Seconds that go on while the machine sleeps; the plain monotonic clock where there is none."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock) if clock is not None else time.monotonic()


class Session(asyncio.Protocol):
    """One live connection of an agent or host with the edge.

    ``on_open`` is told of streams the peer opens, ``on_control`` of hello frames, ``on_lost`` exactly
    once, when the connection is over (None where we closed it ourselves).
    """

    carrier = "mux"

    def __init__(
        self,
        role: Role,
        *,
        on_open: OnOpen,
        on_control: OnControl,
        on_lost: OnLost,
        liveness: Liveness | None = None,
        window: int = INITIAL_WINDOW,
        held_max: int = HELD_MAX,
        boot_clock: Callable[[], float] = boot_time,
    ) -> None:
        self.mux = Mux(role, on_open, self._wake, window=window, held_max=held_max)
        self.mux.on_control = self._control
        self.open = self.mux.open  # bound once: every exchange begins here
        self.open_late = self.mux.open_late
        self.usable = False  # new streams may be opened
        self.id = ""
        self.peer = ""
        self.local: tuple[object, ...] = ()  # our own address, as the socket names it
        self.own_certificate = False  # the feature of that name is in force
        self.peer_draining = False  # the peer asked for no new streams
        self.draining = False  # we did
        self._liveness = liveness or Liveness()
        self._on_control = on_control
        self._on_lost = on_lost
        self._on_peer_draining: Callable[[Session, int], None] | None = None
        self.mux.on_goaway = self._goaway
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._room = HIGH_WATER_START  # bytes in the transport above which nothing more is taken now
        self._full = (0.0, 0)  # when the transport was found full, and with how many bytes
        self._paused = False  # nothing may be written: the transport is full, or closing
        self._closing = False
        self._scheduled = False
        self._receiving = False
        self._error: WellheadError | None = None
        self._reason: int = Reason.SESSION_LOST  # what open streams hear when the connection ends
        self._heard = 0.0  # loop time of the last byte received
        self._answer_by = 0.0  # loop time; 0 when nothing was asked
        self._patience = 0.0  # seconds that the peer has for its answer
        self._unsent = 0  # bytes that waited in the transport then, and those queued behind them since
        self._timer: asyncio.TimerHandle | None = None
        self._unanswered = False  # something was written for an open stream since the last byte received
        self._doubt: asyncio.TimerHandle | None = None  # looks after that
        self._boot_clock = boot_clock
        self._booted = 0.0
        self.closed: asyncio.Future[None] = self._loop.create_future()

    # What the program asks for

    @property
    def load(self) -> int:
        """Open streams."""
        return len(self.mux.streams)

    @property
    def held(self) -> int:
        """Bytes that came from the peer and were not consumed, and those that wait to be sent to it."""
        transport, mux = self._transport, self.mux
        unsent = transport.get_write_buffer_size() if transport is not None else 0
        return mux.held + unsent + sum([stream.queued for stream in mux.streams.values()])

    def on_peer_draining(self, call: Callable[[Session, int], None]) -> None:
        """Have ``call(session, retry_after_ms)`` told when the peer sends GOAWAY."""
        self._on_peer_draining = call

    def drain(self, reason: int = Reason.CANCELLED, retry_after_ms: int = 0, text: str = "") -> None:
        """Ask the peer for no new streams; what is open goes on. Idempotent."""
        if not self.draining and self._transport is not None:
            self.draining = True
            self.usable = False
            self.mux.goaway(reason, retry_after_ms, text)

    def close(self, reason: int = Reason.SESSION_LOST) -> None:
        """Write what is queued and end the connection; ``reason`` is what its streams are told."""
        if self._transport is not None and not self._closing:
            self._reason = reason
            self._flush()
            self._hang_up(self._transport)

    def dismiss(self, reason: int = Reason.SESSION_LOST) -> None:
        """As ``close``, and a peer that does not read cannot keep the connection open."""
        self.usable = False
        self.close(reason)
        self._loop.call_later(DISMISS_SECONDS, self.abort)

    def abort(self, error: WellheadError | None = None) -> None:
        """End the connection at once; ``error`` is what ``on_lost`` is told."""
        if self._transport is not None:
            self._error = self._error or error
            self.usable = False
            self._transport.abort()

    def set_liveness(self, liveness: Liveness) -> None:
        """Take the timings that the other side announced."""
        self._liveness = liveness
        self._arm()

    def probe(self) -> None:
        """Ask the peer now whether it is alive, with the short answer time."""
        self._ask(self._loop.time(), self._liveness.probe_seconds)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's and aiofastnet's are no subclasses
        self._transport = transport
        transport.set_write_buffer_limits(high=self._room, low=self._room // 4)
        peername = transport.get_extra_info("peername")
        self.peer = peername[0] if peername else ""
        self.local = transport.get_extra_info("sockname") or ()
        self.usable = True
        self._heard = self._loop.time()
        self._booted = self._boot_clock()
        self._arm()

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        self._answer_by = 0.0
        self._unanswered = False
        self._receiving = True
        mux = self.mux
        mux.now = self._heard
        try:
            mux.receive(data)
        except ProtocolError as error:
            self._fail(error)
        finally:
            self._receiving = False
        if self._scheduled and not self._paused:
            self._flush()

    def eof_received(self) -> bool:
        return False  # a session has no half-close: the transport closes

    def pause_writing(self) -> None:
        self._paused = True
        if (transport := self._transport) is not None:
            waiting = unsent(transport) if self._room < SLOW_ROOM else 0
            self._full = (self._loop.time(), waiting + transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        if not self._closing:
            self._paused = False
            self._measure()
            self._flush()

    def _measure(self) -> None:
        """Make the transport's room what this connection carries in ``QUEUE_SECONDS``."""
        transport, (since, size) = self._transport, self._full
        if transport is None or not size:
            return
        took = max(self._loop.time() - since, 0.0005)
        left = transport.get_write_buffer_size() + (unsent(transport) if self._room < SLOW_ROOM else 0)
        room = min(max(int((size - left) / took * QUEUE_SECONDS), HIGH_WATER_MIN), HIGH_WATER)
        self._full = (0.0, 0)
        if not 0.75 < room / self._room < 1.5:
            self._room = room
            transport.set_write_buffer_limits(high=room, low=room // 4)

    def _is_behind(self, transport: asyncio.Transport) -> bool:
        """Whether a slow connection has enough to send in the kernel, which takes more than it was told to.

        TCP_NOTSENT_LOWAT does not stop it from filling the last segment that waits, which grows to half a
        window: at 1 Mbit/s a quarter of a second.
        """
        waiting = unsent(transport)
        if waiting < self._room:
            return False
        self._full = (self._loop.time(), waiting + transport.get_write_buffer_size())
        self._paused = True
        self._loop.call_later(SLOW_POLL_SECONDS, self._look_again, transport)
        return True

    def _look_again(self, transport: asyncio.Transport) -> None:
        if self._transport is not transport or self._closing:
            return
        if unsent(transport) + transport.get_write_buffer_size() >= self._room:
            self._loop.call_later(SLOW_POLL_SECONDS, self._look_again, transport)
        else:
            self.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.usable = False
        for timer in (self._timer, self._doubt):
            if timer is not None:
                timer.cancel()
        self._timer = self._doubt = None
        error = self._error
        if error is None and exc is not None:
            error = SessionLost(f"connection lost: {why(exc) if isinstance(exc, OSError) else exc}")
        try:
            self.mux.lost(self._reason)
        finally:  # whatever a sink makes of it
            if not self.closed.done():
                self.closed.set_result(None)
            self._on_lost(self, error)

    # Writing

    def _wake(self) -> None:
        """The mux has something to write, or enough for a write of its own."""
        if self._scheduled:
            # One write at the end of the turn would keep this and the other side from working at once.
            if not self._receiving and not self._paused:
                self._flush()
            return
        if len(self.mux.streams) <= EAGER_STREAMS and not self._receiving and not self._paused:
            self._flush()
            return
        self._scheduled = True
        if not self._receiving:  # else data_received flushes when the read is used up
            self._loop.call_soon(self._flush_scheduled)

    def _flush_scheduled(self) -> None:
        if self._scheduled:
            self._flush()

    def _flush(self) -> None:
        self._scheduled = False
        transport = self._transport
        if transport is None or self._paused:
            return
        if self._room < SLOW_ROOM and self._is_behind(transport):
            return
        mux = self.mux
        pieces = mux.take(self._room)
        if pieces:
            write_joined(transport, pieces)
            if self._unsent:
                self._unsent += sum(map(len, pieces))
            now = self._loop.time()
            if now - self._heard > self._liveness.probe_after_seconds:
                self._ask(now, self._liveness.probe_seconds)
            elif not self._unanswered and mux.streams and not is_answer(pieces):
                self._unanswered = True
                if self._doubt is None:
                    self._look_after(now)
        if mux.pending and not self._paused and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush_scheduled)

    # Liveness

    def _ask(self, now: float, patience: float) -> None:
        transport = self._transport
        if self._answer_by or transport is None:
            return
        self._answer_by = now + patience
        self._patience = patience
        self._unsent = 0
        self.mux.ping(now)
        self._loop.call_soon(self._note_unsent)  # after this turn's own writes, which say nothing of the peer
        self._arm()

    def _look_after(self, now: float) -> None:
        """Ask when the peer has been silent for long enough, if it is then: the timer of many writes."""
        delay = self._heard + self._liveness.probe_after_seconds - now
        self._doubt = self._loop.call_later(max(delay, 0.05), self._doubted)

    def _doubted(self) -> None:
        self._doubt = None
        if not self._unanswered or self._answer_by:
            return
        now = self._loop.time()
        if now - self._heard < self._liveness.probe_after_seconds:
            self._look_after(now)
        else:
            self._ask(now, self._liveness.probe_seconds)

    def _note_unsent(self) -> None:
        if self._transport is not None and self._answer_by:
            self._unsent = self._transport.get_write_buffer_size()

    def _is_moving(self, transport: asyncio.Transport) -> bool:
        """Whether bytes that waited for the peer when it was asked have left: its answer comes behind them.

        Where none waited it tells nothing: the kernel takes bytes for a peer that is gone, until it is full.
        """
        before, self._unsent = self._unsent, transport.get_write_buffer_size()
        return self._unsent < before

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is None:
            return
        due = self._answer_by or self._heard + self._liveness.ping_seconds
        delay = max(0.05, due - self._loop.time())
        self._timer = self._loop.call_later(min(delay, GLANCE_SECONDS), self._tick)

    def _tick(self) -> None:
        self._timer = None
        transport = self._transport
        if transport is None:
            return
        now = self._loop.time()
        booted = self._boot_clock()
        slept = booted - self._booted > 2 * self._liveness.ping_seconds
        self._booted = booted
        if slept:  # stopped or suspended: bytes may wait in the socket, an old deadline says nothing
            self._answer_by = 0.0
            self._ask(now, self._liveness.probe_seconds)
        elif self._answer_by and now >= self._answer_by and self._is_moving(transport):
            self._answer_by = now + self._patience
        elif self._answer_by and now >= self._answer_by:
            waited = now - self._heard
            self.abort(SessionLost(f"no answer to a ping; nothing heard for {waited:.1f} s"))
            return
        elif now - self._heard >= self._liveness.ping_seconds:
            self._ask(now, self._liveness.pong_seconds)
        if self._timer is None:
            self._arm()

    # From the mux

    def _control(self, kind: int, payload: bytes) -> None:
        self._on_control(self, kind, payload)

    def _goaway(self, reason: int, retry_after_ms: int, text: str) -> None:
        self.peer_draining = True
        self.usable = False
        if self._on_peer_draining is not None:
            self._on_peer_draining(self, retry_after_ms)

    def _fail(self, error: ProtocolError) -> None:
        if self._transport is not None:
            self._error = error
            self.mux.goaway(Reason.PROTOCOL, 0, str(error)[:200])
            self.close()

    def _hang_up(self, transport: asyncio.Transport) -> None:
        self._closing = self._paused = True
        self.usable = False
        transport.close()
