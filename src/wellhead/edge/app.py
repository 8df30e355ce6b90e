"""The edge: one program that accepts visitors and agents on the same port, and joins them.

The ClientHello decides everything before TLS starts: the certificate by its name, and by its ALPN
whether an agent or a visitor is at the door.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

from wellhead.edge import path_form
from wellhead.edge.accesslog import AccessLog
from wellhead.edge.challenges import Challenges, Proved
from wellhead.edge.credentials import Credentials
from wellhead.edge.directory import Directory
from wellhead.edge.gate import Gate, GateTerms
from wellhead.edge.host_calls import HostCalls
from wellhead.edge.host_directory import HostDirectory
from wellhead.edge.host_gate import HostGate
from wellhead.edge.hosts import Hosts
from wellhead.edge.ingress import CountTerms, Ingress
from wellhead.edge.intake.gate import IntakeGate
from wellhead.edge.intake.terms import IntakeTerms
from wellhead.edge.local import Scrapes
from wellhead.edge.metrics import Metrics
from wellhead.edge.passthrough import RawTerms, RawVisitor
from wellhead.edge.port_access import PortAccessRules
from wellhead.edge.port_door import Ports, PortTerms
from wellhead.edge.refusals import Refusals
from wellhead.edge.registry import Registry
from wellhead.edge.router import Router
from wellhead.edge.sandbox_door import Sandboxes
from wellhead.edge.sandbox_paths import sandbox_path, waits
from wellhead.edge.served_names import ServedNames
from wellhead.errors import ClientHelloError
from wellhead.model.links import LinkSigner
from wellhead.model.names import is_loopback
from wellhead.model.rates import Rate
from wellhead.net.certificates import Certificates
from wellhead.net.plain import PlainPort
from wellhead.net.portal import Portal, PortalTerms, RawWay
from wellhead.net.portal import Way as TlsWay
from wellhead.net.socket_options import tune
from wellhead.net.tls import ALPN_ACME, ALPN_H2, ALPN_HTTP, ALPN_MUX, ALPN_VISITORS
from wellhead.net.upstream import UpstreamPool
from wellhead.net.watchdog import Watchdog
from wellhead.visitors import pages
from wellhead.visitors.exchange import Door
from wellhead.visitors.house import VisitorTerms
from wellhead.visitors.http1 import Http1Visitor
from wellhead.visitors.http2 import Http2Visitor
from wellhead.visitors.local import LocalDoor
from wellhead.visitors.pages import Page
from wellhead.wire.feed import HostAnswered, HostSeen, Wake
from wellhead.wire.sni import (
    NO_APPLICATION_PROTOCOL,
    ClientHello,
)


@dataclass(frozen=True, slots=True)
class EdgeTerms:
    """Everything that the edge is told at its start."""

    domain: str
    zone: str
    visitor: VisitorTerms
    passthrough: RawTerms
    counts: CountTerms
    gate: GateTerms
    intake: IntakeTerms
    portal: PortalTerms
    ports: PortTerms
    drain_seconds: float
    unknown_names_per_minute: int  # handshakes for names of which there is nothing
    port_names_per_minute: int  # ports of one sandbox that a certificate is made for
    key_failures_per_minute: int = 30  # wrong keys of one address, at the doors of sandboxes
    loop_stall_seconds: float = 1.0  # 0: no stall is logged
    https_port: int = 443  # where visitors come


class Edge:
    """``control`` forwards to the control plane, ``patient`` what may take it minutes: certificates to be
    signed. Both are closed with the edge. ``links`` knows those to ports. ``log_to`` makes the log.

    ``want`` is told each name of ours that has no certificate, once a minute at most, ``tell`` what the
    control plane is to hear of hosts and of sandboxes that visitors wait for.
    """

    def __init__(
        self,
        terms: EdgeTerms,
        directory: Directory,
        host_directory: HostDirectory,
        links: LinkSigner,
        certificates: Certificates,
        challenges: Challenges,
        want: Callable[[str], None],
        tell: Callable[[HostAnswered | HostSeen | Wake], None],
        control: UpstreamPool,
        patient: UpstreamPool,
        log_to: Callable[[Metrics], AccessLog],
    ) -> None:
        self.metrics = Metrics()
        self.registry = Registry()
        self._terms = terms
        self._directory = directory
        self._certificates = certificates
        self._challenges = challenges
        self._router = Router(terms.domain, terms.zone, terms.https_port, path_form=terms.ports.path_form)
        self._log = log_to(self.metrics)
        clock = asyncio.get_running_loop().time
        self._refusals = Refusals(self.metrics, clock)
        self._names = ServedNames(
            self._router,
            directory,
            lambda port: self._ports.is_served(port),
            certificates,
            want,
            clock,
            unknown_per_minute=terms.unknown_names_per_minute,
            ports_per_minute=terms.port_names_per_minute,
        )
        self._scrapes = Scrapes(self.metrics, directory)
        self._pools = control, patient
        self._control, self._patient = LocalDoor(control.accept), LocalDoor(patient.accept)
        credentials = Credentials(
            directory,
            clock,
            rejections_per_minute=terms.gate.rejections_per_minute,
            loopback_exempt=terms.gate.loopback_exempt,
        )
        self.hosts = Hosts(tell)
        self.host_calls = HostCalls(self.hosts, tell)
        self.gate = Gate(
            directory,
            credentials,
            self.registry,
            self.metrics,
            terms.gate,
            HostGate(host_directory, credentials, self.hosts),
            self._names.welcomed,
        )
        self.intake = IntakeGate(
            directory,
            credentials,
            self.registry,
            self.metrics,
            terms.intake,
            terms.gate.public_urls,
            self._names.welcomed,
        )
        self.ingress = Ingress(
            self._router,
            directory,
            self.registry,
            self._control_door,
            lambda name, secure, peer: self._ports.way(name, secure, peer),
            lambda target, secure, peer: path_form.way(self._ports, target, secure, peer),
            self.metrics,
            self._log,
            terms.visitor,
            terms.counts,
            challenges,
            self._refusals.note,
            lambda: chain(self.hosts.sessions(), self._ports.wakes),
        )
        failures = Rate(terms.key_failures_per_minute, clock)
        loopback_exempt = terms.counts.loopback_exempt
        self._ports = Ports(
            host_directory,
            self.hosts,
            self.ingress.pressure,
            PortAccessRules(host_directory, links, failures, loopback_exempt=loopback_exempt),
            tell,
            terms.ports,
        )
        self._sandboxes = Sandboxes(
            host_directory,
            self.hosts,
            self.ingress.pressure,
            self._router.control_origins,
            failures,
            self._refusals.note,
            loopback_exempt=loopback_exempt,
        )
        self._portal: Portal | None = None
        self._plain: list[PlainPort] = []
        self.metrics.watch("wellhead_control_up", "Whether the control plane is there.", directory.is_current)
        self.metrics.watch("wellhead_sessions", "Live sessions.", lambda: len(self.registry))
        self.metrics.watch_each(
            "wellhead_host_sessions", "Live sessions of hosts.", "lane", self.hosts.by_lane
        )
        self.metrics.watch_each(
            "wellhead_h2_carrier",
            "On the HTTP/2 carrier: sessions, intakes parked (slots), requests that wait for one, requests"
            " handed over and not answered (pending), bridges, streams.",
            "what",
            self.intake.counts,
        )
        self.metrics.watch("wellhead_visitors", "Open visitors' connections.", lambda: len(self.ingress))
        self.metrics.watch(
            "wellhead_held_bytes", "Bytes held for visitors and agents.", lambda: self.ingress.pressure.held
        )
        self.metrics.watch("wellhead_tasks", "Tasks of the event loop.", lambda: len(asyncio.all_tasks()))
        self.metrics.watch(
            "wellhead_sandbox_waiting", "Requests that wait for a sandbox.", lambda: len(self._ports.wakes)
        )
        self.metrics.watch_each(
            "wellhead_certificate_days_left",
            "Days until a certificate ends, by its first name.",
            "name",
            certificates.days_left,
        )
        self.metrics.watch(
            "wellhead_put_off_share", "Part of new requests put off now.", lambda: self.ingress.pressure.share
        )
        stall = terms.loop_stall_seconds
        self._watchdog = Watchdog(stall, self._on_lag)

    async def start(self, https: list[socket.socket], http: list[socket.socket]) -> None:
        """Accept on listening sockets, which belong to the edge from here on."""
        await self._certificates.start()
        local = all(map(_is_loopback, https))
        self._portal = Portal(https, self._chooser(local), self._terms.portal, self._refusals.note)
        self._portal.start()
        for sock in http:
            local = _is_loopback(sock)
            # Connections inherit the options of the socket that accepts them.
            tune(sock, user_timeout_seconds=self._terms.portal.write_idle_seconds + 5)
            port = PlainPort(
                [sock],
                self._visitor(local),
                max_descriptor=self._portal.visitors_descriptor,
                on_refused=lambda reason: self._refusals.note(reason, ""),
            )
            port.start()
            self._plain.append(port)

    async def drain(self) -> None:
        """Accept nothing new, let what is open finish, tell agents to go elsewhere; then close."""
        if self._portal is not None:
            self._portal.stop()
        for port in self._plain:
            port.stop()
        self.gate.drain()
        self.intake.drain()
        await self.ingress.drain(self._terms.drain_seconds)

    async def close(self) -> None:
        """End everything that is left. Idempotent."""
        for port in self._plain:
            port.stop()
        await self.ingress.close()
        await self.gate.close()
        await self.intake.close()
        if self._portal is not None:
            await self._portal.aclose()
        await self._certificates.close()
        await self._scrapes.close()
        for pool in self._pools:
            await pool.aclose()
        self._log.close()
        self._watchdog.close()

    def _on_lag(self, seconds: float) -> None:
        self.metrics.loop_lag(seconds)
        self.ingress.pressure.lag(seconds)

    def new_control_plane(self) -> None:
        """The records come from another process now, which knows of no host and waits for no answer."""
        self.host_calls.forget()
        self.hosts.tell_all()
        self._ports.wakes.tell_all()

    # Doors

    def _control_door(self, target: bytes, peer: str) -> tuple[str, str, Door | Page]:
        path = target.partition(b"?")[0]
        if path == b"/metrics":
            # Behind a proxy on this machine everybody seems to be local.
            trusted = self._terms.counts.loopback_exempt and is_loopback(peer)
            return "control", "", self._scrapes.door(trusted=trusted)
        if (found := sandbox_path(target)) is not None:
            return "sandbox", found.name, self._sandboxes.door(found, peer)
        # It tells the records and answers REST with the same breath; nobody waits for one that is gone.
        if not self._directory.is_current():
            return "control", "", pages.CONTROL_AWAY
        door = self._patient if waits(path) else self._control
        return "control", "", door

    def _visitor(self, local: bool) -> Callable[[], Http1Visitor]:
        return lambda: Http1Visitor(self.ingress, secure=False, local=local)

    def _chooser(self, local: bool) -> Callable[[ClientHello, str], TlsWay | RawWay]:
        return lambda hello, peer: self._choose(hello, peer, local)

    def _choose(self, hello: ClientHello, peer: str, local: bool) -> TlsWay | RawWay:
        """The certificate and the protocol for a ClientHello; a passthrough tunnel's bytes stay as they are.

        Raises:
            ClientHelloError: a name that is not ours, too many names of no tunnel, or a protocol that this
                name does not speak.
        """
        name = hello.server_name
        if ALPN_ACME.encode() in hello.alpn:
            return self._challenge(hello)
        if name is not None and (view := self._names.passed_through(name)) is not None:
            return RawWay(lambda: RawVisitor(self.ingress, self._terms.passthrough, view, name, peer))
        agents = name is None or self._router.is_zone(name)
        if hello.alpn and ALPN_MUX.encode() in hello.alpn and agents:
            context = self._names.certificate(name)
            return TlsWay(lambda: context((ALPN_MUX,)), self.gate.session, privileged=True)
        http2 = hello.alpn is not None and ALPN_H2.encode() in hello.alpn
        if hello.alpn and not http2 and ALPN_HTTP.encode() not in hello.alpn:
            raise ClientHelloError(NO_APPLICATION_PROTOCOL, "no-alpn")
        context = self._names.certificate(name)

        def visitor() -> Http1Visitor | Http2Visitor:
            if http2 and agents:
                return self.intake.connection(self.ingress, local=local, sni=name)
            if http2:
                return Http2Visitor(self.ingress, local=local, sni=name)
            return Http1Visitor(self.ingress, secure=True, local=local, sni=name)

        # OpenSSL chooses from the same two in the same order, so that it cannot come out otherwise.
        return TlsWay(lambda: context(ALPN_VISITORS), visitor)

    def _challenge(self, hello: ClientHello) -> TlsWay:
        """The answer to an authority that checks a name (RFC 8737): ours to give, and never a tenant's.

        Raises:
            ClientHelloError: nothing is to be proved of this name.
        """
        # An authority offers nothing else, and who does might be led on to a tenant by the rest.
        alone = hello.alpn == (ALPN_ACME.encode(),)
        context = self._challenges.alpn(hello.server_name) if alone and hello.server_name else None
        if context is None:
            raise ClientHelloError(NO_APPLICATION_PROTOCOL, "acme-alpn")
        return TlsWay(lambda: context, Proved)


def _is_loopback(sock: socket.socket) -> bool:
    return is_loopback(sock.getsockname()[0])
