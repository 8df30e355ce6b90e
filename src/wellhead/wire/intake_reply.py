"""Replies over the HTTP/2 carrier: the header list of an agent's POST, both ways.

Source: docs/reference/h2-carrier.md, "Replies".
"""

from __future__ import annotations

import re
from typing import NamedTuple

from wellhead.errors import HttpError
from wellhead.wire.h1 import read_response
from wellhead.wire.h2_fields import block_fields
from wellhead.wire.hpack import Fields
from wellhead.wire.intake_calls import Caller
from wellhead.wire.intake_envelope import H
from wellhead.wire.reply import PHRASES
from wellhead.wire.ws import accept_key

_GZIP_MAGIC = b"\x1f\x8b"
_HOP = frozenset(
    b"""
    connection keep-alive transfer-encoding upgrade proxy-authenticate proxy-authorization proxy-connection
    te trailer content-length
    """.split()
)
# What the handshake with a visitor says of itself; the protocol is the application's choice.
_HANDSHAKE = frozenset(
    b"""
    sec-websocket-accept sec-websocket-extensions sec-websocket-key sec-websocket-version content-type
    content-encoding
    """.split()
)
_word = re.compile(rb"[a-z0-9][a-z0-9-]{0,63}").fullmatch
_encoded = re.compile(rb"\r\ncontent-encoding:[\t ]*+(?:x-)?gzip[\t ]*+(?=\r\n)", re.IGNORECASE)


class ReplyRead(NamedTuple):
    """A reply's head as an agent posted it."""

    status: int
    head: bytes  # canonical, for ``HeadKind.REPLY``
    reason: str  # why the agent answered itself: a constant word; empty where the application did
    length: int | None  # of the body that follows; None: not told
    may_be_gzip: bool  # says it is compressed: ask ``settled`` once the first two bytes are here

    def settled(self, first: bytes) -> bytes:
        """The head, for a body with these first bytes: an SDK may have decoded it and not said so."""
        if not self.may_be_gzip or first[:2] == _GZIP_MAGIC:
            return self.head
        return _encoded.sub(b"", self.head)

    def switch_head(self, key: bytes) -> bytes:
        """The canonical 101 that accepts a visitor's WebSocket with this Sec-WebSocket-Key."""
        block = self.head[self.head.find(b"\r\n") + 2 : -2]
        fields = [f for f in block_fields(block) if f[0] not in _HANDSHAKE and f[0] != b"content-length"]
        lines = b"".join([b"%b: %b\r\n" % field for field in fields])
        accept = b"Sec-WebSocket-Accept: %b\r\n" % accept_key(key)
        return b"HTTP/1.1 101 Switching Protocols\r\n%b%b\r\n" % (accept, lines)

    @property
    def accepts_websocket(self) -> bool:
        return self.status == 101 or 200 <= self.status < 300


def reply_head(fields: Fields, method: bytes = b"GET") -> ReplyRead:
    """Read the header list of a ``/_system/response`` to a request of this method.

    Raises:
        HttpError: 502: no status, or not one of a reply.
    """
    status = reason = length = declared = b""
    lines: list[bytes] = []
    gzip = False
    for name, value in fields:
        if name.startswith(H):
            name = name[9:]
            if name in _HOP:
                if name == b"content-length":
                    declared = value
            elif name.startswith(b"inkbox-"):
                if name == b"inkbox-reason":
                    reason = value
            else:
                lines.append(b"%b: %b\r\n" % (name, value))
                if name == b"content-encoding" and value.lower().strip() in (b"gzip", b"x-gzip"):
                    gzip = True
        elif name == b"inkbox-status":
            status = value
        elif name == b"content-length":
            length = value
        elif name == b"inkbox-reason":
            reason = value
    if len(status) != 3 or not status.isdigit() or not (b"200" <= status < b"600" or status == b"101"):
        raise HttpError(502, "reply-status", f"{status[:16]!r}")
    number = int(status)
    size = int(length) if length.isdigit() and len(length) < 20 else None
    bodyless = method == b"HEAD" or number in (101, 204, 304)
    told = declared if bodyless else length
    if told.isdigit() and len(told) < 20 and number not in (101, 204):
        lines.insert(0, b"Content-Length: %b\r\n" % told)
    head = b"HTTP/1.1 %b %b\r\n%b\r\n" % (status, PHRASES.get(number, b""), b"".join(lines))
    return ReplyRead(
        number, head, reason.decode() if _word(reason) else "", size, gzip and not bodyless and size != 0
    )


def reply_fields(
    head: bytes,
    request_id: bytes,
    caller: Caller,
    *,
    length: int | None,
    bodyless: bool = False,
    reason: bytes = b"",
) -> Fields:
    """The header list of the POST that answers a request.

    ``head`` is a canonical reply head; ``length`` counts the bytes of the body that follow, None for
    unknown; ``bodyless``: the head's own Content-Length is of a body that is not sent. ``reason``: a
    constant word where the agent answers itself.

    Raises:
        HttpError: 502: the head is malformed.
    """
    status, _, _, found, block, _ = read_response(head)
    fields = caller.response(request_id)
    fields.append((b"inkbox-status", b"%d" % (200 if status == 101 else status)))
    fields.append((b"inkbox-request-id", request_id))
    if length is not None:
        fields.append((b"content-length", b"%d" % length))
    if reason:
        fields += (b"inkbox-reason", reason), (b"inkbox-h-inkbox-reason", reason)
    if bodyless and b"content-length" in found:
        fields.append((b"inkbox-h-content-length", found[b"content-length"]))
    lines = block_fields(block)
    if status == 101:
        lines = [line for line in lines if line[0] not in _HANDSHAKE]
    fields += [(H + name, value) for name, value in lines]
    return fields
