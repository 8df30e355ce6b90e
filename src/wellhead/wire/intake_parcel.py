"""The agent's side of an envelope: from an intake's answer to the head that opens a stream.

Source: docs/reference/h2-carrier.md, "Envelopes".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import NamedTuple

from wellhead.errors import HttpError
from wellhead.wire.facts import Facts
from wellhead.wire.fields import REQUEST_NAMES, TCHAR, cut
from wellhead.wire.h2_fields import check_fields, joined_cookies
from wellhead.wire.hpack import Fields
from wellhead.wire.intake_envelope import TCP_STREAM, WEBHOOK, WS_UPGRADE, H
from wellhead.wire.request import edge_fields
from wellhead.wire.streams import StreamKind

_META = b"inkbox-"
_REQUEST_ID = H + b"x-request-id"
# What a request begins with before that which repeats: the names of ``intake_envelope``'s first part.
_OWN = frozenset(
    (b":status", b"inkbox-request-id", b"inkbox-ws-id", b"inkbox-method", b"inkbox-path", _REQUEST_ID)
)
# Of one hop: an edge should have left them out.
_HOP = frozenset(
    H + name
    for name in b"""
    connection keep-alive proxy-connection transfer-encoding upgrade http2-settings te trailer
    """.split()
)
_SPLIT = b"inkbox-route-kind"  # and with this the rest begins

_id = re.compile(rb"[A-Za-z0-9._~-]{1,256}").fullmatch
_method = re.compile(rb"[" + TCHAR + rb"]{1,32}+").fullmatch
_target = re.compile(rb"(?:/[\x21\x22\x24-\x7e]*+|\*)").fullmatch
_word = re.compile(rb"[\x21-\x7e]{1,255}").fullmatch
_port = re.compile(rb"[0-9]{1,5}").fullmatch
_length = re.compile(rb"[0-9]{1,19}").fullmatch


class Parcel(NamedTuple):
    """An envelope as it came, without its body."""

    kind: StreamKind
    request_id: bytes
    bridge_id: bytes  # of a WebSocket or TCP connection, else empty
    envelope: bytes  # as a stream of the native carrier is opened with
    body_uri: bytes  # where the body is instead of here; empty: here


class EnvelopeError(HttpError):
    """An envelope that cannot be handed on; the reply to it shall say so."""

    def __init__(self, request_id: bytes, reason: str) -> None:
        super().__init__(400, reason)
        self.request_id = request_id


class _Repeating(NamedTuple):
    """What requests with the same fields have in common."""

    meta: dict[bytes, bytes]
    first: bytes  # lines: Host, Content-Length
    others: bytes  # lines: the visitor's, and what is said of it
    asked: bytes  # value of a request id among them


def read_envelope_fields(fields: Fields, host: bytes, websocket_key: Callable[[], bytes]) -> Parcel | None:
    """Read one answer; see ``ParcelReader``."""
    return ParcelReader(host, websocket_key).read(fields)


class ParcelReader:
    """Reads the answers of intakes whose status was 200; what the last one said too is not read again.

    ``host`` is the tunnel's public host, for an edge that does not tell the visitor's; ``websocket_key``
    makes the Sec-WebSocket-Key that an upstream is asked with.
    """

    __slots__ = ("_host", "_key", "_last", "_tail")

    def __init__(self, host: bytes, websocket_key: Callable[[], bytes]) -> None:
        self._host = host
        self._key = websocket_key
        self._tail: Fields = []
        self._last: _Repeating | None = None

    def read(self, fields: Fields) -> Parcel | None:
        """The parcel; None: nothing is handed over.

        Whether a path is fit for the application is for the application to say.

        Raises:
            EnvelopeError: malformed.
        """
        own: dict[bytes, bytes] = {}
        for at, (name, value) in enumerate(fields):
            if name == _SPLIT:
                tail = fields[at:]
                break
            if name not in _OWN:
                own, tail = {}, fields  # another edge's order
                break
            own[name] = value
        else:
            tail = []
        last = self._last
        if last is None or tail != self._tail:  # equal fields of one connection are mostly the same objects
            try:
                last = _repeating(tail, self._host)
            except HttpError as error:
                request_id = own.get(b"inkbox-request-id") or dict(tail).get(b"inkbox-request-id", b"")
                raise EnvelopeError(request_id, error.reason) from error
            self._tail, self._last = tail, last
        return self._parcel({**last.meta, **own} if own else last.meta, last)

    def _parcel(self, meta: dict[bytes, bytes], said: _Repeating) -> Parcel | None:
        request_id = meta.get(b"inkbox-request-id", b"")
        if not _id(request_id):
            return None
        route = meta.get(_SPLIT, WEBHOOK)
        if route == TCP_STREAM:
            bridge_id = meta.get(b"inkbox-tcp-id", b"")
            facts = _facts(meta).encode()
            return Parcel(StreamKind.TCP, request_id, bridge_id, facts, b"") if _id(bridge_id) else None
        method, target = meta.get(b"inkbox-method", b"GET"), meta.get(b"inkbox-path", b"/")
        if not _method(method):
            raise EnvelopeError(request_id, "invalid-method")
        if not _target(target):
            raise EnvelopeError(request_id, "invalid-path")
        first, kind, bridge_id = said.first, StreamKind.HTTP, b""
        if route == WS_UPGRADE:
            kind, bridge_id = StreamKind.WEBSOCKET, meta.get(b"inkbox-ws-id", b"")
            if not _id(bridge_id):
                raise EnvelopeError(request_id, "missing-ws-id")
            first += b"Sec-WebSocket-Key: %b\r\nSec-WebSocket-Version: 13\r\n" % self._key()
        asked = meta.get(_REQUEST_ID, said.asked)
        head = b"%b %b HTTP/1.1\r\n%b%bX-Request-Id: %b\r\n\r\n" % (
            method, target, first, said.others, asked if _word(asked) else request_id,
        )  # fmt: skip
        return Parcel(kind, request_id, bridge_id, head, meta.get(b"inkbox-body-uri", b""))


def _repeating(fields: Fields, default_host: bytes) -> _Repeating:
    """Raises:
    HttpError: a field is malformed.
    """
    meta: dict[bytes, bytes] = {}
    lines: Fields = []
    for name, value in fields:
        if name.startswith(H):
            if name not in _HOP:
                lines.append((name[len(H) :], value.strip(b" \t")))
        elif name.startswith(_META):
            meta.setdefault(name, value)
    names = [name for name, _ in lines]
    check_fields(lines, names)
    if names.count(b"cookie") > 1:
        lines = joined_cookies(lines)
    found, rest = cut(b"".join([b"%b: %b\r\n" % line for line in lines]), REQUEST_NAMES)
    told = meta.get(b"inkbox-host", b"")
    host = told if _word(told) else default_host
    first = b"Host: %b\r\n" % host
    length = found.get(b"content-length", b"")
    if _length(length):
        first += b"Content-Length: %b\r\n" % length
    peer = meta.get(b"inkbox-forwarded-for", b"")
    if _is_address(peer):
        scheme = "http" if meta.get(b"inkbox-scheme") == b"http" else "https"
        rest += edge_fields(peer.decode(), scheme, host.lower())
    return _Repeating(meta, first, rest, found.get(b"x-request-id", b""))


def _is_address(text: bytes) -> bool:
    try:
        ip_address(text.decode("latin-1"))
    except ValueError:
        return False
    return b"%" not in text  # behind it anything may stand


def _facts(meta: dict[bytes, bytes]) -> Facts:
    """What an envelope says of a TCP connection; what nobody can have meant is left out."""

    def text(name: bytes, good: Callable[[bytes], object]) -> str:
        value = meta.get(name, b"")
        return value.decode() if good(value) else ""

    port = int(text(b"inkbox-forwarded-port", _port) or 0)
    return Facts(
        peer=text(b"inkbox-forwarded-for", _is_address),
        peer_port=port if port < 65536 else 0,
        server_name=text(b"inkbox-sni-host", _word),
        listener=text(b"inkbox-listener", _word),
    )
