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

from wellhead.errors import StateError, VisitorGone
from wellhead.inprocess.flow import Flow
from wellhead.inprocess.head import Field, RequestHead, switch_head
from wellhead.logs import Log
from wellhead.wire.streams import Buffer, HeadKind, Reason, Stream

ABNORMAL = 1006  # there was no Close: never on the wire
NO_CODE = 1005  # there was one without a code: never on the wire
GOING_AWAY = 1012  # what a visitor is told when this agent, or its edge, is leaving
DRAINED = 4500  # what the application is told then. Source: inkbox-tunnels, "3.13 GOAWAY and draining"

FED_BYTES = 16 * 1024  # of frames, unfolded at once: compressed ones become a thousand times more

Message = str | bytes

_log = Log("wellhead.agent")


@dataclass(frozen=True, slots=True)
class SocketTerms:
    """Limits of one conversation."""

    max_message_bytes: int = 16 * 1024 * 1024
    max_unread_bytes: int = 1024 * 1024  # of whole messages; frames behind these are not unfolded
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
        self._unread: deque[Buffer] = deque()  # frames that wait until messages are read
        self._messages: deque[Message] = deque()
        self._decoded = 0  # bytes of them, about
        self._deaf = False  # nobody receives any more
        self._part = bytearray()  # of a message whose end has not come
        self._text = False
        self._owed = 0  # bytes taken in and not yet credited
        self._full = False  # the carrier takes no more
        self._ended = False  # our half
        self._got_end = False
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
                raise self._goodbye(*self._closed)
            await self._news()
        message = self._messages.popleft()
        self._decoded -= len(message)
        if self._unread:
            self._decode()
        elif not self._messages:
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
        self._deaf = True  # what is behind must not hold up the answer to our Close
        self._messages.clear()
        self._decode()
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
        self._got_end = self._got_end or end
        if self._ended or self._over:
            self._stream.consumed(size)
        elif size:
            self._owed += size
            self._unread.append(data)
        self._decode()

    def on_reset(self, reason: int) -> None:
        self._closed = self._closed or (ABNORMAL, "")
        self._over = self._ended = True
        self._owed = 0
        self._unread.clear()
        self._wake()
        self.flow.on_reset(reason)

    def on_writable(self) -> None:
        self._full = False
        if not self._messages and not self._unread:
            self._credit()
        self._wake()

    # Inside

    def _decode(self) -> None:
        """Take frames apart, as long as what they unfold to is not much more than they are."""
        while self._unread and (self._deaf or self._decoded <= self._terms.max_unread_bytes):
            data = self._unread.popleft()
            if len(data) > FED_BYTES and self._protocol.extensions:
                self._unread.appendleft(memoryview(data)[FED_BYTES:])
                data = data[:FED_BYTES]
            self._protocol.receive_data(bytes(data))
            self._read()
        if not self._messages and not self._unread:
            self._credit()
        if self._got_end and not self._unread and not self._over:
            self._protocol_over()
        self._wake()

    def _read(self) -> None:
        protocol = self._protocol
        for frame in protocol.events_received():
            if not isinstance(frame, Frame):
                continue
            if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
                self._text = frame.opcode is Opcode.TEXT
                if frame.fin:
                    self._message(bytes(frame.data))
                else:
                    self._part = bytearray(frame.data)
            elif frame.opcode is Opcode.CONT:
                self._part += frame.data
                if frame.fin:
                    self._message(bytes(self._part))
                    self._part = bytearray()
            elif frame.opcode is Opcode.CLOSE:
                self._heard_close()
        if protocol.parser_exc is not None and self._closed is None:
            sent = protocol.close_sent
            self._closed = (ABNORMAL, "") if sent is None else (int(sent.code), sent.reason)
        self._write()

    def _message(self, whole: bytes) -> None:
        if self._deaf:
            return
        try:
            self._messages.append(whole.decode() if self._text else whole)
            self._decoded += len(self._messages[-1])
        except UnicodeDecodeError:
            self._deaf = True
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
        self._repay()
        self._over = True
        self._closed = self._closed or (ABNORMAL, "")
        if not self._ended:
            self._ended = True
            self._stream.send(b"", True)
        self._wake()

    def _credit(self) -> None:
        if not self._full:  # who does not read our pongs has no credit for more pings
            self._repay()

    def _repay(self) -> None:
        owed, self._owed = self._owed, 0
        if owed and not self._over:
            self._stream.consumed(owed)

    def _may_speak(self) -> None:
        if not self.accepted:
            raise StateError("a message before the websocket was accepted")
        if self._closed is not None:
            raise self._goodbye(*self._closed)

    def _goodbye(self, code: int, reason: str) -> SocketClosed:
        self.flow.heard = True
        return SocketClosed(code, reason)

    async def _news(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

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
