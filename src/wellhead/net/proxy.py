"""HTTP proxies on an agent's way out: which one the environment asks for, and CONNECT through it."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

from wellhead.errors import DialError, SettingsError

VARIABLES: Final = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
MAX_REPLY_BYTES: Final = 16 * 1024

_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?\r?\n")


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where a proxy listens, and what it is told of us: a ``Basic`` credential or nothing."""

    host: str
    port: int
    authorization: bytes = field(default=b"", repr=False)


def proxy_for(host: str, port: int, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy that ``HTTPS_PROXY`` or ``ALL_PROXY`` names for a destination, or None.

    ``NO_PROXY`` lists exceptions: names with everything under them, addresses, networks, each perhaps with
    ``:port``; ``*`` is all. Lower-case variables win, as with curl.

    Raises:
        SettingsError: the variable is not an ``http://`` URL.
    """
    name = next((name for name in VARIABLES if environ.get(name)), None)
    if name is None or _excepted(host, port, environ.get("no_proxy") or environ.get("NO_PROXY") or ""):
        return None
    return _parse(name, environ[name])


def _parse(variable: str, value: str) -> Proxy:
    # The value may hold a password, so no message repeats it.
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        port = parts.port
    except ValueError as error:
        raise SettingsError(f"{variable} is not a URL") from error
    if parts.scheme != "http":
        raise SettingsError(f"{variable} must be an http:// URL, not {parts.scheme}://")
    if not parts.hostname or not parts.hostname.isprintable() or " " in parts.hostname:
        raise SettingsError(f"{variable} names no host")
    authorization = b""
    if parts.username is not None:
        user, password = unquote_to_bytes(parts.username), unquote_to_bytes(parts.password or "")
        authorization = b"Basic " + base64.b64encode(user + b":" + password)
    return Proxy(parts.hostname, port if port is not None else 80, authorization)


def _excepted(host: str, port: int, exceptions: str) -> bool:
    name = host.lower().removesuffix(".")
    for entry in re.split(r"[,\s]+", exceptions.lower()):
        entry, only = _split_port(entry)
        if not entry or (only is not None and only != port):
            continue
        if entry == "*" or _in_network(name, entry):
            return True
        domain = entry.removeprefix("*").removeprefix(".").removesuffix(".")
        if domain and (name == domain or name.endswith("." + domain)):
            return True
    return False


def _split_port(entry: str) -> tuple[str, int | None]:
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::([0-9]{1,5}))?", entry)
    if bracketed:
        return bracketed[1], int(bracketed[2]) if bracketed[2] else None
    host, colon, port = entry.rpartition(":")
    if colon and ":" not in host and re.fullmatch("[0-9]{1,5}", port):
        return host, int(port)
    return entry, None


def _in_network(host: str, entry: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False


async def open_tunnel(sock: socket.socket, proxy: Proxy, authority: str) -> None:
    """Ask a proxy, on a connection to it, for a connection to ``authority`` (``host:port``).

    Raises:
        DialError: it refused, or answered something else than HTTP.
        OSError: the connection to it broke.
    """
    loop = asyncio.get_running_loop()
    where = f"proxy {proxy.host}:{proxy.port}"
    lines = [b"CONNECT %b HTTP/1.1" % authority.encode(), b"Host: %b" % authority.encode()]
    if proxy.authorization:
        lines.append(b"Proxy-Authorization: " + proxy.authorization)
    await loop.sock_sendall(sock, b"\r\n".join(lines) + b"\r\n\r\n")
    reply = bytearray()
    while (end := _head_end(reply)) < 0:
        if len(reply) > MAX_REPLY_BYTES:
            raise DialError(f"{where}: reply head of more than {MAX_REPLY_BYTES} bytes")
        piece = await loop.sock_recv(sock, 4096)
        if not piece:
            raise DialError(f"{where}: closed the connection without an answer")
        reply += piece
    status = _STATUS.match(reply)
    if status is None:
        raise DialError(f"{where}: did not answer in HTTP")
    code = int(status[1])
    if code == 407:
        raise DialError(f"{where}: wants a user and password it accepts (407)")
    if not 200 <= code < 300:
        raise DialError(f"{where}: refused a connection to {authority} ({code})")
    if len(reply) > end:
        raise DialError(f"{where}: sent bytes that are not its own before TLS began")


def _head_end(reply: bytearray) -> int:
    found = re.search(rb"\r?\n\r?\n", reply)
    return found.end() if found else -1
