"""The edge's side of an envelope: a visitor's request as the header list of an intake's answer.

The agents that read it are not ours and break at what HTTP allows; everything that would cost one its
connection, or lose it the request, is mended or refused here.

===============================  ==========================================================================
more than MAX_LIST bytes         431: the Python SDK drops its whole connection above 64 KiB
more than MAX_FIELDS fields      same names are joined, else 431: Node loses the request at 128
a value that is not ASCII        the field is left out (of a Cookie, that crumb): one byte of Latin-1 costs
                                 the Python SDK its connection, UTF-8 a 502
a target that is not ASCII       percent-encoded
several Cookie fields            joined by "; ", which Node would do by a comma
blanks that this leaves outside  taken off: they cost the Python SDK its connection
no Cookie                        an empty one, else the SDK sends this visitor's request with another's
Accept-Encoding                  ``identity``: the SDKs decode a reply and leave its Content-Encoding
===============================  ==========================================================================

Source: docs/reference/h2-carrier.md, "Envelopes".
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from wellhead.errors import HttpError
from wellhead.wire.facts import Facts
from wellhead.wire.h2_fields import MEMO_MAX, block_fields
from wellhead.wire.hpack import SHORT, Field, Fields, list_size, spelled, spelling

MAX_LIST = 60_000  # bytes as HPACK counts them, 32 for each field included
MAX_FIELDS = 110
BLANKS = b" \t"

H = b"inkbox-h-"  # before the name of a field of the visitor's, or of the reply
WEBHOOK, WS_UPGRADE, TCP_STREAM = b"webhook", b"ws-upgrade", b"tcp-stream"

_STATUS: Field = (b":status", b"200")
# What differs from request to request, without its values.
_OWN: Fields = [
    _STATUS,
    (b"inkbox-request-id", b""),
    (b"inkbox-ws-id", b""),
    (b"inkbox-method", b""),
    (b"inkbox-path", b""),
    (b"inkbox-h-x-request-id", b""),
]
_SPELLED_ID = b"\x88" + spelling(b"inkbox-request-id")  # behind the status, which is in the static table
_SPELLED_METHOD = spelling(b"inkbox-method")
_SPELLED_PATH = spelling(b"inkbox-path")
_SPELLED_ASKED = spelling(b"inkbox-h-x-request-id")
_REQUEST_ID = b"\r\nX-Request-Id: "
# Of this hop, or told by fields of the envelope's own.
_DROPPED = frozenset(
    b"""
    host expect te forwarded x-forwarded-for x-forwarded-proto x-forwarded-host
    sec-websocket-key sec-websocket-version sec-websocket-extensions
    """.split()
)
_ENCODING: Field = (b"accept-encoding", b"identity")
_NO_COOKIE: Field = (b"cookie", b"")
_foreign = re.compile(rb"[^\x21-\x7e]").sub
_is_ascii = re.compile(rb"[\t\x20-\x7e]*+").fullmatch
_websocket_key = re.compile(rb"\r\nsec-websocket-key:[\t ]*+([^\r\t ]++)", re.IGNORECASE).search


class _Common(NamedTuple):
    """What all requests with the same field lines have in common."""

    fields: Fields
    size: int  # bytes as HPACK counts them, those of _OWN included


def envelope_fields(
    head: bytes, request_id: bytes, *, websocket: bool = False, faithful: bool = False
) -> Fields:
    """The header list of an envelope, ``:status`` first: both parts of ``envelope_parts``."""
    own, common = envelope_parts(head, request_id, websocket=websocket, faithful=faithful)
    return own + common


def envelope_parts(
    head: bytes, request_id: bytes, *, websocket: bool = False, faithful: bool = False
) -> tuple[Fields, Fields]:
    """The header list of an envelope in two parts: what is this request's, and what repeats.

    The second is the same list for requests with equal fields and must not be changed. ``head`` is a
    canonical request head, ``request_id`` is safe in a path and hard to guess, and the id of the bridge of
    a ``websocket`` too. ``faithful``: the agent is ours and needs no cookie, encoding or character mended.

    Raises:
        HttpError: 431: too large for an agent.
    """
    method, target, asked, common = _apart(head, request_id, websocket, faithful)
    own: Fields = [_STATUS, (b"inkbox-request-id", request_id)]
    if websocket:
        own.append((b"inkbox-ws-id", request_id))
    own += (b"inkbox-method", method), (b"inkbox-path", target), (b"inkbox-h-x-request-id", asked)
    return own, common


def envelope_block(head: bytes, request_id: bytes, *, faithful: bool = False) -> tuple[bytes, bytes, Fields]:
    """The method of a request, and its envelope as ``envelope_parts`` gives it, the first part encoded.

    Raises:
        HttpError: 431: too large for an agent.
    """
    method, target, asked, common = _apart(head, request_id, False, faithful)
    if len(request_id) < SHORT and len(target) < SHORT and len(asked) < SHORT:  # fast path
        lead = b"%b%c%b%b%c%b%b%c%b%b%c%b" % (
            _SPELLED_ID, len(request_id), request_id, _SPELLED_METHOD, len(method), method,
            _SPELLED_PATH, len(target), target, _SPELLED_ASKED, len(asked), asked,
        )  # fmt: skip
    else:
        lead = b"".join(
            (
                spelled(_SPELLED_ID, request_id), spelled(_SPELLED_METHOD, method),
                spelled(_SPELLED_PATH, target), spelled(_SPELLED_ASKED, asked),
            )
        )  # fmt: skip
    return method, lead, common


def _apart(
    head: bytes, request_id: bytes, websocket: bool, faithful: bool
) -> tuple[bytes, bytes, bytes, Fields]:
    """Method, target, the edge's own id of the request, and the fields that repeat."""
    line_end = head.find(b"\r\n")
    method, target, _ = head[:line_end].split(b" ")
    last = head.rfind(_REQUEST_ID)
    block = head[line_end + 2 : last + 2]
    fields, size = (_common if len(block) <= MEMO_MAX else _common.__wrapped__)(block, websocket, faithful)
    if not target.isascii():
        target = _foreign(_percent, target)
    asked = head[last + len(_REQUEST_ID) : -4]
    if size + 2 * len(request_id) + len(asked) + len(method) + len(target) > MAX_LIST:
        raise HttpError(431, "envelope-too-large", f"more than {MAX_LIST} bytes")
    return method, target, asked, fields


def _percent(found: re.Match[bytes]) -> bytes:
    return b"%%%02X" % found[0][0]


@lru_cache(maxsize=512)
def _common(block: bytes, websocket: bool, faithful: bool) -> _Common:
    lines = block_fields(block)
    told = dict(lines)  # the last of each name: the edge writes its own behind the visitor's
    meta: Fields = [
        (b"inkbox-route-kind", WS_UPGRADE if websocket else WEBHOOK),
        (b"inkbox-forwarded-for", told[b"x-forwarded-for"]),
        (b"inkbox-host", told[b"host"]),
    ]
    if told[b"x-forwarded-proto"] != b"https":
        meta.append((b"inkbox-scheme", told[b"x-forwarded-proto"]))
    room = MAX_FIELDS - len(meta) - len(_OWN)
    fields = [(H + name, value) for name, value in _travelling(lines, websocket, faithful)]
    if len(fields) > room:
        fields = _joined(fields)
        if len(fields) > room:
            raise HttpError(431, "envelope-fields", f"more than {room}")
    fields = meta + fields
    return _Common(fields, list_size(fields) + list_size(_OWN))


def _travelling(lines: Fields, websocket: bool, faithful: bool) -> Fields:
    """The visitor's fields as an agent gets them."""
    fields = [field for field in lines if field[0] not in _DROPPED]
    cookies = [value for name, value in fields if name == b"cookie"]
    if faithful:
        if len(cookies) < 2:
            return fields
    else:
        fields = [f for f in fields if f[0] != b"accept-encoding" and _is_ascii(f[1])]
        fields.append(_ENCODING)
        cookies = [crumb for value in cookies for crumb in value.split(b"; ") if _is_ascii(crumb)]
    fields = [field for field in fields if field[0] != b"cookie"]
    cookie = b"; ".join([crumb for crumb in cookies if crumb]).strip(BLANKS)
    if cookie:
        fields.append((b"cookie", cookie))
    elif not websocket:
        fields.append(_NO_COOKIE)
    return fields


def _joined(fields: Fields) -> Fields:
    """Values of the same name in one field, where the first was; empty ones add nothing."""
    joined: dict[bytes, bytes] = {}
    for name, value in fields:
        before = joined.get(name, b"")
        joined[name] = before + b", " + value if before and value else before or value
    return list(joined.items())


def tcp_fields(facts: Facts, request_id: bytes) -> Fields:
    """The header list that hands a TCP connection to an agent; ``request_id`` is its bridge's too."""
    fields: Fields = [
        _STATUS,
        (b"inkbox-request-id", request_id),
        (b"inkbox-method", b"CONNECT"),
        (b"inkbox-path", b"/"),
        (b"inkbox-route-kind", TCP_STREAM),
        (b"inkbox-tcp-id", request_id),
        (b"inkbox-sni-host", facts.server_name.encode("ascii", "ignore")),
        (b"inkbox-forwarded-for", facts.peer.encode("ascii", "ignore")),
    ]
    if facts.peer_port:
        fields.append((b"inkbox-forwarded-port", b"%d" % facts.peer_port))
    if facts.listener:
        fields.append((b"inkbox-listener", facts.listener.encode("ascii", "ignore")))
    return fields


def expects_continue(head: bytes) -> bool:
    """Whether the visitor waits for a 100: it cannot come from an agent of this carrier."""
    return b"\r\nExpect: 100-continue\r\n" in head


def websocket_key(head: bytes) -> bytes:
    """The visitor's Sec-WebSocket-Key, of a canonical head; empty if it has none."""
    found = _websocket_key(head)
    return found[1] if found else b""
