"""An edge of the HTTP/2 carrier without sockets: intakes, bridges, their pump; and an agent opposite."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from tests.kit.h2talk import Clock
from tests.kit.lumpy_agent import LumpyAgent, LumpyBridge
from wellhead.edge.intake.bridge import Bridge, BridgeTerms
from wellhead.edge.intake.pump import Pump
from wellhead.edge.intake.tcp import TcpBridge
from wellhead.edge.intake.websocket import WebSocketBridge
from wellhead.wire.facts import Facts
from wellhead.wire.h2 import Fields, H2Connection, H2Role, H2Stream, H2Terms
from wellhead.wire.intake import envelope_fields, reply_head, tcp_fields
from wellhead.wire.streams import Buffer, HeadKind, Reason, Sink, Stream, StreamKind

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HEAD = (
    b"GET /chat HTTP/1.1\r\nHost: a.test\r\nSec-WebSocket-Key: " + KEY + b"\r\nSec-WebSocket-Version: 13\r\n"
    b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: a.test\r\n"
    b"X-Request-Id: r\r\n\r\n"
)
TERMS = BridgeTerms()
EDGE = H2Terms(max_streams=2000, window=1 << 20, connection_window=1 << 24)


class Ear:
    """A visitor's side (``Sink``) that writes down what it hears, and acknowledges it unless it is choked."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.heads: list[bytes] = []
        self.data = bytearray()
        self.ended = False
        self.resets: list[int] = []
        self.closes: list[tuple[int, str]] = []
        self.writable = 0
        self.choked = False
        self.owed = 0

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        assert kind is HeadKind.REPLY
        self.heads.append(head)
        self.on_data(data, end)

    def on_data(self, data: Buffer, end: bool) -> None:
        assert not self.ended and not self.resets and not self.closes
        self.data += data
        self.ended = end
        self.owed += len(data)
        if not self.choked:
            self.unchoke()

    def unchoke(self) -> None:
        self.choked = False
        owed, self.owed = self.owed, 0
        if self.stream is not None:
            self.stream.consumed(owed)

    def on_reset(self, reason: int) -> None:
        assert not self.ended and not self.resets and not self.closes
        self.resets.append(reason)

    def close(self, code: int, reason: str) -> None:
        assert not self.ended and not self.resets and not self.closes
        self.closes.append((code, reason))

    def on_writable(self) -> None:
        self.writable += 1


class Body:
    """A request's body on its way to the agent, which waits where others need the window."""

    def __init__(self, edge: IntakeEdge, stream: H2Stream, body: bytes) -> None:
        self._edge = edge
        self._stream = stream
        self._rest = [body[at : at + 16384] for at in range(0, len(body), 16384)]
        self.go()

    def go(self) -> None:
        while self._rest:
            if self._edge.pump.holds:
                self._edge.pump.later(self.go)
                return
            piece = self._rest.pop(0)
            if not self._stream.data(piece, not self._rest):
                return

    def on_headers(self, fields: Fields, end: bool) -> None: ...
    def on_data(self, data: Buffer, end: bool) -> None: ...
    def on_reset(self, code: int) -> None: ...
    def on_writable(self) -> None:
        self.go()


class _Intake(Body):
    """The sink of a parked intake: nothing comes on it."""

    def __init__(self) -> None:
        self._rest = []


class IntakeEdge:
    """See the module. ``agent`` has ``slots`` parked; ``settle`` carries everything across."""

    carrier = "h2"

    def __init__(self, slots: int = 4, terms: BridgeTerms = TERMS, window: int = 65535) -> None:
        self.clock = Clock()
        self.bridge_terms = terms
        self.connection = H2Connection(
            H2Role.SERVER, terms=replace(EDGE), on_stream=self._on_stream, on_goaway=lambda last, code: None,
            wake=lambda: None, clock=self.clock,
        )  # fmt: skip
        self.recycled: list[str] = []
        self.pump = Pump(self.connection, self.clock, self._junk, self.recycled.append)
        self.pending: dict[bytes, Bridge] = {}
        self.waiting: deque[tuple[Fields, bytes]] = deque()
        self.parked: deque[H2Stream] = deque()
        self.agent = LumpyAgent(window)
        self.connection.start()
        self._count = 0
        for _ in range(slots):
            self.agent.park()
        self.settle()

    # The home of bridges

    @property
    def held(self) -> int:
        return self.connection.held + sum(bridge.held for bridge in self.pending.values())

    def forget(self, bridge: Bridge) -> None:
        self.pending.pop(bridge.request_id, None)

    def _junk(self, count: int) -> bool:
        if not self.parked:
            return False
        stream = self.parked.popleft()
        stream.headers([(b":status", b"200")])
        assert stream.whole(bytes(count), True)
        return True

    # What visitors do

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
        self._count += 1
        request_id = b"req-%d" % self._count
        bridge: Bridge
        if kind is StreamKind.WEBSOCKET:
            bridge = WebSocketBridge(self, request_id, envelope, sink)
            fields = envelope_fields(envelope, request_id, websocket=True)
        else:
            bridge = TcpBridge(self, request_id, sink, data, end)
            fields = tcp_fields(Facts.decode(envelope), request_id)
        self.pending[request_id] = bridge
        self._dispatch(fields)
        return bridge

    def request(self, body: bytes) -> None:
        """A visitor's request with a body; nobody answers it."""
        self._dispatch(envelope_fields(HEAD, b"http"), body)

    def _dispatch(self, fields: Fields, body: bytes = b"") -> None:
        self.waiting.append((fields, body))
        while self.parked and self.waiting:
            stream, (fields, body) = self.parked.popleft(), self.waiting.popleft()
            stream.headers(fields, not body)
            if body:
                stream.sink = Body(self, stream, body)

    # What the agent asks for

    def _on_stream(self, stream: H2Stream, fields: Fields, end: bool) -> None:
        path = dict(fields)[b":path"].split(b"/")
        bridge = self.pending.get(path[-1])
        stream.sink = _Intake()
        if path[2] == b"intake":
            self.parked.append(stream)
            if self.waiting:
                self._dispatch(*self.waiting.popleft())
        elif bridge is None:
            stream.headers([(b":status", b"404")], True)
        elif path[2] == b"response":
            stream.headers([(b":status", b"200")], True)
            stream.sink = bridge.replied(reply_head(fields), stream, end)
        else:
            stream.sink = bridge.bound(stream, self.pump)

    # Time and the wire

    def settle(self) -> None:
        """Carry bytes both ways until nobody says anything."""
        while self.to_agent() | self.to_edge():
            pass

    def to_agent(self) -> bool:
        data = b"".join(self.connection.take(1 << 30))
        if data:
            self.agent.receive(data)
        return bool(data)

    def to_edge(self) -> bool:
        for bridge in list(self.agent.bridges.values()):
            bridge.go()
        data = self.agent.h2.data_to_send()
        if data:
            self.connection.receive(data)
            if self.pump.waiting:
                self.pump.go()
        return bool(data)

    def after(self, seconds: float, step: float = 0.5) -> None:
        """Let time pass, and everybody do what is due."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now = min(until, self.clock.now + step)
            for bridge in list(self.pending.values()):
                bridge.tick(self.clock.now)
            self.pump.tick(self.clock.now)
            self.settle()

    # In short

    def websocket(self) -> tuple[WebSocketBridge, Ear, LumpyBridge]:
        """A WebSocket that both sides have agreed on."""
        bridge, ear = self.ask()
        self.agent.respond(bridge.request_id.decode(), 200)
        far = self.agent.connect(bridge.request_id.decode())
        self.settle()
        assert far.status == "200" and len(ear.heads) == 1
        return bridge, ear, far

    def ask(self) -> tuple[WebSocketBridge, Ear]:
        ear = Ear()
        bridge = self.open(StreamKind.WEBSOCKET, HEAD, ear, interactive=True)
        assert isinstance(bridge, WebSocketBridge)
        ear.stream = bridge
        self.settle()
        return bridge, ear

    def tcp(self, data: bytes = b"hello") -> tuple[TcpBridge, Ear, LumpyBridge]:
        """A TCP connection that the agent has bound."""
        ear = Ear()
        bridge = self.open(StreamKind.TCP, Facts("192.0.2.7", 1, "a.test").encode(), ear, data)
        assert isinstance(bridge, TcpBridge)
        ear.stream = bridge
        self.settle()
        far = self.agent.connect(bridge.request_id.decode(), raw=True)
        self.settle()
        return bridge, ear, far

    def lose(self) -> None:
        """The connection is gone."""
        self.connection.lost()


LOST = Reason.SESSION_LOST
