"""Heads for code in this process: a request as it reads it, and a reply as it gives it.

A request's envelope was judged by the edge and is only taken apart here; a reply's fields come from
somebody's program and are judged before they travel.

Source: docs/reference/wire.md, "HTTP envelopes".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from wellhead.errors import HttpError, StateError
from wellhead.wire import h2_fields
from wellhead.wire.envelope import Envelope, read_envelope
from wellhead.wire.reply import reply_head

Field = tuple[bytes, bytes]

_REQUEST_ID = b"\r\nX-Request-Id: "
_line = re.compile(rb"([^:\r]++):[\t ]*+([^\r]*+)\r\n").findall
_REMEMBERED = 256  # heads
_REMEMBERED_BYTES = 4096  # longest head that is remembered

# Of one hop: the edge and the visitor's HTTP version decide about them.
_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"transfer-encoding",
        b"upgrade",
        b"te",
        b"http2-settings",
    )
)


class RequestHead(NamedTuple):
    """A visitor's request. Names of ``headers`` are lower case; values are as they came."""

    method: str
    target: bytes  # origin form or ``*``, as the visitor sent it
    raw_path: bytes  # the target up to its query, not decoded
    path: str  # the same, percent-decoded, UTF-8
    query: bytes  # behind the question mark
    headers: tuple[Field, ...]  # ``host`` first; what the edge says of the visitor is among them
    authority: str  # that the visitor asked for: a hostname, with ``:port`` where there is one
    scheme: str  # that the visitor used: ``https`` or ``http``
    peer: str  # the visitor's IP address; empty where it is not told
    content_length: int | None
    request_id: str

    @property
    def server(self) -> tuple[str, int]:
        """Hostname and port of ``authority``."""
        host, colon, port = self.authority.rpartition(":")
        if not colon or not port.isdigit():
            host, port = self.authority, "443" if self.scheme == "https" else "80"
        return host.strip("[]"), int(port)

    def value(self, name: bytes) -> bytes | None:
        """Of the first field of this lower-case name."""
        return next((value for field, value in self.headers if field == name), None)


class RequestHeads:
    """Reads envelopes. Visitors repeat themselves: what differs is most often the request id alone."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, RequestHead] = {}

    def read(self, raw: bytes) -> RequestHead:
        """
        Raises:
            HttpError: 400: not canonical.
        """
        cut = raw.rfind(b"\r\n", 0, -4)
        if not raw.startswith(_REQUEST_ID, cut):
            return _read(read_envelope(raw), "")
        key = raw[:cut]
        request_id = raw[cut + len(_REQUEST_ID) : -4]
        known = self._known.get(key)
        if known is None:
            known = _read(read_envelope(raw), "")
            known = known._replace(headers=known.headers[:-1])
            if len(raw) <= _REMEMBERED_BYTES:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[key] = known
        headers = (*known.headers, (b"x-request-id", request_id))
        # Not ``_replace``, which takes three times as long.
        return RequestHead._make((*known[:5], headers, *known[6:10], request_id.decode("latin-1")))


def _read(envelope: Envelope, request_id: str) -> RequestHead:
    raw_path, _, query = envelope.target.partition(b"?")
    fields = [(name.lower(), value) for name, value in _line(envelope.raw, envelope.rest)]
    scheme = next((value for name, value in reversed(fields) if name == b"x-forwarded-proto"), b"https")
    return RequestHead(
        envelope.method.decode("ascii"),
        envelope.target,
        raw_path,
        unquote_to_bytes(raw_path).decode("utf-8", "replace"),
        query,
        ((b"host", envelope.host), *fields),
        envelope.host.decode("latin-1"),
        scheme.decode("latin-1"),
        envelope.peer,
        envelope.content_length,
        request_id,
    )


class ReplyHead(NamedTuple):
    """A reply's head for the wire, and what it promised."""

    raw: bytes
    status: int
    content_length: int | None  # body bytes that must follow; None: as many as come
    bodyless: bool  # none may follow: HEAD, 204, 304


class ReplyHeads:
    """Judges replies' heads and puts them into the form of the wire; programs repeat them."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[int, tuple[Field, ...], bool], ReplyHead] = {}

    def make(self, status: int, headers: Iterable[Field], method: str) -> ReplyHead:
        """
        Raises:
            StateError: what no reply may say; the message names the field.
        """
        key = (status, tuple(headers), method == "HEAD")
        known = self._known.get(key)
        if known is None:
            known = _make(*key)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            if len(known.raw) <= _REMEMBERED_BYTES:
                self._known[key] = known
        return known


def _make(status: int, headers: tuple[Field, ...], to_head: bool) -> ReplyHead:
    if not 200 <= status <= 599:
        raise StateError(f"status {status} of a reply, must be 200 to 599")
    fields = [(b":status", b"%d" % status), *_plain(headers)]
    try:
        head = h2_fields.response_head(fields, b"HEAD" if to_head else b"GET")
    except HttpError as error:
        raise StateError(f"the reply's head cannot be sent: {error}{_culprit(fields)}") from None
    bodyless = to_head or status in (204, 304)
    head = head._replace(reason=_phrase(status))
    return ReplyHead(reply_head(head), status, None if bodyless else head.content_length, bodyless)


def _phrase(status: int) -> bytes:
    """What visitors of HTTP/1.1 find behind the status; nothing where there is no word for it."""
    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b""


def bytes_of(data: object) -> bytes:
    """What an application sends as bytes; a copy where it could change them later.

    Raises:
        StateError: it is nothing of the kind.
    """
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    raise StateError(f"a body must be bytes, not {type(data).__name__}")


def interim_head(status: int, headers: Iterable[Field]) -> bytes:
    """The head of a 1xx reply.

    Raises:
        StateError: not one.
    """
    if not 100 <= status <= 199 or status == 101:
        raise StateError(f"status {status} of an interim reply, must be 100 to 199 and not 101")
    try:
        return reply_head(h2_fields.response_head([(b":status", b"%d" % status), *_plain(headers)], b"GET"))
    except HttpError as error:
        raise StateError(f"the interim reply cannot be sent: {error}") from None


def trailer_head(headers: Iterable[Field]) -> bytes:
    """Trailers as the wire carries them; those that must not be passed on are dropped.

    Raises:
        StateError: malformed.
    """
    try:
        return h2_fields.trailer_block(_plain(headers)) + b"\r\n"
    except HttpError as error:
        raise StateError(f"the trailers cannot be sent: {error}") from None


def switch_head(headers: Iterable[Field]) -> bytes:
    """The head that accepts a WebSocket.

    Raises:
        StateError: malformed.
    """
    fields = _plain(headers)
    try:
        head = h2_fields.response_head([(b":status", b"200"), *fields], b"HEAD")
    except HttpError as error:
        raise StateError(f"the handshake's answer cannot be sent: {error}{_culprit(fields)}") from None
    return b"HTTP/1.1 101 Switching Protocols\r\n" + head.fields + b"\r\n"


def _plain(headers: Iterable[Field]) -> list[Field]:
    """End-to-end fields with lower-case names and without outer blanks."""
    plain = [(bytes(name).lower(), bytes(value).strip(b" \t")) for name, value in headers]
    return [field for field in plain if field[0] not in _HOP]


def _culprit(fields: list[Field]) -> str:
    """Which field it was, where that can be told."""
    for name, value in fields:
        if name[:1] == b":":
            continue
        try:
            h2_fields.response_head([(b":status", b"200"), (name, value)], b"GET")
        except HttpError:
            return f" (field {ascii(name[:60].decode('latin-1'))})"
    return ""
