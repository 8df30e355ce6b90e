"""What both kinds of bridge are: a visitor's stream on one side, an agent's CONNECT on the other.

::

    visitor  send ──────> frames ──> lane ──> CONNECT stream        paused while the lane is full
             on_data <─── decoded <───────── on_data                credited when the visitor took it all

    opened ──> the agent asks for the bytes ──> bound ──> both halves ended
       └── too late, or the agent is gone: the visitor's sink hears a reset

Source: docs/reference/h2-carrier.md, "Bridges".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

from wellhead.edge.intake.answers import DONE
from wellhead.edge.intake.pump import Lane, Pump
from wellhead.wire.h2 import H2Sink, H2Stream
from wellhead.wire.h2_frames import ErrorCode
from wellhead.wire.hpack import Fields
from wellhead.wire.intake import ReplyRead
from wellhead.wire.intake_ws import outer_frame
from wellhead.wire.streams import Buffer, HeadKind, Reason, Sink, StreamKind
from wellhead.wire.ws_frames import PONG

PONGS_QUEUED = 4096  # bytes waiting for the agent above which its pings are not answered


@dataclass(frozen=True, slots=True)
class BridgeTerms:
    """The limits of bridges. Seconds and bytes."""

    reply_seconds: float = 30.0
    """For the agent to answer a WebSocket's request."""
    bind_seconds: float = 10.0
    """For the agent to ask for the bytes of a bridge."""
    close_seconds: float = 5.0
    """For the agent to end its half after we ended ours."""
    max_message_bytes: int = 16 * 1024 * 1024
    """Of a WebSocket's message, either way."""
    max_held_bytes: int = 64 * 1024 * 1024
    """Of all that a session holds: above it, messages that are not whole are given up."""


class Home(Protocol):
    """The agent's session, as far as bridges know it."""

    @property
    def clock(self) -> Callable[[], float]:
        """Loop seconds."""

    @property
    def bridge_terms(self) -> BridgeTerms: ...
    @property
    def held(self) -> int:
        """Bytes that came from either side and have not left."""

    def forget(self, bridge: Bridge, /) -> None:
        """It is over: what the agent still says about it means nothing."""


class Bridge:
    """A stream of the carrier (``wire.streams.Stream``) and the sink of a CONNECT (``H2Sink``) in one.

    ``request_id`` is the id in the envelope and in the CONNECT's path. ``sink``: the visitor's.
    """

    kind: ClassVar[StreamKind]
    method: Final = b"GET"  # of the request that it stands for
    answer_by: Final = 0.0  # its own clocks say that: see ``tick``
    envelope: Fields  # set before it is ``handed``

    def __init__(self, home: Home, request_id: bytes, sink: Sink, seconds: float) -> None:
        self.request_id = request_id
        self.sink = sink
        self._home = home
        self._due = home.clock() + seconds  # when we wait no longer, 0: we do not wait
        self._source: H2Stream | None = None  # what the agent's bytes come from
        self._lane: Lane | None = None  # to the agent, once it is bound
        self._unread = 0  # bytes that the visitor was given and did not acknowledge
        self._owed = 0  # bytes that came from the agent and were not credited
        self._ended = False  # nothing more is said to the agent
        self._end_sent = False  # and it was told so by END_STREAM
        self._visitor_over = False  # nothing more is said to the visitor
        self._over = False

    # For the session

    def handed(self, intake: H2Stream) -> None:
        """There is an intake for it."""
        intake.headers(self.envelope, True)

    @property
    def is_bound(self) -> bool:
        """The agent has asked for its bytes."""
        return self._lane is not None

    @property
    def held(self) -> int:
        """Bytes that wait here, beside those that streams count."""
        return 0 if self._lane is None else self._lane.queued

    def replied(self, read: ReplyRead, stream: H2Stream, end: bool) -> H2Sink:
        """The agent answers the request that opened this; returns the sink of the answer's body."""
        raise NotImplementedError

    def bound(self, stream: H2Stream, pump: Pump) -> H2Sink:
        """The agent asks for the bytes on ``stream``, whose connection's pump this is."""
        self._due = 0.0
        self._source = stream
        self._lane = pump.lane(stream, self._room)
        stream.headers(DONE)
        self._start()
        return self

    def failed(self, reason: Reason) -> None:
        """The session can serve this no longer: lost, superseded, drained away (CANCELLED), REMOVED."""
        if not self._over:
            self._fail(reason)

    def tick(self, now: float) -> None:
        if self._due and now >= self._due:
            self._due = 0.0
            self._expired(now)

    # Stream: what the visitor's side asks for

    @property
    def queued(self) -> int:
        return 0 if self._lane is None else self._lane.queued

    def head(self, kind: HeadKind, head: bytes, data: Buffer = b"", end: bool = False) -> bool:
        """No head goes to an agent on a bridge."""
        return self.send(data, end)

    def send(self, data: Buffer, end: bool = False) -> bool:
        raise NotImplementedError

    def reset(self, reason: int) -> None:
        """The visitor's side gives up."""
        self._visitor_over = True
        self._unread = 0
        if not self._over:
            self._given_up(reason)
        self._credit()

    def consumed(self, count: int) -> None:
        self._unread = max(0, self._unread - count)
        self._credit()

    # H2Sink: the agent's CONNECT

    def on_headers(self, fields: Fields, end: bool) -> None:
        """Trailers mean nothing here."""
        self.on_data(b"", end)

    def on_data(self, data: Buffer, end: bool) -> None:
        self._owed += len(data)
        if not self._over:
            if data:
                self._from_agent(data)
            if end and not self._over:
                self._agent_ended()
        self._credit()

    def on_reset(self, code: int) -> None:
        if not self._over:
            self._fail(Reason.SESSION_LOST if code == ErrorCode.LOST else Reason.UPSTREAM_FAILED)

    def on_writable(self) -> None:
        self._room()

    # What a kind of bridge says

    def _start(self) -> None:
        """It is bound."""
        raise NotImplementedError

    def _from_agent(self, data: Buffer) -> None:
        raise NotImplementedError

    def _agent_ended(self) -> None:
        """The agent ended its half, and the bridge is not over."""
        raise NotImplementedError

    def _fail(self, reason: Reason) -> None:
        """End both sides; ``reason`` is why."""
        raise NotImplementedError

    def _given_up(self, reason: int) -> None:
        """The visitor is gone: end the agent's side."""
        raise NotImplementedError

    def _expired(self, now: float) -> None:
        """What was waited for did not come."""
        raise NotImplementedError

    # For the kinds

    def _say(self, data: Buffer, end: bool = False) -> None:
        """To the visitor."""
        if not self._visitor_over and (data or end):
            self._visitor_over = end
            self._unread += len(data)
            self.sink.on_data(data, end)
            if end:
                self._unread = 0

    def _tell_reset(self, reason: int) -> None:
        """Have the visitor's side end with the words for ``reason``."""
        if not self._visitor_over:
            self._visitor_over = True
            self._unread = 0
            self.sink.on_reset(reason)

    def _room(self) -> None:
        if not self._visitor_over:
            self.sink.on_writable()

    def _pong(self, data: bytes) -> None:
        """Answer the agent's ping, unless answers are what it does not take."""
        if self._lane is not None and not self._ended and self._lane.queued < PONGS_QUEUED:
            self._lane.put(outer_frame(data, mask=None, opcode=PONG))

    def _finish(self, code: ErrorCode | None = None) -> None:
        """Nothing more is exchanged with the agent; ``code``: because of this, and it is to be told."""
        if self._over:
            return
        self._over = True
        self._due = 0.0
        lane, stream = self._lane, self._source
        if lane is not None:
            assert stream is not None
            if code is not None or lane.queued:
                stream.reset(ErrorCode.CANCEL if code is None else code)
            elif not self._end_sent:
                lane.end()
            lane.close()
        self._home.forget(self)

    def _credit(self) -> None:
        """The agent may send as much again, when the visitor has taken what there was."""
        if self._owed and not self._unread and self._source is not None:
            owed, self._owed = self._owed, 0
            self._source.consumed(owed)
