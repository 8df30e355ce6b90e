"""The agent's side of an envelope: from an intake's answer to the head that opens a stream.

Source: docs/reference/h2-carrier.md, "Envelopes".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from wellhead.errors import HttpError
from wellhead.wire.facts import Facts
from wellhead.wire.fields import REQUEST_NAMES, TCHAR, cut
from wellhead.wire.h2_fields import check_fields
from wellhead.wire.hpack import Fields
from wellhead.wire.intake_envelope import TCP_STREAM, WS_UPGRADE, H
from wellhead.wire.request import edge_fields
from wellhead.wire.streams import StreamKind

_META = frozenset(
    b"""
    request-id route-kind method path ws-id tcp-id sni-host forwarded-for body-uri host scheme
    forwarded-port listener
    """.split()
)
_id = re.compile(rb"[A-Za-z0-9._~-]{1,256}").fullmatch
_method = re.compile(rb"[" + TCHAR + rb"]{1,32}+").fullmatch
_target = re.compile(rb"(?:/[\x21\x22\x24-\x7e]*+|\*)").fullmatch
_address = re.compile(rb"[0-9A-Fa-f:.]{1,45}").fullmatch
_host = re.compile(rb"[\x21-\x7e]{1,255}").fullmatch
_asked_id = re.compile(rb"[\x21-\x7e]{1,256}").fullmatch


class Parcel(NamedTuple):
    """An envelope as it came, without its body."""

    kind: StreamKind
    request_id: bytes
    bridge_id: bytes  # of a WebSocket or TCP connection, else empty
    envelope: bytes  # as a stream of the native carrier is opened with
    body_uri: bytes  # where the body is instead of here; empty: here


def read_envelope_fields(fields: Fields, host: bytes, websocket_key: Callable[[], bytes]) -> Parcel | None:
    """Read an intake's answer, whose status was 200; None: it hands over nothing.

    ``host`` is the tunnel's public host, for an edge that does not tell the visitor's; ``websocket_key``
    makes the Sec-WebSocket-Key that an upstream is asked with. Whose path is fit for the application is
    for the application to say.

    Raises:
        EnvelopeError: malformed; names the request whose reply shall say so.
    """
    meta: dict[bytes, bytes] = {}
    lines: Fields = []
    for field in fields:
        name = field[0]
        if name.startswith(H):
            lines.append((name[9:], field[1]))
        elif name.startswith(b"inkbox-") and name[7:] in _META:
            meta.setdefault(name[7:], field[1])
    request_id = meta.get(b"request-id", b"")
    if not _id(request_id):
        return None
    kind = meta.get(b"route-kind", b"")
    if kind == TCP_STREAM:
        return Parcel(StreamKind.TCP, request_id, _bridge(meta, b"tcp-id"), _facts(meta), b"")
    websocket = kind == WS_UPGRADE
    key = websocket_key() if websocket else b""
    try:
        head = _head(meta, lines, host, key)
        bridge_id = _bridge(meta, b"ws-id") if websocket else b""
    except HttpError as error:
        raise EnvelopeError(request_id, error.reason) from error
    kinds = StreamKind.WEBSOCKET if websocket else StreamKind.HTTP
    return Parcel(kinds, request_id, bridge_id, head, meta.get(b"body-uri", b""))


class EnvelopeError(HttpError):
    """An envelope that cannot be handed on."""

    def __init__(self, request_id: bytes, reason: str) -> None:
        super().__init__(400, reason)
        self.request_id = request_id


def _bridge(meta: dict[bytes, bytes], name: bytes) -> bytes:
    bridge_id = meta.get(name, b"")
    if not _id(bridge_id):
        raise HttpError(400, "missing-" + name.decode())
    return bridge_id


def _facts(meta: dict[bytes, bytes]) -> bytes:
    def text(name: bytes) -> str:
        return meta.get(name, b"").decode("ascii", "ignore")

    port = text(b"forwarded-port")
    return Facts(
        peer=text(b"forwarded-for"),
        peer_port=int(port) if port.isdigit() and len(port) < 6 and int(port) < 65536 else 0,
        server_name=text(b"sni-host"),
        listener=text(b"listener"),
    ).encode()


def _head(meta: dict[bytes, bytes], lines: Fields, host: bytes, key: bytes) -> bytes:
    method, target = meta.get(b"method", b"GET"), meta.get(b"path", b"/")
    if not _method(method):
        raise HttpError(400, "invalid-method")
    if not _target(target):
        raise HttpError(400, "invalid-path")
    check_fields(lines, [name for name, _ in lines])
    found, rest = cut(b"".join([b"%b: %b\r\n" % line for line in lines]), REQUEST_NAMES)
    given = meta.get(b"host", b"")
    host = given if _host(given) else host
    own = b"Host: %b\r\n" % host
    length = found.get(b"content-length", b"")
    if length.isdigit() and len(length) < 20:
        own += b"Content-Length: %d\r\n" % int(length)
    if key:
        own += b"Sec-WebSocket-Key: %b\r\nSec-WebSocket-Version: 13\r\n" % key
    peer = meta.get(b"forwarded-for", b"")
    scheme = "http" if meta.get(b"scheme") == b"http" else "https"
    forwarded = edge_fields(peer.decode(), scheme, host) if _address(peer) else b""
    asked = found.get(b"x-request-id", b"")
    if not _asked_id(asked):
        asked = meta[b"request-id"]
    return b"%b %b HTTP/1.1\r\n%b%b%bX-Request-Id: %b\r\n\r\n" % (method, target, own, rest, forwarded, asked)
