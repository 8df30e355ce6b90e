"""An upgraded exchange: WebSocket bytes both ways.

Payload is opaque and passed as it is; frame headers are followed in both directions, so that limits
hold and a Close of ours can be put in at a frame boundary.

Source: RFC 6455 sections 5 and 7.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from wellhead.errors import WebSocketError
from wellhead.visitors import pages
from wellhead.visitors.exchange import Exchange
from wellhead.wire.streams import Buffer, HeadKind, Reason
from wellhead.wire.ws import FrameFollower, close_frame, ping_frame

GOING_AWAY = 1001
POLICY_VIOLATION = 1008
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013
BAD_GATEWAY = 1014
MISSED_PINGS = 2  # unanswered pings after which a visitor is taken for gone
CLOSE_SECONDS = 5.0  # how long a visitor may take to close after our Close


class Terms(Protocol):
    """The limits of a conversation."""

    @property
    def websocket_ping_seconds(self) -> float: ...
    @property
    def websocket_pings_per_second(self) -> float: ...
    @property
    def write_idle_seconds(self) -> float: ...


class Outlet(Protocol):
    """What the conversation writes to: a connection's transport, or a stream that looks like one."""

    def write(self, data: Buffer) -> None: ...
    def can_write_eof(self) -> bool: ...
    def write_eof(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None:
        """Cut it at once, so that the visitor can see it."""


class Upgraded(Protocol):
    """The visitor's connection, or its stream of one."""

    choked: bool

    def pause_upload(self) -> None: ...
    def resume_upload(self) -> None: ...


class Conversation:
    """Takes the exchange's place as the stream's sink."""

    __slots__ = (
        "_bytes_in", "_bytes_out", "_clock", "_closing_at", "_exchange", "_from_agent", "_from_visitor",
        "_heard", "_heard_bytes", "_leave_at", "_leaving", "_outlet", "_over", "owed", "_pings", "_second",
        "_stream", "_terms", "_unanswered", "_uploaded", "_visitor", "_waiting_since",
    )  # fmt: skip

    def __init__(
        self,
        visitor: Upgraded,
        exchange: Exchange,
        outlet: Outlet,
        terms: Terms,
        clock: Callable[[], float],
        *,
        extensions: bool,
    ) -> None:
        assert exchange.stream is not None
        self._visitor = visitor
        self._exchange = exchange
        self._outlet = outlet
        self._stream = exchange.stream
        self._stream.sink = self
        self._from_visitor = FrameFollower(from_client=True, extensions=extensions)
        self._from_agent = FrameFollower(from_client=False, extensions=extensions)
        self._terms = terms
        self._clock = clock  # loop seconds
        self._second = 0.0  # when counting of the visitor's pings began
        self._pings = 0  # how many there had been by then
        self._heard = 0.0  # loop time at which the visitor's silence was last counted from
        self._heard_bytes = 0
        self._unanswered = 0  # pings of ours since the visitor was last heard
        self._bytes_in = 0
        self._bytes_out = 0
        self.owed = 0
        self._closing_at = 0.0  # when we cut a visitor that does not close, 0: not closing
        self._uploaded = False  # our half of the stream is ended
        self._waiting_since = 0.0  # when the agent stopped taking what the visitor says, 0: it takes it
        self._leave_at = 0.0  # when we ask the visitor to come again, 0: we do not drain
        self._leaving = False  # to be closed when the agent's frame is complete
        self._over = False

    def start(self, from_agent: Buffer, end: bool, from_visitor: Buffer) -> None:
        """Carry what came beside the two heads; ``end`` says that ``from_agent`` is all of its."""
        if from_agent or end:
            self.on_data(from_agent, end)
        if from_visitor:
            self.from_visitor(from_visitor)

    # From the visitor

    def from_visitor(self, data: Buffer) -> None:
        if self._over or self._closing_at:
            return
        self._bytes_in += len(data)
        follower = self._from_visitor
        before = follower.pings
        try:
            count = follower.feed(data)
            if follower.pings != before:
                self._count_pings(before, follower.pings)
        except WebSocketError as error:
            self._stream.reset(Reason.PROTOCOL)
            self._close_visitor(error.close_code, error.reason)
            return
        if count and not self._stream.send(data if count == len(data) else data[:count]):
            self._waiting_since = self._clock()
            self._visitor.pause_upload()

    def _count_pings(self, before: int, pings: int) -> None:
        now = self._clock()
        if now - self._second >= 1:
            self._second, self._pings = now, before
        if pings - self._pings > self._terms.websocket_pings_per_second:
            raise WebSocketError(POLICY_VIOLATION, "ping-flood")

    def visitor_ended(self) -> bool:
        """The visitor ended its half; True keeps the connection for the other half."""
        if self._over or self._closing_at:
            return False
        self._end_upload()
        return self._outlet.can_write_eof()

    def visitor_lost(self) -> None:
        if not self._over:
            if not self._closing_at:
                self._stream.reset(Reason.CANCELLED)
            self._conclude()

    def unchoked(self) -> None:
        owed, self.owed = self.owed, 0
        if owed and not self._over:
            self._stream.consumed(owed)

    # Sink

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        if not (self._over or self._closing_at):
            self._stream.reset(Reason.PROTOCOL)
            self._close_visitor(BAD_GATEWAY, self._exchange.page_of(Reason.UPSTREAM_FAILED).reason)

    def on_data(self, data: Buffer, end: bool) -> None:
        if self._over or self._closing_at:
            return
        size = len(data)
        if size:
            try:
                count = self._from_agent.feed(data)
            except WebSocketError as error:
                self._stream.reset(Reason.PROTOCOL)
                self._close_visitor(BAD_GATEWAY, error.reason)
                return
            self._bytes_out += size
            self._outlet.write(data if count == size else data[:count])
        if end:
            self._stream.consumed(self.owed + size)
            self._end_upload()  # nothing that the visitor may still say has a reader
            self._conclude()
            return
        if self._visitor.choked:
            self.owed += size
        else:
            self._stream.consumed(size)
        if self._leaving:
            self._leave()

    def on_reset(self, reason: int) -> None:
        if self._over or self._closing_at:
            return
        if reason == Reason.REMOVED:
            self._close_visitor(GOING_AWAY, "removed")
        else:
            seen = reason if reason == Reason.SESSION_LOST else Reason.UPSTREAM_FAILED
            self._close_visitor(BAD_GATEWAY, self._exchange.page_of(seen).reason)

    def on_writable(self) -> None:
        self._waiting_since = 0.0
        self._visitor.resume_upload()

    # Ends

    def _end_upload(self) -> None:
        if not self._uploaded:
            self._uploaded = True
            self._stream.send(b"", True)

    def drain(self, delay: float = 0.0) -> None:
        """Ask the visitor to come again: the edge restarts. ``delay``: seconds, so that they spread."""
        self._leave_at = self._clock() + delay
        if not delay:
            self._leave()

    def _leave(self) -> None:
        """Close as soon as a frame may stand there."""
        if self._over or self._closing_at or self._from_agent.closed:
            return
        self._leaving = not self._from_agent.at_boundary
        if not self._leaving:
            self._stream.reset(Reason.CANCELLED)
            self._close_visitor(SERVICE_RESTART, pages.DRAINING.reason)

    def stalled(self, reason: str = "slow-reader") -> None:
        """One side has taken nothing for too long: nobody is served by bytes that wait."""
        if not (self._over or self._closing_at):
            self._stream.reset(Reason.TIMEOUT)
            self._close_visitor(TRY_AGAIN_LATER, reason)

    def tick(self, now: float) -> None:
        if self._closing_at:
            if now >= self._closing_at:
                self._outlet.abort()
            return
        if self._leave_at and now >= self._leave_at and not self._leaving:
            self._leave()
        elif self._waiting_since:  # we do not read the visitor: its silence says nothing
            self._heard = now
            if now - self._waiting_since >= self._terms.write_idle_seconds:
                self.stalled("slow-upstream")
        elif self._bytes_in != self._heard_bytes or not self._heard:
            self._heard, self._heard_bytes, self._unanswered = now, self._bytes_in, 0
        elif now - self._heard >= self._terms.websocket_ping_seconds * (self._unanswered + 1):
            self._ping()

    def _ping(self) -> None:
        """Ask a silent visitor whether it is there; its pong passes to the upstream, which ignores it."""
        if self._unanswered >= MISSED_PINGS:
            self._exchange.reason = "visitor-silent"
            self._outlet.abort()
        elif self._from_agent.at_boundary:
            self._unanswered += 1
            if not self._from_agent.closed:  # else it only has to close, and has as long for that
                self._outlet.write(ping_frame())

    def close(self, code: int, reason: str) -> None:
        """Close before the time, with a constant word for it: the stream is its owner's to end."""
        if not (self._over or self._closing_at):
            self._close_visitor(code, reason)

    def _close_visitor(self, code: int, reason: str) -> None:
        """Put in a Close where a frame may stand; cut the connection where one may not."""
        self._exchange.reason = reason
        self._closing_at = self._clock() + CLOSE_SECONDS
        if self._from_agent.closed or not self._from_agent.at_boundary:
            self._outlet.abort()
            return
        self._outlet.write(close_frame(code, reason))
        self._visitor.resume_upload()  # its answer has to be read
        if self._outlet.can_write_eof():
            self._outlet.write_eof()
        else:
            self._outlet.close()

    def _conclude(self) -> None:
        """The access line; a visitor that is still there is hung up on."""
        self._over = True
        self._exchange.conclude(self._bytes_in, self._bytes_out, self._exchange.reason)
