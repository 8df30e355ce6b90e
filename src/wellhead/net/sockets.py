"""Sockets: addresses, listening, socket options, and dialling out.

What the system refuses becomes an error of ours here, with the address in it.
"""

from __future__ import annotations

import asyncio
import asyncio.trsock
import contextlib
import errno
import functools
import ipaddress
import os
import socket
import ssl
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar, cast

from wellhead.errors import DialError, InputError, ProtocolNotOffered, SettingsError, TrustError
from wellhead.model.names import is_loopback
from wellhead.net import resolver
from wellhead.net.distrust import certificate_flaw
from wellhead.net.proxy import open_tunnel, proxy_for
from wellhead.net.tls import CARRIER_BUFFER_BYTES, connect_tls

if sys.platform == "linux":
    import fcntl

P = TypeVar("P", bound=asyncio.BaseProtocol)

BACKLOG: Final = 4096  # connections; with asyncio's 100, a thousand agents that return at once lose SYNs
USER_TIMEOUT_SECONDS: Final = 15.0
KEEPALIVE_SECONDS: Final = 60
# Unsent bytes that the kernel takes from us. What waits there can no longer be overtaken: with 16 KiB, on a
# link of 20 MB/s, a keystroke beside four downloads took 42 ms instead of 216 ms without a bound.
NOTSENT_LOWAT_BYTES: Final = 128 * 1024
CARRIER_LOWAT_BYTES: Final = 16 * 1024
ATTEMPT_DELAY_SECONDS: Final = 0.25  # RFC 8305 section 5, "Connection Attempt Delay"

_TRIES_FOR_A_COMMON_PORT: Final = 32
_LINGER_NOT: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time at all
_SIOCOUTQNSD: Final = 0x894B
_SIOCOUTQ: Final = 0x5411
_NO_SUCH_FAMILY: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})


class Address(NamedTuple):
    host: str  # a name or an IP address without brackets
    port: int

    def __str__(self) -> str:
        return authority(self.host, self.port)


def authority(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_address(text: str) -> Address:
    """Read ``host:port``, ``[ipv6]:port`` or a port alone, which means 127.0.0.1.

    Raises:
        InputError: anything else, or a port outside 0..65535.
    """
    host, colon, port = text.rpartition(":")
    if not colon:
        host = "127.0.0.1"
    elif host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not _is_ip(host, 6):
            raise InputError(f"{text!r} has no IPv6 address between its brackets")
    elif not host or ":" in host or any(c.isspace() or c in "/@[]" for c in host):
        raise InputError(f"{text!r} is not an address: expected host:port, [ipv6]:port or a port")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65536):
        raise InputError(f"{text!r} has no port from 0 to 65535")
    return Address(host, int(port))


def why(error: OSError) -> str:
    """The system's words for an error, without the address that event loops put into theirs."""
    if isinstance(error, socket.gaierror) or error.errno is None:
        return (error.strerror or str(error) or "connection lost").lower()
    return os.strerror(error.errno).lower()


def listen(host: str, port: int, *, backlog: int = BACKLOG) -> list[socket.socket]:
    """Listening, non-blocking sockets for an address; the caller owns them. See ``bind``.

    Raises:
        SettingsError: the address cannot be listened on; says why.
    """
    sockets = bind(host, port)
    try:
        begin_listening(sockets, backlog=backlog)
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def begin_listening(sockets: Sequence[socket.socket], *, backlog: int = BACKLOG) -> None:
    """From now on connections to bound sockets are taken.

    Raises:
        SettingsError: somebody else has come to listen there meanwhile.
    """
    for sock in sockets:
        try:
            sock.listen(backlog)
        except OSError as error:
            where = authority(*sock.getsockname()[:2])
            raise SettingsError(f"cannot listen on {where}: {why(error)}") from error


def bind(host: str, port: int) -> list[socket.socket]:
    """Non-blocking sockets that have an address but do not listen yet: connections to it are refused.

    A loopback host has 127.0.0.1 and ::1 alike, ``*`` and ``::`` every address of both families;
    a family this machine lacks is left out. With port 0 one free port is chosen for all of them.

    Raises:
        SettingsError: the address cannot be listened on; says why.
    """
    hosts = _listening_hosts(host)
    for attempt in range(_TRIES_FOR_A_COMMON_PORT):
        try:
            return _bind_all(hosts, port)
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            if not (taken and port == 0 and attempt + 1 < _TRIES_FOR_A_COMMON_PORT):
                raise SettingsError(f"cannot listen on {authority(host, port)}: {why(error)}") from error
    raise AssertionError("unreachable")


def _listening_hosts(host: str) -> tuple[str, ...]:
    if host in ("*", "", "::"):
        return ("0.0.0.0", "::")
    if host == "::1" or host == "127.0.0.1" or host.lower() == "localhost":
        return ("127.0.0.1", "::1")
    return (host,)


def _bind_all(hosts: Sequence[str], port: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for host in hosts:
            try:
                sockets.append(_bind_one(host, port))
            except OSError as error:
                if error.errno not in _NO_SUCH_FAMILY or len(hosts) == 1:
                    raise
                missing = error
                continue
            port = sockets[-1].getsockname()[1]
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    if not sockets and missing is not None:
        raise missing
    return sockets


def _bind_one(host: str, port: int) -> socket.socket:
    family, kind, proto, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Otherwise IPv4 visitors would show up as ::ffff:192.0.2.1.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


def tune(
    sock: socket.socket | asyncio.trsock.TransportSocket,
    *,
    user_timeout_seconds: float = USER_TIMEOUT_SECONDS,
    notsent_lowat_bytes: int = NOTSENT_LOWAT_BYTES,
) -> None:
    """Set a TCP connection's options; on a socket of another kind (unix) it does nothing.

    ``user_timeout_seconds`` is how long bytes may stay unacknowledged *or unread*: Linux ends a
    connection whose peer announces no window for so long as well. So it must be longer than a slow
    reader is given; the default is for carriers, whose readers never wait.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with contextlib.suppress(OSError):  # the peer may be gone already: the first read will tell
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            ("TCP_KEEPIDLE", KEEPALIVE_SECONDS),
            ("TCP_KEEPINTVL", 15),
            ("TCP_KEEPCNT", 4),
            ("TCP_USER_TIMEOUT", int(user_timeout_seconds * 1000)),
            ("TCP_NOTSENT_LOWAT", notsent_lowat_bytes),
        ):
            option = getattr(socket, name, None)
            if option is not None:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)


def reset_on_close(transport: asyncio.BaseTransport) -> None:
    """Let the end of a connection be an RST, with which the kernel forgets what the peer has not read.

    Else it goes on to hold it for a peer that takes a few bytes now and then, for as long as that likes.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):  # the peer may be gone already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)


def unsent(transport: asyncio.BaseTransport) -> int:
    """Bytes that the kernel has of a connection and has not sent yet; 0 where it does not tell.

    Source: linux/sockios.h, SIOCOUTQNSD
    """
    return _asked(transport, _SIOCOUTQNSD) or 0


def unacknowledged(transport: asyncio.BaseTransport) -> int | None:
    """Bytes that the peer's kernel has not acknowledged; None where ours does not tell.

    Source: tcp(7), SIOCOUTQ
    """
    return _asked(transport, _SIOCOUTQ)


def _asked(transport: asyncio.BaseTransport, question: int) -> int | None:
    sock = transport.get_extra_info("socket")
    if sock is None or sys.platform != "linux":
        return None
    try:
        return int.from_bytes(fcntl.ioctl(sock.fileno(), question, bytes(4)), sys.byteorder)
    except (OSError, ValueError):  # closed
        return None


async def dial(
    host: str,
    port: int,
    *,
    timeout_seconds: float,
    user_timeout_seconds: float = USER_TIMEOUT_SECONDS,
    notsent_lowat_bytes: int = NOTSENT_LOWAT_BYTES,
) -> socket.socket:
    """A connected, non-blocking TCP socket, with ``tune``'s options; the caller owns it.

    Addresses are tried in turn, a new one every 250 ms (RFC 8305); loopback names are not looked up in DNS.
    ``timeout_seconds`` covers name and connection.

    Raises:
        DialError: the name has no address, nobody answered, or not in time.
    """
    where = authority(host, port)
    try:
        async with asyncio.timeout(timeout_seconds):
            addresses = await resolve(host, port)
            sock = await connect_first(addresses)
    except TimeoutError as error:
        raise DialError(f"{where}: no connection within {timeout_seconds:g} s") from error
    except OSError as error:
        raise DialError(f"{where}: {why(error)}") from error
    tune(sock, user_timeout_seconds=user_timeout_seconds, notsent_lowat_bytes=notsent_lowat_bytes)
    return sock


async def dial_tls(
    host: str,
    port: int,
    *,
    context: ssl.SSLContext,
    protocol_factory: Callable[[], P],
    server_hostname: str | None = None,
    alpn: str | None = None,
    timeout_seconds: float = 10.0,
    environ: Mapping[str, str] | None = None,
) -> tuple[asyncio.Transport, P]:
    """A TLS connection to ``host:port``, directly or through the proxy that the environment names.

    The protocol is made and connected once the certificate was verified for ``server_hostname`` (default:
    ``host``) and the other side agreed to speak ``alpn``, so that no secret is sent before. Loopback is
    never proxied. ``timeout_seconds`` covers all of it; ``environ`` defaults to the process's.

    Raises:
        DialError: nobody there, not in time, no TLS, or the proxy refused.
        ProtocolNotOffered: the other side speaks another protocol.
        TrustError: the certificate is not trusted, or is not for this name.
        SettingsError: a proxy variable is malformed.
    """
    factories = {alpn: protocol_factory} if alpn is not None else None
    usher = _Agreed(factories or {}, protocol_factory if factories is None else None)
    transport = await _dial_tls(host, port, context, usher, server_hostname, timeout_seconds, environ)
    return transport, cast(P, transport.get_protocol())


async def dial_agreed(
    host: str,
    port: int,
    *,
    context: ssl.SSLContext,
    factories: Mapping[str, Callable[[], asyncio.BaseProtocol]],
    timeout_seconds: float = 10.0,
) -> None:
    """As ``dial_tls``, with whichever of the protocols of ``factories`` the other side chose."""
    await _dial_tls(host, port, context, _Agreed(factories), None, timeout_seconds, None)


async def _dial_tls(
    host: str,
    port: int,
    context: ssl.SSLContext,
    usher: _Agreed,
    server_hostname: str | None,
    timeout_seconds: float,
    environ: Mapping[str, str] | None,
) -> asyncio.Transport:
    where = authority(host, port)
    name = server_hostname or host
    proxy = None if is_loopback(host) else proxy_for(host, port, os.environ if environ is None else environ)
    try:
        async with asyncio.timeout(timeout_seconds):
            first = Address(host, port) if proxy is None else Address(proxy.host, proxy.port)
            sock = await dial(
                first.host,
                first.port,
                timeout_seconds=timeout_seconds,
                notsent_lowat_bytes=CARRIER_LOWAT_BYTES,
            )
            try:
                if proxy is not None:
                    await open_tunnel(sock, proxy, where)
            except BaseException:
                sock.close()
                raise
            transport, _ = await connect_tls(
                sock,
                context,
                lambda: usher,
                server_hostname=name,
                handshake_seconds=timeout_seconds + 1,
                buffer_bytes=CARRIER_BUFFER_BYTES,
            )
    except TimeoutError as error:
        raise DialError(f"{where}: no TLS connection within {timeout_seconds:g} s") from error
    except ssl.SSLCertVerificationError as error:
        raise _distrust(error, where, name, context) from error
    except ssl.SSLError as error:
        if usher.wanted and "NO_APPLICATION_PROTOCOL" in (error.reason or ""):
            raise ProtocolNotOffered(f"{where}: does not speak {usher.wanted}") from error
        raise DialError(f"{where}: {_tls_trouble(error)}") from error
    except OSError as error:
        raise DialError(f"{where}: {why(error)} during the TLS handshake") from error
    if usher.refusal:
        raise ProtocolNotOffered(f"{where}: {usher.refusal}")
    return transport


class _Agreed(asyncio.Protocol):
    """Lets the real protocol in once the other side has agreed to speak it; ``otherwise`` speaks any."""

    def __init__(
        self,
        factories: Mapping[str, Callable[[], asyncio.BaseProtocol]],
        otherwise: Callable[[], asyncio.BaseProtocol] | None = None,
    ) -> None:
        self._factories = factories
        self._otherwise = otherwise
        self.wanted = " or ".join(factories)
        self.refusal = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)
        spoken = stream.get_extra_info("ssl_object").selected_alpn_protocol()
        factory = self._factories.get(spoken, self._otherwise)
        if factory is None:
            self.refusal = f"does not speak {self.wanted} ({spoken or 'no protocol'} was agreed)"
            stream.abort()
            return
        protocol = factory()
        stream.set_protocol(protocol)
        protocol.connection_made(stream)


def _distrust(
    error: ssl.SSLCertVerificationError, where: str, name: str, context: ssl.SSLContext
) -> TrustError:
    if flaw := certificate_flaw(error, name):
        return TrustError(f"{where}: its certificate {flaw}", issuer_known=True)
    trusts = getattr(context, "trusts", "the context given")
    return TrustError(
        f"{where}: its certificate for {name} is not trusted: {error.verify_message} "
        f"(checked against {trusts})"
    )


def _tls_trouble(error: ssl.SSLError) -> str:
    reason = (error.reason or "").replace("_", " ").lower()
    if "alert" in reason or "unrecognized name" in reason:
        return f"the other side ended the TLS handshake: {reason}"
    return f"TLS handshake failed: {reason or 'the other side does not speak TLS'}"


async def resolve(host: str, port: int) -> list[Address]:
    """The IP addresses of a name, in the order to try them, families taking turns.

    Raises:
        DialError: the name does not exist or cannot be looked up now.
    """
    if _is_ip(host, 4) or _is_ip(host.partition("%")[0], 6):
        return [Address(host, port)]
    if is_loopback(host):
        return [Address("127.0.0.1", port), Address("::1", port)]
    return [Address(ip, port) for ip in await resolver.system.addresses(host)]


async def connect_first(addresses: Sequence[Address]) -> socket.socket:
    """Race connections, each starting when the one before failed or 250 ms passed."""
    if len(addresses) == 1:  # nobody to race with: a task less for each connection to an upstream
        return await _connect(addresses[0])
    waiting = list(reversed(addresses))
    running: set[asyncio.Task[socket.socket]] = set()
    failure: OSError = OSError("no address")
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(_connect(waiting.pop())))
            patience = ATTEMPT_DELAY_SECONDS if waiting else None
            done, running = await asyncio.wait(running, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                try:
                    winner = task.result()
                except OSError as error:
                    failure = error
                    continue
                for other in done - {task}:
                    if other.exception() is None:
                        other.result().close()
                return winner
        raise failure
    finally:
        await _discard(running)


async def _discard(tasks: set[asyncio.Task[socket.socket]]) -> None:
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, socket.socket):
            outcome.close()


async def _connect(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if not _connects_at_once(sock, address):
            await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _connects_at_once(sock: socket.socket, address: Address) -> bool:
    """Begin to connect; tell whether it is done.

    A listener on this machine has the connection before the first call returns. That call says "in progress"
    all the same, and a second one how it went: no wait for the loop.
    """
    for _ in range(2):
        try:
            sock.connect(address)
        except BlockingIOError:
            continue
        except OSError as error:
            if error.errno != errno.EISCONN:  # what other systems than Linux say to the second call
                raise
        return True
    return False


@functools.lru_cache(1024)  # asked for each connection to an upstream
def _is_ip(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False
