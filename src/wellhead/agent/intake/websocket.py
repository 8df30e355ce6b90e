"""A visitor's WebSocket on the HTTP/2 carrier: the stream that the upstream is given.

::

    upstream   101 ──> POST /_system/response, 200 ──> CONNECT /_system/ws ──> bridge
               RFC 6455 frames ── whole messages ──> envelopes
               RFC 6455 frames <── whole messages ── envelopes

The carrier knows whole messages and the end, no more: pings of the upstream are answered here. A reply that
is no 101 goes the way of every reply.

Source: docs/reference/h2-carrier.md, "Bridges".
"""

from __future__ import annotations

import os

from wellhead.agent.intake.bridge import Bridge
from wellhead.agent.intake.exchange import Home, answer, answer_reset
from wellhead.agent.intake.reply import Post
from wellhead.agent.intake.request import RequestStream
from wellhead.agent.intake.terms import CLEAN_UP_SECONDS, ENVELOPE_SHARE, STOP_SECONDS, UPGRADE_SECONDS
from wellhead.errors import HttpError
from wellhead.wire.intake import Parcel
from wellhead.wire.intake_ws import (
    EnvelopeDecoder,
    OuterDecoder,
    binary_envelope,
    close_envelope,
    outer_frame,
    spoken_code,
    text_envelope,
)
from wellhead.wire.streams import Buffer, HeadKind, NoSink, Reason, Sink, StreamKind
from wellhead.wire.ws import close_frame
from wellhead.wire.ws_frames import (
    BINARY,
    CLOSE,
    NO_STATUS,
    PONG,
    TEXT,
    Binary,
    Broken,
    Close,
    Event,
    Ping,
    Text,
    frame,
)
from wellhead.wire.ws_messages import MessageReader

AHEAD = 64 * 1024  # bytes that the upstream may have yet to take, below which what comes is credited
_NO_SINK = NoSink()


class WebSocketStream:
    """Fits ``wire.streams.Stream``."""

    __slots__ = (
        "_bridge", "_closing", "_envelopes", "_gone", "_got_end", "_handed", "_outer", "_over", "_owed",
        "_parcel", "_plain", "_post", "_reader", "_sink", "due", "home",
    )  # fmt: skip

    def __init__(self, home: Home, parcel: Parcel) -> None:
        self.home = home
        self.due = home.now + (home.deadline_seconds or UPGRADE_SECONDS)
        self._sink: Sink = _NO_SINK
        self._parcel = parcel
        self._plain: RequestStream | None = None  # carries a reply that is no 101
        self._post: Post | None = None  # what tells the edge of a 101
        self._bridge = Bridge(home.caller.websocket(parcel.bridge_id), self)
        limit = home.limits.max_message_bytes
        self._reader = MessageReader(from_client=False, max_message=limit)
        self._outer = OuterDecoder(masked=None)
        self._envelopes = EnvelopeDecoder(limit * ENVELOPE_SHARE)
        self._handed = 0  # bytes that the upstream was handed and has not taken
        self._owed = 0  # bytes of the bridge that are to be credited when it has
        self._closing = False  # a Close has come from one side, and was passed on
        self._got_end = False  # the edge's half is over
        self._over = False  # for the upstream
        self._gone = False  # for the session

    def begin(self) -> None:
        """Ask the upstream."""
        self.home.enter(self)
        self.home.owed += 1
        self.home.accept(self, StreamKind.WEBSOCKET, self._parcel.envelope, False)

    # Stream

    @property
    def sink(self) -> Sink:
        return self._sink

    @sink.setter
    def sink(self, sink: Sink) -> None:
        self._sink = sink
        if self._plain is not None:
            self._plain.sink = sink

    @property
    def queued(self) -> int:
        return self._bridge.queued if self._plain is None else self._plain.queued

    def head(self, kind: HeadKind, head: bytes, data: Buffer = b"", end: bool = False) -> bool:
        if self._plain is not None:
            return self._plain.head(kind, head, data, end)
        if self._over or kind is not HeadKind.REPLY:
            return True
        if not head.startswith(b"HTTP/1.1 101 "):
            return self._refused(head, data, end)
        try:
            fields = self.home.heads.accepted(head, self._parcel.request_id)
        except HttpError:
            self._give_up(502, b"upstream-error")
            return True
        self._owes_no_more()
        self.due = self.home.now + (self.home.deadline_seconds or UPGRADE_SECONDS)
        self._post = Post(self.home, fields, self)
        self._post.post(b"", True)
        return self.send(data, end) if data or end else True

    def send(self, data: Buffer, end: bool = False) -> bool:
        if self._plain is not None:
            return self._plain.send(data, end)
        if self._over or self._bridge.ended:
            return True
        ready = True
        for event in self._reader.receive(data):
            ready = self._from_upstream(event)
        if end and not self._bridge.ended:  # it went without a Close: the edge says so to the visitor
            self._bridge.send(b"", True)
            self._hand(b"", True)
            self._finish()
        return ready

    def reset(self, reason: int) -> None:
        if self._plain is not None:
            self._plain.reset(reason)
        if self._over:
            return
        self._over = True
        if self._post is None:
            answer_reset(self.home, self._parcel.request_id, reason)
        else:
            self._bridge.reset()
        self._forget()

    def consumed(self, count: int) -> None:
        self._handed -= count
        self._credit()

    # Of the reply that tells the edge of a 101

    def posted(self) -> None:
        if not self._gone:  # an upstream that is through already has its last words in there
            self._bridge.begin(self.home)

    def not_wanted(self) -> None:
        self.broken()

    # Of the bridge, and of the reply

    def on_writable(self) -> None:
        if not self._over:
            self._sink.on_writable()

    # The bridge

    def bound(self) -> None:
        self.due = self.home.now + CLEAN_UP_SECONDS if self._bridge.ended else 0.0

    def arrived(self, data: Buffer, end: bool) -> None:
        self._owed += len(data)
        for event in self._outer.receive(data):
            if isinstance(event, Binary):
                for message in self._envelopes.receive(event.data):
                    self._from_edge(message)
            else:
                self._from_edge(event)
        if end and not self._got_end:
            self._got_end = True
            if not self._closing:  # the visitor went without a Close
                self._bridge.send(b"", True)
                self._cut(Reason.CANCELLED)
            if self._bridge.is_over:
                self._forget()
        self._credit()

    def broken(self) -> None:
        self._bridge.reset()
        self._forget()
        self._cut(Reason.CANCELLED)

    # For the session

    def late(self) -> None:
        if self._post is None:
            self._give_up(504, b"response-deadline-exceeded")
        elif self._bridge.ended and self._bridge.queued:
            self.due = self.home.now + CLEAN_UP_SECONDS
        elif self._closing and not self._bridge.ended:  # the upstream does not answer a Close
            self._bridge.send(b"", True)
            self._cut(Reason.CANCELLED)
            self._finish()
        else:
            self.broken()

    def lost(self) -> None:
        self._forget()
        self._cut(Reason.SESSION_LOST)

    # Inside

    def _refused(self, head: bytes, data: Buffer, end: bool) -> bool:
        self._over = True
        self._forget()
        plain = self._plain = RequestStream(self.home, self._parcel.request_id)
        plain.sink = self._sink
        self.home.enter(plain)
        return plain.head(HeadKind.REPLY, head, data, end)

    def _from_upstream(self, event: Event) -> bool:
        """Pass on what the upstream said; False: it shall wait."""
        if isinstance(event, Text):
            return self._say(text_envelope(event.data))
        if isinstance(event, Binary):
            return self._say(binary_envelope(event.data))
        if isinstance(event, Ping):
            self._hand(frame(PONG, event.data, _mask()))
            return True
        if isinstance(event, Close):
            answered, self._closing = self._closing, True
            if not answered:
                self._say_close(event.code, event.reason)
                self._hand(_close(event.code, "", _mask()), True)
            else:  # it answers the visitor's
                self._bridge.send(b"", True)
                self._hand(b"", True)
        else:
            self._break_off(event)
            return True
        self._over = True
        self._finish()
        return True

    def _from_edge(self, event: Event) -> None:
        """Pass on what the visitor, or the edge itself, said."""
        if isinstance(event, Ping):
            if not self._bridge.ended:
                self._bridge.send(outer_frame(event.data, mask=self.home.mask(), opcode=PONG))
        elif self._closing or self._over:
            return
        elif isinstance(event, Text):
            self._hand(frame(TEXT, event.data, _mask()))
        elif isinstance(event, Binary):
            self._hand(frame(BINARY, event.data, _mask()))
        elif isinstance(event, Close):
            self._closing = True
            self.due = self.home.now + STOP_SECONDS
            self._hand(_close(event.code, event.reason, _mask()))
        else:
            self._break_off(event)

    def _break_off(self, why: Broken) -> None:
        """One side broke the rules: both are told."""
        self._closing = True
        self._say_close(why.code, why.reason)
        self._hand(close_frame(why.code, why.reason, _mask()), True)
        self._over = True
        self._finish()

    def _say(self, envelope: bytes) -> bool:
        return self._bridge.send(outer_frame(envelope, mask=self.home.mask()))

    def _say_close(self, code: int, reason: str) -> None:
        """An envelope that tells the visitor's code, and the end of the bridge."""
        mask = self.home.mask()
        said = outer_frame(close_envelope(code, reason), mask=mask)
        self._bridge.send(said + close_frame(spoken_code(code), reason, mask), True)

    def _hand(self, data: bytes, end: bool = False) -> None:
        self._handed += len(data)
        self._sink.on_data(data, end)

    def _credit(self) -> None:
        """What came is credited while the upstream keeps up; of a message that is not whole, all of it."""
        if self._owed and self._handed <= AHEAD:
            owed, self._owed = self._owed, 0
            self._bridge.consumed(owed)

    def _give_up(self, status: int, word: bytes) -> None:
        """No upgrade: answer in the upstream's place."""
        answer(self.home, self._parcel.request_id, status, word)
        self._forget()
        self._cut(Reason.TIMEOUT)

    def _finish(self) -> None:
        """All is said; the edge has a moment for its own end."""
        self._over = True
        if self._bridge.is_over:
            self._forget()
        elif self._bridge.is_bound:
            self.due = self.home.now + CLEAN_UP_SECONDS

    def _cut(self, reason: Reason) -> None:
        over, self._over = self._over, True
        if not over:
            self._sink.on_reset(reason)

    def _owes_no_more(self) -> None:
        self.home.owed -= 1

    def _forget(self) -> None:
        if not self._gone:
            self._gone = True
            self.due = 0.0
            self._owed = 0
            self._bridge.let_go()
            if self._post is None:
                self._owes_no_more()
            self.home.forget(self)


def _mask() -> bytes:
    """For the upstream, which may be anywhere."""
    return os.urandom(4)


def _close(code: int, reason: str, mask: bytes) -> bytes:
    """A Close as it was said: without a code where there was none."""
    return frame(CLOSE, b"", mask) if code == NO_STATUS else close_frame(spoken_code(code), reason, mask)
