"""What the connections of visitors ask of the program that serves them.

A connection knows HTTP. Where a request goes, how many connections there may be and what becomes of
an access line is the house's to say: the edge is one, and an agent that ends TLS itself is another.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from wellhead.visitors.exchange import Door, Keeper
from wellhead.visitors.memo import Memo
from wellhead.visitors.pages import Page
from wellhead.wire.h1 import HeadLimits
from wellhead.wire.h2 import H2Terms


@dataclass(frozen=True, slots=True)
class VisitorTerms:
    """The limits of one visitor's connection. Seconds, bytes and counts, each named as its setting."""

    head: HeadLimits
    max_trailer_bytes: int
    max_chunk_extension_bytes: int
    max_reply_head_bytes: int
    max_interim_heads: int
    max_pipelined: int
    head_seconds: float
    body_idle_seconds: float
    body_min_bytes_per_second: float
    body_grace_seconds: float
    write_idle_seconds: float
    idle_seconds: float
    reply_seconds: float
    grpc_silent_seconds: float
    sandbox_reply_seconds: float
    half_close_seconds: float
    linger_seconds: float
    max_unread_bytes: int
    unread_seconds: float
    websocket_ping_seconds: float
    websocket_pings_per_second: float
    websocket_drain_seconds: float
    h2: H2Terms
    h2_max_age_seconds: float


class Place(enum.Enum):
    CONTROL = "control"
    TUNNEL = "tunnel"
    PORT = "port"
    NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True)
class Destination:
    """The decision; ``name`` is the tunnel's where ``place`` is TUNNEL, the hostname where it is CONTROL, the
    first label where it is PORT.

    ``plain``: it was asked for without TLS. ``page`` answers every request there, but for a certificate
    authority's.
    """

    place: Place
    name: str = ""
    plain: bool = False
    page: Page | None = None


class Swept(Protocol):
    """A visitor's connection, as the house sees it."""

    peer: str

    @property
    def held(self) -> int: ...
    def tick(self, now: float) -> None: ...
    def drain(self) -> None: ...
    def abort(self, reason: str) -> None: ...


class House(Keeper, Protocol):
    """Shared by visitors' connections. It sweeps their clocks, so that no request has a timer of its own."""

    @property
    def terms(self) -> VisitorTerms: ...
    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def draining(self) -> bool:
        """No connection serves another request after the running ones."""

    @property
    def refused(self) -> Callable[[str, str], None]:
        """Takes the word for what ended a connection or a stream early, and the visitor's address."""

    # Connections

    def admit(self, connection: Swept) -> Page | None:
        """Count a new connection; the page is what it is refused with."""

    def release(self, connection: Swept) -> None:
        """The connection is over."""

    def drain_delay(self) -> float:
        """How long a WebSocket waits before it is asked to come again, in seconds."""

    # Requests

    def request_id(self) -> bytes: ...
    def destination(self, hostname: str, sni: str | None, *, secure: bool, local: bool) -> Destination | Page:
        """Where requests for ``hostname`` lead, or the page that says why they may not.

        ``sni`` is the name that the visitor's TLS was made for (None: none), ``local`` whether the
        listener is a loopback one. Pure: a connection may remember it for a name.
        """

    def way(
        self, destination: Destination | Page, target: bytes, peer: str
    ) -> tuple[str, str, Door | Page, Memo | None]:
        """Place and tunnel for the access line, and the door of a request now, or the page in its stead."""
