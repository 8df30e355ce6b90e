"""How an uplink puts a session on a connection: the seam between it and its carriers.

A ``Carrier`` makes a session for a connection on which its application protocol (ALPN) was agreed, and says
hello on it. What comes of it the session tells its ``Ear``: the uplink.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from wellhead.errors import HelloError, RefusedError, Retry, WellheadError
from wellhead.net.session import Liveness, OnOpen, Session
from wellhead.net.tls import ALPN_MUX
from wellhead.wire.frames import Kind
from wellhead.wire.messages import Hello, Refused, Welcome
from wellhead.wire.mux import Role
from wellhead.wire.streams import Buffer, Stream, StreamKind

_REFUSALS = {kind.code: kind for kind in RefusedError.__subclasses__()}


OnStream = Callable[[Stream, StreamKind, bytes, Buffer, bool], None]
"""Told of each stream that the edge opens: kind, envelope, first bytes, and whether they are all."""


class Carried(Protocol):
    """A session, as its uplink knows it."""

    local: tuple[object, ...]  # our own address, as the socket names it
    peer_draining: bool  # the edge asked for no new streams
    closed: asyncio.Future[None]

    @property
    def load(self) -> int:
        """Exchanges and conversations under way."""

    def drain(self, reason: int = ..., retry_after_ms: int = ..., text: str = ...) -> None:
        """Ask the edge for no new streams; what is open goes on. Idempotent."""

    def close(self) -> None:
        """Write what is queued and end the connection."""

    def abort(self, error: WellheadError | None = None) -> None:
        """End the connection at once; ``error`` is what the ear is told."""

    def probe(self) -> None:
        """Ask the edge now whether it is alive."""


class Ear(Protocol):
    """Who is told of a session. Called inside the loop; must not block."""

    def welcomed(self, session: Carried, welcome: Welcome) -> None:
        """Its hello was answered."""

    def refused(self, session: Carried, error: WellheadError) -> None:
        """Its hello was answered with a no."""

    def drained(self, session: Carried, retry_after_ms: int) -> None:
        """The edge is leaving."""

    def lost(self, session: Carried, error: WellheadError | None) -> None:
        """The connection is over; exactly once. None: it was closed without a word, by us or by the edge."""


class Opening(NamedTuple):
    """A session that is to be connected."""

    session: Carried
    protocol: asyncio.Protocol
    greet: Callable[[], None]  # say hello; called once it is connected


class Carrier(Protocol):
    """One way to put a session on a connection."""

    @property
    def alpn(self) -> str:
        """What has to be agreed with the edge."""

    def begin(self, ear: Ear) -> Opening:
        """A new session."""


Offer = Callable[[OnStream], Sequence[Carrier]]
"""Makes the carriers that are offered to an edge, for streams that go there."""


class MuxCarrier:
    """The native carrier. Source: docs/reference/wire.md, "Hello".

    ``on_open`` gets every stream that the edge opens.
    """

    alpn = ALPN_MUX

    def __init__(self, hello: Hello, on_open: OnOpen) -> None:
        self._hello = hello
        self._on_open = on_open

    def begin(self, ear: Ear) -> Opening:
        opening = _MuxOpening(self._hello, self._on_open, ear)
        session = opening.session
        return Opening(session, session, opening.greet)


class _MuxOpening:
    """One session and what its edge says to its hello."""

    def __init__(self, hello: Hello, on_open: OnOpen, ear: Ear) -> None:
        self._hello = hello
        self._ear = ear
        self._answered = False
        self.session = Session(
            Role.DIALLER, on_open=on_open, on_control=self._control, on_lost=ear.lost, window=hello.window
        )
        self.session.on_peer_draining(ear.drained)

    def greet(self) -> None:
        self.session.mux.control(Kind.HELLO, self._hello.encode())

    def _control(self, session: Session, kind: int, payload: bytes) -> None:
        if self._answered:
            raise HelloError(f"control frame of kind {kind} after the hello was answered")
        if kind == Kind.WELCOME:
            welcome = Welcome.decode(payload)
            session.id = welcome.session
            session.mux.start(welcome.window)
            session.set_liveness(Liveness(ping_seconds=welcome.ping_seconds))
            self._ear.welcomed(session, welcome)
        elif kind == Kind.REFUSED:
            self._ear.refused(session, _refusal(Refused.decode(payload)))
        else:
            raise HelloError(f"control frame of kind {kind} where an answer to the hello was expected")
        self._answered = True


def _refusal(refused: Refused) -> RefusedError:
    kind = _REFUSALS.get(refused.code, RefusedError)
    return kind(
        refused.message or refused.code,
        retry=Retry.NEVER if refused.final else Retry.LATER,
        retry_after_seconds=refused.retry_after_ms / 1000 if refused.retry_after_ms else None,
    )
