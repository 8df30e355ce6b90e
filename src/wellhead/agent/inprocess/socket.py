"""A visitor's WebSocket, as code in this process speaks with it: whole messages, both ways.

The frames are ``websockets``' business (RFC 6455, permessage-deflate of RFC 7692); the stream's bytes go
through it in callbacks, so that pings are answered and a close is heard whatever the application does.
What the visitor may send is credited while nobody has to wait for the application, and after that as it
reads: a slow application holds one window, and the message that is being put together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake, ProtocolError
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from wellhead.agent.inprocess.flow import Flow
from wellhead.agent.inprocess.head import Field, RequestHead, switch_head
from wellhead.errors import StateError, VisitorGone
from wellhead.logs import Log
from wellhead.wire.streams import Buffer, HeadKind, Reason, Stream

ABNORMAL = 1006  # there was no Close: never on the wire
NO_CODE = 1005  # there was one without a code: never on the wire
GOING_AWAY = 1012  # what a visitor is told when this agent, or its edge, is leaving
DRAINED = 4500  # what the application is told then. Source: inkbox-tunnels, "3.13 GOAWAY and draining"

Message = str | bytes

_log = Log("wellhead.agent")


@dataclass(frozen=True, slots=True)
class SocketTerms:
    """Limits of one conversation."""

    max_message_bytes: int = 16 * 1024 * 1024
    close_seconds: float = 5.0  # for the visitor to answer a Close


class SocketClosed(VisitorGone):
    """The conversation is over. ``close_code`` is RFC 6455's, section 7.1.5; 1006: no Close came."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the websocket is closed: {code} {reason}".rstrip())
        self.close_code = code
        self.reason = reason


class Socket:
    """Made by ``InProcess`` for each request to switch; refused by answering its ``flow`` instead."""

    def __init__(self, flow: Flow, stream: Stream, request: RequestHead, terms: SocketTerms) -> None:
        self.accepted = False
        self.subprotocols = _words(request.headers, b"sec-websocket-protocol")
        self.flow = flow
        self.request = request
        self._stream = stream
        self._terms = terms
        self._protocol = ServerProtocol(
            state=State.OPEN,  # else it would read the request itself
            extensions=[ServerPerMessageDeflateFactory()],
            max_size=terms.max_message_bytes,
            logger=_log.logger,
        )
        self._messages: deque[Message] = deque()
        self._parts: list[bytes] = []  # of a message whose end has not come
        self._text = False
        self._owed = 0  # bytes taken in and not yet credited
        self._full = False  # the carrier takes no more
        self._ended = False  # our half
        self._over = False  # nothing comes any more
        self._closed: tuple[int, str] | None = None  # what the application is told
        self._waiters: list[asyncio.Future[None]] = []

    # The handshake

    def accept(self, subprotocol: str | None = None, headers: Iterable[Field] = ()) -> None:
        """Switch. ``headers`` go along with the answer.

        Raises:
            StateError: it was answered already, a subprotocol that was not offered, or a field of the
                handshake's own.
            VisitorGone: nobody hears it.
        """
        flow = self.flow
        if flow.gone:
            raise VisitorGone("the visitor left before its websocket was accepted")
        if self.accepted or flow.replied:
            raise StateError("a second answer to one websocket request")
        if subprotocol is not None and subprotocol not in self.subprotocols:
            raise StateError(f"subprotocol {subprotocol!r} was not offered, only {self.subprotocols}")
        fields = [*self._handshake(), *_extra(headers)]
        if subprotocol is not None:
            fields.append((b"sec-websocket-protocol", subprotocol.encode("ascii")))
        head = switch_head(fields)
        self.accepted = True
        early = flow.switched()
        self._stream.sink = self
        self._full = not self._stream.head(HeadKind.REPLY, head)
        for data, end in early:
            self.on_data(data, end)

    def _handshake(self) -> list[Field]:
        headers = Headers()
        for name, value in self.request.headers:
            headers[name.decode("ascii")] = value.decode("latin-1")
        headers["Connection"] = "Upgrade"  # they are of one hop: the envelope has none
        headers["Upgrade"] = "websocket"
        try:
            accept, extensions, _ = self._protocol.process_request(
                Request(self.request.target.decode("latin-1"), headers)
            )
        except InvalidHandshake as error:
            raise StateError(f"the visitor's handshake cannot be accepted: {error}") from error
        fields: list[Field] = [(b"sec-websocket-accept", accept.encode("ascii"))]
        if extensions is not None:
            fields.append((b"sec-websocket-extensions", extensions.encode("ascii")))
        return fields

    # Messages

    async def receive(self) -> Message:
        """The next message.

        Raises:
            SocketClosed: there is none.
        """
        while not self._messages:
            if self._closed is not None:
                raise SocketClosed(*self._closed)
            await self._news()
        message = self._messages.popleft()
        if not self._messages:
            self._credit()
        return message

    async def send(self, message: Message) -> None:
        """Send a message, and wait while the visitor does not keep up.

        Raises:
            SocketClosed: nobody hears it.
        """
        self._may_speak()
        if isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(message)
        self._write()
        while self._full and self._closed is None:
            await self._news()

    def ping(self, payload: bytes = b"") -> None:
        """Send a ping; its pong is not told.

        Raises:
            SocketClosed: nobody hears it.
        """
        self._may_speak()
        self._protocol.send_ping(payload)
        self._write()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye; does nothing where that was said. ``reason`` is cut to 123 bytes.

        Raises:
            StateError: a code that may not be sent.
        """
        if not self.accepted or self._ended or self._protocol.state is not State.OPEN:
            return
        try:
            self._protocol.send_close(code, reason.encode()[:123].decode(errors="ignore"))
        except ProtocolError as error:
            raise StateError(f"close code {code} cannot be sent: {error}") from None
        self._closed = self._closed or (code, reason)
        self._write()
        self._wake()

    def drain(self) -> None:
        """The agent is leaving: the visitor may come again, the application is told why."""
        if self.accepted and self._closed is None:
            self._closed = (DRAINED, "the server is draining")
            self.close(GOING_AWAY, "service restart")

    @property
    def closed(self) -> tuple[int, str] | None:
        """Code and reason, once the conversation is over or ending."""
        return self._closed

    async def wait_closed(self) -> None:
        """Until the visitor has answered our Close, has gone, or has had its time."""
        if not self.accepted:
            return
        try:
            async with asyncio.timeout(self._terms.close_seconds):
                while not self._over:
                    await self._news()
        except TimeoutError:
            pass
        self._end()
        if not self._over:
            self._over = True
            self._stream.reset(Reason.TIMEOUT)
        self.flow.left()

    # The stream's sink

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        """There are none behind a switch."""
        self.on_data(data, end)

    def on_data(self, data: Buffer, end: bool) -> None:
        size = len(data)
        self.flow.counted(size, 0)
        if self._ended or self._over:
            self._stream.consumed(size)
        else:
            self._owed += size
            if size:
                self._protocol.receive_data(bytes(data))
            self._read()
        if end:
            self._protocol_over()

    def on_reset(self, reason: int) -> None:
        self._closed = self._closed or (ABNORMAL, "")
        self._over = self._ended = True
        self._owed = 0
        self._wake()
        self.flow.on_reset(reason)

    def on_writable(self) -> None:
        self._full = False
        self._wake()

    # Inside

    def _read(self) -> None:
        protocol = self._protocol
        for frame in protocol.events_received():
            if not isinstance(frame, Frame):
                continue
            if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
                self._text = frame.opcode is Opcode.TEXT
                self._parts = [bytes(frame.data)]
            elif frame.opcode is Opcode.CONT:
                self._parts.append(bytes(frame.data))
            elif frame.opcode is Opcode.CLOSE:
                self._heard_close()
                continue
            else:
                continue
            if frame.fin:
                self._message()
        if protocol.parser_exc is not None and self._closed is None:
            sent = protocol.close_sent
            self._closed = (ABNORMAL, "") if sent is None else (int(sent.code), sent.reason)
        self._write()
        if not self._messages:
            self._credit()
        self._wake()

    def _message(self) -> None:
        whole = b"".join(self._parts)
        self._parts = []
        if not self._text:
            self._messages.append(whole)
            return
        try:
            self._messages.append(whole.decode())
        except UnicodeDecodeError:
            self._protocol.fail(1007, "invalid UTF-8")
            self._closed = self._closed or (1007, "invalid UTF-8")

    def _heard_close(self) -> None:
        heard = self._protocol.close_rcvd
        if heard is not None and self._closed is None:
            self._closed = (int(heard.code), heard.reason)

    def _write(self) -> None:
        if self._ended or self._over:
            return
        pieces = self._protocol.data_to_send()
        data = b"".join(pieces)
        end = bool(pieces) and not pieces[-1]  # how ``websockets`` says that nothing follows
        self.flow.counted(0, len(data))
        if data or end:
            self._ended = end
            if not self._stream.send(data, end):
                self._full = True

    def _end(self) -> None:
        if not self._ended and not self._over:
            self._ended = True
            self._stream.send(b"", True)

    def _protocol_over(self) -> None:
        self._over = True
        self._closed = self._closed or (ABNORMAL, "")
        if not self._ended:
            self._ended = True
            self._stream.send(b"", True)
        self._wake()

    def _credit(self) -> None:
        owed, self._owed = self._owed, 0
        if owed and not self._over:
            self._stream.consumed(owed)

    def _may_speak(self) -> None:
        if not self.accepted:
            raise StateError("a message before the websocket was accepted")
        if self._closed is not None:
            raise SocketClosed(*self._closed)

    async def _news(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def _words(headers: Iterable[Field], name: bytes) -> list[str]:
    """The members of comma-separated lists."""
    lists = [value.decode("latin-1") for field, value in headers if field == name]
    return [word.strip() for text in lists for word in text.split(",") if word.strip()]


def _extra(headers: Iterable[Field]) -> list[Field]:
    """
    Raises:
        StateError: one of the handshake's own fields.
    """
    extra = [(bytes(name).lower(), bytes(value)) for name, value in headers]
    for name, _ in extra:
        if name.startswith(b"sec-websocket-"):
            raise StateError(f"field {name.decode('latin-1')!r} is the handshake's own")
    return [field for field in extra if field[0] != b"content-length"]
