"""The agent's view of a request: from the edge's envelope to the head for its upstream."""

from __future__ import annotations

import re
from typing import NamedTuple, Protocol

from wellhead.errors import HttpError, InputError
from wellhead.wire.fields import TCHAR
from wellhead.wire.hostname import read_authority

_envelope = re.compile(
    rb"([" + TCHAR + rb"]{1,32}+) (/[\x21\x22\x24-\x7e\x80-\xff]*+|\*) HTTP/1\.1\r\n"
    rb"Host: ([\x21-\x7e]{1,255}+)\r\n(?:Content-Length: ([0-9]{1,19}+)\r\n)?"
).match
_names_us = re.compile(rb"(\r\n(?:origin|referer|destination):[\t ]*)(https?://[^/\t\r ]++)", re.IGNORECASE)
_navigates = re.compile(rb"\r\nupgrade-insecure-requests:[\t ]*1", re.IGNORECASE).search
_CHANGES = (b"POST ", b"PUT ", b"PATCH ", b"DELETE ")
_FORWARDED_HOST = b"\r\nX-Forwarded-Host: "


class Envelope(NamedTuple):
    """A request as the edge hands it over."""

    method: bytes
    target: bytes
    host: bytes  # the visitor's authority
    content_length: int | None
    raw: bytes
    host_line: int  # index of "Host: " in raw
    rest: int  # index behind the Host line

    @property
    def expects_continue(self) -> bool:
        return b"\r\nExpect: 100-continue\r\n" in self.raw

    @property
    def peer(self) -> str:
        """The visitor's IP address, as whoever met the visitor wrote it; empty where it is not told."""
        # The last one: what is said of the visitor stands behind the visitor's own fields.
        _, found, rest = self.raw.rpartition(b"\r\nX-Forwarded-For: ")
        return rest.partition(b"\r\n")[0].decode("latin-1") if found else ""


def read_envelope(raw: bytes, *, slashes: bool = False) -> Envelope:
    """Read a canonical request head. Its fields were judged by the edge and are carried on as they are.

    ``slashes``: a target may begin with two of them. ``//name`` is another host to some upstreams.

    Raises:
        HttpError: 400: not canonical, or a target that is not ``*`` and does not begin with a slash, or
            with more than one where that is not allowed (C11).
    """
    match = _envelope(raw)
    if match is None or (raw.startswith(b"//", match.start(2)) and not slashes):
        raise HttpError(400, "envelope")
    if raw.find(b"\r\n\r\n") != len(raw) - 4:
        raise HttpError(400, "envelope")
    method, target, host, length = match.groups()
    host_line = match.start(3) - 6
    return Envelope(
        method, target, host, None if length is None else int(length), raw, host_line, match.end(3) + 2
    )


def add_lines(raw: bytes, lines: bytes) -> bytes:
    """A canonical head with field lines more, each ending in CRLF, before its last one: the request id."""
    at = raw.rfind(b"\r\n", 0, -4) + 2
    return raw[:at] + lines + raw[at:]


class Named(Protocol):
    """An upstream's address, as far as heads are concerned."""

    @property
    def authority(self) -> bytes:
        """``host[:port]``, without a default port."""

    @property
    def origin(self) -> bytes:
        """``scheme://authority``."""


class HostPolicy:
    """What an upstream is told about its own name.

    ``rewrite``: Host becomes the upstream's authority, and Origin, Referer and WebDAV's Destination
    (RFC 4918 section 10.3) become the upstream's where they equal the public origin, so that an
    application which compares them goes on doing so and still refuses forged ones. ``preserve``: the
    visitor's bytes. Any other value is sent as Host.

    ``one_name``: where the Origin of a POST, PUT, PATCH or DELETE becomes the upstream's, X-Forwarded-Host
    does too, for there are applications that compare the two (Server Actions of Next.js); but not when a
    browser opens a page, whose URLs are made of that name.

    Raises:
        InputError: the value is not an authority.
    """

    __slots__ = ("_host", "_one_name", "_origin")

    def __init__(self, host_header: str, upstream: Named, *, one_name: bool = False) -> None:
        self._host: bytes | None = None
        self._one_name = one_name
        self._origin = upstream.origin
        if host_header == "rewrite":
            self._host = upstream.authority
        elif host_header != "preserve":
            self._host = _checked(host_header)
            self._origin = upstream.origin.partition(b"://")[0] + b"://" + self._host

    def request_head(self, envelope: Envelope, *, chunked: bool = False, websocket: bool = False) -> bytes:
        """The request head for the upstream.

        ``chunked``: the body's length is unknown and there is one; ``websocket``: ask to switch.
        """
        raw = envelope.raw
        host = envelope.host
        own = b""
        if chunked:
            own = b"Transfer-Encoding: chunked\r\n"
        if websocket:
            own += b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        elif b"\r\nTE: trailers\r\n" in raw:
            own += b"Connection: TE\r\n"  # RFC 9110 section 10.1.4: TE is for the next hop only
        if self._host is None:
            return raw if not own else raw[: envelope.rest] + own + raw[envelope.rest :]
        rest = raw[envelope.rest :]
        if b"://" + host.lower() in rest:  # as browsers spell an origin
            rest = self._rewrite_origin(rest, host, raw)
        return b"%bHost: %b\r\n%b%b" % (raw[: envelope.host_line], self._host, own, rest)

    def _rewrite_origin(self, rest: bytes, host: bytes, raw: bytes) -> bytes:
        scheme = b"https" if b"\r\nX-Forwarded-Proto: https\r\n" in raw else b"http"
        public = (scheme + b"://" + host).lower()
        of_ours = False

        def replace(match: re.Match[bytes]) -> bytes:
            nonlocal of_ours
            if match[2].lower() != public:
                return match[0]
            of_ours = of_ours or match[1][2:8].lower() == b"origin"
            return match[1] + self._origin

        rest = _names_us.sub(replace, b"\r\n" + rest)
        may_differ = not self._one_name or not raw.startswith(_CHANGES) or _navigates(rest)
        if of_ours and self._host is not None and not may_differ:
            before, found, behind = rest.rpartition(_FORWARDED_HOST)
            if found:
                rest = b"%b%b%b%b" % (before, found, self._host, behind[behind.index(b"\r\n") :])
        return rest[2:]


def _checked(host_header: str) -> bytes:
    try:
        value = host_header.encode("ascii")
        read_authority(value)
    except (UnicodeEncodeError, HttpError):
        raise InputError(f"host header {host_header!r} is not rewrite, preserve or an authority") from None
    return value
