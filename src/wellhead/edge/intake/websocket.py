"""A visitor's WebSocket over the HTTP/2 carrier: whole messages in envelopes on an agent's CONNECT.

::

    envelope out ──> the agent accepts ──> the agent asks for the bytes ──> 101 ──> messages both ways
           └── it refuses: an ordinary reply       └── not in time: 504

The visitor's side is RFC 6455 as on every carrier; the agent knows neither fragments nor pings, so they are
dealt with here, and no extension is ever agreed on. Whoever closes first is believed: a Close of the
visitor's is answered when the agent has ended, or soon after.

Source: docs/reference/h2-carrier.md, "WebSockets"; RFC 6455 section 7.
"""

from __future__ import annotations

from typing import Final, Protocol, cast

from wellhead.edge.intake.answers import UNKNOWN, Deaf
from wellhead.edge.intake.bridge import Bridge, Home
from wellhead.edge.intake.pump import Pump
from wellhead.visitors import pages
from wellhead.visitors.conversation import GOING_AWAY, SERVICE_RESTART, TRY_AGAIN_LATER
from wellhead.wire.h2 import H2Sink, H2Stream
from wellhead.wire.h2_frames import ErrorCode
from wellhead.wire.hpack import Fields
from wellhead.wire.intake import ReplyRead, websocket_key
from wellhead.wire.intake_ws import (
    EnvelopeDecoder,
    OuterDecoder,
    binary_envelope,
    close_envelope,
    cut_reason,
    outer_frame,
    spoken_code,
    text_envelope,
)
from wellhead.wire.streams import Buffer, HeadKind, Reason, Sink, StreamKind
from wellhead.wire.ws import MESSAGE_TOO_BIG, PROTOCOL_ERROR, close_frame
from wellhead.wire.ws_frames import (
    BINARY,
    CLOSE,
    NO_STATUS,
    PONG,
    TEXT,
    Binary,
    Broken,
    Close,
    Ping,
    Text,
    frame,
)
from wellhead.wire.ws_messages import MessageReader

INTERNAL: Final = 1011  # RFC 6455's word for an endpoint that cannot go on
LINGER_SECONDS = 1.0  # between our Close and our end, for an agent that has ended
ECHO_SECONDS = 2.0  # in which the agent may end before a visitor's Close is answered
TOO_BIG: Final = "message-too-big"
WEIGH_BYTES = 256 * 1024  # by which an unfinished message grows between two looks at what is held
# Why a bridge ends before its time: the visitor's close code, and the word for it.
_ENDS = {
    Reason.SESSION_LOST: (INTERNAL, pages.LOST.reason),
    Reason.CANCELLED: (SERVICE_RESTART, pages.DRAINING.reason),
    Reason.REMOVED: (GOING_AWAY, "removed"),
}
_ENVELOPE_SHARE = 4 / 3  # of JSON for each byte of a message, at most in base64
_ENVELOPE_MORE = 1024  # bytes of it besides


class WebSocketBridge(Bridge):
    """One WebSocket. ``head``: the canonical request head."""

    kind = StreamKind.WEBSOCKET

    def __init__(self, home: Home, request_id: bytes, head: bytes, sink: Sink) -> None:
        terms = home.bridge_terms
        super().__init__(home, request_id, sink, terms.reply_seconds)
        self._key = websocket_key(head)
        self._switch = b""  # the 101, once the agent has accepted
        self._answered = False
        self._max = terms.max_message_bytes
        self._reader = _reader(self._max)
        self._outer = OuterDecoder(masked=None)
        self._envelopes = EnvelopeDecoder(int(self._max * _ENVELOPE_SHARE) + _ENVELOPE_MORE)
        self._echo: Close | None = None  # the visitor's Close, while it is not answered
        self._weighed = 0  # unfinished bytes when it was last asked whether there is room for them
        self._agent_over = False  # it closed; what it says after that means nothing
        self._farewell: int | None = None  # the code of its Close, where it was the first
        self._outer_closed = False  # and there was a Close of the outer layer
        self._agent_done = False  # its half is ended

    @property
    def held(self) -> int:
        return self._unfinished + super().held

    @property
    def _unfinished(self) -> int:
        """Bytes of messages that are not whole."""
        return self._reader.unfinished + self._envelopes.unfinished

    # The request

    def replied(self, read: ReplyRead, stream: H2Stream, end: bool) -> H2Sink:
        if self._over or self._answered:
            return Deaf(stream)
        self._answered = True
        if read.accepts_websocket:
            self._switch = read.switch_head(self._key)
            self._due = self._home.clock() + self._home.bridge_terms.bind_seconds
            return Deaf(stream)
        self._due = 0.0
        self._source = stream
        refusal = Refusal(self, read)
        if end:
            refusal.on_data(b"", True)
        return refusal

    def refused(self, head: bytes, data: Buffer, end: bool) -> None:
        """Bytes of the agent's own answer; ``head`` stands before the first."""
        self._owed += len(data)
        if not head:
            self._say(data, end)
        elif not self._visitor_over:
            self._unread += len(data)
            self.sink.on_head(HeadKind.REPLY, head, data, end)
        if end:
            self._visitor_over = True
            self._unread = 0
            self._finish()
        self._credit()

    def bound(self, stream: H2Stream, pump: Pump) -> H2Sink:
        if not self._switch:
            stream.headers(UNKNOWN, True)
            return Deaf(stream)
        return super().bound(stream, pump)

    def _start(self) -> None:
        assert self._lane is not None
        most = self._lane.max_frame
        if most:
            self._reader = _reader(min(most, self._max))
        self.sink.on_head(HeadKind.REPLY, self._switch, b"", False)

    def _expired(self, now: float) -> None:
        if self._lane is None:
            self._tell_reset(Reason.TIMEOUT)
            self._finish()
        elif self._echo is not None:
            self._answer_close()
            self._due = now + self._home.bridge_terms.close_seconds
        else:
            self._finish(None if self._agent_done else ErrorCode.CANCEL)

    # From the visitor

    def send(self, data: Buffer, end: bool = False) -> bool:
        if self._over or self._ended or self._lane is None:
            return True
        flowing = True
        replies: list[bytes] = []
        for event in self._reader.receive(data):
            if isinstance(event, Text | Binary):
                out = outer_frame(_envelope(event), mask=None)
                if 0 < self._lane.max_frame < len(out):
                    self._close_both(MESSAGE_TOO_BIG, TOO_BIG)
                    return True
                flowing = self._lane.put(out)
            elif isinstance(event, Ping):
                replies.append(frame(PONG, event.data))
            elif isinstance(event, Close):
                self._echo = event
                self._end_with(event.code, event.reason)
                self._due = self._home.clock() + ECHO_SECONDS
            else:
                self._close_both(event.code, event.reason)
                return True
        if replies:
            self._say(b"".join(replies))
        self._weigh()
        if end and not self._ended:
            self._end_with(GOING_AWAY)
        return flowing

    # From the agent

    def _from_agent(self, data: Buffer) -> None:
        out: list[bytes] = []
        ending: Close | Broken | None = None
        for event in self._outer.receive(data):
            heard = not self._agent_over and ending is None
            if isinstance(event, Binary):
                if heard:
                    ending = self._messages(event.data, out)
            elif isinstance(event, Ping):
                self._pong(event.data)
            elif isinstance(event, Close | Broken):
                self._outer_closed = isinstance(event, Close)
                if heard:
                    ending = event
        if out:
            self._say(b"".join(out))
        if isinstance(ending, Close):
            self._agent_closed(ending)
        elif ending is not None:
            self._agent_broke(ending)
        else:
            self._weigh()

    def _messages(self, data: Buffer, out: list[bytes]) -> Close | Broken | None:
        """Put the messages that ``data`` completes into ``out``; how they end, if they do."""
        for event in self._envelopes.receive(data):
            if isinstance(event, Text | Binary) and len(event.data) > self._max:
                return Broken(MESSAGE_TOO_BIG, TOO_BIG)
            if isinstance(event, Text):
                out.append(frame(TEXT, event.data))
            elif isinstance(event, Binary):
                out.append(frame(BINARY, event.data))
            elif isinstance(event, Close | Broken):
                return event
        return None

    def _agent_closed(self, close: Close) -> None:
        self._agent_over = True
        if self._echo is None:
            self._say(_close_frame(close), True)
        else:
            self._answer_close()
        self._drop()
        if not self._ended:
            self._farewell = close.code
            self._say_no_more()

    def _agent_broke(self, broken: Broken) -> None:
        self._agent_over = True
        self._close_visitor(INTERNAL, broken.reason)
        self._drop()
        if broken.code == MESSAGE_TOO_BIG:
            self._end_with(MESSAGE_TOO_BIG, broken.reason)
        else:
            self._finish(ErrorCode.PROTOCOL_ERROR)

    def _agent_ended(self) -> None:
        self._agent_done = True
        if self._echo is not None:
            self._answer_close()
        self._close_visitor(INTERNAL, pages.BROKEN.reason)
        if self._farewell is not None and self._outer_closed and self._lane is not None:
            # An application's in the SDK, which waits for a Close of ours, and stumbles over a stream that
            # has ended both ways by the time it ends it.
            self._lane.put(outer_frame(close_envelope(self._farewell), mask=None))
            self._due = self._home.clock() + LINGER_SECONDS
        else:
            self._finish()

    # Ends

    def _weigh(self) -> None:
        """Give up a message that is not whole, where the session holds too much: others want to go on."""
        unfinished = self._unfinished
        if unfinished < self._weighed + WEIGH_BYTES:
            self._weighed = min(self._weighed, unfinished)
            return
        self._weighed = unfinished
        if self._home.held > self._home.bridge_terms.max_held_bytes:
            self._close_both(TRY_AGAIN_LATER, "held")

    def _fail(self, reason: Reason) -> None:
        if self._lane is None:
            self._tell_reset(reason)
            self._finish()
            return
        if self._echo is not None:
            self._answer_close()
        code, word = _ENDS.get(reason, (INTERNAL, pages.BROKEN.reason))
        self._close_visitor(code, word)
        if code == INTERNAL:
            self._finish(ErrorCode.CANCEL)
        else:  # the agent is there, and may end its own side in order
            self._drop()
            self._end_with(code, word)

    def _given_up(self, reason: int) -> None:
        self._echo = None
        self._let_go()
        if self._lane is None:
            self._finish()
        elif not self._ended:
            self._drop()
            self._end_with(PROTOCOL_ERROR if reason == Reason.PROTOCOL else GOING_AWAY)

    def _close_both(self, code: int, reason: str) -> None:
        """The visitor broke a rule, or passed a limit."""
        self._close_visitor(code, reason)
        self._end_with(code, reason)
        self._let_go()

    def _let_go(self) -> None:
        """Nobody wants what is not whole, nor what the agent still says."""
        self._agent_over = True
        self._reader = _reader(self._max)
        self._envelopes = EnvelopeDecoder(self._max)

    def _close_visitor(self, code: int, reason: str) -> None:
        """Close before its time; ``reason`` is a constant word."""
        if not self._visitor_over:
            self._visitor_over = True
            self._unread = 0
            cast(Closable, self.sink).close(code, reason)

    def _answer_close(self) -> None:
        echo, self._echo = self._echo, None
        assert echo is not None
        self._say(_close_frame(echo._replace(reason="")), True)

    def _end_with(self, code: int, reason: str = "") -> None:
        """Close the agent's side behind what waits for it; END_STREAM follows when it has ended its half."""
        if self._lane is not None and not self._ended:
            self._say_no_more()
            self._lane.put(outer_frame(close_envelope(code, reason), mask=None))

    def _say_no_more(self) -> None:
        self._ended = True
        self._due = self._home.clock() + self._home.bridge_terms.close_seconds

    def _drop(self) -> None:
        """What waits for the agent has no reader."""
        if self._lane is not None and not self._ended:
            self._lane.clear()


class Closable(Protocol):
    """What the visitor's sink is from the 101 on: a ``visitors.conversation.Conversation``."""

    def close(self, code: int, reason: str) -> None: ...


class Refusal:
    """The sink of an agent's own answer (``H2Sink``)."""

    __slots__ = ("_bridge", "_read")

    def __init__(self, bridge: WebSocketBridge, read: ReplyRead) -> None:
        self._bridge = bridge
        self._read: ReplyRead | None = read  # until the head is told

    def on_headers(self, fields: Fields, end: bool) -> None:
        self.on_data(b"", end)

    def on_data(self, data: Buffer, end: bool) -> None:
        read, self._read = self._read, None
        self._bridge.refused(b"" if read is None else read.settled(bytes(data[:2])), data, end)

    def on_reset(self, code: int) -> None:
        self._bridge.on_reset(code)

    def on_writable(self) -> None:
        """Nothing is sent on it."""


def _reader(most: int) -> MessageReader:
    return MessageReader(from_client=True, max_message=most)


def _envelope(message: Text | Binary) -> bytes:
    return text_envelope(message.data) if isinstance(message, Text) else binary_envelope(message.data)


def _close_frame(close: Close) -> bytes:
    """For the visitor: no code where none was said."""
    if close.code == NO_STATUS:
        return frame(CLOSE, b"")
    return close_frame(spoken_code(close.code), cut_reason(close.reason))
