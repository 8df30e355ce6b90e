"""A WebSocket handler, ``ws_handler(ws, ctx)``: a coroutine that speaks with one visitor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from wellhead.errors import InputError, StateError
from wellhead.inprocess.context import context_of
from wellhead.inprocess.flow import Flow
from wellhead.inprocess.handler import is_awaited, takes
from wellhead.inprocess.head import RequestHead
from wellhead.inprocess.request import Asked
from wellhead.inprocess.response import Body, HeaderItems, Response, encoded, fields_of
from wellhead.inprocess.socket import Message, Socket, SocketClosed
from wellhead.inprocess.upstream import Answerer


class WebSocket(Asked):
    """One visitor's WebSocket; accepted or denied by the handler.

    >>> async def ws_handler(ws, ctx):
    ...     await ws.accept()
    ...     async for message in ws:
    ...         await ws.send(message)
    """

    def __init__(self, head: RequestHead, socket: Socket) -> None:
        super().__init__(head)
        self.subprotocols = list(socket.subprotocols)  # that the visitor offers, best first
        self._socket = socket

    async def accept(self, *, subprotocol: str | None = None, headers: HeaderItems = ()) -> None:
        """Begin. ``subprotocol`` is one of those offered; ``headers`` go along with the answer.

        Raises:
            StateError: it was answered before, or what cannot be said.
            VisitorGone: the visitor left.
        """
        self._socket.accept(subprotocol, fields_of(Response(headers=headers), None, whole=False))

    async def deny(self, status: int = 403, body: Body = None, *, headers: HeaderItems = ()) -> None:
        """Refuse, with an ordinary reply.

        Raises:
            StateError: it was answered before, or a body that comes in pieces.
        """
        if not isinstance(body, str | bytes | None):
            raise StateError("a refusal's body is text or bytes")
        if self._socket.accepted:
            raise StateError("the websocket was accepted: close it instead")
        fields = fields_of(Response(headers=headers), body, whole=True)
        await self._socket.flow.start(status, fields, encoded(body), True)

    async def receive(self) -> Message:
        """The next message, text or bytes.

        Raises:
            SocketClosed: there is none; it has the close code and the reason.
        """
        return await self._socket.receive()

    async def __aiter__(self) -> AsyncIterator[Message]:
        """Messages, until the conversation is over; see ``close_code`` for how."""
        while True:
            try:
                message = await self._socket.receive()
            except SocketClosed:
                return
            yield message

    async def send(self, message: Message) -> None:
        """Send text or bytes; waits while the visitor does not keep up.

        Raises:
            SocketClosed: nobody hears it.
        """
        await self._socket.send(message)

    async def ping(self, payload: bytes = b"") -> None:
        """Ask for a sign of life. Pings of the visitor are answered without the handler."""
        self._socket.ping(payload)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye. Idempotent; before ``accept`` it is a refusal with 403."""
        if self._socket.accepted:
            self._socket.close(code, reason)
        elif not self._socket.flow.done:
            self._socket.flow.refuse(403, b"refused")

    @property
    def close_code(self) -> int | None:
        """How it ended, as RFC 6455 section 7.1.5 says; None while it lasts.

        1006: without a Close; 4500: this agent, or its edge, is leaving.
        """
        return None if self._socket.closed is None else self._socket.closed[0]

    @property
    def close_reason(self) -> str:
        """What was said at the end."""
        return "" if self._socket.closed is None else self._socket.closed[1]


class Conversations:
    """A WebSocket handler as an answerer: of nothing else.

    Raises:
        InputError: the handler is no coroutine function.
    """

    def __init__(self, ws_handler: Callable[..., Awaitable[Any]], *, tunnel: Callable[[], str] = str) -> None:
        if not is_awaited(ws_handler):
            raise InputError("ws_handler must be a coroutine function: async def ws_handler(ws, ctx)")
        self._handler = ws_handler
        self._takes_context = takes(ws_handler, 2)
        self._tunnel = tunnel

    async def start(self) -> None:
        """There is nothing to be started."""

    async def stop(self) -> None:
        """Nor to be stopped."""

    async def http(self, request: RequestHead, flow: Flow) -> None:
        """Refuse: only WebSockets are heard."""
        flow.refuse(501, b"only websockets are served here")

    async def websocket(self, request: RequestHead, socket: Socket) -> None:
        """Let the handler speak."""
        ctx = context_of(request, self._tunnel())
        socket.flow.on_over = ctx.cancelled.fire
        ws = WebSocket(request, socket)
        await (self._handler(ws, ctx) if self._takes_context else self._handler(ws))


class WithWebSockets:
    """An answerer whose WebSockets go to a handler of their own."""

    def __init__(self, rest: Answerer, conversations: Conversations) -> None:
        self._rest = rest
        self.start, self.stop, self.http = rest.start, rest.stop, rest.http
        self.websocket = conversations.websocket
