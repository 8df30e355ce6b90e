"""An agent that credits as the Python SDK does, on hyper-h2 and without a network.

What it is sent on intakes and replies is credited at once. On a bridge only whole frames and whole messages
are, each when its reader has taken it; what is left when a bridge ends is never credited. The lumps of
32,767 bytes are hyper-h2's own.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Generator
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset

from wellhead.wire.intake_ws import outer_frame, text_envelope

Headers = list[tuple[str, str]]
WAIT, SLOW = "wait", "slow"


class LumpyBridge:
    """One bridge. ``messages``: what its reader has taken, JSON of envelopes or TCP bytes.

    ``slow``: the reader takes nothing until it is False again.
    """

    def __init__(self, agent: LumpyAgent, stream_id: int, *, raw: bool) -> None:
        self.agent = agent
        self.stream_id = stream_id
        self.raw = raw
        self.slow = False
        self.status = ""
        self.messages: list[Any] = []
        self.frames: list[int] = []  # opcodes
        self.ended = False
        self.was_reset = False
        self.over = False  # the SDK has left its loop: nothing that comes is credited
        self.events: deque[DataReceived] = deque()
        self._unacked = 0
        self._wire, self._envelopes = bytearray(), bytearray()
        self._loop = self._run()
        next(self._loop)

    def go(self) -> None:
        """Do what can be done without waiting."""
        while not self.over:
            state = next(self._loop)
            if (state == SLOW and self.slow) or (state == WAIT and not self.events):
                return

    def _run(self) -> Generator[str]:
        while True:
            while not self.events:
                yield WAIT
            event = self.events.popleft()
            self._unacked += event.flow_controlled_length
            self._wire += event.data
            for opcode, payload in _frames(self._wire):
                self.frames.append(opcode)
                if opcode in (1, 2):
                    self._envelopes += payload
            while (size := self._whole()) and not self.over:
                while self.slow:
                    yield SLOW
                body = bytes(self._envelopes[:size])
                del self._envelopes[:size]
                self.messages.append(body if self.raw else json.loads(body[4:]))
                self._credit()
                self.over = not self.raw and self.messages[-1]["type"] == "close"
            self._credit()

    def _whole(self) -> int:
        have = len(self._envelopes)
        if self.raw:
            return have
        size = 4 + int.from_bytes(self._envelopes[:4], "big")
        return size if have >= 4 and have >= size else 0

    def _credit(self) -> None:
        count = self._unacked - len(self._wire) - len(self._envelopes)
        if count > 0 and self.agent.lumpy:
            self._unacked -= count
            self.agent.h2.acknowledge_received_data(count, self.stream_id)

    @property
    def texts(self) -> list[str]:
        return [message["data"] for message in self.messages if message["type"] == "text"]

    @property
    def closes(self) -> list[int]:
        return [message["code"] for message in self.messages if message["type"] == "close"]

    @property
    def data(self) -> bytes:
        """Of a TCP connection."""
        return b"".join(self.messages)

    def text(self, message: str) -> None:
        self.frame(2, text_envelope(message.encode()))

    def close(self, code: int, reason: str = "", *, end: bool = False) -> None:
        """A close envelope as json.dumps makes it, of any code."""
        body = json.dumps({"type": "close", "code": code, "reason": reason}).encode()
        self.frame(2, len(body).to_bytes(4, "big") + body, end=end)

    def frame(self, opcode: int, payload: bytes, *, end: bool = False) -> None:
        self.send(outer_frame(payload, mask=os.urandom(4), opcode=opcode), end=end)

    def send(self, data: bytes, *, end: bool = False) -> None:
        for at in range(0, max(1, len(data)), 16384):
            piece = data[at : at + 16384]
            self.agent.h2.send_data(self.stream_id, piece, end_stream=end and at + 16384 >= len(data))

    def end(self) -> None:
        self.agent.h2.end_stream(self.stream_id)

    def leave(self) -> None:
        """The SDK is done with it: what still comes is lost, and its window with it."""
        self.over = True


def _frames(wire: bytearray) -> list[tuple[int, bytes]]:
    """Cut the whole unmasked frames off."""
    found = []
    while len(wire) >= 2:
        size, at = wire[1] & 0x7F, 2
        assert not wire[1] & 0x80
        assert wire[0] & 0x80, "a fragment"
        if size >= 126:
            at = 4 if size == 126 else 10
            size = int.from_bytes(wire[2:at], "big")
        if len(wire) < at or len(wire) < at + size:
            break
        found.append((wire[0] & 0x0F, bytes(wire[at : at + size])))
        del wire[: at + size]
    return found


class LumpyAgent:
    """See the module. ``window``: of its streams; one with another than the SDK's credits all at once.

    ``envelopes``: what came on its intakes; a slot is parked again at once.
    """

    def __init__(self, window: int = 65535) -> None:
        self.lumpy = window == 65535
        self.h2 = H2Connection(H2Configuration(client_side=True))
        self.h2.local_settings.initial_window_size = window
        self.h2.local_settings.acknowledge()
        self.h2.initiate_connection()
        self.envelopes: list[tuple[dict[str, str], bytearray]] = []
        self.junk = 0  # bytes of intakes that were answered without a request id
        self.bridges: dict[int, LumpyBridge] = {}
        self.answers: dict[int, str] = {}  # statuses of replies and refused CONNECTs
        self._intakes: dict[int, tuple[dict[str, str], bytearray]] = {}

    def receive(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            self._event(event)
        for bridge in list(self.bridges.values()):
            bridge.go()

    def _event(self, event: Event) -> None:
        stream_id: int = getattr(event, "stream_id", None) or 0
        bridge = self.bridges.get(stream_id)
        if isinstance(event, ResponseReceived):
            headers = {name.decode(): value.decode() for name, value in event.headers}
            if stream_id in self._intakes:
                self._intakes[stream_id] = headers, bytearray()
            elif bridge is not None:
                bridge.status = headers[":status"]
            else:
                self.answers[stream_id] = headers[":status"]
        elif isinstance(event, DataReceived):
            if bridge is not None:
                if not bridge.over:
                    bridge.events.append(event)
                if self.lumpy:
                    return
            elif stream_id in self._intakes:
                self._intakes[stream_id][1].extend(event.data)
            self.h2.acknowledge_received_data(event.flow_controlled_length, stream_id)
        elif isinstance(event, StreamEnded | StreamReset):
            if bridge is not None:
                bridge.ended = True
                bridge.was_reset = isinstance(event, StreamReset)
            elif stream_id in self._intakes:
                self._intake_ended(*self._intakes.pop(stream_id))

    def _intake_ended(self, headers: dict[str, str], body: bytearray) -> None:
        if "inkbox-request-id" in headers:
            self.envelopes.append((headers, body))
        else:
            self.junk += len(body)
        self.park()

    def park(self) -> None:
        self._intakes[self._open("POST", "/_system/intake", [("x-pool-slot", "0")], end=True)] = (
            {},
            bytearray(),
        )

    def respond(self, request_id: str, status: int, headers: Headers = [], body: bytes = b"") -> int:  # noqa: B006
        fields = [("inkbox-status", str(status)), ("content-length", str(len(body)))]
        fields += [("inkbox-h-" + name, value) for name, value in headers]
        stream_id = self._open("POST", "/_system/response/" + request_id, fields, end=not body)
        if body:
            self.h2.send_data(stream_id, body, end_stream=True)
        return stream_id

    def connect(self, request_id: str, *, raw: bool = False) -> LumpyBridge:
        kind = "tcp" if raw else "ws"
        protocol = ("inkbox-tunnel-" + kind,)
        stream_id = self._open(
            "CONNECT", f"/_system/{kind}/{request_id}", [(f"inkbox-{kind}-id", request_id)], *protocol
        )
        bridge = self.bridges[stream_id] = LumpyBridge(self, stream_id, raw=raw)
        return bridge

    def _open(self, method: str, path: str, fields: Headers, *protocol: str, end: bool = False) -> int:
        stream_id = self.h2.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", "https"), (":authority", "zone.test"), (":path", path)]
        pseudo += [(":protocol", text) for text in protocol]
        self.h2.send_headers(stream_id, pseudo + fields, end_stream=end)
        return stream_id
