"""A plain handler, ``handler(request, ctx)``, in the loop or in a thread.

::

    async def, or an async generator     in the loop
    def, or a generator                  in a thread, with its iteration

Both are told by ``ctx.cancelled`` that nobody waits any more; one in the loop is cancelled besides.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterable, Callable, Iterable
from functools import partial
from typing import Any

from wellhead.errors import StateError
from wellhead.inprocess.context import Context, context_of
from wellhead.inprocess.flow import Flow
from wellhead.inprocess.head import RequestHead
from wellhead.inprocess.request import Request, SyncRequest
from wellhead.inprocess.response import Piece, Response, encoded, fields_of, response_of
from wellhead.inprocess.socket import Socket
from wellhead.inprocess.threads import Threads, awaited


class Handler:
    """A handler as an answerer. It may take the request alone."""

    def __init__(self, handler: Callable[..., Any], *, tunnel: Callable[[], str] = str) -> None:
        self._handler = handler
        self._tunnel = tunnel
        self._in_loop = is_awaited(handler)
        self._takes_context = takes(handler, 2)
        self._threads = Threads("wellhead-handler")

    async def start(self) -> None:
        """There is nothing to be started."""

    async def stop(self) -> None:
        """Calls that still run in threads are left to themselves."""
        self._threads.close()

    async def http(self, request: RequestHead, flow: Flow) -> None:
        """Answer a request."""
        ctx = context_of(request, self._tunnel())
        flow.on_over = ctx.cancelled.fire
        if self._in_loop:
            answer = self._call(Request(request, flow), ctx)
            if inspect.iscoroutine(answer) or inspect.isawaitable(answer):
                answer = await answer
            await _send(response_of(answer), flow)
        else:
            await self._threads.run(_InThread(self._call, SyncRequest(request, flow), ctx, flow))

    async def websocket(self, request: RequestHead, socket: Socket) -> None:
        """Refuse: there is nobody to speak with."""
        socket.flow.refuse(501, b"no websocket is served here")

    def _call(self, request: object, ctx: Context) -> Any:
        return self._handler(request, ctx) if self._takes_context else self._handler(request)


async def _send(response: Response, flow: Flow) -> None:
    """Send a response of a handler in the loop."""
    body = response.body
    if isinstance(body, str | bytes) or body is None:
        await _send_whole(response, body, flow)
    elif isinstance(body, AsyncIterable):
        await _send_pieces(response, body, flow)
    else:  # its pieces are at hand: what blocks belongs into a handler that is no coroutine
        await _send_pieces(response, _in_turn(body), flow)


async def _in_turn(pieces: Iterable[Piece]) -> AsyncIterable[Piece]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)


async def _send_whole(response: Response, body: Piece | None, flow: Flow) -> None:
    await flow.start(response.status, fields_of(response, body, whole=True), encoded(body), True)


async def _send_pieces(response: Response, pieces: AsyncIterable[Piece], flow: Flow) -> None:
    try:
        async for piece in pieces:
            if flow.replied:
                await flow.send(encoded(piece))
            else:
                await flow.start(response.status, fields_of(response, piece, whole=False), encoded(piece))
            if flow.bodyless:  # nobody is sent the others, and there may be no end of them
                break
        if flow.replied:
            await flow.send(b"", True)
        else:
            await _send_whole(response, b"", flow)
    finally:
        close = getattr(pieces, "aclose", None)
        if close is not None:
            with contextlib.suppress(RuntimeError):  # it is being closed already
                await close()


class _InThread:
    """One call of a handler in a thread, from its request to the last byte of its reply."""

    def __init__(
        self, handler: Callable[[object, Context], Any], request: SyncRequest, ctx: Context, flow: Flow
    ) -> None:
        self._handler = handler
        self._request = request
        self._ctx = ctx
        self._flow = flow
        self._loop = asyncio.get_running_loop()

    def __call__(self) -> None:
        answer = self._handler(self._request, self._ctx)
        if inspect.iscoroutine(answer):
            answer.close()
            raise StateError("a handler in a thread answered with a coroutine: what decorates it must be one")
        response = response_of(answer)
        body = response.body
        if isinstance(body, AsyncIterable):
            raise StateError("a handler in a thread answered with an async iterator: make it a coroutine")
        if isinstance(body, str | bytes) or body is None:
            awaited(self._loop, partial(_send_whole, response, body, self._flow))
            return
        try:
            self._send(response, body)
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()

    def _send(self, response: Response, pieces: Iterable[Piece]) -> None:
        flow, loop = self._flow, self._loop
        begun = False
        for piece in pieces:
            if begun:
                awaited(loop, partial(flow.send, encoded(piece)))
            else:
                begun = True
                fields = fields_of(response, piece, whole=False)
                awaited(loop, partial(flow.start, response.status, fields, encoded(piece)))
            if flow.bodyless:
                break
        if begun:
            awaited(loop, partial(flow.send, b"", True))
        else:
            awaited(loop, partial(_send_whole, response, b"", flow))


def is_awaited(call: object) -> bool:
    """Whether calling it gives a coroutine or an async generator."""
    while isinstance(call, partial):
        call = call.func
    if not inspect.isroutine(call) and not inspect.isclass(call):
        call = type(call).__call__
    return inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)


def takes(call: Callable[..., Any], count: int) -> bool:
    """Whether so many positional arguments may be given to it."""
    try:
        inspect.signature(call).bind(*range(count))
    except (TypeError, ValueError):
        return False
    return True
