"""An agent on the HTTP/2 carrier: the intakes that it parked, and the requests that it was handed.

::

    SERVING ──> LEAVING ──> closed       LEAVING: nothing new is handed over, what was is answered
       └──────────^────────────^

One connection is one session. What it was handed belongs to the tunnel's seat: an agent that moved on
answers on its next connection.

Source: docs/reference/h2-carrier.md, "Sessions".
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Protocol

from wellhead.edge.intake import answers
from wellhead.edge.intake.bridge import Bridge
from wellhead.edge.intake.pool import Pool
from wellhead.edge.intake.pump import Pump
from wellhead.edge.intake.request import IntakeRequest
from wellhead.edge.intake.seat import Pending, Seat
from wellhead.edge.intake.tcp import TcpBridge
from wellhead.edge.intake.terms import IntakeTerms
from wellhead.edge.intake.websocket import WebSocketBridge
from wellhead.errors import H2Error, HttpError, SessionLost, WellheadError
from wellhead.logs import Log
from wellhead.model.records import TunnelView
from wellhead.net.pulse import Pulse, Verdict
from wellhead.wire.facts import Facts
from wellhead.wire.h2 import H2Connection, H2Stream
from wellhead.wire.h2_frames import ErrorCode
from wellhead.wire.hpack import Fields
from wellhead.wire.intake import (
    INTAKE_PATH,
    MAX_POOL,
    RESPONSE_PATH,
    TCP_PATH,
    TCP_PROTOCOL,
    WEBSOCKET_PATH,
    WEBSOCKET_PROTOCOL,
    envelope_block,
    envelope_fields,
    expects_continue,
    tcp_fields,
)
from wellhead.wire.intake_reply import ReplyReader
from wellhead.wire.streams import Buffer, Reason, Sink, Stream, StreamKind

_log = Log("wellhead.edge")
_HTTP = StreamKind.HTTP  # bound once, for the path of every request
_RESPONSE_SIZE = len(RESPONSE_PATH)
_NO_FIELDS: Fields = []
SUPERSEDED_CODE = 0x1201  # of a GOAWAY: another agent has the tunnel, stay away
SUPERSEDED_DATA = b'{"reason":"superseded"}'
DRAIN_DATA = b'{"reason":"drain"}'
GOODBYE_SECONDS = 1.0  # for an agent to read a GOAWAY before the connection is closed
QUIET_SHARE = 0.5  # of a drain, for which an agent that drops its connection at GOAWAY is left to answer


class Connection(Protocol):
    """The connection of a session, as far as the session knows it."""

    def flush(self) -> None:
        """Write what waits."""

    def hang_up(self) -> None:
        """Close when everything is written."""

    def cut(self) -> None:
        """Close at once."""

    def elsewhere(self, stream: H2Stream, fields: Fields, path: bytes, end: bool) -> None:
        """The agent asks for something that is not the session's."""

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent."""

    def acknowledged(self) -> bool:
        """Whether the agent's machine took all that was sent."""


class IntakeSession:
    """See ``edge.registry.Live``, which this is. Made when a hello is let in.

    ``by_secret``: it showed a tunnel's secret, so that it knows no GOAWAY; ``ours``: it is an agent of this
    house, which knows everything. ``soon`` calls something in the next turn of the loop.
    """

    carrier = "h2"
    own_certificate = False

    def __init__(
        self,
        connection: Connection,
        h2: H2Connection,
        seat: Seat,
        view: TunnelView,
        terms: IntakeTerms,
        clock: Callable[[], float],
        soon: Callable[[Callable[[], None]], object],
        *,
        session_id: str,
        peer: str,
        token: bytes,
        by_secret: bool,
        ours: bool,
    ) -> None:
        self.id = session_id
        self.peer = peer
        self.view = view
        self.seat = seat
        self.pending: dict[bytes, Pending] = seat.pending
        self.running: set[IntakeRequest | Bridge] = set()
        self.clock = clock
        self.now = clock()
        self.usable = True
        self.draining = False
        self.superseded = False
        self.by_secret = by_secret
        self.ours = ours
        self.end_word = "closed"  # why it ended, a constant word
        self._heads: list[IntakeRequest] = []  # whose replies' heads are not told yet
        self.pulse = Pulse(terms.liveness, clock(), 0.0)
        self.soon = soon
        self.max_body_bytes = terms.max_body_bytes
        self.answer_seconds = terms.answer_seconds
        self.bridge_terms = terms.bridge
        self._connection = connection
        self._h2 = h2
        self._terms = terms
        self._token = token
        self._good: dict[int, Fields] = {}  # where the token was found, by id: slots repeat theirs
        self._replies = ReplyReader(joined_cookies=by_secret and not ours)
        self.pool = Pool(terms, soon)
        self.pump = Pump(h2, clock, self.pool.junk, self.recycle)
        self.later = self.pump.later
        self._bridges: dict[bytes, Bridge] = {}
        self._reason: Reason = Reason.SESSION_LOST  # what its streams are told at its end
        self._warn_by = 0.0  # when a GOAWAY goes out at the latest, 0: none is due
        self._leave_by = 0.0  # when the connection is closed at the latest, 0: it stays
        self._leave_idle = 0.0  # from when on it is closed if nothing is left to do, 0: not for that
        self._closed = False

    # Live: what the edge asks for

    @property
    def load(self) -> int:
        return len(self.running)

    @property
    def held(self) -> int:
        waiting = sum([bridge.held for bridge in self._bridges.values()])
        return self._h2.held + waiting + self._connection.unsent

    @property
    def is_idle(self) -> bool:
        """Nothing runs or waits, and it does not leave: its clocks are in no hurry."""
        return not (self.running or self.pool.waiting or self._leave_by)

    @property
    def bridges(self) -> int:
        """WebSockets and TCP connections."""
        return len(self._bridges)

    def open(
        self,
        kind: StreamKind,
        envelope: bytes,
        sink: Sink,
        data: Buffer = b"",
        end: bool = False,
        *,
        interactive: bool = False,
    ) -> Stream:
        """Hand a stream to the agent, as soon as it asks for one."""
        request_id = self.seat.request_id()
        if kind is not _HTTP:
            return self._open_bridge(kind, envelope, sink, data, end, request_id)
        try:
            method, lead, common = envelope_block(envelope, request_id, faithful=self.ours)
        except HttpError:
            return self._refused(
                IntakeRequest(self, sink, b"", b"", [], b"", whole=end), Reason.HEAD_TOO_LARGE
            )
        request = IntakeRequest(self, sink, request_id, lead, common, method, whole=end)
        self.running.add(request)
        if not end:
            if _length(envelope) > self.max_body_bytes:
                return self._refused(request, Reason.TOO_LARGE)
            if expects_continue(envelope):
                request.expect()
            if data:
                request.send(data)
        self.pool.hand(request, self.now)
        self.pulse.owes = True
        return request

    def _refused(self, request: IntakeRequest, reason: Reason) -> IntakeRequest:
        """One that the carrier cannot carry: whoever opens it does not expect an answer before it is open."""
        self.soon(lambda: request.failed(reason))
        return request

    def _open_bridge(
        self, kind: StreamKind, envelope: bytes, sink: Sink, data: Buffer, end: bool, request_id: bytes
    ) -> Stream:
        bridge: Bridge
        fields: Fields = []
        refusal: Reason | None = None
        if kind is StreamKind.TCP:
            bridge = TcpBridge(self, request_id, sink, data, end)
            fields = tcp_fields(Facts.decode(envelope), request_id)
        else:
            bridge = WebSocketBridge(self, request_id, envelope, sink)
            try:
                fields = envelope_fields(envelope, request_id, websocket=True, faithful=self.ours)
            except HttpError:
                refusal = Reason.HEAD_TOO_LARGE
        self.running.add(bridge)
        self._bridges[request_id] = bridge
        if refusal is not None:
            self.soon(lambda: bridge.failed(refusal))
            return bridge
        if kind is not StreamKind.TCP:
            self.pending[request_id] = bridge
        bridge.envelope = fields
        self.pool.hand(bridge, self.now)
        self.pulse.owes = True
        return bridge

    def drain(self, reason: int = Reason.CANCELLED, retry_after_ms: int = 0, text: str = "") -> None:
        """Ask the agent to go elsewhere, in the way that it knows."""
        if self.draining or self._closed:
            return
        self.draining = True
        self.usable = False
        self.pool.shed(Reason.REFUSED)
        now, seconds = self.clock(), self._terms.drain_seconds
        self._leave_by = now + seconds
        if self.by_secret and not self.ours:
            self._leave_idle = now
        elif self.ours or not self.running:
            self._h2.warn(ErrorCode.NO_ERROR, DRAIN_DATA)
        else:
            self._warn_by = now + seconds * QUIET_SHARE
        self._connection.flush()

    def supersede(self) -> None:
        """Another agent has the tunnel from now on; what this one was handed it may still answer."""
        if self.superseded or self._closed:
            return
        self.superseded = True
        self.usable = False
        self.end_word = "superseded"
        self.pool.shed(Reason.REFUSED)
        now = self.clock()
        self._leave_idle = now
        self._leave_by = now + self.answer_seconds
        if self.ours or not self.by_secret:
            self._leave_idle = now + GOODBYE_SECONDS
            self.pool.end(answers.SUPERSEDED)
            # The last of all: hyper-h2 takes any frame behind a GOAWAY for an error, and forgets the GOAWAY.
            self._h2.warn(SUPERSEDED_CODE, SUPERSEDED_DATA)
        else:
            self.probe()
        self._connection.flush()
        self._leave(now)

    def recycle(self, reason: str) -> None:
        """This connection is spoilt, and its agent has to make another."""
        if self._closed or self.draining:
            return
        _log.info("session recycled", session=self.id, tunnel=self.view.name, reason=reason)
        self.end_word = reason
        self.drain()

    def close(self, reason: int = Reason.SESSION_LOST) -> None:
        """Write what is queued and end the connection."""
        if not self._closed:
            self._reason = Reason(reason)
            self._end()
            self._connection.hang_up()

    def abort(self, error: WellheadError | None = None) -> None:
        """End the connection at once."""
        if error is not None and not self._closed:
            self.end_word = error.code
        self._end()
        self._connection.cut()

    def end(self, reason: Reason) -> None:
        """The agent may be here no longer."""
        if not self._closed and (self.ours or not self.by_secret):
            self._h2.warn(ErrorCode.NO_ERROR, b"")
        self.close(reason)

    def probe(self) -> None:
        """Ask the agent now whether it is there."""
        if not self._closed:
            self._ask(self.pulse.probe(self.clock()))

    # From the connection

    def opened(self, stream: H2Stream, fields: Fields, end: bool) -> None:
        """The agent asks for something."""
        # Where most put it.
        path = fields[3][1] if len(fields) > 3 and fields[3][0] == b":path" else path_of(fields)
        if path == INTAKE_PATH:
            if self._good.get(id(fields)) is not fields and not self._has_token(fields):
                answers.end(stream, answers.NO_SESSION)
            elif self.superseded and (self.ours or not self.by_secret):
                answers.end(stream, answers.SUPERSEDED)
            elif not end:
                answers.refuse(stream, 400, "an intake has no body", whole=False)
            else:
                if self.pool.park(stream):
                    self.pulse.owes = True
        elif path.startswith(RESPONSE_PATH):
            self._replied(stream, fields, path[_RESPONSE_SIZE:], end)
        elif path.startswith(WEBSOCKET_PATH):
            self._bound(stream, fields, path[len(WEBSOCKET_PATH) :], WEBSOCKET_PROTOCOL)
        elif path.startswith(TCP_PATH):
            self._bound(stream, fields, path[len(TCP_PATH) :], TCP_PROTOCOL)
        else:
            self._connection.elsewhere(stream, fields, path, end)

    def _has_token(self, fields: Fields) -> bool:
        token = next((value for name, value in fields if name == b"x-owner-token"), b"")
        if not hmac.compare_digest(token, self._token):
            return False
        if len(self._good) > MAX_POOL:
            self._good.clear()
        self._good[id(fields)] = fields
        return True

    def _replied(self, stream: H2Stream, fields: Fields, request_id: bytes, end: bool) -> None:
        pending = self.pending.pop(request_id, None)
        if pending is None:
            answers.end(stream, answers.LATE if self.seat.was_mine(request_id) else answers.UNKNOWN)
            return
        try:
            read = self._replies.read(fields, pending.method)
        except HttpError:
            answers.end(stream, answers.DONE)
            pending.failed(Reason.PROTOCOL)
            return
        if isinstance(pending, IntakeRequest):
            stream.sink = pending
            pending.replied(read, stream, end)
            if pending.head_waits:
                self._heads.append(pending)
            return
        stream.headers(answers.DONE, True)  # the agent asks for its bytes only behind this
        stream.sink = answers.Deaf(stream)
        stream.sink = pending.replied(read, stream, end)

    def _bound(self, stream: H2Stream, fields: Fields, bridge_id: bytes, protocol: bytes) -> None:
        bridge = self._bridges.get(bridge_id)
        is_connect = (b":method", b"CONNECT") in fields and (b":protocol", protocol) in fields
        right = TCP_PROTOCOL if bridge is not None and bridge.kind is StreamKind.TCP else WEBSOCKET_PROTOCOL
        if bridge is None or bridge.is_bound or not is_connect or protocol != right:
            answers.end(stream, answers.UNKNOWN)
            return
        stream.sink = answers.Deaf(stream)
        stream.sink = bridge.bound(stream, self.pump)

    def hear(self, now: float) -> None:
        """Bytes came."""
        self.now = now
        self.pulse.hear(now)

    def received(self) -> None:
        """All that came was read."""
        if self._heads:
            heads, self._heads = self._heads, []
            for request in heads:
                request.tell_head()
        if self.pump.waiting:
            self.pump.go()

    def agent_leaves(self) -> None:
        """The agent said GOAWAY: what runs goes on, nothing new is handed over."""
        self.usable = False
        self.pool.shed(Reason.REFUSED)
        if self.ours:  # it parks no more; others would, at once
            self.pool.end(answers.DONE)
        self._leave_idle = self.clock()
        self._leave_by = self._leave_by or self._leave_idle + self._terms.drain_seconds

    def tick(self, now: float) -> None:
        """Look at every clock; four times a second."""
        self.now = now
        self.pool.tick(now)
        for bridge in list(self._bridges.values()):
            bridge.tick(now)
        self.pump.tick(now)
        self._check_pulse(now)
        self._leave(now)

    def broke(self, error: H2Error) -> None:
        """The agent broke a rule of HTTP/2, or did too much of something."""
        self.end_word = error.code
        self._end()

    def lost(self) -> None:
        """The connection is over."""
        self._end()

    # Requests and bridges

    @property
    def held_up(self) -> bool:
        return self.pump.holds

    def forget(self, bridge: Bridge) -> None:
        """A bridge is over."""
        self.running.discard(bridge)
        self._bridges.pop(bridge.request_id, None)
        self.pending.pop(bridge.request_id, None)
        self.pool.unwait(bridge)

    def unwait(self, request: IntakeRequest) -> None:
        self.pool.unwait(request)

    # Clocks and ends

    def _check_pulse(self, now: float) -> None:
        connection = self._connection
        self._ask(self.pulse.look(now, 0.0, connection.unsent, acknowledged=connection.acknowledged))

    def _ask(self, verdict: Verdict) -> None:
        if verdict is Verdict.ASK:
            self._h2.ping(self.clock())
        elif verdict is Verdict.DEAD:
            silent = self.clock() - self.pulse.heard
            self.abort(SessionLost(f"no answer to a ping; nothing heard for {silent:.1f} s"))

    def _leave(self, now: float) -> None:
        if self._closed:
            return
        idle = not self.running
        if self._warn_by and (idle or now >= self._warn_by):
            self._warn_by = 0.0
            self._h2.warn(ErrorCode.NO_ERROR, DRAIN_DATA)
        if self._leave_by and (now >= self._leave_by or (idle and 0 < self._leave_idle <= now)):
            self.close()

    def _end(self) -> None:
        """Nothing more is handed over, and nothing is answered here."""
        if self._closed:
            return
        self._closed = True
        self.usable = False
        self.pool.slots.clear()
        self.pool.shed(Reason.REFUSED)
        for bridge in list(self._bridges.values()):
            bridge.failed(Reason.CANCELLED if self.draining else self._reason)
        # Who was asked to go elsewhere may have gone, and answers there.
        moved = self.draining and self._reason is Reason.SESSION_LOST
        for request in [each for each in self.running if isinstance(each, IntakeRequest)]:
            if not (moved and request.request_id in self.pending):
                request.failed(self._reason)


def path_of(fields: Fields) -> bytes:
    """The path of a request's header list, empty where there is none."""
    return next((value for name, value in fields if name == b":path"), b"")


def _length(envelope: bytes) -> int:
    """What a canonical request head says of its body, 0 for nothing."""
    at = envelope.find(b"\r\nContent-Length: ")
    if at < 0:
        return 0
    return int(envelope[at + 18 : envelope.find(b"\r\n", at + 18)])
