"""An application in the place of an upstream: each stream becomes a task that answers it.

::

    accept -> head read -> (cap) -> task: answerer.http | answerer.websocket -> reply complete
                                      |  raised: 500, or a truncation      -> task ends
                                      |  visitor left: told, then cancelled
                                      '- no reply by its deadline: 504, cancelled

Source: docs/reference/wire.md, "Streams".
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, Protocol

from wellhead.errors import HttpError, VisitorGone
from wellhead.inprocess.flow import Flow
from wellhead.inprocess.head import ReplyHeads, RequestHead, RequestHeads
from wellhead.inprocess.socket import Socket, SocketTerms
from wellhead.logs import Log
from wellhead.net.upstream_exchange import Exchange
from wellhead.net.upstream_owner import OnExchange, UpstreamLimits
from wellhead.wire.streams import Buffer, Reason, Stream, StreamKind

_log = Log("wellhead.agent")
SWEEP_SECONDS = 0.25  # how exact deadlines are
GRACE_SECONDS = 0.5  # for an application to end by itself when its visitor has left
HEARD_SECONDS = 10.0  # and where it was told so, and has begun to put its things in order
AGAIN_SECONDS = 10.0  # until one that does not end by being cancelled is cancelled again
CLOSE_SECONDS = 1.0  # for cancelled requests to end


class Answerer(Protocol):
    """Whatever answers: an ASGI application, a handler."""

    async def start(self) -> None:
        """Before the first request.

        Raises:
            HandlerError: it cannot serve.
        """

    async def stop(self) -> None:
        """After the last request."""

    async def http(self, request: RequestHead, flow: Flow) -> None:
        """Answer a request. What is raised becomes a 500, or a reply that is visibly not whole."""

    async def websocket(self, request: RequestHead, socket: Socket) -> None:
        """Take part in a conversation, or refuse it."""


class _Call:
    """One request, and the task that answers it."""

    __slots__ = ("cancel_at", "exchange", "failure", "flow", "late_at", "socket", "task")

    def __init__(self, exchange: Exchange | None, late_at: float) -> None:
        self.flow: Flow
        self.socket: Socket | None = None
        self.exchange = exchange
        self.failure = ""
        self.late_at = late_at  # loop time by which the reply must have begun
        self.cancel_at = 0.0  # loop time, 0: not soon
        self.task: asyncio.Task[None] | None = None


class InProcess:
    """Hands streams to an answerer. ``start`` it before, ``aclose`` it after.

    ``max_body_bytes`` bounds each request's body (413 above it); None: nothing does. ``on_exchange`` is
    called at the end of each request, inside the loop: it must not block.
    """

    def __init__(
        self,
        answerer: Answerer,
        *,
        limits: UpstreamLimits | None = None,
        socket_terms: SocketTerms | None = None,
        max_body_bytes: int | None = None,
        on_exchange: OnExchange | None = None,
    ) -> None:
        self._answerer = answerer
        self._limits = limits or UpstreamLimits()
        self._socket_terms = socket_terms or SocketTerms()
        self._max_body = max_body_bytes
        self._on_exchange = on_exchange
        self._requests = RequestHeads()
        self._replies = ReplyHeads()
        self._calls: dict[Flow, _Call] = {}
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def busy(self) -> int:
        """Requests and conversations that run."""
        return len(self._calls)

    def accept(self, stream: Stream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
        """Answer a stream that the peer opened, with the first bytes that came beside its envelope."""
        if kind is StreamKind.TCP or self._closed:
            stream.reset(Reason.REFUSED)
            return
        if len(self._calls) >= self._limits.max_connections:
            stream.reset(Reason.OVERLOADED)
            return
        try:
            request = self._requests.read(envelope)
        except HttpError:
            stream.reset(Reason.PROTOCOL)
            return
        exchange = None
        if self._on_exchange is not None:
            exchange = Exchange(kind, request.method.encode("ascii"), request.target, 0, request.peer)
        self._begin(stream, kind, request, exchange, data, end)

    def _begin(
        self,
        stream: Stream,
        kind: StreamKind,
        request: RequestHead,
        exchange: Exchange | None,
        data: Buffer,
        end: bool,
    ) -> None:
        if self._sweeper is None:
            self._now = self._loop.time()
            self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)
        call = _Call(exchange, self._now + self._limits.reply_seconds)
        flow = call.flow = Flow(
            stream, request, self._replies, self._gone, max_body_bytes=self._max_body, exchange=exchange
        )
        stream.sink = flow
        self._calls[flow] = call
        if self._max_body is not None and (request.content_length or 0) > self._max_body:
            flow.refuse(413, b"request body too large")
            flow.on_data(data, end)
            self._over(flow, call)
            return
        if data or end:
            flow.on_data(data, end)
            if flow.done:
                self._over(flow, call)
                return
        answer: Coroutine[Any, Any, None]
        if kind is StreamKind.WEBSOCKET:
            call.socket = Socket(flow, stream, request, self._socket_terms)
            answer = self._converse(call, request, call.socket)
        else:
            answer = self._answer(call, request, flow)
        call.task = _task(self._loop, answer)

    def tell(self, exchange: Exchange, failure: str) -> None:
        """A request is over, perhaps one that did not get here."""
        exchange.over(failure)
        try:
            if self._on_exchange is not None:
                self._on_exchange(exchange)
        except Exception as error:  # of whoever listens: the traffic goes on
            _log.error("on_exchange failed", error=error)

    def drain(self) -> None:
        """No conversation can outlive the listener: they are asked to come again now."""
        for call in list(self._calls.values()):
            if call.socket is not None:
                call.socket.drain()

    async def aclose(self) -> None:
        """Give up what is running. Idempotent."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        tasks = [call.task for call in self._calls.values() if call.task is not None]
        for flow, call in list(self._calls.items()):
            if not flow.done:
                call.failure = call.failure or "upstream_failed"
            flow.give_up(Reason.UPSTREAM_FAILED)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        for flow, call in list(self._calls.items()):
            if call.task is not None and call.task.done():  # cancelled before its first step
                self._over(flow, call)

    # A request's task

    async def _answer(self, call: _Call, request: RequestHead, flow: Flow) -> None:
        try:
            await self._answerer.http(request, flow)
            if not flow.done:
                raise RuntimeError("the application returned before the end of its reply")
        except BaseException as error:
            if _is_for_the_loop(error):
                raise
            self._failed(call, request, error)
        finally:  # not by a callback of the task, which is one more turn of the loop
            self._over(flow, call)

    async def _converse(self, call: _Call, request: RequestHead, socket: Socket) -> None:
        try:
            await self._speak(call, request, socket)
            await socket.wait_closed()
        finally:
            self._over(call.flow, call)

    async def _speak(self, call: _Call, request: RequestHead, socket: Socket) -> None:
        try:
            await self._answerer.websocket(request, socket)
        except BaseException as error:
            if _is_for_the_loop(error):
                raise
            if not socket.accepted:
                self._failed(call, request, error)
            elif socket.closed is None or not _is_goodbye(error):
                self._log(call, request, error)
                socket.close(1011)
        else:
            if not socket.accepted and not call.flow.done:
                self._failed(call, request, RuntimeError("the application neither accepted nor refused"))
            else:
                socket.close(1000)

    def _failed(self, call: _Call, request: RequestHead, error: BaseException) -> None:
        """The visitor sees that, and the log sees why."""
        flow = call.flow
        if flow.gone or (flow.done and _is_goodbye(error)):
            return
        self._log(call, request, error)
        if flow.done:
            return
        call.failure = "handler_failed"
        if flow.replied:
            flow.give_up(Reason.UPSTREAM_FAILED)
        else:
            flow.refuse(500, b"internal error, request " + request.request_id.encode("latin-1", "replace"))

    def _log(self, call: _Call, request: RequestHead, error: BaseException) -> None:
        _log.error(
            "handler failed", request=request.request_id, method=request.method,
            path=request.raw_path.decode("latin-1"), error=error,
        )  # fmt: skip

    def _over(self, flow: Flow, call: _Call) -> None:
        if self._calls.pop(flow, None) is None:
            return
        if not flow.done:  # cancelled from within
            call.failure = call.failure or "handler_failed"
            flow.give_up(Reason.UPSTREAM_FAILED)
        flow.finish()
        if call.exchange is not None:
            self.tell(call.exchange, call.failure or ("cancelled" if flow.gone else ""))

    # Who waits too long

    def _gone(self, flow: Flow) -> None:
        """The visitor left: whoever listens for that has heard of it, and the others are stopped soon."""
        call = self._calls.get(flow)
        if call is not None and not call.cancel_at:
            call.failure = call.failure or "cancelled"
            call.cancel_at = self._loop.time() + GRACE_SECONDS

    def _sweep(self) -> None:
        self._sweeper = None
        self._now = now = self._loop.time()
        for flow, call in list(self._calls.items()):
            if call.cancel_at:
                if now >= call.cancel_at + (HEARD_SECONDS if flow.heard else 0) and call.task is not None:
                    call.cancel_at = now + AGAIN_SECONDS
                    call.task.cancel()
            elif flow.waits_for_visitor and call.socket is None:
                call.late_at = now + self._limits.reply_seconds
            elif now >= call.late_at and not flow.replied:
                call.failure = "timeout"
                flow.give_up(Reason.TIMEOUT)
                call.cancel_at = now + AGAIN_SECONDS
                if call.task is not None:
                    call.task.cancel()
        if self._calls:
            self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)


def _is_for_the_loop(error: BaseException) -> bool:
    """Whether it is about this task or this program; what else an application raises is its failure."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt | GeneratorExit)


def _is_goodbye(error: BaseException) -> bool:
    """Whether it says no more than that the visitor has left; task groups wrap that."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_goodbye, error.exceptions))
    return isinstance(error, VisitorGone)


def _task(loop: asyncio.AbstractEventLoop, answer: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task that begins at once where Python can do that."""
    if sys.version_info >= (3, 12):
        return asyncio.Task(answer, loop=loop, eager_start=True)
    return loop.create_task(answer)
