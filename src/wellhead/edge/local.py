"""The door to the edge's own metrics, which opens streams as a session does."""

from __future__ import annotations

import asyncio
import re

from prometheus_client import exposition

from wellhead.edge.directory import Directory
from wellhead.edge.metrics import Metrics
from wellhead.logs import Log
from wellhead.model.access import Secret
from wellhead.visitors.exchange import Door
from wellhead.visitors.local import LocalDoor
from wellhead.wire.streams import Buffer, HeadKind, Reason, Stream, StreamKind

_log = Log("wellhead.edge")
_KEY = re.compile(rb"(?i)\r\nx-api-key:[ \t]*([^\r\n]*?)[ \t]*\r\n")


class _Ignore:
    """Where no body is expected; what comes all the same is dropped. ``task`` ends with the stream."""

    def __init__(self, stream: Stream, task: asyncio.Task[None] | asyncio.Handle) -> None:
        self._stream = stream
        self._task = task

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        self._stream.consumed(len(data))

    def on_data(self, data: Buffer, end: bool) -> None:
        self._stream.consumed(len(data))

    def on_reset(self, reason: int) -> None:
        self._task.cancel()

    def on_writable(self) -> None:
        """What is answered is written in one piece."""


def saying(body: bytes) -> Door:
    """A door behind which every request is answered by these bytes."""
    fields = b"Content-Type: application/octet-stream\r\nCache-Control: no-store\r\n"
    return answering(_head(b"200 OK", fields, body), body)


def answering(head: bytes, body: bytes) -> Door:
    """A door behind which every request has this reply."""

    def accept(stream: Stream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
        def answer() -> None:
            stream.head(HeadKind.REPLY, head, b"" if envelope.startswith(b"HEAD ") else body, True)

        # Whoever opens a stream does not expect it to answer before it is open.
        stream.sink = _Ignore(stream, asyncio.get_running_loop().call_soon(answer))
        stream.consumed(len(data))

    return LocalDoor(accept)


class Scrapes:
    """Answers ``/metrics`` for loopback, and for whoever shows an admin key."""

    def __init__(self, metrics: Metrics, directory: Directory) -> None:
        self._metrics = metrics
        self._directory = directory
        self._tasks: set[asyncio.Task[None]] = set()

    def door(self, *, trusted: bool) -> Door:
        """``trusted``: the visitor is on this machine, no key is asked for."""

        def accept(stream: Stream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
            task = asyncio.get_running_loop().create_task(self._answer(stream, envelope, trusted))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            stream.sink = _Ignore(stream, task)
            stream.consumed(len(data))

        return LocalDoor(accept)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(self, stream: Stream, envelope: bytes, trusted: bool) -> None:
        if not envelope.startswith((b"GET ", b"HEAD ")):
            _reply(stream, b"405 Method Not Allowed", b"Allow: GET, HEAD\r\n", b"")
            return
        try:
            allowed = trusted or await self._has_key(envelope)
        except Exception as error:  # else the visitor would wait until its deadline
            _log.error("scrape failed", error=error)
            stream.reset(Reason.INTERNAL)
            return
        if not allowed:
            detail = b'{"detail": "an admin key is needed: X-API-Key"}\n'
            kind = b"Content-Type: application/json\r\n"
            _reply(stream, b"401 Unauthorized", kind, detail, bodyless=envelope.startswith(b"HEAD "))
            return
        body = exposition.generate_latest(self._metrics.registry)
        kind = f"Content-Type: {exposition.CONTENT_TYPE_LATEST}\r\n".encode()
        _reply(stream, b"200 OK", kind, body, bodyless=envelope.startswith(b"HEAD "))

    async def _has_key(self, envelope: bytes) -> bool:
        found = _KEY.search(envelope)
        return found is not None and await self._directory.is_admin(Secret(found[1].decode("latin-1")))


def _reply(stream: Stream, status: bytes, fields: bytes, body: bytes, *, bodyless: bool = False) -> None:
    stream.head(HeadKind.REPLY, _head(status, fields, body), b"" if bodyless else body, True)


def _head(status: bytes, fields: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b\r\n" % (status, len(body), fields)
