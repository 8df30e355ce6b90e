"""The visitors' door: what all visitors' connections share.

Decides where a request goes, and counts connections against their limits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from wellhead.edge.accesslog import AccessLog
from wellhead.edge.challenges import Challenges
from wellhead.edge.directory import Directory
from wellhead.edge.local import saying
from wellhead.edge.metrics import Metrics
from wellhead.edge.pressure import Holder, Pressure
from wellhead.edge.registry import Line, Registry
from wellhead.edge.router import PathsDestination, PortDestination, Router
from wellhead.model.names import VOID_LIST, address_group, is_loopback
from wellhead.model.ports import PortName
from wellhead.model.records import TlsMode, TunnelView
from wellhead.visitors import pages
from wellhead.visitors.crowd import Crowd
from wellhead.visitors.exchange import Door
from wellhead.visitors.house import Destination, Place, Swept, VisitorTerms
from wellhead.visitors.memo import Memo
from wellhead.visitors.pages import Page
from wellhead.wire.challenge import challenge_token

_TUNNEL, _CONTROL = Place.TUNNEL, Place.CONTROL  # bound once, for the path of every request
_PASSTHROUGH = TlsMode.PASSTHROUGH
_VOID_LIST: Final = VOID_LIST.encode()  # for everybody, in clear: it is signed


@dataclass(frozen=True, slots=True)
class CountTerms:
    """How many at once; ``loopback_exempt`` lifts the limit per address for this machine."""

    connections_per_address: int
    connections_per_tunnel: int
    max_connections: int
    max_held_bytes: int
    max_loop_lag_seconds: float
    loopback_exempt: bool


class Ingress(Crowd):
    """Shared by the visitors' connections of one edge. ``others`` hold bytes too, and are no tunnel's."""

    def __init__(
        self,
        router: Router,
        directory: Directory,
        registry: Registry,
        control: Callable[[bytes, str], tuple[str, str, Door | Page]],
        port: Callable[[PortName, bool, str], tuple[Door, Memo] | Page],
        paths: Callable[[bytes, bool, str], tuple[str, Door | Page, Memo | None]],
        metrics: Metrics,
        log: AccessLog,
        terms: VisitorTerms,
        counts: CountTerms,
        challenges: Challenges,
        refused: Callable[[str, str], None],
        others: Callable[[], Iterable[Holder]] = tuple,
    ) -> None:
        super().__init__(terms)
        self.metrics = metrics
        self.note = log.add
        self.refused = refused  # takes a constant word and the visitor's address
        self._router = router
        self._challenges = challenges
        self._tunnel = directory.tunnel
        self._is_current = directory.is_current
        self._lines = registry.lines
        self._control = control  # as ``way``, of a request's target and the visitor's address
        self._port = port  # of a port, whether TLS leads there, and the visitor's address
        self._paths = paths  # of a target in the path form, the same
        self._counts = counts
        self.pressure = Pressure(counts.max_held_bytes, counts.max_loop_lag_seconds)
        self._sessions = registry.sessions
        self._others = others
        self._by_address: Counter[str] = Counter()  # see ``address_group``

    # Requests

    def destination(self, hostname: str, sni: str | None, *, secure: bool, local: bool) -> Destination | Page:
        """Where requests for ``hostname`` lead, or the page that says why they may not.

        ``sni`` is the name that the visitor's TLS was made for (None: none), ``local`` whether the
        listener is a loopback one. Pure: a connection may remember it for a name.
        """
        destination = self._router.destination(hostname, plain=not secure)
        if secure and sni != hostname and not self._same_place(sni, destination):
            return pages.MISDIRECTED
        if destination.place is Place.CONTROL and not (secure or local):
            return replace(destination, page=pages.PLAIN_CONTROL)
        return destination

    def way(
        self, destination: Destination | Page, target: bytes, peer: str
    ) -> tuple[str, str, Door | Page, Memo | None]:
        """Place and name for the access line, and the door of a request now, or the page in its stead."""
        if isinstance(destination, Page):
            return "none", "", destination, None
        place = destination.place
        token = challenge_token(target)
        if token is not None and place is not Place.NOWHERE:
            return place.value, "", self._answered(destination, token), None
        if place is _TUNNEL:
            found = self.tunnel(destination.name)
            if isinstance(found, Page):
                if found is pages.PASSED_THROUGH and destination.plain:
                    found = self._over_tls(destination.name, target)
                return "tunnel", destination.name, found, None
            return "tunnel", destination.name, *found
        if isinstance(destination, PortDestination):
            return "port", destination.name, *self._way_to_port(destination, peer)
        if isinstance(destination, PathsDestination):
            return "port", *self._paths(target, not destination.plain, peer)
        if destination.page is not None and (place is not _CONTROL or target != _VOID_LIST):
            return "none", "", destination.page, None
        if place is _CONTROL:
            return *self._control(target, peer), None
        return "none", "", pages.UNKNOWN, None

    def tunnel(self, name: str) -> tuple[Door, Line] | Page:
        """A session of the tunnel, now; decided from the directory and the registry, never remembered."""
        view = self._tunnel(name)
        if view is None:
            return pages.UNKNOWN if self._is_current() else pages.UNSURE
        if view.tls_mode is _PASSTHROUGH:
            return pages.PASSED_THROUGH
        return self.session_of(view)

    def session_of(self, view: TunnelView) -> tuple[Door, Line] | Page:
        """A session that may carry one more exchange of the tunnel, now."""
        line = self._lines.get(view.id)
        session = line.pick() if line is not None else None
        if line is None or session is None:
            return pages.NO_AGENT
        if self.pressure.high and (page := self.pressure.refusal()) is not None:
            return page
        if line.exchanges >= self._counts.connections_per_tunnel:
            return pages.TUNNEL_FULL
        return session, line

    def _way_to_port(self, destination: PortDestination, peer: str) -> tuple[Door | Page, Memo | None]:
        if destination.port is None:
            return destination.page or pages.UNKNOWN, None
        found = self._port(destination.port, not destination.plain, peer)
        return (found, None) if isinstance(found, Page) else found

    def _over_tls(self, name: str, target: bytes) -> Page:
        """Where a passthrough tunnel is served."""
        return pages.TLS_ONLY._replace(location=pages.absolute(self._router.origin(name), target))

    def _answered(self, destination: Destination, token: str) -> Door | Page:
        """What a certificate authority is told at one of our names; no tenant ever is."""
        name = destination.name
        hostname = name if destination.place is _CONTROL else self._router.hostname(name)
        answer = self._challenges.http(hostname, token)
        return pages.NO_CHALLENGE if answer is None else saying(answer)

    def another(self, name: str, refused: Door | None) -> Door | None:
        """Another session of a tunnel, for a request that the first one refused."""
        view = self._tunnel(name)
        line = self._lines.get(view.id) if view is not None else None
        return line.pick_other(refused) if line is not None else None

    def _same_place(self, sni: str | None, there: Destination) -> bool:
        """Names of the control plane may share a connection; without SNI only they are served."""
        here = self._router.destination(sni or "localhost")
        return here.place is Place.CONTROL and there.place is Place.CONTROL

    # Connections

    def admit(self, connection: Swept) -> Page | None:
        """Count a new connection; the page is what it is refused with."""
        counts, peer = self._counts, connection.peer
        self.add(connection)
        group = address_group(peer)
        self._by_address[group] += 1
        if len(self._connections) > counts.max_connections:
            return pages.EDGE_FULL
        if self._by_address[group] > counts.connections_per_address:
            if not (counts.loopback_exempt and is_loopback(peer)):
                return pages.TOO_MANY
        return None

    def left(self, connection: Swept) -> None:
        group = address_group(connection.peer)
        left = self._by_address[group] - 1
        if left:
            self._by_address[group] = left
        else:
            del self._by_address[group]

    def swept(self) -> None:
        self.pressure.count(self, self._sessions(), self._others())
