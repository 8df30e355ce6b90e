"""The path form: ports of sandboxes below one name, ``https://proxy.{domain}/{sandbox}/{port}/…``. Pure.

The application knows nothing of the prefix, so what it says about its own addresses is put below it, and what
a browser says of them is cut back. A value that has the prefix already stays: nothing is rewritten twice.

==================================  ==============================================================
of a request                        the target, ``Referer``, WebDAV's ``Destination``; and
                                    ``X-Forwarded-Prefix`` tells what was cut
of a reply                          ``Location``, ``Content-Location``, ``Refresh``, ``Link``,
                                    ``Path`` of cookies
root-relative, ``/x``               below the prefix
``http://localhost:{port}/x``       what the application takes for its address: the same
``https://proxy.{domain}/x``        what it was told is its address: the same, in full
relative, ``//host``, foreign       untouched
==================================  ==============================================================

Every reply gets ``Content-Security-Policy: sandbox``: all sandboxes share one origin here, so that no page of
theirs may have it. What a reply says about its whole origin is not one sandbox's to say, and is dropped:
where browsers report requests to, what they forget, how they connect.

Source: Clear Site Data, section 3; Network Error Logging, section 4; RFC 6797; RFC 7838; Client Hints
Infrastructure, section 2.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from wellhead.errors import InputError
from wellhead.model.ports import PortName, read_port
from wellhead.model.sandboxes import read_sandbox_id
from wellhead.wire.cookies import with_paths
from wellhead.wire.envelope import add_lines

PATH_LABEL = "proxy"  # of its name, the first

_target = re.compile(rb"/([^/?]*+)/([^/?]*+)([/?].*+)?", re.DOTALL).fullmatch
_absolute = re.compile(rb"(?:(https?):)?//([^/?#\\]*+)(.*+)", re.DOTALL | re.IGNORECASE).fullmatch
_about_itself = re.compile(rb"(\r\n(referer|destination):[\t ]*+)([^\r]*+)", re.IGNORECASE)
_addresses = re.compile(rb"(\r\n(location|content-location|refresh|link):[\t ]*+)([^\r]*+)", re.IGNORECASE)
# HTML, "shared declarative refresh steps": a time, perhaps "url =", perhaps a quote that ends the address.
_refresh = re.compile(
    rb"([\d.]++[\t ]*+[;,]?[\t ]*+(?:url[\t ]*+=[\t ]*+)?)(?:'([^']*+)|\"([^\"]*+)|([^'\"].*+))",
    re.IGNORECASE,
).match
_link = re.compile(rb'"(?:[^"\\]|\\.)*+"|<([^>]*+)>')
_of_origin = re.compile(
    rb"\r\n(?:accept-ch|alt-svc|clear-site-data|expect-ct|nel|public-key-pins(?:-report-only)?|report-to"
    rb"|set-login|strict-transport-security):[^\r]*+",
    re.IGNORECASE,
)
_DEFAULT_PORTS = {b"http": 80, b"https": 443}
_SANDBOX = b"Content-Security-Policy: sandbox\r\n"


class WrittenPath(NamedTuple):
    """What a target says, not judged yet. ``rest``: from behind the port on, byte for byte."""

    sandbox: bytes
    port: bytes
    rest: bytes

    def port_number(self) -> int:
        """
        Raises:
            InputError: no port.
        """
        return read_port(self.port.decode("latin-1"))

    def name(self) -> PortName:
        """
        Raises:
            InputError: no port, or no sandbox's id.
        """
        return PortName(self.port_number(), read_sandbox_id(self.sandbox.decode("latin-1")))


def read_path(target: bytes) -> WrittenPath | None:
    """What a target says; None: it names no port. Nothing in it is decoded, and no dot climbs."""
    found = _target(target)
    return None if found is None else WrittenPath(found[1], found[2], found[3] or b"")


class PathForm:
    """One port's addresses, within and without. ``origin``: of the name of the path form."""

    __slots__ = ("_internal", "_name", "_origin", "prefix")

    def __init__(self, name: PortName, origin: str) -> None:
        self.prefix = f"/{name.sandbox}/{name.port}".encode("ascii")
        self._name = name
        self._origin = origin.encode("ascii").lower()
        loopback = (b"localhost", b"127.0.0.1", b"[::1]", b"0.0.0.0")
        self._internal = frozenset(b"%b:%d" % (host, name.port) for host in loopback)

    def request_head(self, head: bytes) -> bytes:
        """A canonical request head whose target is cut already, as the application is to see it."""
        head = _about_itself.sub(lambda found: found[1] + self._cut(found[3]), head)
        return add_lines(head, b"X-Forwarded-Prefix: %b\r\n" % self.prefix)

    def reply_head(self, head: bytes) -> bytes:
        """A head of the application's, interim or final, as the visitor is to see it."""
        if not head.endswith(b"\r\n\r\n"):
            return head  # it is malformed, which is for its reader to say
        head = with_paths(_addresses.sub(self._rewritten, _of_origin.sub(b"", head)), self._path)
        return head[:-2] + _SANDBOX + b"\r\n"

    def _rewritten(self, found: re.Match[bytes]) -> bytes:
        name, value = found[2].lower(), found[3]
        if name == b"refresh":
            value = self._refreshed(value)
        elif name == b"link":
            value = _link.sub(self._linked, value)
        else:
            value = self.public(value.rstrip(b" \t"))
        return found[1] + value

    def _linked(self, found: re.Match[bytes]) -> bytes:
        return found[0] if found[1] is None else b"<%b>" % self.public(found[1])

    def _refreshed(self, value: bytes) -> bytes:
        found = _refresh(value)
        if found is None:
            return value
        group = next(each for each in (2, 3, 4) if found[each] is not None)
        start, end = found.span(group)
        return value[:start] + self.public(value[start:end].rstrip(b" \t")) + value[end:]

    def public(self, url: bytes) -> bytes:
        """An address that the application gives, as it is for visitors. It never leads to another host."""
        found = _absolute(url)
        if found is None:
            return self._below(url) if url.startswith(b"/") else url
        scheme, authority, rest = (found[1] or b"").lower(), found[2].lower(), found[3]
        if not rest.startswith(b"/"):
            rest = b"/" + rest
        if self._is_internal(scheme, authority):
            return self._below(rest)
        if scheme and scheme + b"://" + authority == self._origin:
            return self._origin + (rest if self._is_ours(rest) else self.prefix + rest)
        return url

    def _is_internal(self, scheme: bytes, authority: bytes) -> bool:
        if _DEFAULT_PORTS.get(scheme) == self._name.port:
            return b"%b:%d" % (authority, self._name.port) in self._internal or authority in self._internal
        return authority in self._internal

    def _path(self, path: bytes) -> bytes:
        """The path of a cookie; one that is none means where the cookie was set (RFC 6265 section 5.2.4)."""
        return self._below(path) if path.startswith(b"/") else path

    def _below(self, path: bytes) -> bytes:
        return path if self._is_below(path) else self.prefix + path

    def _is_below(self, path: bytes) -> bool:
        return path.startswith(self.prefix) and path[len(self.prefix) :][:1] in (b"", b"/", b"?", b"#")

    def _is_ours(self, path: bytes) -> bool:
        """Whether this is a path of the path form already, of whichever sandbox."""
        written = read_path(path)
        try:
            return written is not None and bool(written.name())
        except InputError:
            return False

    def _cut(self, url: bytes) -> bytes:
        """An address below the prefix, as it is for the application."""
        start = self._origin + self.prefix
        if url[: len(start)].lower() != start or not self._is_below(url[len(self._origin) :]):
            return url
        rest = url[len(start) :]
        return self._origin + (rest if rest.startswith(b"/") else b"/" + rest)
