"""A visitor's exchange with a port of a sandbox: its stream, and the sink of the host's.

::

    Exchange ── PortStream ── Stream ═ host      waiting: no stream yet, the visitor is to send no more

It stands between the two for two reasons: to wait where the host is not ready, and to see the end, so that
what is open of a sandbox is known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from wellhead.edge.port_grant import EVERYBODY
from wellhead.edge.registry import Live
from wellhead.logs import Log
from wellhead.model.records import KeyId
from wellhead.model.visibility import PortAccess
from wellhead.visitors import port_pages
from wellhead.visitors.exchange import Exchange
from wellhead.visitors.memo import Memo
from wellhead.visitors.pages import Page
from wellhead.wire.path_form import PathForm
from wellhead.wire.port_request import preflight_answer
from wellhead.wire.streams import Buffer, HeadKind, Reason, Sink, Stream, StreamKind

_log = Log("wellhead.edge")


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

    @property
    def port(self) -> int:
        """Which it leads to."""


class PortLine(Memo):
    """What is open of one sandbox: how many exchanges, and their streams."""

    __slots__ = ("streams",)

    def __init__(self) -> None:
        super().__init__()
        self.streams: set[PortStream] = set()

    @property
    def preflights(self) -> int:
        """How many of them are of somebody who may not see the port."""
        return sum(each.preflight for each in self.streams)

    def end(self) -> None:
        """The sandbox is over: so are all of them, in a way that their visitors can see."""
        self._each(PortStream.end, list(self.streams))

    def narrow(self, access: PortAccess) -> None:
        """Of who was let in, those who would not be let in now are out."""
        out = [each for each in self.streams if not each.preflight]  # those were let in as nobody
        self._each(PortStream.send_away, [each for each in out if not each.grant.holds(access, each.port)])

    def revoke(self, key: KeyId) -> None:
        """Nobody is in by this key any more."""
        self._each(PortStream.send_away, [each for each in self.streams if each.grant.key == key])

    def _each(self, do: Callable[[PortStream], None], streams: list[PortStream]) -> None:
        for stream in streams:
            try:
                do(stream)
            except Exception as error:  # whoever told of the end has others to tell
                _log.error("a visitor who is sent away failed", error=error)
                self.streams.discard(stream)


class PortStream:
    """It waits until ``start``, or is answered by ``refuse``.

    ``envelope``: what it begins with; ``end``: nothing follows it; ``form``: of addresses in replies, where
    it came in the path form.
    """

    # Defaults of the class, not of each object: most streams never touch them.
    preflight = False  # see ``Allowed``: of its answer no body goes on
    grant = EVERYBODY
    tries = 0
    _session: Live | None = None
    _stream: Stream | None = None
    _held: list[Buffer] | None = None  # what the visitor sent while there is no stream
    _trailers = b""
    _ended = False
    _over = False
    _waited = False

    def __init__(
        self,
        door: Decider,
        exchange: Exchange,
        line: PortLine,
        kind: StreamKind,
        envelope: bytes,
        end: bool,
        interactive: bool,
        form: PathForm | None,
    ) -> None:
        self.sink: Sink = exchange
        self._door = door
        self._exchange = exchange
        self._line = line
        self._kind = kind
        self._envelope: bytes | None = envelope  # None: something of it was sent, or answered
        self._end = end
        self._interactive = interactive
        self._form = form
        line.streams.add(self)

    @property
    def held(self) -> int:
        """Bytes of the visitor's that wait here for a stream."""
        return sum(map(len, self._held or ()))

    @property
    def port(self) -> int:
        return self._door.port

    @property
    def waits(self) -> bool:
        return self._stream is None and not self._over

    def wait(self, seconds: float) -> None:
        """Be patient: so long at most it waits before it starts."""
        self._waited = True
        self._exchange.wait(seconds)

    def start(self, session: Live) -> None:
        """Open it on a session of the host."""
        envelope = self._envelope
        assert envelope is not None
        self.tries += 1
        if self._waited:
            self._exchange.wait(0.0)
        self._session = session
        stream = session.open(self._kind, envelope, self, b"", self._end, interactive=self._interactive)
        if self._session is not session or self._over:  # refused while it was opened
            return
        self._stream = stream
        if self._held is not None:
            self._send_held(stream, self._held)

    def refuse(self, page: Page) -> None:
        """Answer with a page of ours."""
        self._close()
        self._exchange.refuse(page)

    def end(self) -> None:
        """The sandbox is over."""
        self.reset(Reason.CANCELLED)
        self.sink.on_reset(Reason.REMOVED)

    def send_away(self) -> None:
        """Its visitor may not see the port any more."""
        if self.sink is not self._exchange:  # a conversation, which is closed as it is at the end
            self.end()
            return
        if self.waits:
            self._door.left(self)
        self.refuse(port_pages.NO_KEY)

    def _send_held(self, stream: Stream, held: list[Buffer]) -> None:
        self._held = self._envelope = None
        flows = True
        for piece in held:
            flows = stream.send(piece)
        if self._trailers:
            stream.head(HeadKind.TRAILERS, self._trailers, b"", True)
        elif self._ended:
            stream.send(b"", True)
        elif flows:
            self.sink.on_writable()

    def _hold(self, data: Buffer) -> bool:
        """Keep what cannot be sent yet; the visitor is to wait, unless nobody wants it any more."""
        if not self._over:
            self._held = self._held or []
            if data:
                self._held.append(data)
        return self._over

    def _close(self) -> None:
        self._over = True
        self._held = self._envelope = None
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
            self._envelope = None
            return self._stream.head(kind, head, data, end)
        self._trailers, self._ended = head, True
        return self._hold(b"")

    def send(self, data: Buffer, end: bool = False) -> bool:
        if self._stream is not None:
            self._envelope = None
            return self._stream.send(data, end)
        self._ended = end
        return self._hold(data)

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
        if self.preflight:
            if self._over or kind is not HeadKind.REPLY:
                return
            if not end and self._stream is not None:
                self._stream.reset(Reason.CANCELLED)
                self._stream = None
            head, data, end = preflight_answer(head), b"", True
        if end:
            self._close()
        else:
            self._envelope = None
        if self._form is not None and kind is not HeadKind.TRAILERS:
            head = self._form.reply_head(head)
        self.sink.on_head(kind, head, data, end)

    def on_data(self, data: Buffer, end: bool) -> None:
        if end:
            self._close()
        self.sink.on_data(data, end)

    def on_reset(self, reason: int) -> None:
        session, self._session = self._session, None
        if reason == Reason.REFUSED and self._envelope is not None and session is not None:
            self._stream = None
            self._door.again(self, session)
            return
        self._close()
        self.sink.on_reset(reason)

    def on_writable(self) -> None:
        self.sink.on_writable()
