"""A session on the HTTP/2 carrier: the protocol of its transport, as ``net.session`` is on the native one.

::

    hello ─> slots parked ─> envelopes ─> streams for the agent ─> replies, bridges
          GOAWAY 0            no more envelopes; replies and bridges go on, until all is over
          GOAWAY 0x1201       another agent has the tunnel
          401 to an intake    the edge has forgotten the session: it ends, once

Source: docs/reference/h2-carrier.md.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import Protocol, cast

from wellhead.agent.intake.call import Call, Open
from wellhead.agent.intake.exchange import Exchange, answer
from wellhead.agent.intake.hello import HelloCall, TunnelUnknown, ended, is_superseded
from wellhead.agent.intake.reply import ReplyHeads
from wellhead.agent.intake.request import RequestStream, Upload
from wellhead.agent.intake.slots import Slot, Slots
from wellhead.agent.intake.tcp import TcpStream
from wellhead.agent.intake.terms import PULSE, TERMS, IntakeLimits
from wellhead.agent.intake.websocket import WebSocketStream
from wellhead.errors import Draining, H2Error, HelloError, SessionLost, Superseded, WellheadError
from wellhead.logs import Log
from wellhead.net.carrier import Ear, OnStream
from wellhead.net.h2_writer import H2Writer
from wellhead.net.pulse import Pulse, Verdict
from wellhead.net.session import boot_time
from wellhead.net.sockets import why
from wellhead.wire.h2 import Fields, H2Connection, H2Role, H2Sink, H2Stream
from wellhead.wire.intake import Caller, EnvelopeError, Hello, Parcel, ParcelReader
from wellhead.wire.masking import NO_MASK
from wellhead.wire.messages import Welcome
from wellhead.wire.streams import Reason, StreamKind

HIGH_WATER = 64 * 1024  # bytes in the transport above which nothing more is taken
DRAIN_SECONDS = 90.0  # for which a draining edge keeps its bridges

_log = Log("wellhead.agent")


class House(Protocol):
    """Whoever has the sessions of one tunnel."""

    host: bytes  # the tunnel's public host
    caller: Caller
    heads: ReplyHeads
    limits: IntakeLimits
    exchanges: set[Exchange]  # of all sessions
    on_stream: OnStream
    unknown: int  # times in a row that the edge did not know the tunnel

    def websocket_key(self) -> bytes:
        """For the handshake with an upstream."""

    def began(self, session: IntakeSession) -> None:
        """It was welcomed."""

    def over(self, session: IntakeSession) -> None:
        """Its connection is gone."""

    def hand_over(self, call: Call) -> None:
        """Have it opened on a session that can."""

    def is_replaced(self, session: IntakeSession) -> bool:
        """A later session was welcomed."""


class IntakeSession(H2Writer):
    """See the module. ``ear`` is told of welcome, refusal, drain and loss."""

    def __init__(self, house: House, ear: Ear) -> None:
        super().__init__(asyncio.get_running_loop(), HIGH_WATER)
        self.caller = house.caller
        self.heads = house.heads
        self.limits = house.limits
        self.local: tuple[object, ...] = ()
        self.peer_draining = False
        self.is_ours = False
        self.deadline_seconds: float | None = None
        self.owed = 0
        self.now = 0.0
        self._house = house
        self._ear = ear
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self.h2 = H2Connection(
            H2Role.CLIENT, terms=TERMS, on_goaway=self._goaway, wake=self._wake, clock=self._loop.time
        )
        self.open: Open = self.h2.open  # bound once: every reply begins here
        self._reader = ParcelReader(house.host, house.websocket_key)
        self._slots: Slots | None = None  # None until the edge has welcomed us
        self._calls: deque[Call] = deque()  # that wait for room
        self._pulse = Pulse(PULSE, 0.0, 0.0)
        self._leaving = False  # we take no more envelopes
        self._over = False  # it is ending
        self._error: WellheadError | None = None

    # What the uplink asks for

    @property
    def load(self) -> int:
        return sum(1 for exchange in self._house.exchanges if exchange.home is self)

    def hello(self) -> None:
        """Say hello; the connection is there.

        Raises:
            HelloError: the edge takes none.
        """
        if not self.h2.may_open:
            raise HelloError("the edge takes no requests on this connection")
        call = HelloCall(self._answered, self._house.unknown)
        call.stream = self.h2.open(self.caller.hello(self.limits.pool), True, call)

    def drain(self, reason: int = Reason.CANCELLED, retry_after_ms: int = 0, text: str = "") -> None:
        """Take no more envelopes than are under way."""
        if not self._leaving and self._transport is not None:
            self._leaving = True
            self.h2.announce_leaving()

    def close(self) -> None:
        """Write what is queued and end the connection."""
        transport = self._transport
        if transport is not None and not self._over:
            self._over = True
            self._flush()
            self._paused = True
            transport.close()

    def abort(self, error: WellheadError | None = None) -> None:
        if self._transport is not None:
            self._over = True
            self._error = self._error or error
            self._transport.abort()

    def probe(self) -> None:
        self._heed(self._pulse.probe(self._loop.time()))

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's and aiofastnet's are no subclasses
        self._transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER, low=HIGH_WATER // 4)
        self.local = transport.get_extra_info("sockname") or ()
        self.now = self._loop.time()
        self._pulse = Pulse(PULSE, self.now, boot_time())
        self.h2.start()

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        self.now = self._loop.time()
        self._pulse.hear(self.now)
        self._receiving = True
        try:
            self.h2.receive(data)
            self._fill()
        except H2Error as error:
            self._broken(error)
        finally:
            self._receiving = False
        if self._scheduled:
            self._flush()

    def eof_received(self) -> bool:
        return False  # a session has no half-close

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        if not self._over:
            self._paused = False
            self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._over = True
        error = self._error
        if error is None and exc is not None:
            error = SessionLost(f"connection lost: {why(exc) if isinstance(exc, OSError) else exc}")
        try:
            self._let_go()
        finally:  # whatever a sink makes of it
            if not self.closed.done():
                self.closed.set_result(None)
            self._house.over(self)
            self._ear.lost(self, error)

    def _let_go(self) -> None:
        """Tell whoever depends on the connection; a reply that is not begun outlives one that was drained."""
        self.h2.lost()
        calls, self._calls = self._calls, deque()
        for exchange in [one for one in self._house.exchanges if one.home is self]:
            if not self.peer_draining:
                exchange.lost()
        for call in calls:
            self._house.hand_over(call) if self.peer_draining else call.given_up()

    # The clock

    def tick(self, now: float) -> None:
        """A few times a second, from the house."""
        transport = self._transport
        if transport is None:
            return
        self.now = now
        try:
            self.h2.tick(now)
        except H2Error as error:
            self._broken(error)
            return
        self._heed(self._pulse.look(now, boot_time(), transport.get_write_buffer_size()))
        if self._slots is not None:
            self._slots.tick(now)
            if self.h2.spent and not self.peer_draining:  # for the edge it is as if we left
                self.drain()
                self._be_replaced()
        self._fill()
        if self.peer_draining and self._house.is_replaced(self) and not self.load:
            self.close()

    def _heed(self, verdict: Verdict) -> None:
        if verdict is Verdict.ASK and not self._over:
            self.h2.ping(self._loop.time())
        elif verdict is Verdict.DEAD:
            silent = self._loop.time() - self._pulse.heard
            self.abort(SessionLost(f"no answer to a ping; nothing heard for {silent:.1f} s"))

    # Writing

    def _wrote(self) -> None:
        self._heed(self._pulse.wrote(self._loop.time()))

    def _torn(self, transport: asyncio.Transport) -> None:
        self.abort()

    # Hello

    def _answered(self, said: Hello | WellheadError) -> None:
        house = self._house
        if isinstance(said, WellheadError):
            house.unknown = house.unknown + 1 if isinstance(said, TunnelUnknown) else 0
            self._ear.refused(self, said)
            return
        house.unknown = 0
        ours = said.ours
        self.is_ours = ours is not None
        self.deadline_seconds = said.deadline_seconds
        token = said.owner_token.encode()
        calls = [self.caller.intake(slot, token) for slot in range(said.pool or self.limits.pool or 1)]
        self._slots = Slots(self, calls)
        welcome = Welcome(
            session=ours.session if ours else "",
            tunnel_id=ours.tunnel_id if ours else "",
            name=ours.name if ours else "",
            public_urls=ours.public_urls if ours else [],
            drain_seconds=DRAIN_SECONDS,
        )
        self._ear.welcomed(self, welcome)
        house.began(self)

    # Slots

    def may_park(self) -> bool:
        """Every envelope under way is to have room for its reply."""
        h2 = self.h2
        if self._leaving or self.peer_draining or self._over or not h2.may_open:
            return False
        return h2.peer.max_streams - h2.streams > self.owed

    def park(self, fields: Fields, sink: H2Sink) -> H2Stream:
        return self.h2.open(fields, True, sink)

    def delivered(self, fields: Fields, intake: H2Stream, slot: Slot, end: bool) -> bool:
        try:
            parcel = self._reader.read(fields)
        except EnvelopeError as error:
            self._drop(intake, slot, end)
            _log.warning("malformed envelope", reason=error.reason)
            answer(self, error.request_id, 400, error.reason.encode())
            return True
        if parcel is None:
            return False
        if parcel.kind is StreamKind.HTTP and not parcel.body_uri:
            self._request(parcel, intake, slot, end)
            return True
        self._drop(intake, slot, end)
        if parcel.body_uri:  # it could name any address that this machine can reach
            answer(self, parcel.request_id, 502, b"body-fetch-failed")
        elif parcel.kind is StreamKind.WEBSOCKET:
            WebSocketStream(self, parcel).begin()
        else:
            TcpStream(self, parcel).begin()
        return True

    def _request(self, parcel: Parcel, intake: H2Stream, slot: Slot, end: bool) -> None:
        stream = RequestStream(self, parcel.request_id, None if end else intake)
        if end:
            slot.freed()
        elif self.is_ours:
            intake.sink = Upload(stream, None)
            slot.freed()
        else:
            intake.sink = Upload(stream, slot)
        self.enter(stream)
        self.accept(stream, StreamKind.HTTP, parcel.envelope, end)

    def _drop(self, intake: H2Stream, slot: Slot, end: bool) -> None:
        """Nothing more of this intake is of interest."""
        if not end:
            intake.reset(0x8)
        slot.freed()

    def forgotten(self) -> None:
        self.abort(SessionLost("the edge has forgotten the session"))

    def taken(self) -> None:
        if not self.peer_draining and not self._house.is_replaced(self):
            self._error = Superseded("another agent answers for this tunnel")
            self.close()

    # For exchanges

    def accept(self, exchange: Exchange, kind: StreamKind, envelope: bytes, end: bool) -> None:
        try:
            self._house.on_stream(exchange, kind, envelope, b"", end)
        except Exception as error:  # of one request: the others, and the slots, have nothing to do with it
            _log.error("a request failed", error=error)
            exchange.reset(Reason.INTERNAL)

    def enter(self, exchange: Exchange) -> None:
        self._house.exchanges.add(exchange)

    def forget(self, exchange: Exchange) -> None:
        self._house.exchanges.discard(exchange)

    def mask(self) -> bytes:
        """TLS hides what a mask is there to hide; a stranger may insist on one all the same."""
        return NO_MASK if self.is_ours else os.urandom(4)

    def open_for(self, call: Call) -> None:
        if not (self._calls or self.peer_draining or self._over) and self.h2.may_open:  # fast path
            call.opens(self)
        elif self.takes_calls:
            self._calls.append(call)
            self._fill()
        elif self.peer_draining:
            self._house.hand_over(call)
        else:
            call.given_up()

    @property
    def takes_calls(self) -> bool:
        """Whether streams may still be opened; only an edge of ours serves new ones behind its GOAWAY."""
        return not (self._over or (self.peer_draining and not (self.is_ours and self.h2.may_open)))

    def _fill(self) -> None:
        """Open what waits for room: replies before intakes."""
        calls = self._calls
        while calls and self.h2.may_open:
            calls.popleft().opens(self)
        if self._slots is not None and self._slots.idle:
            self._slots.fill()

    # Ends

    def _goaway(self, last: int, code: int) -> None:
        if is_superseded(code, self.h2.goaway_debug):
            self.taken()
        elif code:
            self.abort(ended(code))
        elif not self.peer_draining:
            if self._slots is None:
                self._ear.refused(self, Draining("the edge is leaving"))
            else:
                self._be_replaced()

    def _be_replaced(self) -> None:
        """A successor takes what can no longer begin here."""
        self.peer_draining = True
        if not self.takes_calls:
            calls, self._calls = self._calls, deque()
            for call in calls:
                self._house.hand_over(call)
        self._ear.drained(self, 0)

    def _broken(self, error: H2Error) -> None:
        """The edge broke the rules: it is told, and that is all."""
        self._error = self._error or error
        self.close()
