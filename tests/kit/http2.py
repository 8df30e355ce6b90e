"""A visitor that speaks HTTP/2 with the library h2, which shares no code with ours, on a fake transport."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

from tests.kit.doors import FakeStream
from tests.kit.house import House
from tests.kit.transport import FakeTransport
from wellhead.visitors.http2 import Http2Visitor

Fields = list[tuple[bytes, bytes]]


@dataclass
class Reply:
    """What came on one stream so far."""

    interim: list[Fields] = field(default_factory=list)
    fields: Fields = field(default_factory=list)
    body: bytes = b""
    trailers: Fields | None = None
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(self.fields[0][1]) if self.fields else 0

    def get(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.fields if key == name), None)


class Http2Visit:
    """One connection. Nothing passes between the two ends but in ``turn``."""

    def __init__(self, house: House, *, sni: str | None = "localhost", reads: bool = True) -> None:
        self.house = house
        self.reads = reads  # takes part in flow control: credits what it gets
        self.connection = Http2Visitor(house.ingress, local=True, sni=sni)
        self.transport = FakeTransport(tls=True)
        self.h2 = H2Connection(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.replies: dict[int, Reply] = {}
        self.goaways: list[tuple[int, int]] = []  # error code, last stream id
        self.connection.connection_made(self.transport)
        self.h2.initiate_connection()

    async def ask(
        self,
        target: str = "/",
        *fields: tuple[str, str],
        method: str = "GET",
        authority: str = "localhost",
        end: bool = True,
        raw: Iterable[tuple[str, str]] | None = None,
        patient: bool = True,
    ) -> int:
        """Send a request head; ``raw`` replaces all of it. Returns the stream's id.

        A visitor that is not ``patient`` asks before it has heard what was said to it.
        """
        if patient:
            await self.turn()
        stream = self.h2.get_next_available_stream_id()
        self.replies[stream] = Reply()
        pseudo = [(":method", method), (":scheme", "https"), (":authority", authority), (":path", target)]
        self.h2.send_headers(stream, list(raw) if raw is not None else [*pseudo, *fields], end_stream=end)
        await self.turn()
        return stream

    async def connect(self, target: str = "/chat", *fields: tuple[str, str]) -> int:
        """Ask for a WebSocket (RFC 8441)."""
        pseudo = [
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"),
            (":authority", "localhost"), (":path", target), ("sec-websocket-version", "13"),
        ]  # fmt: skip
        return await self.ask(raw=[*pseudo, *fields], end=False)

    async def send(self, stream: int, data: bytes, end: bool = False) -> None:
        """Body bytes, as far as the windows allow: the caller keeps below them."""
        size = self.h2.max_outbound_frame_size
        for at in range(0, len(data), size):
            self.h2.send_data(stream, data[at : at + size])
        if end:
            self.h2.end_stream(stream)
        await self.turn()

    async def say(self, frame: bytes) -> None:
        """Bytes that the library would not send."""
        await self.turn()
        self.connection.data_received(frame)
        await self.turn()

    async def turn(self) -> None:
        """Let everything that was said arrive, both ways, until nobody says more."""
        quiet = 0
        while quiet < 3:
            before = self.transport.writes
            if (out := self.h2.data_to_send()) and not self.transport.closed:
                self.connection.data_received(out)
            await asyncio.sleep(0)
            self._hear(self.transport.take())
            quiet = 0 if self.transport.writes != before or out else quiet + 1

    def _hear(self, data: bytes) -> None:
        """Frame by frame: the library takes any GOAWAY for the end of everything, and most are not."""
        while data:
            size = 9 + int.from_bytes(data[:3], "big")
            for event in self.h2.receive_data(data[:size]):
                self._note(event)
            data = data[size:]

    def _note(self, event: Event) -> None:
        if isinstance(event, ConnectionTerminated):
            self.goaways.append((int(event.error_code or 0), event.last_stream_id or 0))
            self.h2.state_machine.state = ConnectionState.CLIENT_OPEN
        stream = getattr(event, "stream_id", None)
        reply = self.replies.get(stream) if stream else None
        if reply is None:
            return
        if isinstance(event, InformationalResponseReceived):
            reply.interim.append(_pairs(event.headers))
        elif isinstance(event, ResponseReceived):
            reply.fields = _pairs(event.headers)
        elif isinstance(event, DataReceived):
            reply.body += event.data or b""
            if self.reads and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, stream or 0)
        elif isinstance(event, TrailersReceived):
            reply.trailers = _pairs(event.headers)
        elif isinstance(event, StreamEnded):
            reply.ended = True
        elif isinstance(event, StreamReset):
            reply.reset = int(event.error_code or 0)

    @property
    def stream(self) -> FakeStream:
        """The agent's end of the last request."""
        return self.house.door.stream

    async def after(self, seconds: float) -> None:
        """Sweep the connection at a later time."""
        self.house.ahead += seconds
        self.connection.tick(self.house.clock())
        await self.turn()


def _pairs(fields: object) -> Fields:
    assert isinstance(fields, list)
    return [(bytes(name), bytes(text)) for name, text in fields]
