"""A WebSocket client on a stream, without a socket."""

from __future__ import annotations

from typing import Any

from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame
from websockets.http11 import Response
from websockets.uri import parse_uri

from tests.kit.inprocess import Host, Visit, envelope


class SocketClient:
    """A WebSocket client on a stream."""

    def __init__(
        self,
        host: Host,
        target: str = "/ws",
        *more: tuple[str, str],
        subprotocols: Any = None,
        compress: bool = False,
    ) -> None:
        extensions = [ClientPerMessageDeflateFactory()] if compress else None
        self.protocol = ClientProtocol(
            parse_uri("wss://app.example.com" + target), subprotocols=subprotocols, extensions=extensions
        )
        request = self.protocol.connect()
        fields = [
            (name, value)
            for name, value in request.headers.raw_items()
            if name.lower() not in ("host", "connection", "upgrade")
        ]
        self.visit: Visit = host.upgrade(envelope("GET", target, *fields, *more))
        self.protocol.send_request(request)
        self.protocol.data_to_send()
        self._fed = 0
        self.frames: list[Frame] = []
        self.response: Response | None = None

    def feed(self) -> None:
        if self.response is None and self.visit.status == 101:
            head = self.visit.head.replace("HTTP/1.1 101 Switching Protocols\r\n", "")
            whole = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + head
            self.protocol.receive_data(whole.encode())
        new = bytes(self.visit.body[self._fed :])
        self._fed += len(new)
        if new and self.visit.status == 101:
            self.protocol.receive_data(new)
        for event in self.protocol.events_received():
            if isinstance(event, Frame):
                self.frames.append(event)
            elif isinstance(event, Response):
                self.response = event

    def flush(self) -> None:
        data = b"".join(self.protocol.data_to_send())
        if data:
            self.visit.send(data)

    async def open(self) -> None:
        await self.visit.until(lambda: self.visit.status or self.visit.reset is not None)
        self.feed()

    async def frame(self) -> Frame:
        def there() -> bool:
            self.feed()
            return bool(self.frames)

        await self.visit.until(there)
        return self.frames.pop(0)

    def say(self, text: str) -> None:
        self.protocol.send_text(text.encode())
        self.flush()

    def write(self, data: bytes) -> None:
        self.protocol.send_binary(data)
        self.flush()
