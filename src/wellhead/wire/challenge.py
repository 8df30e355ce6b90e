"""Where a certificate authority asks for a proof over HTTP: a path that is the edge's at every name.

::

    /.well-known/acme-challenge/{token}        token: base64url, RFC 8555 section 8.3

Whoever may answer there may have a certificate of the name, so what any server could take for that path is
it: percent-encoded, with empty or dot segments, with parameters, in capitals.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

_PLACE = [b".well-known", b"acme-challenge"]
_PERCENT, _DOT = b"%."  # as numbers: to look for one byte costs a third of looking for a string of one
_canonical = re.compile(rb"/\.well-known/acme-challenge/([A-Za-z0-9_-]{1,512})").fullmatch


def challenge_token(target: bytes) -> str | None:
    """The token that a request's target asks for; "" at the place but with none, None elsewhere."""
    if _PERCENT not in target and (_DOT not in target or b"acme-" not in target.lower()):  # nearly all
        return None
    if found := _canonical(target):
        return found[1].decode()
    path = unquote_to_bytes(target.partition(b"?")[0]).lower().replace(b"\\", b"/")
    as_written: list[bytes] = []
    resolved: list[bytes] = []
    for part in path.split(b"/"):
        segment = part.partition(b";")[0]
        if segment in (b"", b"."):
            continue
        as_written.append(segment)
        if segment != b"..":
            resolved.append(segment)
        elif resolved:
            resolved.pop()
    return "" if _PLACE in (as_written[:2], resolved[:2]) else None
