"""An edge without sockets: visitors on fake transports, tunnels whose streams a test holds in its hands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from tests.kit.doors import FakeDoor, FakeStream
from tests.kit.transport import FakeTransport
from wellhead.edge.accesslog import AccessLog
from wellhead.edge.challenges import Challenges
from wellhead.edge.ingress import CountTerms, Ingress
from wellhead.edge.metrics import Metrics
from wellhead.edge.registry import Registry
from wellhead.edge.router import Router
from wellhead.model.access import Secret
from wellhead.model.ports import PortName
from wellhead.model.records import (
    Admission,
    KeyId,
    OrganizationId,
    TlsMode,
    TunnelId,
    TunnelStatus,
    TunnelView,
)
from wellhead.net.session import Session
from wellhead.visitors import port_pages
from wellhead.visitors.access import Line
from wellhead.visitors.exchange import Door
from wellhead.visitors.house import VisitorTerms
from wellhead.visitors.http1 import Http1Visitor
from wellhead.visitors.memo import Memo
from wellhead.visitors.pages import Page
from wellhead.wire.h1 import HeadLimits
from wellhead.wire.h2 import H2Terms
from wellhead.wire.ws import accept_key

TERMS = VisitorTerms(
    head=HeadLimits(), max_trailer_bytes=8192, max_chunk_extension_bytes=256, max_reply_head_bytes=65536,
    max_interim_heads=16, max_pipelined=16, head_seconds=10, body_idle_seconds=30,
    body_min_bytes_per_second=500, body_grace_seconds=10, write_idle_seconds=60, idle_seconds=620,
    reply_seconds=120, grpc_silent_seconds=3600, sandbox_reply_seconds=3600, half_close_seconds=5,
    linger_seconds=1, max_unread_bytes=65536, unread_seconds=1,
    websocket_ping_seconds=20, websocket_pings_per_second=100, websocket_drain_seconds=10,
    h2=H2Terms(), h2_max_age_seconds=3600,
)  # fmt: skip
COUNTS = CountTerms(
    connections_per_address=256, connections_per_tunnel=1000, max_connections=1000,
    max_held_bytes=1 << 30, max_loop_lag_seconds=0.5,
    loopback_exempt=True,
)  # fmt: skip

WS_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {WS_KEY}\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: " + accept_key(WS_KEY.encode()) + b"\r\n\r\n"
)


class NoTunnels:
    """A directory of the tunnels in ``views``: at first none. Nobody is admitted."""

    def __init__(self) -> None:
        self.views: dict[str, TunnelView] = {}
        self.current = True

    def tunnel(self, name: str) -> TunnelView | None:
        view = self.views.get(name)
        return view if view is not None and view.status is TunnelStatus.ACTIVE else None

    def named(self, name: str) -> TunnelView | None:
        return self.views.get(name)

    def is_current(self) -> bool:
        return self.current

    def on_removed(self, call: Callable[[TunnelId], None]) -> None:
        """No tunnel is ever removed."""

    def on_revoked(self, call: Callable[[KeyId], None]) -> None:
        """No key is ever revoked."""

    async def admit(self, tunnel: str, secret: Secret, peer: str, agent: str) -> Admission:
        raise NotImplementedError

    def session_opened(self, tunnel_id: TunnelId, session_id: str, peer: str, agent: str) -> None:
        raise NotImplementedError

    def session_closed(self, tunnel_id: TunnelId, session_id: str) -> None:
        raise NotImplementedError

    async def is_admin(self, key: Secret) -> bool:
        return False


class House:
    """An ingress whose every request for the control plane opens on ``door``; its access lines are kept."""

    def __init__(self, terms: VisitorTerms, counts: CountTerms) -> None:
        self.door = FakeDoor()
        self.lines: list[Line] = []
        self.refused: list[str] = []  # reasons of connections that ended early
        metrics = Metrics()
        log = AccessLog(metrics, None, asyncio.get_running_loop())
        self.log = log
        self.directory = NoTunnels()
        self.registry = Registry()
        self.challenges = Challenges(asyncio.get_running_loop().time)
        self.ingress = Ingress(
            Router("localhost", "localhost", path_form=True), self.directory, self.registry,
            lambda target, peer: ("control", "", self.door), self.port, self.paths,
            metrics, log, terms, counts, self.challenges, lambda reason, peer: self.refused.append(reason),
        )  # fmt: skip
        self.ingress.note = lambda fields: self.lines.append(Line(*fields))
        self.ahead = 0.0  # seconds by which the clock of new connections is ahead of the loop's
        self.ingress.clock = self.clock

    def port(self, name: PortName, secure: bool, peer: str) -> tuple[Door, Memo] | Page:
        """Where a request for a port goes: a house has no sandboxes."""
        return port_pages.UNKNOWN

    def paths(self, target: bytes, secure: bool, peer: str) -> tuple[str, Door | Page, Memo | None]:
        """Where a request in the path form goes: the same."""
        return "", port_pages.UNKNOWN, None

    def clock(self) -> float:
        return asyncio.get_running_loop().time() + self.ahead

    def record(
        self, name: str, mode: TlsMode = TlsMode.EDGE, status: TunnelStatus = TunnelStatus.ACTIVE
    ) -> TunnelView:
        """Make a tunnel, or make it another."""
        view = self.directory.views[name] = TunnelView(
            TunnelId(name), name, OrganizationId("org"), status, mode
        )
        return view

    def tunnel(self, name: str, mode: TlsMode = TlsMode.EDGE) -> FakeDoor:
        """One more session of a tunnel, which is made where there is none."""
        view = self.record(name, mode)
        door = FakeDoor()
        self.registry.add(view.id, cast(Session, door))
        return door

    def visit(self, *, secure: bool = False, sni: str | None = None, local: bool = True) -> Visit:
        return Visit(self, Http1Visitor(self.ingress, secure=secure, local=local, sni=sni), secure)

    def close(self) -> None:
        """Stop the timers."""
        self.ingress._timer.cancel()
        self.log.close()


class Visit:
    """One connection of a visitor."""

    def __init__(self, house: House, connection: Http1Visitor, secure: bool) -> None:
        self.house = house
        self.connection = connection
        self.transport = FakeTransport(tls=secure)
        self.transport.protocol = connection
        connection.connection_made(self.transport)

    def says(self, data: bytes) -> bytes:
        """Give the edge bytes of the visitor; returns what it answers at once."""
        self.connection.data_received(data)
        return self.transport.take()

    @property
    def stream(self) -> FakeStream:
        return self.house.door.stream

    def after(self, seconds: float) -> bytes:
        """Sweep the connection at a later time."""
        self.connection.tick(self.house.clock() + seconds)
        return self.transport.take()


def status(reply: bytes) -> int:
    """The status of a reply."""
    return int(reply.split(b" ", 2)[1])
