"""Field lines: their grammar, and the names that mean something to an intermediary.

A *block* is what stands between a start line and the blank line: field lines, each ending in CRLF.
It is judged as a whole, by one linear (possessive) expression; then the few lines that matter are
cut out of it by a second one, and everything else is carried on byte for byte. No line of an
ordinary field is ever looked at by a Python loop: twelve fields cost 1.2 µs for the grammar and
1.0 µs for the search (CPython 3.11).

Source: RFC 9110 section 5, RFC 9112 section 5.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

from wellhead.errors import HttpError

TCHAR = rb"!#$%&'*+\-.^_`|~0-9A-Za-z"
VALUE = rb"[\t\x20-\x7e\x80-\xff]*+"
BLOCK = rb"(?:[" + TCHAR + rb"]++:" + VALUE + rb"\r\n)*+"

_block = re.compile(BLOCK).fullmatch
_longest_good = re.compile(BLOCK).match
_token = re.compile(rb"[" + TCHAR + rb"]++").fullmatch

MAX_NUMBER = 19  # digits of a Content-Length

# Hop-by-hop names: never carried on, whether Connection nominates them or not (RFC 9110 section 7.6.1).
_HOP = r"connection|keep-alive|proxy(?:-[^:\r]*+)?|te|trailer|transfer-encoding|upgrade|http2-settings"
# Names that this house alone may write, or that its carriers use between edge and agent.
_CONTROL = r"(?:x-)?wellhead-[^:\r]*+|x-tunnel-(?:id|secret)|x-owner-token|x-pool-(?:slot|size)"
_INKBOX = r"inkbox-[^:\r]*+"  # of the compatible carrier; its REST notices are for everybody
# What proxies tell about a visitor: only ours may reach an upstream.
_FORWARDED = (
    r"forwarded|x-forwarded(?:-[^:\r]*+)?|x-original-forwarded-for|x-real-ip|true-client-ip|cf-connecting-ip"
    r"|x-client-ip|x-cluster-client-ip|fastly-client-ip|x-request-id"
)
_WEBSOCKET = r"sec-websocket-(?:key|version)"


def _finder(initials: str, names: str) -> re.Pattern[bytes]:
    """Finds the lines of these names in a lower-case block that begins with CRLF: name, value.

    ``initials`` are the first letters of all names: looking at them first takes a third off the search.
    """
    return re.compile(rf"\r\n(?=[{initials}])({names}):[\t ]*+([^\r]*+)".encode())


REQUEST_NAMES = _finder(
    # Every hyphen also matches an underscore: CGI and WSGI take one for the other, so that a
    # look-alike would speak in the name of the field we protect. The reader refuses those.
    "cefhikpstuwx",
    f"host|content-length|expect|{_HOP}|{_CONTROL}|{_FORWARDED}|{_INKBOX}|{_WEBSOCKET}".replace("-", "[-_]"),
)
REPLY_NAMES = _finder("achikptuwx", f"content-length|alt-svc|{_HOP}|{_CONTROL}|(?!inkbox-notices:){_INKBOX}")
TRAILER_NAMES = _finder(
    "a-z",
    f"host|content-[^:\\r]*+|{_HOP}|{_CONTROL}|{_FORWARDED}|{_INKBOX}|expect|max-forwards|range|if-[^:\\r]*+"
    r"|authorization|www-authenticate|authentication-info|cookie2?|set-cookie2?|cache-control|age|expires|date"
    r"|location|retry-after|vary|warning|pragma|alt-svc|origin|sec-[^:\r]*+|x-api-key",
)

# What lets a caller in, and where a page that calls is from; a look-alike is for nobody who reads the first.
CREDENTIALS = _finder("acox", "authorization|cookie|origin|x[-_]api[-_]key")

# Whose page a request comes from, and what for.
PROVENANCE = _finder(
    "aors", "accept|access-control-request-method|origin|referer|sec-fetch-(?:site|mode|dest)"
)

# Connection may not take these away from the receiver they are meant for.
PROTECTED = frozenset(
    b"""
    host content-length content-type content-encoding content-range authorization cookie set-cookie origin
    referer range expect date location www-authenticate cache-control user-agent accept-encoding x-api-key
    sec-websocket-key sec-websocket-version sec-websocket-protocol sec-websocket-extensions
    sec-websocket-accept close
    """.split()
)
_ALREADY_CUT = frozenset(b"connection keep-alive te trailer transfer-encoding upgrade http2-settings".split())


class Limits(NamedTuple):
    """How large a message head may be. Sizes are bytes; a line is counted without its CRLF."""

    request_line: int = 8192
    field: int = 8192
    head: int = 32768  # start line, fields and blank line together
    fields: int = 100


REQUEST_LIMITS = Limits()
REPLY_LIMITS = Limits(field=65536, head=65536, fields=1000)


def check_block(block: bytes, limits: Limits, status: int) -> None:
    """Raises:
    HttpError: ``431`` (of a visitor, else ``status``) over a limit, ``status`` for broken grammar.
    """
    large = 431 if status == 400 else status
    if block.count(b"\n") > limits.fields:
        raise HttpError(large, "too-many-fields", f"more than {limits.fields}")
    if len(block) > limits.field and max(map(len, block.split(b"\r\n"))) > limits.field:
        raise HttpError(large, "field-too-long", f"longer than {limits.field} bytes")
    if _block(block) is None:
        raise HttpError(status, fault(block))


def fault(block: bytes) -> str:
    """Which rule the first bad line of a block breaks, as a constant word."""
    good = _longest_good(block)
    rest = block[good.end() :] if good else block
    line = rest.partition(b"\n")[0]
    bare = line.removesuffix(b"\r")
    if b"\0" in bare:
        return "nul"
    if b"\r" in bare:
        return "bare-cr"
    if bare is line and rest != line:
        return "bare-lf"
    if line[:1] in (b" ", b"\t"):
        return "folded-line"
    name, colon, _ = bare.partition(b":")
    if not colon:
        return "no-colon"
    return "field-value" if _token(name) else "field-name"


def cut(
    block: bytes, names: re.Pattern[bytes], kept: Collection[bytes] = ()
) -> tuple[dict[bytes, bytes], bytes]:
    """Take the lines of these names out of a checked block: their values by lower-case name, and the rest.

    Values are stripped of outer blanks; those of a repeated name are joined by a comma, which no
    single-valued field survives. Names in ``kept`` are reported and stay in the rest.
    """
    text = b"\r\n" + block
    lower = text.lower()
    found: dict[bytes, bytes] = {}
    match = names.search(lower)
    if match is None:  # fast path: a canonical head holds nothing of interest
        return found, block
    rest: list[bytes] = []
    done = 0
    while match is not None:
        name = match[1]
        start, end = match.span(2)
        value = text[start:end].rstrip(b" \t")
        found[name] = found[name] + b"," + value if name in found else value
        if name not in kept:
            rest.append(text[done : match.start()])
            done = end
        match = names.search(lower, end)
    rest.append(text[done:])
    return found, b"".join(rest)[2:]


def without(block: bytes, names: Collection[bytes]) -> bytes:
    """A checked block less the lines whose lower-case names are in ``names``."""
    if not names:
        return block
    lines = block.split(b"\r\n")
    return b"\r\n".join([line for line in lines if line.partition(b":")[0].lower() not in names])


def content_length(value: bytes, status: int) -> int:
    """Raises:
    HttpError: not 1 to 19 digits, or more than one leading zero (A3): other parsers may read it otherwise.
    """
    # bytes.isdigit knows ASCII digits only, unlike that of str.
    if len(value) > MAX_NUMBER or not value.isdigit() or (value[:2] == b"00" and len(value) > 2):
        raise HttpError(status, "content-length")
    return int(value)


class Options(NamedTuple):
    """What a Connection field says."""

    close: bool
    keep_alive: bool
    upgrade: bool
    nominated: frozenset[bytes]  # lower-case names to remove besides those that are always removed


NO_OPTIONS = Options(False, False, False, frozenset())


def connection_options(value: bytes, status: int) -> Options:
    """Read a Connection field (RFC 9110 section 7.6.1).

    Raises:
        HttpError: an option is not a token.
    """
    # Only short values are remembered: a stranger shall not fill the cache with kilobytes.
    return (_options if len(value) <= 64 else _options.__wrapped__)(value, status)


@lru_cache(maxsize=256)
def _options(value: bytes, status: int) -> Options:
    names = frozenset(filter(None, (option.strip(b" \t") for option in value.lower().split(b","))))
    if not all(map(_token, names)):
        raise HttpError(status, "connection")
    return Options(
        b"close" in names, b"keep-alive" in names, b"upgrade" in names, names - PROTECTED - _ALREADY_CUT
    )


def list_has(value: bytes, word: bytes) -> bool:
    """Whether a comma-separated field has this element, in whatever case."""
    return any(element.strip(b" \t") == word for element in value.lower().split(b","))


_grpc = re.compile(rb"\r\ncontent-type:[\t ]*+application/grpc[+;\r]", re.IGNORECASE).search


def is_grpc(head: bytes) -> bool:
    """Whether a head, or field lines behind another one, are of a gRPC call.

    Such a call says itself how long it may take, and either side may be silent for long.
    """
    return _grpc(head) is not None


def read_trailers(block: bytes, *, max_bytes: int = 8192, status: int = 502) -> bytes:
    """The trailer fields that may be passed on: framing, routing, credentials and cookies are dropped.

    ``block`` are field lines, each ending in CRLF, perhaps with the blank line after them.

    Raises:
        HttpError: ``status`` where they are malformed or more than ``max_bytes``.
    """
    if block.endswith(b"\r\n\r\n") or block == b"\r\n":
        block = block[:-2]
    if len(block) > max_bytes:
        raise HttpError(status, "trailers-too-large", f"more than {max_bytes} bytes")
    if _block(block) is None:
        raise HttpError(status, "trailers")
    return cut(block, TRAILER_NAMES)[1]
