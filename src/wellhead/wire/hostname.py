"""The Host of a request: the one field that decides where it goes, so it is read strictly.

Source: RFC 9110 section 7.2, RFC 3986 section 3.2; narrower than both: a DNS name, an IPv4 address or
an IPv6 address in brackets, perhaps a port. No user, no percent-encoding, no empty label.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import NamedTuple

from wellhead.errors import HttpError

MAX_AUTHORITY = 255  # bytes

_authority = re.compile(
    rb"(?:([a-z0-9_](?:[a-z0-9_-]|\.(?!\.))*+)|\[([0-9a-f:.]{2,45})\])(?::([1-9][0-9]{0,4}))?"
).fullmatch


class Authority(NamedTuple):
    host: bytes  # lower case, with the port as it was sent
    hostname: str  # lower case, without port, brackets and one trailing dot


def read_authority(value: bytes, status: int = 400) -> Authority:
    """Read a Host field, or the authority of an absolute target.

    Raises:
        HttpError: empty, a list, a user, a path, a bad port, or more than 255 bytes (A8).
    """
    if len(value) > MAX_AUTHORITY:
        raise HttpError(status, "host", f"{len(value)} bytes, at most {MAX_AUTHORITY} allowed")
    return _read(value, status)


@lru_cache(maxsize=1024)
def _read(value: bytes, status: int) -> Authority:
    lower = value.lower()
    match = _authority(lower)
    if match is None or int(match[3] or 1) > 65535:
        raise HttpError(status, "host")
    if match[1] is not None:
        return Authority(lower, match[1].decode("ascii").removesuffix("."))
    try:
        return Authority(lower, str(ipaddress.IPv6Address(match[2].decode("ascii"))))
    except ValueError:
        raise HttpError(status, "host") from None
