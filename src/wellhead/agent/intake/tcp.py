"""A visitor's TCP connection on the HTTP/2 carrier: the stream that whoever ends its TLS is given.

::

    bridge   BINARY frames ── payload ──> on_data
             BINARY frames <───────────── send            a CLOSE says why it ends

Source: docs/reference/h2-carrier.md, "Bridges".
"""

from __future__ import annotations

from wellhead.agent.intake.bridge import Bridge
from wellhead.agent.intake.exchange import Home
from wellhead.agent.intake.terms import CLEAN_UP_SECONDS, HALF_CLOSE_SECONDS, TCP_SECONDS
from wellhead.errors import StateError
from wellhead.wire.intake import Parcel
from wellhead.wire.intake_ws import OuterDecoder, outer_frame
from wellhead.wire.streams import Buffer, HeadKind, NoSink, Reason, Sink, StreamKind
from wellhead.wire.ws import close_frame
from wellhead.wire.ws_frames import PONG, Binary, Close, Ping

FRAME_BYTES = 16 * 1024  # of payload
_NO_SINK = NoSink()


class TcpStream:
    """Fits ``wire.streams.Stream``."""

    __slots__ = (
        "_bridge", "_decoder", "_gone", "_got_end", "_opened", "_over", "_parcel", "due", "home", "sink",
    )  # fmt: skip

    def __init__(self, home: Home, parcel: Parcel) -> None:
        self.home = home
        self.sink: Sink = _NO_SINK
        self.due = home.now + TCP_SECONDS
        self._parcel = parcel
        self._bridge = Bridge(home.caller.tcp(parcel.bridge_id), self)
        self._decoder = OuterDecoder(masked=None, text=False)
        self._opened = False  # the sink knows of the stream
        self._got_end = False
        self._over = False  # for the sink
        self._gone = False  # for the session

    def begin(self) -> None:
        """Ask the edge for the connection."""
        self.home.enter(self)
        self._bridge.begin(self.home)

    # Stream

    @property
    def queued(self) -> int:
        return self._bridge.queued

    def head(self, kind: HeadKind, head: bytes, data: Buffer = b"", end: bool = False) -> bool:
        """Raises StateError: there are no heads on a TCP stream."""
        raise StateError("head sent on a TCP stream")

    def send(self, data: Buffer, end: bool = False) -> bool:
        if self._over or self._bridge.ended:
            return True
        if self._got_end:
            self.due = self.home.now + HALF_CLOSE_SECONDS
        mask = self.home.mask()
        ready = True
        size = len(data)
        for at in range(0, size, FRAME_BYTES):
            piece = data if size <= FRAME_BYTES else memoryview(data)[at : at + FRAME_BYTES]
            ready = self._bridge.send(outer_frame(piece, mask=mask))
        if end:
            self._close(1000, "clean-eof")
            if self._got_end:
                self._finish()
        return ready

    def reset(self, reason: int) -> None:
        if not self._over:
            self._over = True
            self._close(1011, "outbound-error")
            self._finish()

    def consumed(self, count: int) -> None:
        if not self._gone:
            self._bridge.consumed(count)

    # The bridge

    def bound(self) -> None:
        self.due = 0.0
        self._opened = True
        self.home.accept(self, StreamKind.TCP, self._parcel.envelope, False)

    def arrived(self, data: Buffer, end: bool) -> None:
        payload = 0
        for event in self._decoder.receive(data):
            if isinstance(event, Binary):
                if not (self._over or self._got_end):
                    payload += len(event.data)
                    self.sink.on_data(event.data, False)
            elif isinstance(event, Ping):
                self._bridge.send(outer_frame(event.data, mask=self.home.mask(), opcode=PONG))
            elif isinstance(event, Close):
                end = True
            else:
                self._fail(1002, "protocol-error")
                return
        self.consumed(len(data) - payload)
        if end:
            self._ended()

    def broken(self) -> None:
        self._forget()
        self._cut(Reason.CANCELLED)

    def on_writable(self) -> None:
        if not self._over:
            self.sink.on_writable()

    # For the session

    def late(self) -> None:
        if self._bridge.queued:  # a slow visitor: how long it may take is the edge's affair
            self.due = self.home.now + CLEAN_UP_SECONDS
        elif self._over or not self._opened:
            self._bridge.reset()
            self.broken()
        else:  # its visitor has said all, and nothing was said to it for long
            self._fail(1001, "cancelled")

    def lost(self) -> None:
        self._forget()
        self._cut(Reason.SESSION_LOST)

    # Inside

    def _ended(self) -> None:
        if self._got_end:
            return
        self._got_end = True
        self.due = self.home.now + HALF_CLOSE_SECONDS
        if not self._over:
            self.sink.on_data(b"", True)
        if self._bridge.ended:
            self._finish()

    def _fail(self, code: int, word: str) -> None:
        self._close(code, word)
        self._cut(Reason.CANCELLED)
        self._finish()

    def _close(self, code: int, word: str) -> None:
        self._bridge.send(close_frame(code, word, self.home.mask()), True)

    def _finish(self) -> None:
        """All is said; the edge has a moment for its own end."""
        self._over = True
        if self._bridge.is_over:
            self._forget()
        else:
            self.due = self.home.now + CLEAN_UP_SECONDS

    def _cut(self, reason: Reason) -> None:
        over, self._over = self._over, True
        if not over and self._opened:
            self.sink.on_reset(reason)

    def _forget(self) -> None:
        if not self._gone:
            self._bridge.let_go()
            self._gone = True
            self.due = 0.0
            self.home.forget(self)
