"""A stream whose body goes on in a second one, so that bulk leaves the lane of keystrokes.

What a command writes may be one line or gigabytes; its stream begins on the interactive lane. The edge offers
a token with it, and the host takes up the offer when the body turns out to be long::

    edge                                                   host
    OPEN GET /sandboxes/…/exec   Wellhead-Overflow: T ──>        on interactive
      <── REPLY, ALLOWANCE body bytes, INTERIM (MARK)
    OPEN GET /overflow/T ──>                                     on bulk
      <── REPLY, the rest of the body, trailers, end
      <── end                                                    on interactive

What the visitor sends stays on the first stream, and a reset of either is one of both. The first stream ends
only behind the second's last byte, so that whoever has it hears of a lost session.

Source: docs/reference/wire.md, "Overflow".
"""

from __future__ import annotations

from collections.abc import Callable

from wellhead.errors import StateError
from wellhead.wire.envelope import add_lines
from wellhead.wire.streams import Buffer, HeadKind, NoSink, Reason, Sink, Stream

ALLOWANCE = 64 * 1024  # body bytes that the first stream carries
MARK = b"HTTP/1.1 199 Overflow\r\n\r\n"
_REPLY = b"HTTP/1.1 200 OK\r\n\r\n"
_FIELD = b"Wellhead-Overflow: "
_GET = b"GET /overflow/"
_UNSET = NoSink()


def offer(envelope: bytes, token: bytes) -> bytes:
    """The envelope of a stream that may go on in the one that ``continuation`` of the token opens."""
    return add_lines(envelope, _FIELD + token + b"\r\n")


def take_offer(envelope: bytes) -> tuple[bytes, bytes]:
    """The envelope without the offer, and its token; empty where there is none."""
    # The last one: what the edge writes stands behind the visitor's fields, which cannot be of this name.
    before, found, after = envelope.rpartition(b"\r\n" + _FIELD)
    if not found:
        return envelope, b""
    token, _, rest = after.partition(b"\r\n")
    return before + b"\r\n" + rest, token


def continuation(token: bytes) -> bytes:
    """The envelope of a second stream."""
    return _GET + token + b" HTTP/1.1\r\nHost: host\r\n\r\n"


def continued(envelope: bytes) -> bytes | None:
    """The token of a second stream's envelope; None for any other."""
    return envelope[len(_GET) :].partition(b" ")[0] if envelope.startswith(_GET) else None


class OverflowSender:
    """The stream that a host answers on. ``main`` is the one that the edge opened, with an offer.

    ``settled`` is called once no second stream is wanted any more.
    """

    __slots__ = (
        "_blocked", "_ended", "_left", "_main", "_marked", "_over", "_rest", "_settled", "_trailers",
        "_waiting", "sink",
    )  # fmt: skip

    def __init__(self, main: Stream, settled: Callable[[], None]) -> None:
        self.sink: Sink = _UNSET
        self._main = main
        self._settled = settled
        self._rest: Stream | None = None
        self._left = ALLOWANCE
        self._marked = False  # there is more than the first stream carries
        self._waiting: list[Buffer] = []  # for the second stream
        self._ended = False
        self._trailers = b""
        self._blocked = False  # the writer was told to stop, and the second stream says when it may go on
        self._over = False
        main.sink = self

    @property
    def queued(self) -> int:
        rest = self._rest.queued if self._rest is not None else 0
        return self._main.queued + sum(map(len, self._waiting)) + rest

    @property
    def wants_more(self) -> bool:
        """The second stream is waited for."""
        return self._marked and self._rest is None and not self._over

    def go_on(self, rest: Stream) -> None:
        """The edge opened the second stream."""
        self._rest = rest
        rest.sink = _SenderRest(self)
        self._settled()
        waiting, self._waiting = self._waiting, []
        free = rest.head(HeadKind.REPLY, _REPLY)
        for piece in waiting:
            free = rest.send(piece)
        if self._ended:
            self._finish(rest)
        if not free:
            self._blocked = True
        elif self._blocked:
            self._blocked = False
            self.sink.on_writable()

    # Stream

    def head(self, kind: HeadKind, head: bytes, data: Buffer = b"", end: bool = False) -> bool:
        if self._over:
            return True
        if kind is HeadKind.TRAILERS and self._marked:
            return self._end_with(head)
        now, later = self._cut(data)
        if end and not later:
            self._settled()
        free = self._main.head(kind, head, now, end and not later)
        return self._overflow(later, end) if later else free

    def send(self, data: Buffer, end: bool = False) -> bool:
        rest = self._rest
        if rest is not None and not end:  # fast path: bulk
            free = rest.send(data)
            self._blocked = self._blocked or not free
            return free
        if self._over:
            return True
        if self._marked:
            return self._send_rest(data, end)
        now, later = self._cut(data)
        if later:
            if now:
                self._main.send(now)
            return self._overflow(later, end)
        if end:
            self._settled()
        return self._main.send(now, end)

    def reset(self, reason: int) -> None:
        if not self._over:
            self._give_up()
            self._main.reset(reason)
            if self._rest is not None:
                self._rest.reset(reason)

    def consumed(self, count: int) -> None:
        self._main.consumed(count)

    def _cut(self, data: Buffer) -> tuple[Buffer, Buffer]:
        """What the first stream may still carry, and the rest."""
        left = self._left
        if len(data) <= left:
            self._left = left - len(data)
            return data, b""
        self._left = 0
        view = memoryview(data)
        return view[:left], view[left:]

    def _overflow(self, data: Buffer, end: bool) -> bool:
        """The first byte beyond the allowance is here: ask for the second stream."""
        self._marked = True
        self._waiting.append(data)
        self._ended = end
        self._main.head(HeadKind.INTERIM, MARK)
        if self._rest is None and not self._over:
            self._blocked = True
        return not self._blocked

    def _send_rest(self, data: Buffer, end: bool) -> bool:
        if self._ended:
            if data:
                raise StateError(f"{len(data)} bytes sent on a stream after its end")
            return True
        self._ended = end
        rest = self._rest
        if rest is None:
            if data:
                self._waiting.append(data)
            return False
        if data:
            rest.send(data)
        if end:
            self._finish(rest)
        return not self._blocked

    def _end_with(self, trailers: bytes) -> bool:
        if self._ended:
            raise StateError("head sent on a stream after its end")
        self._ended = True
        self._trailers = trailers
        if self._rest is not None:
            self._finish(self._rest)
        return True

    def _finish(self, rest: Stream) -> None:
        if self._trailers:
            rest.head(HeadKind.TRAILERS, self._trailers, b"", True)
        else:
            rest.send(b"", True)
        self._main.send(b"", True)

    def _give_up(self) -> None:
        self._over = True
        self._waiting.clear()
        self._settled()

    # Sink of the first stream

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        self.sink.on_head(kind, head, data, end)

    def on_data(self, data: Buffer, end: bool) -> None:
        self.sink.on_data(data, end)

    def on_reset(self, reason: int) -> None:
        if not self._over:
            self._give_up()
            if self._rest is not None:
                self._rest.reset(Reason.CANCELLED)
            self.sink.on_reset(reason)

    def on_writable(self) -> None:
        if not self._marked:  # else the second stream says when
            self.sink.on_writable()

    # Of the second stream

    def rest_writable(self) -> None:
        if self._blocked and not self._over:
            self._blocked = False
            self.sink.on_writable()

    def rest_reset(self, reason: int) -> None:
        if not self._over:
            self._give_up()
            self._main.reset(Reason.UPSTREAM_FAILED)
            self.sink.on_reset(reason)


class _SenderRest:
    """Sink of the second stream at the host: the edge says nothing there."""

    __slots__ = ("_sender",)

    def __init__(self, sender: OverflowSender) -> None:
        self._sender = sender

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None: ...
    def on_data(self, data: Buffer, end: bool) -> None: ...

    def on_reset(self, reason: int) -> None:
        self._sender.rest_reset(reason)

    def on_writable(self) -> None:
        self._sender.rest_writable()


class OverflowReceiver:
    """The stream that the edge reads, whichever of the two its bytes come on.

    ``main`` is to be set to the stream that was opened with the offer and this as its sink. ``more`` opens
    the second one with the sink it is given; None where nobody can be asked for it.
    """

    __slots__ = ("_held", "_more", "_over", "_received", "_rest", "main", "sink")

    main: Stream

    def __init__(self, sink: Sink, more: Callable[[Sink], Stream | None]) -> None:
        self.sink = sink
        self._more = more
        self._rest: Stream | None = None
        self._received = 0  # body bytes of the first stream
        self._held = 0  # of these: not yet consumed
        self._over = False

    @property
    def queued(self) -> int:
        return self.main.queued

    # Stream

    def head(self, kind: HeadKind, head: bytes, data: Buffer = b"", end: bool = False) -> bool:
        return self.main.head(kind, head, data, end)

    def send(self, data: Buffer, end: bool = False) -> bool:
        return self.main.send(data, end)

    def reset(self, reason: int) -> None:
        self._over = True
        self.main.reset(reason)
        if self._rest is not None:
            self._rest.reset(reason)

    def consumed(self, count: int) -> None:
        first = min(count, self._held)  # in the order in which they came
        if first:
            self._held -= first
            self.main.consumed(first)
        if count > first and self._rest is not None:
            self._rest.consumed(count - first)

    # Sink of the first stream

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        if self._over:
            return
        if kind is HeadKind.INTERIM and head == MARK:
            self._go_on()
        elif self._rest is None:
            self._count(len(data))
            self.sink.on_head(kind, head, data, end)
        else:
            self._fail(Reason.PROTOCOL)

    def on_data(self, data: Buffer, end: bool) -> None:
        if self._over:
            return
        if self._rest is None:
            self._count(len(data))
            self.sink.on_data(data, end)
        elif data:
            self._fail(Reason.PROTOCOL)

    def on_reset(self, reason: int) -> None:
        if not self._over:
            self._over = True
            if self._rest is not None:
                self._rest.reset(Reason.CANCELLED)
            self.sink.on_reset(reason)

    def on_writable(self) -> None:
        self.sink.on_writable()

    def _count(self, size: int) -> None:
        self._received += size
        self._held += size

    def _go_on(self) -> None:
        if self._rest is not None or self._received != ALLOWANCE:
            self._fail(Reason.PROTOCOL)
            return
        self._rest = self._more(_ReceiverRest(self))
        if self._rest is None:
            self._fail(Reason.SESSION_LOST)

    def _fail(self, reason: int) -> None:
        self.reset(Reason.PROTOCOL if reason is Reason.PROTOCOL else Reason.CANCELLED)
        self.sink.on_reset(reason)

    # Of the second stream

    def rest_data(self, data: Buffer, end: bool) -> None:
        if not self._over:
            self.sink.on_data(data, end)

    def rest_trailers(self, fields: bytes) -> None:
        if not self._over:
            self.sink.on_head(HeadKind.TRAILERS, fields, b"", True)

    def rest_reset(self, reason: int) -> None:
        if not self._over:
            self._fail(reason)


class _ReceiverRest:
    """Sink of the second stream at the edge."""

    __slots__ = ("_receiver",)

    def __init__(self, receiver: OverflowReceiver) -> None:
        self._receiver = receiver

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        if kind is HeadKind.TRAILERS:
            self._receiver.rest_trailers(head)
        elif data or end:
            self._receiver.rest_data(data, end)

    def on_data(self, data: Buffer, end: bool) -> None:
        self._receiver.rest_data(data, end)

    def on_reset(self, reason: int) -> None:
        self._receiver.rest_reset(reason)

    def on_writable(self) -> None:
        """Nothing is sent there."""
