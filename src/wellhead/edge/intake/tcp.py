"""A visitor's TCP connection over the HTTP/2 carrier: its bytes in frames on an agent's CONNECT.

Source: docs/reference/h2-carrier.md, "TCP".
"""

from __future__ import annotations

from wellhead.edge.intake.bridge import Bridge, Home
from wellhead.wire.h2 import H2Sink, H2Stream
from wellhead.wire.h2_frames import ErrorCode
from wellhead.wire.intake import ReplyRead
from wellhead.wire.intake_ws import OuterDecoder, outer_frame
from wellhead.wire.streams import Buffer, Reason, Sink, StreamKind
from wellhead.wire.ws_frames import CLOSE, NO_STATUS, Binary, Close, Ping

MAX_PIECE = 16_379  # bytes of a frame's payload: four whole frames fit a window of 65,535
EARLY_HIGH = 64 * 1024  # bytes of a visitor that wait for the agent to bind
_CLEAN = frozenset((1000, 1001, NO_STATUS))  # codes after which the visitor gets a FIN
_END = outer_frame(b"\x03\xe8", mask=None, opcode=CLOSE)


class TcpBridge(Bridge):
    """One connection. ``data``: its first bytes, which end it where ``end`` is set."""

    kind = StreamKind.TCP

    def __init__(self, home: Home, request_id: bytes, sink: Sink, data: Buffer, end: bool) -> None:
        super().__init__(home, request_id, sink, home.bridge_terms.bind_seconds)
        self._early: list[Buffer] = [data]
        self._early_size = len(data)
        self._early_end = end
        self._waits = False  # the visitor was asked to stop
        self._agent_done = False  # its half
        self._outer = OuterDecoder(masked=None, text=False)

    @property
    def held(self) -> int:
        return self._early_size + super().held

    @property
    def queued(self) -> int:
        return self._early_size + super().queued

    def replied(self, read: ReplyRead, stream: H2Stream, end: bool) -> H2Sink:
        """A TCP stream has no answer; the session takes none for it."""
        raise NotImplementedError

    def send(self, data: Buffer, end: bool = False) -> bool:
        if self._over or self._ended:
            return True
        if self._lane is not None:
            return self._put(data, end)
        if data:
            self._early.append(data)
            self._early_size += len(data)
        self._early_end = self._early_end or end
        self._waits = self._early_size >= EARLY_HIGH
        return not self._waits

    def _put(self, data: Buffer, end: bool) -> bool:
        assert self._lane is not None
        flowing = True
        for at in range(0, len(data), MAX_PIECE):
            flowing = self._lane.put(outer_frame(data[at : at + MAX_PIECE], mask=None))
        if end and not self._ended:
            self._ended = self._end_sent = True
            self._lane.end(_END)
            if self._agent_done:
                self._finish()
        return flowing

    def _start(self) -> None:
        data, self._early, self._early_size = b"".join(self._early), [], 0
        if self._put(data, self._early_end) and self._waits:
            self._room()

    def _from_agent(self, data: Buffer) -> None:
        for event in self._outer.receive(data):
            if isinstance(event, Binary):
                self._say(event.data)
            elif isinstance(event, Ping):
                self._pong(event.data)
            elif isinstance(event, Close) and event.code in _CLEAN:
                self._say(b"", True)
                self._finish()
                return
            else:
                broken = not isinstance(event, Close)
                self._tell_reset(Reason.PROTOCOL if broken else Reason.UPSTREAM_FAILED)
                self._finish(ErrorCode.PROTOCOL_ERROR if broken else None)
                return

    def _agent_ended(self) -> None:
        """Without a Close: of its half alone, the visitor may go on."""
        self._agent_done = True
        self._say(b"", True)
        if self._ended:
            self._finish()

    def _fail(self, reason: Reason) -> None:
        self._tell_reset(reason)
        self._finish(ErrorCode.CANCEL)

    def _given_up(self, reason: int) -> None:
        self._finish(ErrorCode.CANCEL)

    def _expired(self, now: float) -> None:
        self._tell_reset(Reason.TIMEOUT)
        self._finish(ErrorCode.CANCEL)
