"""Replies over the HTTP/2 carrier: the header list of an agent's POST, both ways.

Source: docs/reference/h2-carrier.md, "Replies".
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from wellhead.errors import HttpError
from wellhead.wire.h1 import read_response
from wellhead.wire.h2_fields import MEMO_MAX, block_fields
from wellhead.wire.hpack import Fields
from wellhead.wire.intake_calls import Caller
from wellhead.wire.intake_envelope import H
from wellhead.wire.reply import PHRASES
from wellhead.wire.ws import accept_key

_GZIP_MAGIC = b"\x1f\x8b"
_ID = b"inkbox-request-id"
_PSEUDO = 4  # fields that a post begins with, of which the path differs as the request id does
_HOP = frozenset(
    b"""
    connection keep-alive transfer-encoding upgrade proxy-authenticate proxy-authorization proxy-connection
    te trailer content-length
    """.split()
)
# What a handshake says of itself, and of a body that it has not; the protocol is the application's choice.
_HANDSHAKE = frozenset(
    b"""
    sec-websocket-accept sec-websocket-extensions sec-websocket-key sec-websocket-version content-length
    content-type content-encoding
    """.split()
)
_status = re.compile(rb"[2-5][0-9][0-9]|101").fullmatch
_length = re.compile(rb"[0-9]{1,19}").fullmatch
_word = re.compile(rb"[a-z0-9][a-z0-9-]{0,63}").fullmatch
_gzip = re.compile(rb"\r\ncontent-encoding: *+(?:x-)?gzip *+(?=\r\n)", re.IGNORECASE)
# Where Python's SDK 0.3.0 put two cookies into one field: no cookie's value and no date looks like this.
_two_cookies = re.compile(rb", (?=[!#$%&'*+\-.^_`|~0-9A-Za-z]++=)").split


class ReplyRead(NamedTuple):
    """A reply's head as an agent posted it."""

    status: int
    head: bytes  # canonical, for ``HeadKind.REPLY``
    reason: str  # why the agent answered itself: a constant word; empty where the application answered
    length: int | None  # of the body that follows; None: not told
    may_be_gzip: bool  # says that it is compressed: see ``settled``

    def settled(self, first: bytes) -> bytes:
        """The head, for a body that begins with these two bytes: an SDK may have undone its coding unsaid."""
        if not self.may_be_gzip or (first and _GZIP_MAGIC.startswith(first[:2])):
            return self.head
        return _gzip.sub(b"", self.head)

    def switch_head(self, key: bytes) -> bytes:
        """The canonical 101 that accepts a visitor's WebSocket with this Sec-WebSocket-Key."""
        block = self.head[self.head.find(b"\r\n") + 2 : -2]
        lines = [b"%b: %b\r\n" % field for field in block_fields(block) if field[0] not in _HANDSHAKE]
        return b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: %b\r\n%b\r\n" % (
            accept_key(key), b"".join(lines),
        )  # fmt: skip

    @property
    def accepts_websocket(self) -> bool:
        return self.status == 101 or 200 <= self.status < 300


class _Carried(NamedTuple):
    """What the fields of an application say."""

    lines: bytes
    length: bytes  # of a body that need not follow
    reason: bytes
    gzip: bool


def reply_head(fields: Fields, method: bytes = b"GET", *, joined_cookies: bool = False) -> ReplyRead:
    """Read one reply; see ``ReplyReader``."""
    return ReplyReader(joined_cookies=joined_cookies).read(fields, method)


class ReplyReader:
    """Reads the header lists of ``/_system/response``; what the last one said too is not read again.

    ``joined_cookies``: the agent may have put several Set-Cookie into one (Python's SDK 0.3.0).
    """

    __slots__ = ("_at", "_before", "_behind", "_carried", "_is_head", "_joined", "_read", "_tail")

    def __init__(self, *, joined_cookies: bool = False) -> None:
        self._joined = joined_cookies
        self._tail: Fields = []
        self._carried = _carried([], joined_cookies)
        # Of the last reply: where its request id stood, and the fields on both sides.
        self._at = 0
        self._before: Fields = []
        self._behind: Fields = []
        self._is_head = False
        self._read: ReplyRead | None = None

    def read(self, fields: Fields, method: bytes) -> ReplyRead:
        """The reply to a request of this method.

        Raises:
            HttpError: 502: no status, not one of a reply, or a field that is several.
        """
        at = self._at
        known = self._read
        is_head = method == b"HEAD"
        if (  # fast path: equal fields of one connection are mostly the same objects
            known is not None
            and len(fields) > at
            and fields[at][0] == _ID
            and fields[_PSEUDO - 1][0][:1] == b":"
            and fields[at + 1 :] == self._behind
            and fields[_PSEUDO:at] == self._before
            and is_head is self._is_head
        ):
            return known
        read = self._read_anew(fields, is_head)
        at = next((at for at, (name, _) in enumerate(fields) if name == _ID), 0)
        if at >= _PSEUDO and fields[_PSEUDO - 1][0][:1] == b":":
            self._at, self._is_head, self._read = at, is_head, read
            self._before, self._behind = fields[_PSEUDO:at], fields[at + 1 :]
        return read

    def _read_anew(self, fields: Fields, is_head: bool) -> ReplyRead:
        status = reason = length = b""
        first = len(fields)  # of the application's fields
        for at, (name, value) in enumerate(fields):
            if name == b"inkbox-status":
                status = value
            elif name == b"content-length":
                length = value
            elif name == b"inkbox-reason":
                reason = value
            elif name.startswith(H):
                first = min(first, at)
        tail = fields[first:]
        carried = self._carried
        if tail != self._tail:
            carried = _carried(tail, self._joined)
            self._tail, self._carried = tail, carried
        if not _status(status):
            raise HttpError(502, "reply-status", f"{status[:16]!r}")
        number = int(status)
        told = length if _length(length) else b""
        size = int(told) if told else None
        gzip = carried.gzip
        if number == 101 or number == 204:
            told, gzip = b"", False
        elif is_head or number == 304:
            told, gzip = carried.length, False
        head = b"HTTP/1.1 %b %b\r\n%b%b\r\n" % (
            status,
            PHRASES.get(number, b""),
            b"Content-Length: %b\r\n" % told if told else b"",
            carried.lines,
        )
        reason = reason or carried.reason
        return ReplyRead(number, head, reason.decode() if _word(reason) else "", size, gzip and size != 0)


def _carried(fields: Fields, joined_cookies: bool) -> _Carried:
    lines: list[bytes] = []
    length = reason = b""
    gzip = False
    for name, value in fields:
        if not name.startswith(H):
            continue
        name = name[len(H) :]
        if b":" in name:  # a name would end there
            raise HttpError(502, "reply-field", f"{name[:64]!r}")
        if name == b"content-length":
            length = value if _length(value) else b""
        elif name == b"inkbox-reason":
            reason = value
        elif name in _HOP or name.startswith(b"inkbox-"):
            continue
        elif name == b"set-cookie" and joined_cookies:
            lines += [b"set-cookie: %b\r\n" % cookie for cookie in _two_cookies(value)]
        else:
            lines.append(b"%b: %b\r\n" % (name, value))
            gzip = gzip or (name == b"content-encoding" and value.lower() in (b"gzip", b"x-gzip"))
    block = b"".join(lines)
    if block.count(b"\r") != len(lines) or block.count(b"\n") != len(lines):
        raise HttpError(502, "reply-field", "a line end in a field")  # HTTP/2 carries it, a head does not
    return _Carried(block, length, reason, gzip)


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
    status, declared, carried = (_said if len(head) <= MEMO_MAX else _said.__wrapped__)(head)
    fields = caller.response(request_id)
    fields += (b"inkbox-status", status), (b"inkbox-request-id", request_id)
    if length is not None:
        fields.append((b"content-length", b"%d" % length))
    if reason:
        fields += (b"inkbox-reason", reason), (b"inkbox-h-inkbox-reason", reason)
    if bodyless and declared:
        fields.append((b"inkbox-h-content-length", declared))
    return fields + carried


@lru_cache(maxsize=256)
def _said(head: bytes) -> tuple[bytes, bytes, Fields]:
    """Status, Content-Length and the application's fields of a canonical reply head."""
    status, _, _, found, block, _ = read_response(head)
    lines = block_fields(block)
    if status == 101:
        status, lines = 200, [line for line in lines if line[0] not in _HANDSHAKE]
    return b"%d" % status, found.get(b"content-length", b""), [(H + name, value) for name, value in lines]
