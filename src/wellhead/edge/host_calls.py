"""What the control plane asks of hosts: each call is a request on the host's interactive lane."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from wellhead.edge.hosts import Hosts
from wellhead.errors import HttpError, WellheadError
from wellhead.model.sandboxes import Lane
from wellhead.wire.envelope import read_envelope
from wellhead.wire.feed import ANSWER_MAX, HostAnswered, HostCall
from wellhead.wire.reply import read_reply
from wellhead.wire.streams import Buffer, HeadKind, Reason, Stream, StreamKind


class HostCalls:
    """``tell`` is told the answer of each call, once."""

    def __init__(self, hosts: Hosts, tell: Callable[[HostAnswered], None]) -> None:
        self._hosts = hosts
        self._tell = tell
        self._open: set[_Call] = set()

    def __len__(self) -> int:
        return len(self._open)

    def call(self, asked: HostCall) -> None:
        """Ask; the answer is told later, or at once where nobody can be asked."""
        door = self._hosts.door(asked.host, Lane.INTERACTIVE)
        if door is None:
            self._tell(HostAnswered(asked.number, 0, "the host is not connected"))
            return
        body = asked.body.encode()
        envelope = (
            f"{asked.method} {asked.target} HTTP/1.1\r\n"
            f"Host: {asked.host}\r\n"
            f"Content-Length: {len(body)}\r\n"
            "Content-Type: application/json\r\n"
            f"X-Request-Id: call-{asked.number}\r\n\r\n"
        ).encode("latin-1", "replace")
        try:
            read_envelope(envelope)
        except HttpError:
            self._tell(HostAnswered(asked.number, 0, "what the host should be asked is no request"))
            return
        call = _Call(asked, self._over)
        self._open.add(call)
        try:
            call.stream = door.open(StreamKind.HTTP, envelope, call, body, True, interactive=True)
        except WellheadError as error:
            call.fail(f"the host could not be asked: {error}")

    def forget(self) -> None:
        """Nobody waits for the answers any more: whoever asked is gone."""
        for call in list(self._open):
            call.cancel()
        self._open.clear()

    def _over(self, call: _Call, status: int, body: str) -> None:
        self._open.discard(call)
        self._tell(HostAnswered(call.number, status, body))


class _Call:
    """One of them; the sink of its stream."""

    __slots__ = ("_body", "_method", "_over", "_size", "_status", "_timer", "number", "stream")

    def __init__(self, asked: HostCall, over: Callable[[_Call, int, str], None]) -> None:
        self.number = asked.number
        self.stream: Stream | None = None
        self._method = asked.method.encode("latin-1", "replace")
        self._over: Callable[[_Call, int, str], None] | None = over
        self._status = 0
        self._body: list[Buffer] = []
        self._size = 0
        late = f"the host did not answer within {asked.seconds:g} s"
        self._timer = asyncio.get_running_loop().call_later(asked.seconds, self.fail, late, Reason.TIMEOUT)

    def fail(self, why: str, reason: Reason = Reason.CANCELLED) -> None:
        """There will be no answer."""
        self._give_up(reason)
        self._tell(0, why)

    def cancel(self) -> None:
        """Nobody is told of its end."""
        self._over = None
        self._timer.cancel()
        self._give_up(Reason.CANCELLED)

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        if self._over is None or kind is HeadKind.INTERIM:
            return
        if kind is HeadKind.REPLY:
            try:
                self._status = read_reply(head, self._method).status
            except HttpError as error:
                self.fail(f"the host's answer is malformed: {error.reason}", Reason.PROTOCOL)
                return
        self.on_data(data, end)

    def on_data(self, data: Buffer, end: bool) -> None:
        if self._over is None:
            return
        self._size += len(data)
        if self._size > ANSWER_MAX:
            self.fail(f"the host's answer is larger than {ANSWER_MAX} bytes", Reason.TOO_LARGE)
            return
        self._body.append(data)
        if self.stream is not None:
            self.stream.consumed(len(data))
        if end:
            self._answered()

    def on_reset(self, reason: int) -> None:
        self.stream = None
        lost = reason in (Reason.SESSION_LOST, Reason.REMOVED)
        self.fail("the connection to the host was lost" if lost else f"the host gave up, reason {reason}")

    def on_writable(self) -> None:
        """What is sent is sent in one piece."""

    def _answered(self) -> None:
        try:
            body = b"".join(self._body).decode()
        except UnicodeDecodeError:
            self.fail("the host's answer is not UTF-8", Reason.PROTOCOL)
            return
        if not self._status:
            self.fail("the host's answer has no head", Reason.PROTOCOL)
            return
        self.stream = None
        self._tell(self._status, body)

    def _tell(self, status: int, body: str) -> None:
        self._timer.cancel()
        over, self._over = self._over, None
        if over is not None:
            over(self, status, body)

    def _give_up(self, reason: Reason) -> None:
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.reset(reason)
