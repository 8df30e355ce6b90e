"""WSGI applications, streamed both ways, each call in a thread.

``a2wsgi`` makes the environment and reads the body; what goes out is waited for piece by piece, so that an
application hears of a visitor who has gone, and never makes more than is taken.

Source: PEP 3333.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from a2wsgi.wsgi import Body, WSGIResponder, build_environ

from wellhead.agent.inprocess.asgi import Asgi, Receive, Scope, Send
from wellhead.agent.inprocess.flow import Flow
from wellhead.agent.inprocess.head import RequestHead
from wellhead.agent.inprocess.socket import Socket
from wellhead.agent.inprocess.threads import Threads, awaited
from wellhead.errors import VisitorGone


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

        async def body() -> Any:
            message = await receive()
            if message["type"] != "http.request":  # else a broken upload would look whole
                raise VisitorGone("the visitor left before the end of its request")
            return message

        responder = _Responder(self._app, loop, send)
        environ = _environ(scope, Body(loop, body))
        await self._threads.run(lambda: responder.wsgi(environ, responder.start_response))
        if responder.exc_info is not None:  # what PEP 3333 calls an error page: it was sent, and is logged
            raise responder.exc_info[1]


class _Responder(WSGIResponder):
    """Sends from the application's thread, and waits until it is taken."""

    def __init__(
        self, app: Callable[..., Any], loop: asyncio.AbstractEventLoop, send: Callable[[Any], Awaitable[None]]
    ) -> None:
        self.app = app
        self.loop = loop
        self.response_started = False
        self.exc_info: Any = None
        self._send = send

    def send(self, message: Any) -> None:
        async def sent() -> None:
            await self._send(message)

        awaited(self.loop, sent)


def _environ(scope: Scope, body: Body) -> Any:
    query = scope["query_string"]
    environ: dict[str, Any] = dict(build_environ({**scope, "query_string": b""}, body))  # type: ignore[typeddict-item]
    environ["QUERY_STRING"] = query.decode("latin-1")
    environ["wsgi.errors"] = sys.stderr
    environ["wsgi.multiprocess"] = False
    environ["wsgi.input_terminated"] = True
    environ["RAW_URI"] = environ["REQUEST_URI"] = (
        scope["raw_path"] + (b"?" + query if query else b"")
    ).decode("latin-1")
    return environ
