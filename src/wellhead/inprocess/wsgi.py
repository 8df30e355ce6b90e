"""WSGI applications, streamed both ways, each call in a thread.

``a2wsgi`` makes the environment. What goes out is waited for piece by piece, so that an application hears of
a visitor who has gone, and never makes more than is taken.

Source: PEP 3333.
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

from a2wsgi.wsgi import build_environ

from wellhead.errors import StateError, VisitorGone
from wellhead.inprocess.asgi import Asgi, Message, Receive, Scope, Send
from wellhead.inprocess.flow import Flow
from wellhead.inprocess.head import RequestHead
from wellhead.inprocess.socket import Socket
from wellhead.inprocess.threads import Threads, awaited

BUFFER = 64 * 1024  # bytes of a request that are read at once


class Wsgi:
    """A WSGI application as an answerer."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self._threads = Threads("wellhead-wsgi")
        self._asgi = Asgi(self._call)
        self._app = app

    async def start(self) -> None:
        """There is nothing to be started."""

    async def stop(self) -> None:
        """Calls that still run are left to themselves."""
        self._threads.close()

    async def http(self, request: RequestHead, flow: Flow) -> None:
        """Answer a request."""
        await self._asgi.http(request, flow)

    async def websocket(self, request: RequestHead, socket: Socket) -> None:
        """Refuse: WSGI knows none."""
        socket.flow.refuse(501, b"no websocket is served here")

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        environ = _environ(scope, io.BufferedReader(_Input(loop, receive), BUFFER))
        reply = _Reply(loop, send)
        await self._threads.run(lambda: reply.run(self._app, environ))
        if reply.error is not None:  # what PEP 3333 calls an error page: it was sent, and is logged
            raise reply.error


class _Input(io.RawIOBase):
    """The request's body, for a thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, receive: Receive) -> None:
        self._loop = loop
        self._receive = receive
        self._piece = memoryview(b"")
        self._more = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._piece and self._more:
            message = awaited(self._loop, self._next)
            self._piece, self._more = memoryview(message["body"]), message["more_body"]
        size = min(len(buffer), len(self._piece))
        buffer[:size] = self._piece[:size]
        self._piece = self._piece[size:]
        return size

    async def _next(self) -> Any:
        message = await self._receive()
        if message["type"] != "http.request":  # else a broken upload would look whole
            raise VisitorGone("the visitor left before the end of its request")
        return message


class _Reply:
    """Sends from the application's thread, and waits until it is taken.

    The head waits for the first bytes of the body: until then an error may replace it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Send) -> None:
        self.error: BaseException | None = None  # that an application answered to by itself
        self._loop = loop
        self._send = send
        self._head: Message | None = None
        self._begun = False

    def run(self, app: Callable[..., Any], environ: dict[str, Any]) -> None:
        """Call the application and send what it gives."""
        pieces = app(environ, self.start_response)
        try:
            if isinstance(pieces, list | tuple) and len(pieces) == 1:
                self._body(pieces[0], more=False)
                return
            for piece in pieces:
                self.write(piece)
            self._body(b"", more=False)
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()

    def start_response(
        self, status: str, headers: Iterable[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """
        Raises:
            StateError: the second time, without ``exc_info``.
        """
        if exc_info is not None:
            if self._begun:
                raise exc_info[1].with_traceback(exc_info[2])
            self.error = exc_info[1]
        elif self._head is not None:
            raise StateError("start_response was called before")
        self._head = {
            "type": "http.response.start",
            "status": int(status.split(" ", 1)[0]),
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        }
        return self.write

    def write(self, data: bytes) -> None:
        """Send body bytes; nothing does not send the head either."""
        if data:
            self._body(data, more=True)

    def _body(self, data: bytes, *, more: bool) -> None:
        async def sent() -> None:
            if not self._begun:
                if self._head is None:
                    raise StateError("a body before start_response")
                await self._send(self._head)
                self._begun = True
            await self._send({"type": "http.response.body", "body": data, "more_body": more})

        awaited(self._loop, sent)


def _environ(scope: Scope, body: io.BufferedReader) -> dict[str, Any]:
    query = scope["query_string"]
    environ: dict[str, Any] = dict(build_environ({**scope, "query_string": b""}, body))  # type: ignore[typeddict-item,arg-type]
    environ["PATH_INFO"] = unquote_to_bytes(scope["raw_path"]).decode("latin-1")
    environ["QUERY_STRING"] = query.decode("latin-1")
    environ["wsgi.errors"] = sys.stderr
    environ["wsgi.multiprocess"] = False
    environ["wsgi.input_terminated"] = True
    environ["RAW_URI"] = environ["REQUEST_URI"] = (
        scope["raw_path"] + (b"?" + query if query else b"")
    ).decode("latin-1")
    return environ
