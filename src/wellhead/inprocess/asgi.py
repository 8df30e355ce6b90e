"""ASGI applications: HTTP, WebSocket and lifespan.

Source: the ASGI specification 3.0, HTTP & WebSocket message format 2.5, lifespan 2.0.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from pathlib import Path
from typing import Any, cast

from wellhead.errors import StateError, VisitorGone
from wellhead.inprocess.flow import Flow
from wellhead.inprocess.head import Field, RequestHead
from wellhead.inprocess.lifespan import Lifespan
from wellhead.inprocess.socket import ABNORMAL, Socket, SocketClosed

# The specification's own types: what applications are written against is no more definite.
Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

FILE_PIECE = 256 * 1024  # bytes read at once for http.response.pathsend

_VERSIONS = {"version": "3.0", "spec_version": "2.5"}
_DISCONNECT = "http.disconnect"


class Asgi:
    """An ASGI application as an answerer. ``root_path`` is what it is told to be mounted at."""

    def __init__(self, app: Application, *, root_path: str = "") -> None:
        self._app = app
        self._root_path = root_path
        self._lifespan = Lifespan(app)

    async def start(self) -> None:
        """Run the application's startup.

        Raises:
            HandlerError: it failed.
        """
        await self._lifespan.start()

    async def stop(self) -> None:
        """Run its shutdown."""
        await self._lifespan.stop()

    async def http(self, request: RequestHead, flow: Flow) -> None:
        """Answer a request."""
        scope = self._scope(request, "http", request.scheme)
        scope["method"] = request.method
        scope["extensions"] = {
            "http.response.trailers": {},
            "http.response.pathsend": {},
            "http.response.early_hint": {},
        }
        cycle = _Cycle(flow)
        await self._app(scope, cycle.receive, cycle.send)

    async def websocket(self, request: RequestHead, socket: Socket) -> None:
        """Take part in a conversation."""
        scope = self._scope(request, "websocket", "ws" if request.scheme == "http" else "wss")
        scope["subprotocols"] = list(socket.subprotocols)
        scope["extensions"] = {"websocket.http.response": {}}
        conversation = _Conversation(socket)
        await self._app(scope, conversation.receive, conversation.send)
        conversation.returned()

    def _scope(self, request: RequestHead, kind: str, scheme: str) -> Scope:
        return {
            "type": kind,
            "asgi": _VERSIONS.copy(),
            "http_version": "1.1",
            "scheme": scheme,
            "path": self._root_path + request.path,
            "raw_path": self._root_path.encode() + request.raw_path,
            "query_string": request.query,
            "root_path": self._root_path,
            "headers": list(request.headers),
            "client": (request.peer, 0) if request.peer else None,
            "server": request.server,
            "state": self._lifespan.state.copy(),
        }


class _Cycle:
    """One request's ``receive`` and ``send``."""

    __slots__ = ("_fields", "_flow", "_said_all", "_start", "_trailers")

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._start: Message | None = None  # told, and kept until the first body bytes
        self._said_all = False  # the application has read the whole request
        self._trailers = False  # some follow
        self._fields: list[Field] = []  # of trailers that more follow

    async def receive(self) -> Message:
        flow = self._flow
        if not self._said_all and not flow.done:
            try:
                body = await flow.read()
            except VisitorGone:
                return await self._disconnected()
            self._said_all = flow.body_over
            return {"type": "http.request", "body": body, "more_body": not self._said_all}
        await flow.wait_done()
        return await self._disconnected()

    async def _disconnected(self) -> Message:
        await asyncio.sleep(0)  # who asks again and again must not keep the loop
        return {"type": _DISCONNECT}

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.body":
            await self._body(message.get("body", b""), not message.get("more_body", False))
        elif kind == "http.response.start":
            if self._start is not None or self._flow.replied:
                if not self._flow.answered:
                    raise StateError("http.response.start was sent before")
                return  # "any further messages on the channel will be ignored"
            self._start = message
            self._trailers = message.get("trailers", False)
        elif kind == "http.response.trailers":
            if not self._trailers and not self._flow.answered:
                raise StateError("http.response.trailers were not announced by http.response.start")
            self._fields += _fields(message)
            if not self._flow.answered and not message.get("more_trailers", False):
                self._flow.trailers(self._fields)
        elif kind == "http.response.pathsend":
            await self._path(os.fsdecode(message["path"]))
        elif kind == "http.response.early_hint":
            links = [(b"link", bytes(link)) for link in message.get("links", ())]
            self._flow.interim(103, links)
        else:
            raise StateError(f"message {kind!r} has no place in a reply")

    async def _body(self, data: bytes, last: bool) -> None:
        flow, end = self._flow, last and not self._trailers
        if flow.replied:
            if flow.answered:  # "any further messages on the channel will be ignored"
                await asyncio.sleep(0)
                return
            ready = flow.put(data, end)
        else:
            start = self._start
            if start is None:
                raise StateError("http.response.body before http.response.start")
            self._start = None
            ready = flow.begin(start["status"], _fields(start), data, end)
        if not ready and not end:
            await flow.room()
        elif flow.bodyless:  # nothing is sent that could be waited for
            await asyncio.sleep(0)

    async def _path(self, path: str) -> None:
        file = await asyncio.to_thread(Path(path).open, "rb")
        try:
            data = await asyncio.to_thread(file.read, FILE_PIECE)
            while data:
                following = await asyncio.to_thread(file.read, FILE_PIECE)
                await self._body(data, not following)
                data = following
            if not self._flow.done:
                await self._body(b"", True)
        finally:
            file.close()


class _Conversation:
    """One WebSocket's ``receive`` and ``send``."""

    __slots__ = ("_connected", "_denial", "_denied", "_disconnected", "_socket")

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._connected = False
        self._denial: Message | None = None  # a refusal with a body, told and not yet sent
        self._denied = False
        self._disconnected = False

    async def receive(self) -> Message:
        socket = self._socket
        if self._disconnected:
            await asyncio.sleep(0)  # who asks again and again must not keep the loop
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        await socket.flow.wait_answered()  # some frameworks listen before they accept
        if not socket.accepted:
            await socket.flow.wait_done()
            return self._disconnect(ABNORMAL, "")
        try:
            message = await socket.receive()
        except SocketClosed as closed:
            return self._disconnect(closed.close_code, closed.reason)
        if isinstance(message, str):
            return {"type": "websocket.receive", "text": message}
        return {"type": "websocket.receive", "bytes": message}

    def _disconnect(self, code: int, reason: str) -> Message:
        self._disconnected = self._socket.flow.heard = True
        return {"type": "websocket.disconnect", "code": code, "reason": reason}

    async def send(self, message: Message) -> None:
        kind = message["type"]
        socket = self._socket
        if kind == "websocket.send":
            text, data = message.get("text"), message.get("bytes")
            if text is None and data is None:
                raise StateError("websocket.send without text or bytes")
            await socket.send(bytes(cast(bytes, data)) if text is None else text)
        elif kind == "websocket.accept":
            socket.accept(message.get("subprotocol"), _fields(message))
        elif kind == "websocket.close":
            self._close(message.get("code") or 1000, message.get("reason") or "")
        elif kind == "websocket.http.response.start":
            if socket.accepted or socket.flow.replied:
                raise StateError("a refusal after the websocket was answered")
            self._denial = message
        elif kind == "websocket.http.response.body":
            await self._refuse(message)
        else:
            raise StateError(f"message {kind!r} has no place in a websocket")

    def _close(self, code: int, reason: str) -> None:
        socket = self._socket
        if socket.accepted:
            socket.close(code, reason)
        elif not socket.flow.done:
            socket.flow.refuse(403, b"refused")

    async def _refuse(self, message: Message) -> None:
        flow, denial = self._socket.flow, self._denial
        data, end = message.get("body", b""), not message.get("more_body", False)
        if denial is not None:
            self._denial = None
            await flow.start(denial["status"], _fields(denial), data, end)
        else:
            await flow.send(data, end)

    def returned(self) -> None:
        """The application's call is over: a conversation that it left open ends well."""
        if self._socket.accepted:
            self._socket.close(1000)


def _fields(message: Message) -> list[Field]:
    headers: Iterable[Iterable[bytes]] = message.get("headers") or ()
    return [(bytes(name), bytes(value)) for name, value in headers]
