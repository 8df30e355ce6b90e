"""The agent as the house of its tunnel's visitors: TLS ends here, and not at the edge.

::

    edge ═ TCP stream ─ net.stream_portal ─ net.stream_tls ─ visitors.http1 | http2 ─ Exchange
                                                                                         │ wire.pair
                                                               upstream <─ UpstreamPool ─┘

Visitors have what they have at the edge: the same versions of HTTP, the same rules, the same limits.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from wellhead.errors import ClientHelloError, FrameError
from wellhead.logs import Log
from wellhead.net.stream_portal import StreamPortal, StreamPortalTerms
from wellhead.net.tls import ALPN_H2, ALPN_HTTP
from wellhead.net.upstream_exchange import Exchange
from wellhead.settings import ServerSettings
from wellhead.visitors import pages
from wellhead.visitors.access import Fields, Line
from wellhead.visitors.crowd import Crowd
from wellhead.visitors.exchange import Door
from wellhead.visitors.house import Destination, Place, Swept, VisitorTerms
from wellhead.visitors.http1 import Http1Visitor
from wellhead.visitors.http2 import Http2Visitor
from wellhead.visitors.local import LocalDoor
from wellhead.visitors.memo import Memo
from wellhead.visitors.pages import Page
from wellhead.visitors.terms import visitor_terms
from wellhead.wire.facts import Facts
from wellhead.wire.sni import NO_APPLICATION_PROTOCOL, UNRECOGNIZED_NAME, ClientHello
from wellhead.wire.streams import Buffer, Reason, Stream, StreamKind

ALPN = (ALPN_H2, ALPN_HTTP)
_log = Log("wellhead.agent")


def _visitor() -> VisitorTerms:
    return visitor_terms(ServerSettings())


@dataclass(frozen=True, slots=True)
class PassthroughTerms:
    """Limits of visitors whose TLS ends in the agent; by default what an edge has by default."""

    visitor: VisitorTerms = field(default_factory=_visitor)
    portal: StreamPortalTerms = field(default_factory=StreamPortalTerms)
    max_connections: int = 4096


class Upstream(Protocol):
    """Where requests go; ``UpstreamPool``."""

    def accept(self, stream: Stream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None: ...
    def tell(self, exchange: Exchange, failure: str) -> None:
        """A request is over that did not get to it."""


class Passthrough(Crowd):
    """Serves the visitors of ``hostname`` and opens their requests on ``upstream``.

    ``context`` is what the next visitor is shown; it may be replaced at any time.
    """

    def __init__(
        self,
        hostname: str,
        name: str,
        context: ssl.SSLContext,
        upstream: Upstream,
        terms: PassthroughTerms | None = None,
    ) -> None:
        self._limits = terms or PassthroughTerms()
        super().__init__(self._limits.visitor)
        self.hostname = hostname
        self.context = context
        self._upstream = upstream
        self._door = LocalDoor(upstream.accept)
        self._memo = Memo()
        self._here = Destination(Place.TUNNEL, name)
        self._portal = StreamPortal(self._choose, self._limits.portal, self.refused)

    def accept(self, stream: Stream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
        """Take a stream of the edge's: a visitor's connection, from its ClientHello on."""
        if kind is not StreamKind.TCP:  # whoever reads requests at the edge is not who the visitor spoke to
            stream.reset(Reason.REFUSED)
            return
        try:
            facts = Facts.decode(envelope)
        except FrameError as error:
            _log.warning("a stream's envelope is malformed", error=error)
            stream.reset(Reason.PROTOCOL)
            return
        self._portal.accept(stream, (facts.peer, facts.peer_port), data, end)

    @property
    def is_empty(self) -> bool:
        """Every visitor was answered, and hung up on."""
        return not len(self) and not self._portal.arrivals

    def leave(self) -> None:
        """The edge behind today's connections is leaving: they end as soon as nothing runs on them."""
        for connection in list(self):
            connection.drain()

    async def close(self) -> None:
        """End everything that is left. Idempotent."""
        self._portal.close()
        await super().close()

    def _choose(self, hello: ClientHello) -> tuple[ssl.SSLContext, Callable[[], asyncio.Protocol]]:
        """
        Raises:
            ClientHelloError: another name than ours, or a protocol that is not served.
        """
        if hello.server_name != self.hostname:
            raise ClientHelloError(UNRECOGNIZED_NAME, "unknown-sni")
        http2 = ALPN_H2.encode() in hello.alpn
        if hello.alpn and not http2 and ALPN_HTTP.encode() not in hello.alpn:
            raise ClientHelloError(NO_APPLICATION_PROTOCOL, "no-alpn")

        def visitor() -> asyncio.Protocol:
            if http2:
                return Http2Visitor(self, local=False, sni=self.hostname)
            return Http1Visitor(self, secure=True, local=False, sni=self.hostname)

        return self.context, visitor

    # House

    def admit(self, connection: Swept) -> Page | None:
        self.add(connection)
        return pages.TUNNEL_FULL if len(self) > self._limits.max_connections else None

    def refused(self, reason: str, peer: str) -> None:
        """A connection or a request ended early, by the visitor's doing."""
        _log.debug("visitor refused", reason=reason, peer=peer)

    def destination(self, hostname: str, sni: str | None, *, secure: bool, local: bool) -> Destination | Page:
        """The tunnel, for requests to its name alone."""
        return self._here if hostname == self.hostname else pages.MISDIRECTED

    def way(
        self, destination: Destination | Page, target: bytes, peer: str
    ) -> tuple[str, str, Door | Page, Memo | None]:
        if isinstance(destination, Page):
            return "none", "", destination, None
        return "tunnel", destination.name, self._door, self._memo

    def another(self, name: str, refused: Door | None) -> Door | None:
        """There is one upstream."""
        return None

    def note(self, fields: Fields) -> None:
        """Whatever got to the upstream is told by it."""
        if fields[0] != "none":
            return
        line = Line(*fields)
        exchange = Exchange.turned_away(line.method, line.target, line.status, line.bytes_out, line.peer)
        self._upstream.tell(exchange, line.reason)
