"""Which names visitors and agents may ask for by a ClientHello, and the certificate that each is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from wellhead.edge.directory import Directory
from wellhead.edge.router import PathsDestination, PortDestination, Router
from wellhead.edge.unknown import UnknownNames
from wellhead.edge.wants import Wants
from wellhead.errors import ClientHelloError
from wellhead.logs import Log
from wellhead.model.ports import PortName
from wellhead.model.rates import Rate
from wellhead.model.records import TlsMode, TunnelView
from wellhead.net.certificates import Certificates, ContextFor
from wellhead.visitors.house import Place
from wellhead.wire.sni import INTERNAL_ERROR, UNRECOGNIZED_NAME

_log = Log("wellhead.edge")
_NEEDED: Final = "one for *.{domain}: acme_challenge = dns-01, or tls_files"


class ServedNames:
    """``is_served``: whether visitors may come to a port. ``want`` is told names without a certificate, never
    a port's: a sandbox has 65,535 of them, and lives shorter than an issuer counts its orders.

    Names of which there is nothing have ``unknown_per_minute`` handshakes, and the local CA makes a
    certificate for ``ports_per_minute`` new ports of one sandbox; any more are as unknown names.
    """

    def __init__(
        self,
        router: Router,
        directory: Directory,
        is_served: Callable[[PortName], bool],
        certificates: Certificates,
        want: Callable[[str], None],
        clock: Callable[[], float],
        *,
        unknown_per_minute: int,
        ports_per_minute: int,
    ) -> None:
        self._router = router
        self._directory = directory
        self._is_served = is_served
        self._certificates = certificates
        self._wants = Wants(want, clock)
        self._unknown = UnknownNames(unknown_per_minute, clock)
        self._ports = Rate(ports_per_minute, clock)
        self._told = False  # that ports have no certificate

    def certificate(self, name: str | None) -> ContextFor:
        """What makes the context with the name's certificate; one that is missing is asked for.

        Raises:
            ClientHelloError: a name that is not ours, too many names of which there is nothing, or one that
                has no certificate.
        """
        if name is None:
            return self._chosen(None, keep=True)
        destination = self._router.destination(name)
        if destination.place is Place.NOWHERE:
            raise ClientHelloError(UNRECOGNIZED_NAME, "unknown-sni")
        if isinstance(destination, PortDestination):
            known = destination.port is not None and self._is_known_port(destination.port, name)
        else:
            ours = destination.place is Place.CONTROL or isinstance(destination, PathsDestination)
            known = ours or self._directory.tunnel(destination.name) is not None
        if not known and not self._unknown.take():
            raise ClientHelloError(self._not_here(), "unknown-names")
        return self._chosen(name, keep=known, port=isinstance(destination, PortDestination))

    def passed_through(self, name: str) -> TunnelView | None:
        """The passthrough tunnel of this hostname, whatever its status: its TLS never ends here."""
        destination = self._router.destination(name)
        view = self._directory.named(destination.name) if destination.place is Place.TUNNEL else None
        return view if view is not None and view.tls_mode is TlsMode.PASSTHROUGH else None

    def welcomed(self, view: TunnelView) -> None:
        """An agent is here: visitors will come, and will want a certificate."""
        hostname = self._router.hostname(view.name)
        if view.tls_mode is TlsMode.EDGE and self._certificates.choose(hostname, keep=False) is None:
            self._wants.want(hostname)

    def _chosen(self, name: str | None, *, keep: bool, port: bool = False) -> ContextFor:
        context = self._certificates.choose(name, keep=keep)
        if context is not None:
            return context
        if not keep or name is None:
            raise ClientHelloError(self._not_here(), "no-certificate")
        if not port:
            self._wants.want(name)
        elif not self._told:
            self._told = True
            _log.warning("no certificate for ports of sandboxes", needed=_NEEDED)
        raise ClientHelloError(INTERNAL_ERROR, "no-certificate")

    def _is_known_port(self, port: PortName, name: str) -> bool:
        if not self._is_served(port):
            return False
        if self._certificates.is_new(name):
            if self._ports.wait(port.sandbox):
                return False
            self._ports.count(port.sandbox)
        return True

    def _not_here(self) -> int:
        """The alert for a name of which there is nothing: as the page is, not sure while records are away."""
        return UNRECOGNIZED_NAME if self._directory.is_current() else INTERNAL_ERROR
