"""Cookies on their way: those that a tenant sets stay with its own name, and those of this house with us.

``wellhead-*`` names cookies of ours, ``__Host-wellhead-*`` over TLS. No tenant sets one, none is shown one.

Source: RFC 6265 sections 4.1, 5.2 and 5.3; 6265bis section 5.4 (cookies without a name).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

# What some reader takes for a blank around an attribute: Python's cookie jar does \x85 and \xa0 too.
_BLANK = rb"[\t \x85\xa0]*+"
_set_cookie = re.compile(rb"(\r\nset-cookie2?:)([^\r]*+)", re.IGNORECASE)
# Behind a semicolon, which no quotes protect (RFC 6265 section 5.2): in front of it is the cookie itself.
_domain = re.compile(rb";%b(?:domain)%b(?:=[^;]*+)?(?=;|\Z)" % (_BLANK, _BLANK), re.IGNORECASE)
_path = re.compile(rb"(;%b(?:path)%b=%b)([^;]*+)" % (_BLANK, _BLANK, _BLANK), re.IGNORECASE)
# A cookie without a name is sent as its value alone, which then reads like one that has a name.
_ours = re.compile(rb"[\t =\x85\xa0]*+(?:__host-|__secure-)?wellhead-", re.IGNORECASE).match
_cookie = re.compile(rb"(\r\ncookie:)([^\r]*+)", re.IGNORECASE)


def confined(block: bytes) -> bytes:
    """The field lines of a reply, whose cookies are for the name that set them alone.

    ``Domain`` is taken out of every Set-Cookie, so that the cookie is host-only; cookies in our names are
    dropped. Everything else stays byte for byte.
    """
    if b"set-cookie" not in block.lower():  # fast path: most replies set none
        return block
    return _set_cookie.sub(_confine, b"\r\n" + block)[2:]


def _confine(line: re.Match[bytes]) -> bytes:
    name, value = line.groups()
    return b"" if _ours(value) else name + _domain.sub(b"", value)


def with_paths(block: bytes, rewritten: Callable[[bytes], bytes]) -> bytes:
    """The field lines of a reply with each ``Path`` of a cookie as ``rewritten`` says."""

    def line(found: re.Match[bytes]) -> bytes:
        return found[1] + _path.sub(lambda path: path[1] + rewritten(path[2].rstrip(b" \t")), found[2])

    return _set_cookie.sub(line, b"\r\n" + block)[2:]


class Kept(NamedTuple):
    """A request's field lines without our cookies, and those: name and value, in the order they came in."""

    block: bytes
    ours: list[tuple[bytes, bytes]]


def without_ours(block: bytes) -> Kept:
    """Take our cookies out of a request's field lines; a Cookie that held nothing else goes with them."""
    ours: list[tuple[bytes, bytes]] = []

    def line(found: re.Match[bytes]) -> bytes:
        pairs = found[2].split(b";")
        others = [pair for pair in pairs if _ours(pair) is None]
        if len(others) == len(pairs):
            return found[0]
        for pair in pairs:
            if _ours(pair) is not None:
                name, _, value = pair.partition(b"=")
                ours.append((name.strip(b" \t"), value.strip(b" \t")))
        rest = b";".join(others).strip(b" \t")
        return b"%b %b" % (found[1], rest) if rest else b""

    return Kept(_cookie.sub(line, b"\r\n" + block)[2:], ours)
