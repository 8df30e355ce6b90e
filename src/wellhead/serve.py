"""Edge and control plane wired together.

The edge runs here. The control plane is a process of its own (``serve_process``): an upstream like any other,
behind a unix socket that only this user may open. Of the records the edge has a copy, its ``Directory``.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

from wellhead import issued, links_key, private
from wellhead.edge.accesslog import AccessLog
from wellhead.edge.app import Edge, EdgeTerms
from wellhead.edge.follower import Follower
from wellhead.edge.gate import GateTerms
from wellhead.edge.ingress import CountTerms
from wellhead.edge.intake.bridge import BridgeTerms
from wellhead.edge.intake.terms import GRACE_SECONDS, IntakeTerms, agent_h2_terms
from wellhead.edge.metrics import Metrics
from wellhead.edge.passthrough import RawTerms
from wellhead.edge.port_door import PortTerms
from wellhead.errors import SettingsError
from wellhead.logs import Log
from wellhead.model.access import Secret
from wellhead.model.links import LinkSigner
from wellhead.model.names import Public
from wellhead.model.records import TlsMode
from wellhead.net import certificate_files
from wellhead.net import loop as net_loop
from wellhead.net.authority import LocalAuthority
from wellhead.net.certificate_files import CertificateFiles
from wellhead.net.certificates import Certificates
from wellhead.net.portal import PortalTerms
from wellhead.net.session import Liveness
from wellhead.net.sockets import authority, begin_listening, bind, parse_address
from wellhead.net.upstream import UpstreamLimits, UpstreamPool
from wellhead.net.upstream_address import parse_upstream
from wellhead.serve_host_process import HostProcess, HostTerms
from wellhead.serve_process import UNSHOWN_KEY_FILE, ControlProcess, Terms
from wellhead.settings import ServerSettings
from wellhead.visitors.terms import visitor_terms

T = TypeVar("T")
_log = Log("wellhead.serve")
MAX_SOCKET_PATH = 107  # bytes of a unix socket's path (unix(7))
CONTROL_GRACE_SECONDS = 5.0  # for the control plane's answer to come here, beyond its own limit
ADMIN_KEY_FILE = "admin-key"


@dataclass(frozen=True, slots=True)
class Ready:
    """What the server tells when it accepts connections. ``key`` is there on the first start only.

    ``ca_file``: who vouches for the name that agents dial; None: the operator's or a public authority.
    ``reload`` has certificates looked at now. ``opens_ports``: those of new sandboxes are public, unasked.
    """

    https: list[str]
    http: list[str]
    api: str
    key: Secret | None
    data_dir: Path
    ca_file: Path | None
    reload: Callable[[], None]
    opens_ports: bool = False


async def serve(settings: ServerSettings, *, ready: Callable[[Ready], None], stop: asyncio.Event) -> None:
    """Run until ``stop`` is set, then drain.

    Raises:
        LocalStateError: the data directory is unsafe or in use by another server.
        SettingsError: an address cannot be listened on, the access log not be written, or a certificate of
            the operator's not be served.
    """
    net_loop.raise_file_limit()
    certificate_files.check(settings.tls_pairs)
    directory = private.make_directory(settings.data_dir)
    with _access_stream(settings.access_log) as lines, _bound(settings) as (https, http):
        public = Public(
            domain=settings.domain,
            zone=settings.agent_zone,
            https_port=https[0].getsockname()[1],
            http_port=http[0].getsockname()[1] if http else None,
        )
        with _socket_path(directory) as path:
            follower = Follower()
            async with _control(Terms.of(settings, public, path), follower) as control:
                # The records first: they are held by one server, which then may touch the other files.
                if (told := await _unless(stop, control.whole())) is None:
                    return
                key = Secret((directory / ADMIN_KEY_FILE).read_text().strip()) if told.made_key else None
                addresses = _addresses(settings.agent_zone, https)
                local = LocalAuthority(directory, addresses=addresses, void_list=public.void_list_url)
                certificates = Certificates(
                    CertificateFiles(settings.tls_pairs, directory / issued.DIRECTORY),
                    local,
                    mints=settings.issuer == "local",
                    reload_seconds=settings.tls_reload_seconds,
                )
                links = LinkSigner(links_key.load_or_make(directory))
                edge = _edge(settings, follower, certificates, links, public, path, lines)
                edge.metrics.watch(
                    "wellhead_certificate_orders_failing",
                    "Names whose last order of a certificate failed.",
                    lambda: follower.orders_failing,
                )
                edge.metrics.watch(
                    "wellhead_control_restarts", "Restarts of the control plane.", lambda: control.restarts
                )

                def show(facts: Ready) -> None:
                    ready(facts)
                    (directory / UNSHOWN_KEY_FILE).unlink(missing_ok=True)

                await _run(edge, https, http, settings, public, key, local, certificates, show, stop)


async def _run(
    edge: Edge,
    https: list[socket.socket],
    http: list[socket.socket],
    settings: ServerSettings,
    public: Public,
    key: Secret | None,
    local: LocalAuthority,
    certificates: Certificates,
    ready: Callable[[Ready], None],
    stop: asyncio.Event,
) -> None:
    zone = public.zone
    try:
        # Not before: until there is somebody to answer, a refusal is the better answer.
        begin_listening([*https, *http])
        await edge.start(https, http)
        net_loop.freeze()
        ca_file = local.ca_file if _is_address(zone) or certificates.is_local(zone) else None
        async with _host(settings, https, zone, ca_file, stop):
            ready(
                Ready(
                    https=[f"https://{_shown(sock)}" for sock in https],
                    http=[f"http://{_shown(sock)}" for sock in http],
                    api=public.api_url + "/api/v1",
                    key=key,
                    data_dir=settings.data_dir,
                    ca_file=ca_file,
                    reload=certificates.reload_soon,
                    opens_ports=settings.opens_ports,
                )
            )
            await stop.wait()
        _log.info("draining", seconds=settings.drain_seconds)
        await edge.drain()
    finally:
        await edge.close()


@contextlib.asynccontextmanager
async def _host(
    settings: ServerSettings,
    https: list[socket.socket],
    zone: str,
    ca_file: Path | None,
    stop: asyncio.Event,
) -> AsyncIterator[None]:
    """The host on this machine, where one is wanted: there when it can be asked, ended first."""
    if not settings.with_host:
        yield
        return
    name, port = https[0].getsockname()[:2]
    here = ipaddress.ip_address(name)
    near = ca_file is not None and (here.is_loopback or here.is_unspecified)
    url = f"https://{authority('localhost' if near else zone, port)}"
    host = HostProcess(HostTerms.of(settings, url, ca_file))
    try:
        if not await host.online(stop):
            _log.warning("the host is not there yet: sandboxes cannot be made until it is")
        yield
    finally:
        await host.close()


def _edge(
    settings: ServerSettings,
    follower: Follower,
    certificates: Certificates,
    links: LinkSigner,
    public: Public,
    path: str,
    lines: IO[bytes] | None,
) -> Edge:
    liveness = Liveness(ping_seconds=settings.ping_seconds, pong_seconds=settings.ping_timeout_seconds)
    limit = net_loop.file_limit()
    terms = EdgeTerms(
        domain=settings.domain,
        zone=settings.agent_zone,
        visitor=visitor_terms(settings),
        passthrough=RawTerms(
            idle_seconds=settings.passthrough_idle_seconds,
            half_close_seconds=settings.passthrough_half_close_seconds,
            linger_seconds=settings.passthrough_linger_seconds,
            write_idle_seconds=settings.write_idle_seconds,
        ),
        counts=CountTerms(
            connections_per_address=settings.connections_per_address,
            connections_per_tunnel=settings.connections_per_tunnel,
            max_connections=settings.max_connections or limit * 4 // 5,
            max_held_bytes=settings.max_held_bytes or net_loop.memory_limit() // 4,
            max_loop_lag_seconds=settings.max_loop_lag_seconds,
            loopback_exempt=settings.loopback_exempt,
        ),
        gate=GateTerms(
            hello_seconds=settings.hello_seconds,
            drain_seconds=settings.drain_seconds,
            liveness=liveness,
            loopback_exempt=settings.loopback_exempt,
            public_urls=lambda view: public.urls(view.name, plain=view.tls_mode is TlsMode.EDGE),
            stream_window_bytes=settings.stream_window_bytes,
            session_held_bytes=settings.session_held_bytes,
            rejections_per_minute=settings.rejections_per_minute,
        ),
        intake=_intake_terms(settings, liveness),
        portal=PortalTerms(
            hello_seconds=settings.hello_seconds,
            handshake_seconds=settings.handshake_seconds,
            write_idle_seconds=settings.write_idle_seconds,
            max_handshakes=settings.max_handshakes,
            max_handshakes_per_address=settings.handshakes_per_address,
            loopback_exempt=settings.loopback_exempt,
        ),
        ports=PortTerms(
            denied=frozenset(settings.sandbox_denied_ports),
            exchanges=settings.exchanges_per_sandbox,
            path_form=settings.sandbox_path_form,
            resume_seconds=settings.sandbox_resume_seconds,
            resume_waiting=settings.sandbox_resume_waiting,
        ),
        drain_seconds=settings.drain_seconds,
        unknown_names_per_minute=settings.unknown_names_per_minute,
        port_names_per_minute=settings.port_names_per_minute,
        key_failures_per_minute=settings.api_failures_per_address_per_minute,
        loop_stall_seconds=settings.loop_stall_seconds,
        https_port=public.https_port,
    )
    # It answers within api_reply_seconds unless it hangs, or waits for a certificate's issuer or for a host.
    answers = settings.api_reply_seconds + CONTROL_GRACE_SECONDS
    control = _control_pool(path, answers)
    hosts = answers + max(settings.host_call_seconds, settings.host_snapshot_seconds)
    patient = _control_pool(path, max(hosts, settings.reply_seconds))
    loop = asyncio.get_running_loop()

    def log_to(metrics: Metrics) -> AccessLog:
        return AccessLog(metrics, lines, loop, settings.access_log_query)

    follower.on_certificates = certificates.reload_soon
    edge = Edge(
        terms,
        follower.directory,
        follower.directory,
        links,
        certificates,
        follower.challenges,
        follower.want,
        follower.tell,
        control,
        patient,
        log_to,
    )
    follower.on_host_call = edge.host_calls.call
    follower.on_host_seen_anew = edge.new_control_plane
    return edge


def _intake_terms(settings: ServerSettings, liveness: Liveness) -> IntakeTerms:
    visitors = visitor_terms(settings).h2
    return IntakeTerms(
        h2=agent_h2_terms(
            visitors,
            max_streams=settings.h2_carrier_max_streams,
            window=settings.h2_carrier_window_bytes,
            connection_window=settings.h2_carrier_connection_window_bytes,
            max_held=settings.session_held_bytes,
        ),
        bridge=BridgeTerms(
            reply_seconds=settings.h2_carrier_deadline_seconds + GRACE_SECONDS,
            bind_seconds=settings.h2_carrier_bind_seconds,
            max_message_bytes=settings.h2_carrier_max_message_bytes,
            max_held_bytes=settings.session_held_bytes,
        ),
        liveness=liveness,
        hello_seconds=settings.hello_seconds,
        drain_seconds=settings.drain_seconds,
        pool=settings.h2_carrier_pool,
        idle_seconds=settings.h2_carrier_idle_seconds,
        idle_answer=settings.h2_carrier_idle_answer,
        deadline_seconds=settings.h2_carrier_deadline_seconds,
        wait_seconds=settings.h2_carrier_wait_seconds,
        max_waiting=settings.h2_carrier_max_waiting,
        max_body_bytes=settings.h2_carrier_max_body_bytes,
        takeovers_per_minute=settings.h2_carrier_takeovers_per_minute,
    )


def _control_pool(path: str, reply_seconds: float) -> UpstreamPool:
    return UpstreamPool(
        parse_upstream(f"unix:{path}"),
        host_header="preserve",
        limits=UpstreamLimits(reply_seconds=reply_seconds),
    )


@contextlib.contextmanager
def _bound(settings: ServerSettings) -> Iterator[tuple[list[socket.socket], list[socket.socket]]]:
    sockets: list[list[socket.socket]] = []
    try:
        for name, address in (("https", settings.https), ("http", settings.http)):
            try:
                sockets.append(bind(*parse_address(address)) if address else [])
            except SettingsError as error:
                raise SettingsError(f"{name}: {error}") from error.__cause__
        yield sockets[0], sockets[1]
    finally:
        for sock in (sock for group in sockets for sock in group):
            sock.close()


async def _unless(stop: asyncio.Event, wanted: Coroutine[object, object, T]) -> T | None:
    """What it gives; None where ``stop`` is set before."""
    task, stopped = asyncio.create_task(wanted), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, stopped):
            each.cancel()
        await asyncio.gather(task, stopped, return_exceptions=True)


@contextlib.asynccontextmanager
async def _control(terms: Terms, follower: Follower) -> AsyncIterator[ControlProcess]:
    control = ControlProcess(terms, follower)
    try:
        await control.start()
        yield control
    finally:
        await control.close()
        follower.close()


@contextlib.contextmanager
def _socket_path(data_dir: Path) -> Iterator[str]:
    """In the data directory, which is ours alone, where a unix socket's path may be so long."""
    path = data_dir / "control.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        yield str(path)
        return
    with tempfile.TemporaryDirectory(prefix="wellhead-") as directory:
        yield os.path.join(directory, "control.sock")


@contextlib.contextmanager
def _access_stream(where: str) -> Iterator[IO[bytes] | None]:
    if where == "off":
        yield None
        return
    if where == "stderr":
        yield sys.stderr.buffer
        return
    try:
        stream = open(where, "ab", buffering=0)
    except OSError as error:
        raise SettingsError(f"access_log: cannot write {where}: {error.strerror}") from error
    with stream:
        yield stream


def _addresses(zone: str, https: list[socket.socket]) -> list[str]:
    """IP addresses that the certificate for callers without a name must carry."""
    numbers = [zone, *(sock.getsockname()[0] for sock in https)]
    return [ip for ip in numbers if _is_address(ip) and not ipaddress.ip_address(ip).is_unspecified]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _shown(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return authority(host, port)
