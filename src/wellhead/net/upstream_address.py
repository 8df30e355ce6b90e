"""Where an agent forwards to, as a user writes it.

::

    8000                      http to localhost, 127.0.0.1 first, then ::1
    app.internal:8000         http to that host
    http://localhost:8000/    the same, spelled out
    https://10.0.0.7          TLS, checked against the upstream's name
    unix:/run/app.sock        http over a unix socket
    h2c://localhost:50051     HTTP/2 without TLS, as gRPC servers speak it
    h2c:/run/app.sock         HTTP/2 over a unix socket
    tls://localhost:9443      the visitors' TLS itself, which ends there: for a passthrough tunnel
    tls:/run/app.sock         the same over a unix socket

Over TLS HTTP/2 is spoken where the upstream offers it (ALPN). A path behind the authority is refused:
targets are forwarded byte for byte, there is no prefix.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from wellhead.errors import InputError
from wellhead.model.names import join_authority

DEFAULT_PORTS = {"http": 80, "h2c": 80, "https": 443, "tls": 443}
_HOSTNAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,253}[A-Za-z0-9_.])?")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9_.-]{1,16})?")


class UpstreamHttp(enum.Enum):
    """Which version of HTTP an upstream is spoken to in."""

    AUTO = "auto"  # HTTP/2 where TLS agrees on it, else HTTP/1.1
    HTTP1 = "1.1"
    HTTP2 = "2"  # without TLS by prior knowledge (RFC 9113 section 3.3)


@dataclass(frozen=True, slots=True)
class UpstreamAddress:
    """A checked address. ``path`` is set for a unix socket, ``host`` and ``port`` for all others."""

    tls: bool
    host: str  # lower case, without brackets; empty for a unix socket
    port: int  # 0 for a unix socket
    path: str  # empty unless a unix socket
    http: UpstreamHttp = UpstreamHttp.AUTO
    raw: bool = False  # it ends the visitors' TLS: bytes are handed on as they come

    @property
    def may_speak_h2(self) -> bool:
        return self.http is UpstreamHttp.HTTP2 or (self.tls and self.http is UpstreamHttp.AUTO)

    @property
    def authority(self) -> bytes:
        """What ``Host`` says under the policy ``rewrite``: without a default port."""
        if self.path:
            return b"localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = DEFAULT_PORTS["https" if self.tls else "http"]
        return (host if self.port == default else f"{host}:{self.port}").encode()

    @property
    def origin(self) -> bytes:
        """``scheme://authority``, as ``Origin`` has it."""
        return (b"https://" if self.tls else b"http://") + self.authority

    def __str__(self) -> str:
        if self.raw:
            return f"tls:{self.path}" if self.path else f"tls://{join_authority(self.host, self.port)}"
        if self.tls:
            return self.origin.decode()
        h2 = self.http is UpstreamHttp.HTTP2
        if self.path:
            return f"{'h2c' if h2 else 'unix'}:{self.path}"
        return f"{'h2c' if h2 else 'http'}://{self.authority.decode()}"


def parse_upstream(text: str | int, http: str = "auto") -> UpstreamAddress:
    """Read an address; ``http`` is the version to speak: ``auto``, ``1.1`` or ``2``.

    Raises:
        InputError: not one of the forms above, or not one of the versions.
    """
    address = _parse(str(text).strip())
    try:
        version = UpstreamHttp(http)
    except ValueError:
        raise InputError(f"upstream http must be auto, 1.1 or 2, not {_shown(http)}") from None
    if version is UpstreamHttp.AUTO:
        return address
    if address.raw:
        raise InputError(f"upstream {_shown(str(text))} is handed bytes as they are, not HTTP {http}")
    if version is not address.http is UpstreamHttp.HTTP2:
        raise InputError(f"upstream {_shown(str(text))} speaks HTTP/2, but upstream http is {http}")
    return replace(address, http=version)


def _parse(written: str) -> UpstreamAddress:
    if written.startswith("unix:"):
        return _unix(written, "unix:")
    if match := re.match(r"(h2c:|tls:)(?:/[^/]|///)", written):
        unix = _unix(written, match[1])
        return replace(unix, raw=True) if match[1] == "tls:" else replace(unix, http=UpstreamHttp.HTTP2)
    if written.isascii() and written.isdigit():
        return UpstreamAddress(tls=False, host="localhost", port=_port(written, written), path="")
    scheme, separator, rest = written.partition("://")
    if not separator:
        scheme, rest = "http", written
        if ":" not in rest:
            raise InputError(f"upstream {_shown(written)} has no port: write HOST:PORT, PORT or a URL")
    scheme = scheme.lower()
    if scheme not in DEFAULT_PORTS:
        raise InputError(f"upstream scheme must be http, https, h2c, tls or unix, not {_shown(scheme)}")
    return _network(scheme, rest, written)


def _unix(written: str, scheme: str) -> UpstreamAddress:
    path = written.removeprefix(scheme)
    if path.startswith("//"):
        path = path.removeprefix("//")
    if not path.startswith("/") or "\0" in path:
        raise InputError(
            f"a unix upstream needs an absolute path, as in {scheme}/run/app.sock, not {_shown(written)}"
        )
    if len(path.encode()) > 107:
        raise InputError(f"unix socket path of {len(path.encode())} bytes, at most 107 allowed")
    return UpstreamAddress(tls=False, host="", port=0, path=path)


def _network(scheme: str, rest: str, written: str) -> UpstreamAddress:
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        host = parts.hostname or ""
    except ValueError as error:
        raise InputError(f"upstream {_shown(written)}: {error}") from error
    try:
        port = parts.port
    except ValueError as error:
        raise InputError(f"upstream {_shown(written)}: port must be 1..65535") from error
    if parts.username is not None or parts.password is not None:
        raise InputError("an upstream address must not carry a user name or password")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise InputError(f"upstream {_shown(written)} must not have a path: targets are forwarded unchanged")
    if not (_IPV6.fullmatch(host) if ":" in host else _HOSTNAME.fullmatch(host)):
        raise InputError(f"upstream {_shown(written)} has no valid host")
    number = DEFAULT_PORTS[scheme] if port is None else _port(str(port), written)
    version = UpstreamHttp.HTTP2 if scheme == "h2c" else UpstreamHttp.AUTO
    return UpstreamAddress(
        tls=scheme == "https", host=host.lower(), port=number, path="", http=version, raw=scheme == "tls"
    )


def _port(text: str, written: str) -> int:
    number = int(text) if len(text) <= 5 else 65536
    if not 0 < number < 65536:
        raise InputError(f"upstream {_shown(written)}: port must be 1..65535")
    return number


def _shown(text: str) -> str:
    """For a message: printable, and not longer than a line."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")
