"""Dialling out: names, addresses that race, proxies and TLS.

What the system refuses becomes an error of ours here, with the address in it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar, cast

from wellhead.errors import DialError, ProtocolNotOffered, TrustError
from wellhead.model.names import is_loopback
from wellhead.net import resolver
from wellhead.net.distrust import certificate_flaw
from wellhead.net.proxy import open_tunnel, proxy_for
from wellhead.net.socket_options import (
    CARRIER_LOWAT_BYTES,
    NOTSENT_LOWAT_BYTES,
    USER_TIMEOUT_SECONDS,
    tune,
)
from wellhead.net.sockets import Address, authority, is_ip, why
from wellhead.net.tls import CARRIER_BUFFER_BYTES, connect_tls

P = TypeVar("P", bound=asyncio.BaseProtocol)

ATTEMPT_DELAY_SECONDS: Final = 0.25  # RFC 8305 section 5, "Connection Attempt Delay"


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
    if is_ip(host, 4) or is_ip(host.partition("%")[0], 6):
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
    await connected(sock, address)
    return sock


async def connected(sock: socket.socket, address: Address) -> None:
    """Connect a socket, which becomes a non-blocking one; closed where that fails.

    Raises:
        OSError: as the kernel says.
    """
    try:
        sock.setblocking(False)
        if not _connects_at_once(sock, address):
            await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise


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
