"""A visitor's exchange with a port of a sandbox: its stream, and the sink of the host's.

::

    Exchange ── PortStream ── Stream ═ host      waiting: no stream yet, the visitor is to send no more

It stands between the two for two reasons: to wait where the host is not ready, and to see the end, so that
what is open of a sandbox is known.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from wellhead.edge.registry import Live
from wellhead.logs import Log
from wellhead.visitors.exchange import Exchange
from wellhead.visitors.memo import Memo
from wellhead.visitors.pages import Page
from wellhead.wire.path_form import PathForm
from wellhead.wire.streams import Buffer, HeadKind, Reason, Sink, Stream, StreamKind

_log = Log("wellhead.edge")


class Opening(NamedTuple):
    """What opens a stream on a host."""

    kind: StreamKind
    envelope: bytes
    end: bool  # nothing follows
    interactive: bool


class Decider(Protocol):
    """The door that a stream came through."""

    def again(self, stream: PortStream, refused_by: Live) -> None:
        """A host did not take it, and nothing of it was sent: have it start, wait or be answered."""

    def look(self, stream: PortStream) -> None:
        """It waits, and something changed: the same."""

    def late(self, stream: PortStream) -> None:
        """It has waited long enough."""

    def left(self, stream: PortStream) -> None:
        """It waits no more: its visitor has gone."""


class PortLine(Memo):
    """What is open of one sandbox: how many exchanges, and their streams."""

    __slots__ = ("streams",)

    def __init__(self) -> None:
        super().__init__()
        self.streams: set[PortStream] = set()

    def end(self) -> None:
        """End all of them in a way that their visitors can see."""
        for stream in list(self.streams):
            try:
                stream.end()
            except Exception as error:  # whoever told of the end has others to tell
                _log.error("a visitor of a sandbox that is over failed", error=error)
                self.streams.discard(stream)


class PortStream:
    """It waits until ``start``, or is answered by ``refuse``.

    ``opening``: how it is to begin; ``form``: of addresses in replies, where it came in the path form.
    """

    __slots__ = (
        "_door", "_ended", "_exchange", "_form", "_held", "_line", "_over", "_session", "_stream",
        "_trailers", "_waited", "opening", "sink", "tries",
    )  # fmt: skip

    def __init__(
        self, door: Decider, exchange: Exchange, line: PortLine, opening: Opening, form: PathForm | None
    ) -> None:
        self.sink: Sink = exchange
        self.opening: Opening | None = opening  # None: something of it was sent, or answered
        self.tries = 0
        self._door = door
        self._exchange = exchange
        self._form = form
        self._line = line
        self._session: Live | None = None
        self._stream: Stream | None = None
        self._held: list[Buffer] = []  # what the visitor sent while there is no stream
        self._trailers = b""
        self._ended = False
        self._over = False
        self._waited = False
        line.streams.add(self)

    @property
    def held(self) -> int:
        """Bytes of the visitor's that wait here for a stream."""
        return sum(map(len, self._held))

    @property
    def waits(self) -> bool:
        return self._stream is None and not self._over

    def wait(self, seconds: float) -> None:
        """Be patient: so long at most it waits before it starts."""
        self._waited = True
        self._exchange.wait(seconds)

    def start(self, session: Live) -> None:
        """Open it on a session of the host."""
        opening = self.opening
        assert opening is not None
        self.tries += 1
        if self._waited:
            self._exchange.wait(0.0)
        self._session = session
        kind, envelope, end, interactive = opening
        stream = session.open(kind, envelope, self, b"", end, interactive=interactive)
        if self._session is not session or self._over:  # refused while it was opened
            return
        self._stream = stream
        if self._held or self._ended:
            self._send_held(stream)

    def refuse(self, page: Page) -> None:
        """Answer with a page of ours."""
        self._close()
        self._exchange.refuse(page)

    def end(self) -> None:
        """The sandbox is over."""
        self.reset(Reason.CANCELLED)
        self.sink.on_reset(Reason.REMOVED)

    def _send_held(self, stream: Stream) -> None:
        held, self._held = self._held, []
        flows = True
        self.opening = None
        for piece in held:
            flows = stream.send(piece)
        if self._trailers:
            stream.head(HeadKind.TRAILERS, self._trailers, b"", True)
        elif self._ended:
            stream.send(b"", True)
        elif flows:
            self.sink.on_writable()

    def _close(self) -> None:
        self._over = True
        self.opening = None
        self._held.clear()
        self._line.streams.discard(self)

    # Waiter

    def look(self) -> None:
        self._door.look(self)

    def late(self) -> None:
        self._door.late(self)

    # Stream

    @property
    def queued(self) -> int:
        return self._stream.queued if self._stream is not None else self.held

    def head(self, kind: HeadKind, head: bytes, data: Buffer = b"", end: bool = False) -> bool:
        if self._stream is not None:
            self.opening = None
            return self._stream.head(kind, head, data, end)
        self._trailers, self._ended = head, True
        return self._over

    def send(self, data: Buffer, end: bool = False) -> bool:
        if self._stream is not None:
            self.opening = None
            return self._stream.send(data, end)
        if data and not self._over:
            self._held.append(data)
        self._ended = end
        return self._over

    def reset(self, reason: int) -> None:
        if self.waits:
            self._door.left(self)
        self._close()
        if self._stream is not None:
            self._stream.reset(reason)

    def consumed(self, count: int) -> None:
        if self._stream is not None:
            self._stream.consumed(count)

    # Sink

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        self.opening = None
        if end:
            self._close()
        if self._form is not None and kind is not HeadKind.TRAILERS:
            head = self._form.reply_head(head)
        self.sink.on_head(kind, head, data, end)

    def on_data(self, data: Buffer, end: bool) -> None:
        if end:
            self._close()
        self.sink.on_data(data, end)

    def on_reset(self, reason: int) -> None:
        session, self._session = self._session, None
        if reason == Reason.REFUSED and self.opening is not None and session is not None:
            self._stream = None
            self._door.again(self, session)
            return
        self._close()
        self.sink.on_reset(reason)

    def on_writable(self) -> None:
        self.sink.on_writable()
