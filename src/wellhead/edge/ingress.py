"""The visitors' door: what all visitors' connections share.

Decides where a request goes, counts connections against their limits, and sweeps the connections'
clocks four times a second, so that no request pays for a timer of its own.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from wellhead.edge import pages
from wellhead.edge.accesslog import AccessLog
from wellhead.edge.directory import Directory
from wellhead.edge.exchange import Door
from wellhead.edge.metrics import Metrics
from wellhead.edge.pages import Page
from wellhead.edge.registry import Line, Registry
from wellhead.edge.router import Place, Router
from wellhead.model.records import TunnelStatus
from wellhead.wire.h1 import HeadLimits

SWEEP_SECONDS = 0.25
LOOPBACK = ("127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class VisitorTerms:
    """The limits of one visitor's connection. Seconds, bytes and counts, each named as its setting."""

    head: HeadLimits
    max_trailer_bytes: int
    head_seconds: float
    body_idle_seconds: float
    body_min_bytes_per_second: float
    body_grace_seconds: float
    write_idle_seconds: float
    idle_seconds: float
    reply_seconds: float
    half_close_seconds: float
    linger_seconds: float
    max_unread_bytes: int
    unread_seconds: float
    websocket_ping_seconds: float
    websocket_pings_per_second: float


@dataclass(frozen=True, slots=True)
class CountTerms:
    """How many at once; ``loopback_exempt`` lifts the limit per address for this machine."""

    connections_per_address: int
    connections_per_tunnel: int
    max_connections: int
    tunnel_held_bytes: int
    loopback_exempt: bool


class Way(NamedTuple):
    """Where one request goes."""

    door: Door
    line: Line | None
    place: str
    name: str


class Swept(Protocol):
    """A visitor's connection, as the ingress sees it."""

    peer: str

    def tick(self, now: float) -> None: ...
    def drain(self) -> None: ...
    def abort(self, reason: str) -> None: ...


class Ingress:
    """Shared by the visitors' connections of one edge."""

    def __init__(
        self,
        router: Router,
        directory: Directory,
        registry: Registry,
        control: Callable[[bytes, str], Door],
        metrics: Metrics,
        log: AccessLog,
        terms: VisitorTerms,
        counts: CountTerms,
    ) -> None:
        self.terms = terms
        self.metrics = metrics
        self.log = log
        self.draining = False
        self.loop = asyncio.get_running_loop()
        self._router = router
        self._directory = directory
        self._registry = registry
        self._control = control  # of a request's target and the visitor's address
        self._counts = counts
        self._connections: set[Swept] = set()
        self._by_address: Counter[str] = Counter()
        self._idle = asyncio.Event()
        self._idle.set()
        self._ids = secrets.token_hex(6)
        self._next_id = 0
        self._timer = self.loop.call_later(SWEEP_SECONDS, self._sweep)

    def __len__(self) -> int:
        return len(self._connections)

    def __iter__(self) -> Iterator[Swept]:
        return iter(self._connections)

    # Requests

    def request_id(self) -> bytes:
        """Unique for this process and not guessable across restarts."""
        self._next_id += 1
        return b"%s%08x" % (self._ids.encode(), self._next_id)

    def way(
        self, hostname: str, target: bytes, peer: str, sni: str | None, *, secure: bool, local: bool
    ) -> Way | Page:
        """Where a request for ``hostname`` goes, or the page that says why it goes nowhere.

        ``peer`` is the visitor's address, ``sni`` the name its TLS was made for (None: none), ``local``
        whether the listener is a loopback one.
        """
        destination = self._router.destination(hostname)
        if secure and sni != hostname and not self._same_place(sni, hostname):
            return pages.MISDIRECTED
        if destination.place is Place.TUNNEL:
            return self._tunnel_way(destination.name)
        if destination.place is Place.CONTROL:
            if not (secure or local):
                return pages.PLAIN_CONTROL
            return Way(self._control(target, peer), None, "control", "")
        return pages.UNKNOWN

    def reopen(self, name: str) -> Door | None:
        """Another session of a tunnel, for a request that the first one refused."""
        way = self._tunnel_way(name)
        return None if isinstance(way, Page) else way.door

    def _tunnel_way(self, name: str) -> Way | Page:
        view = self._directory.tunnel(name)
        if view is None or view.status is not TunnelStatus.ACTIVE:
            return pages.UNKNOWN
        line = self._registry.line(view.id)
        if line is None:
            return pages.NO_AGENT
        counts = self._counts
        if line.exchanges >= counts.connections_per_tunnel or line.held > counts.tunnel_held_bytes:
            return pages.BUSY
        session = line.pick()
        if session is None:
            return pages.NO_AGENT
        return Way(session, line, "tunnel", name)

    def _same_place(self, sni: str | None, hostname: str) -> bool:
        """Names of the control plane may share a connection; without SNI only they are served."""
        there = self._router.destination(hostname)
        here = self._router.destination(sni or "localhost")
        return here.place is Place.CONTROL and there.place is Place.CONTROL

    # Connections

    def admit(self, connection: Swept) -> Page | None:
        """Count a new connection; the page is what it is refused with."""
        counts, peer = self._counts, connection.peer
        self._connections.add(connection)
        self._idle.clear()
        self._by_address[peer] += 1
        if len(self._connections) > counts.max_connections:
            return pages.BUSY
        if self._by_address[peer] > counts.connections_per_address:
            if not (counts.loopback_exempt and peer in LOOPBACK):
                return pages.TOO_MANY
        return None

    def release(self, connection: Swept) -> None:
        """The connection is over."""
        if connection in self._connections:
            self._connections.remove(connection)
            left = self._by_address[connection.peer] - 1
            if left:
                self._by_address[connection.peer] = left
            else:
                del self._by_address[connection.peer]
            if not self._connections:
                self._idle.set()

    async def drain(self, seconds: float) -> None:
        """Let open exchanges finish, at most this long, then cut what is left."""
        self.draining = True
        for connection in list(self._connections):
            connection.drain()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            for connection in list(self._connections):
                connection.abort("drained")

    def close(self) -> None:
        self._timer.cancel()
        for connection in list(self._connections):
            connection.abort("closed")

    def _sweep(self) -> None:
        self._timer = self.loop.call_later(SWEEP_SECONDS, self._sweep)
        now = self.loop.time()
        for connection in list(self._connections):
            connection.tick(now)
