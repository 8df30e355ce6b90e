"""``connect`` and ``connect_async``: from an upstream and a name to a tunnel that is answered for.

::

    the upstream -> which server (profile) -> find, restore or create the tunnel's record
                 -> keep a new secret at once (state file) -> dial the edge
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Unpack
from urllib.parse import urlsplit

from wellhead.agent.carriers import Badge, alpn_of, offer
from wellhead.agent.certificate import CertificateFiles
from wellhead.agent.forwarding import Forwarding, Upstream, forwarding
from wellhead.agent.issuing import Issuing
from wellhead.agent.listener import Plan, TlsEnd, TunnelListener
from wellhead.agent.options import ConnectOptions, ForwardTo, Options, as_path, as_secret
from wellhead.agent.passthrough import ALPN, Passthrough
from wellhead.agent.renewal import Renewal
from wellhead.agent.state import Kept, TunnelState
from wellhead.client import AsyncClient
from wellhead.errors import InputError, SecretRejected, SettingsError, TunnelRemoved
from wellhead.model.access import Secret
from wellhead.model.names import split_authority, suggest
from wellhead.model.records import TlsMode, Tunnel, TunnelStatus
from wellhead.net import loop as net_loop
from wellhead.net.keypair import KeyPair
from wellhead.net.sockets import authority
from wellhead.net.tls import client_context
from wellhead.net.uplink import EdgeAddress
from wellhead.profile import Connection, Profile

_PROCESS = secrets.token_hex(8)  # by which the edge recognises the sessions of one process


def connect(forward_to: ForwardTo, **options: Unpack[ConnectOptions]) -> TunnelListener:
    """Put an upstream on a public hostname; returns when the edge has let us in.

    The tunnel is answered for in a thread of its own, until ``close`` or the end of the process.

    Args:
        forward_to: the upstream: a port, ``HOST:PORT``, ``http://…``, ``https://…`` or ``unix:/…``;
            ``h2c://…`` or ``h2c:/…`` for HTTP/2 without TLS, as gRPC servers speak it; ``tls://…`` or
            ``tls:/…`` for a server with a certificate of its own, which is handed the visitors' TLS as it
            is: the tunnel is then one in mode ``passthrough``. Or what answers in this process: an ASGI or
            WSGI application, or a handler ``(request, ctx)``.
        interface: of an application: ``asgi``, ``wsgi``, ``handler``, or ``auto``: by how it may be called.
        ws_handler: what answers WebSockets beside the rest, a coroutine function: ``(ws, ctx)``.
        max_body_bytes: of a request to an application; a longer one is answered 413.
        name: the tunnel's name; without it one is made up, and remembered for this upstream.
        label: what it is remembered by, in place of the upstream's address or the application's name.
        tls_mode: where visitors' TLS ends: ``edge`` (at the server), or ``passthrough``: here, with a key
            that never leaves this machine, and a certificate that is renewed while the tunnel is answered
            for. By default what the tunnel's record says, and ``edge`` for a new one.
        url, api_key, ca_file: the server, a key for its API, and the authorities (PEM) to trust in place
            of the system's. By default ``WELLHEAD_*`` variables, then the profile.
        secret: the tunnel's connect secret, where the state file has none. With it no key is needed.
        host_header: what the upstream sees as its Host: ``rewrite`` (its own), ``preserve`` or a value.
        upstream_http: the version of HTTP that the upstream speaks: ``1.1``, ``2``, or ``auto``: 2 for
            ``h2c`` and for an ``https`` upstream that offers it, else 1.1.
        verify_upstream, upstream_ca_file: how an ``https`` upstream is trusted.
        state_dir: in place of ``$WELLHEAD_HOME``.
        on_status: called with ``(status, error)`` at every change.
        on_request: called with an ``Exchange`` at the end of every request.
        on_certificate: of a passthrough tunnel: called with ``(ends, error)`` at every renewal; with an error
            the one that ends then could not be renewed. All three are called in the listener's loop and
            must not block.
        on_pending_removal: what to do with a tunnel that is being removed: ``restore`` it, or ``error``.
        print_secret: show a new tunnel's connect secret once, on stderr.
        drain_seconds: how long running requests may finish at ``close``.
        carrier: how the connection with the edge is used: ``mux`` (native), ``h2`` (HTTP/2, for an edge that
            has nothing else), or ``auto``: both are offered, and the edge chooses.
        intake: limits on the ``h2`` carrier.
        limits, times: deadlines and limits towards the upstream and the edge.

    Raises:
        InputError, SettingsError, LocalStateError: something on this machine has to be put right.
        ApiError: the control plane says no.
        RefusedError: the edge says no, for good.
        DialError, TrustError: the server cannot be reached, or is not who it should be.
    """
    return _in_thread(Options(forward_to, **options))


async def connect_async(forward_to: ForwardTo, **options: Unpack[ConnectOptions]) -> TunnelListener:
    """As ``connect``, in the running loop: driven by ``serve_forever`` and ``aclose``."""
    return await _open(Options(forward_to, **options))


@dataclass(frozen=True, slots=True)
class _Target:
    """Whom to dial, for which tunnel, and what to show there: the best credential first."""

    server: Connection
    name: str
    tunnel: Tunnel | None
    state: TunnelState
    credentials: list[Secret]


async def _open(options: Options) -> TunnelListener:
    upstream = forwarding(options)
    pool = upstream.make()  # what is wrong with the upstream's options shows before anything is created
    try:
        await upstream.start()
        return await _listen(options, upstream, pool)
    except BaseException:
        await upstream.stop()
        raise


async def _listen(options: Options, upstream: Forwarding, pool: Upstream) -> TunnelListener:
    target = await _find(options, upstream)
    upstream.told.append(target.name)
    certified = await _certified(options, target, upstream)
    for number, credential in enumerate(target.credentials, 1):
        ending = None if certified is None else certified.ending(pool)
        listener = TunnelListener(
            _plan(options, target, upstream, credential), pool, options.on_status, ending
        )
        try:
            await listener.settled()
        except SecretRejected:
            if number == len(target.credentials):
                raise
            pool = upstream.make()  # a secret that was rotated meanwhile: the key still opens the door
            continue
        except BaseException:
            await listener.abandon()
            raise
        listener.at_end(upstream.stop)
        if number > 1 and target.tunnel is not None:
            await asyncio.to_thread(target.state.save, target.server.url, Kept(target.tunnel.id))
        return listener
    raise SettingsError(f"no connect secret and no API key is known for tunnel {target.name}")


def _plan(options: Options, target: _Target, upstream: Forwarding, credential: Secret) -> Plan:
    server, tunnel = target.server, target.tunnel
    base = urlsplit(server.url)
    host, port = base.hostname or "", base.port or 443
    urls = [f"https://{host}"]
    if tunnel is not None:
        host = tunnel.zone or host
        urls = tunnel.public_urls or [f"https://{tunnel.public_host}"]
    if base.scheme == "http":  # the plain door of this machine: agents use the other one
        port = urlsplit(urls[0]).port or 443
    badge = Badge(
        zone=host if port == 443 else authority(host, port),
        tunnel=str(tunnel.id) if tunnel is not None else target.name,
        public_host=urlsplit(urls[0]).netloc,
        credential=credential,
        process=_PROCESS,
        own_certificate=upstream.raw,
    )
    return Plan(
        tunnel=tunnel,
        edge=EdgeAddress(host, port, client_context(ca_file=server.ca_file, alpn=alpn_of(options.carrier))),
        carriers=offer(options.carrier, badge, options.intake),
        public_urls=tuple(urls),
        times=options.times,
        drain_seconds=options.drain_seconds,
    )


# The record


async def _find(options: Options, upstream: Forwarding) -> _Target:
    """Everything that has to be known before the edge is dialled; creates what is missing."""
    profile = await asyncio.to_thread(Profile.load, as_path(options.state_dir))
    given = as_secret(options.secret) or as_secret(os.environ.get("WELLHEAD_TUNNEL_SECRET"))
    server, has_key = _server(options, profile, given)
    remembered = profile.names.get(upstream.label)
    name = options.name or remembered or suggest()
    state = TunnelState(profile.home, name)
    kept = await asyncio.to_thread(state.load, server.url)
    if not has_key:
        assert given is not None
        return _Target(server, name, None, state, [given])

    tunnel, fresh = await _record(options, server, name, state, _mode(options, upstream))
    if fresh is not None and options.print_secret:
        _show(name, fresh)
    if options.name is None and remembered is None:
        await asyncio.to_thread(profile.with_name(upstream.label, name).save)
    stored = kept.connect_secret if kept is not None and kept.tunnel_id == tunnel.id else None
    candidates = [given or fresh or stored, server.api_key]
    return _Target(server, name, tunnel, state, [secret for secret in candidates if secret])


def _server(options: Options, profile: Profile, given: Secret | None) -> tuple[Connection, bool]:
    """The server, and whether there is a key for its API; a connect secret alone is enough to dial."""
    key, ca_file = as_secret(options.api_key), as_path(options.ca_file)
    try:
        return profile.resolve(options.url, key, ca_file), True
    except SettingsError:
        if given is None or key is not None:
            raise
        return profile.resolve(options.url, Secret(""), ca_file), False


def _mode(options: Options, upstream: Forwarding) -> TlsMode | None:
    """The mode that the tunnel must have; None: the one that it has.

    Raises:
        InputError: the upstream and the options do not go together.
    """
    if not upstream.raw:
        return None if options.tls_mode is None else TlsMode(options.tls_mode)
    if options.tls_mode == "edge":
        raise InputError(f"upstream {upstream.label} ends visitors' TLS itself: tls_mode must be passthrough")
    return TlsMode.PASSTHROUGH


async def _record(
    options: Options, server: Connection, name: str, state: TunnelState, mode: TlsMode | None
) -> tuple[Tunnel, Secret | None]:
    """The tunnel's record, and its connect secret where it was created just now."""
    client = AsyncClient(server.url, server.api_key, ca_file=server.ca_file)
    try:
        tunnel = await client.tunnels.find(name)
        if tunnel is None:
            # A lost answer is asked for again: the tunnel is made once, and the lost secret is dead.
            created = await client.tunnels.create(
                name, tls_mode=mode or TlsMode.EDGE, idempotency_key=secrets.token_urlsafe(16)
            )
            # At once: the server does not show this secret a second time.
            kept = Kept(created.tunnel.id, created.connect_secret)
            await asyncio.to_thread(state.save, server.url, kept)
            return created.tunnel, created.connect_secret
        if mode is not None and tunnel.tls_mode is not mode:
            raise InputError(
                f"tunnel {name} has tls_mode {tunnel.tls_mode.value}, not {mode.value}, and keeps it:"
                " take another name, or delete it first"
            )
        if tunnel.status is TunnelStatus.PENDING_REMOVAL:
            if options.on_pending_removal == "error":
                raise TunnelRemoved(
                    f"tunnel {name} is being removed; on_pending_removal=restore takes it back"
                )
            tunnel = await client.tunnels.restore(tunnel.id)
        return tunnel, None
    finally:
        await client.aclose()


def _show(name: str, secret: Secret) -> None:
    text = f"connect secret of tunnel {name}, shown this once: {secret.reveal()}"
    print(text, file=sys.stderr, flush=True)


# The certificate


@dataclass(frozen=True, slots=True)
class _Certified:
    """A passthrough tunnel's certificate, and who keeps it fresh."""

    hostname: str
    name: str
    renewal: Renewal
    pair: KeyPair

    def ending(self, pool: Upstream) -> TlsEnd:
        return TlsEnd(Passthrough(self.hostname, self.name, self.pair.context(ALPN), pool), self.renewal)


async def _certified(options: Options, target: _Target, upstream: Forwarding) -> _Certified | None:
    """What visitors' TLS ends with here; None where it ends elsewhere."""
    tunnel = target.tunnel
    if upstream.raw:
        return None
    if tunnel is None:
        if options.tls_mode == "passthrough":
            raise SettingsError(
                "a passthrough tunnel needs an API key: its certificate is signed through the API"
            )
        return None
    if tunnel.tls_mode is not TlsMode.PASSTHROUGH:
        return None
    hostname = split_authority(tunnel.public_host)[0]
    files = CertificateFiles(target.state.home, target.name, hostname)
    issuing = Issuing(target.server, tunnel.id)
    renewal = Renewal(files, issuing.sign, issuing.look, on_certificate=options.on_certificate)
    pair = await renewal.first(fresh=tunnel.status is TunnelStatus.AWAITING_CERT)
    return _Certified(hostname, target.name, renewal, pair)


# The thread of ``connect``


def _in_thread(options: Options) -> TunnelListener:
    opened: Future[TunnelListener] = Future()
    work = _ThreadedListener(options, opened)
    thread = threading.Thread(target=work.run, name="wellhead", daemon=True)
    work.thread = thread
    thread.start()
    try:
        return opened.result()
    except BaseException:
        work.cancel()  # Ctrl-C while we connect
        thread.join()
        raise


class _ThreadedListener:
    """Runs a listener's loop from its making to its end."""

    def __init__(self, options: Options, opened: Future[TunnelListener]) -> None:
        self.thread: threading.Thread | None = None
        self._options = options
        self._opened = opened
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def run(self) -> None:
        with asyncio.Runner(loop_factory=net_loop.loop_factory()) as runner:
            try:
                runner.run(self._main())
            except asyncio.CancelledError:
                pass
            finally:
                if not self._opened.done():
                    self._opened.set_exception(InputError("connect was cancelled"))

    def cancel(self) -> None:
        loop, task = self._loop, self._task
        if loop is not None and task is not None and not loop.is_closed():
            loop.call_soon_threadsafe(task.cancel)

    async def _main(self) -> None:
        assert self.thread is not None
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        try:
            listener = await _open(self._options)
        except Exception as error:
            self._opened.set_exception(error)
            return
        listener.in_thread(self.thread)
        self._opened.set_result(listener)
        await listener.ended()
