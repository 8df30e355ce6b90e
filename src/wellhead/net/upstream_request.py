"""A request's head for the upstream, made once where requests repeat.

Visitors repeat themselves: of two requests on one connection usually the request id alone differs, and
it stands last. So what is made of an envelope is remembered without its last line.
"""

from __future__ import annotations

from typing import NamedTuple

from wellhead.wire.h2 import Fields
from wellhead.wire.h2_fields import request_fields
from wellhead.wire.headers import Envelope, HostPolicy

REQUEST_ID = b"\r\nX-Request-Id: "
MAX_KNOWN = 256  # envelopes remembered
MAX_SEEN = 4096  # hashes of envelopes that came once: what never comes again is not worth remembering
MAX_KNOWN_BYTES = 4096  # longest envelope remembered

IDEMPOTENT = (b"GET ", b"HEAD ", b"OPTIONS ", b"PUT ", b"DELETE ", b"TRACE ")  # RFC 9110 section 9.2.2
HEAD = b"HEAD"
UPGRADE = b"upgrade"


class Known(NamedTuple):
    """A request without a body, less its last line."""

    head: bytes  # for the upstream, up to the CRLF before the last line
    method: bytes
    target: bytes
    asked: bytes  # as in Reply
    peer: str  # the visitor's IP address


class RequestHeads:
    """Makes request heads; ``known`` has what was made of envelopes up to ``last_line``."""

    __slots__ = ("_known_fields", "_policy", "_scheme", "_seen", "known")

    def __init__(self, policy: HostPolicy, scheme: bytes) -> None:
        self._policy = policy
        self._scheme = scheme
        self._known_fields: dict[bytes, Fields] = {}
        self._seen: set[int] = set()
        self.known: dict[bytes, Known] = {}

    def make(self, envelope: Envelope, *, chunked: bool = False, websocket: bool = False) -> bytes:
        """See ``HostPolicy.request_head``."""
        return self._policy.request_head(envelope, chunked=chunked, websocket=websocket)

    def make_bodyless(self, envelope: Envelope) -> bytes:
        """The head of a request without a body; remembered when it comes for the second time."""
        head = self._policy.request_head(envelope)
        raw = envelope.raw
        cut = last_line(raw)
        if len(raw) > MAX_KNOWN_BYTES or not raw.startswith(REQUEST_ID, cut):
            return head
        key = raw[:cut]
        seen = hash(key)
        if seen in self._seen:
            if head.endswith(raw[cut:]):
                self._remember(key, head[: cut - len(raw)], envelope)
            return head
        if len(self._seen) >= MAX_SEEN:
            self._seen.clear()
        self._seen.add(seen)
        return head

    def make_fields(self, envelope: Envelope, *, websocket: bool = False) -> Fields:
        """The header list for HTTP/2."""
        raw = envelope.raw
        cut = last_line(raw)
        if len(raw) > MAX_KNOWN_BYTES or not raw.startswith(REQUEST_ID, cut) or websocket:
            return request_fields(self._policy.request_head(envelope), self._scheme, websocket=websocket)
        key = raw[:cut]
        known = self._known_fields.get(key)
        if known is None:
            if len(self._known_fields) >= MAX_KNOWN:
                self._known_fields.clear()
            known = request_fields(self._policy.request_head(envelope), self._scheme)[:-1]
            self._known_fields[key] = known
        return [*known, (b"x-request-id", raw[cut + len(REQUEST_ID) : -4])]

    def _remember(self, key: bytes, head: bytes, envelope: Envelope) -> None:
        if len(self.known) >= MAX_KNOWN:
            self.known.clear()
        asked = HEAD if envelope.method == HEAD else b""
        self.known[key] = Known(head, envelope.method, envelope.target, asked, envelope.peer)


def last_line(raw: bytes) -> int:
    """Index of the CRLF before the last field line of a head."""
    return raw.rfind(b"\r\n", 0, -4)
