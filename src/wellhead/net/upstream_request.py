"""A request's head for the upstream, made once where requests repeat.

Visitors repeat themselves: of two requests on one connection usually the request id alone differs, and
it stands last. So what is made of an envelope is remembered without its last line.
"""

from __future__ import annotations

from typing import NamedTuple

from wellhead.wire.headers import Envelope, HostPolicy

REQUEST_ID = b"\r\nX-Request-Id: "
MAX_KNOWN = 256  # envelopes remembered
MAX_KNOWN_BYTES = 4096  # longest envelope remembered

HEAD = b"HEAD"
UPGRADE = b"upgrade"


class Known(NamedTuple):
    """A request without a body, less its last line."""

    head: bytes  # for the upstream, up to the CRLF before the last line
    method: bytes
    target: bytes
    asked: bytes  # as in Reply


class RequestHeads:
    """Makes request heads; ``known`` has what was made of envelopes up to ``last_line``."""

    __slots__ = ("_policy", "known")

    def __init__(self, policy: HostPolicy) -> None:
        self._policy = policy
        self.known: dict[bytes, Known] = {}

    def make(self, envelope: Envelope, *, chunked: bool = False, websocket: bool = False) -> bytes:
        """See ``HostPolicy.request_head``."""
        return self._policy.request_head(envelope, chunked=chunked, websocket=websocket)

    def make_bodyless(self, envelope: Envelope) -> bytes:
        """The head of a request without a body, remembered if that is worth while."""
        head = self._policy.request_head(envelope)
        raw = envelope.raw
        cut = last_line(raw)
        if len(raw) <= MAX_KNOWN_BYTES and raw.startswith(REQUEST_ID, cut) and head.endswith(raw[cut:]):
            if len(self.known) >= MAX_KNOWN:
                self.known.clear()
            asked = HEAD if envelope.method == HEAD else b""
            self.known[raw[:cut]] = Known(head[: cut - len(raw)], envelope.method, envelope.target, asked)
        return head


def last_line(raw: bytes) -> int:
    """Index of the CRLF before the last field line of a head."""
    return raw.rfind(b"\r\n", 0, -4)
