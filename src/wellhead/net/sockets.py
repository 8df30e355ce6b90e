"""Sockets: addresses, and listening. Dialling is in ``net.dialling``, options are in ``net.socket_options``.

What the system refuses becomes an error of ours here, with the address in it.
"""

from __future__ import annotations

import errno
import functools
import ipaddress
import os
import socket
from collections.abc import Sequence
from typing import Final, NamedTuple

from wellhead.errors import InputError, SettingsError

BACKLOG: Final = 4096  # connections; with asyncio's 100, a thousand agents that return at once lose SYNs

_TRIES_FOR_A_COMMON_PORT: Final = 32
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
        if not is_ip(host, 6):
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


@functools.lru_cache(1024)  # asked for each connection to an upstream
def is_ip(text: str, version: int) -> bool:
    """Whether it is an IP address of this version."""
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False
