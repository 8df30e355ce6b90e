"""HTTP/1.1 message heads: where they end, what their first lines say, how a body is delimited.

Everything here is a pure function of bytes. A visitor's malformed head is an ``HttpError`` with the
status to answer; one of an upstream or an agent is always 502. Bodies are ``wire.body``'s, fields
``wire.fields``'s.

Source: RFC 9112.
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

from wellhead.errors import HttpError
from wellhead.wire.fields import (
    BLOCK,
    NO_OPTIONS,
    REPLY_LIMITS,
    REPLY_NAMES,
    REQUEST_LIMITS,
    TCHAR,
    VALUE,
    Limits,
    Options,
    connection_options,
    content_length,
    cut,
    fault,
    list_has,
    without,
)
from wellhead.wire.hostname import read_authority

HeadLimits = Limits
MAX_METHOD = 32  # bytes
MAX_INTERIM = 16  # 1xx heads before one reply; counted by whoever holds the conversation

_TARGET = rb"[\x21\x22\x24-\x7e\x80-\xff]++"  # no blank, no control, no "#"
_request_line = re.compile(rb"([" + TCHAR + rb"]{1,32}+) (" + _TARGET + rb") HTTP/1\.([01])").fullmatch
plain_line = re.compile(
    rb"(?!TRACE |CONNECT )([" + TCHAR + rb"]{1,32}+) (/" + _TARGET[:-2] + rb"*+) HTTP/1\.1"
).fullmatch
"""``plain_line(buffer, start, end)``: method and target of the common request line: origin form, HTTP/1.1.

None means no more than: ask ``parse_request_line``.
"""
_absolute = re.compile(rb"(?i:https?)://([^/?]*+)(.*+)").fullmatch
_method = re.compile(rb"[" + TCHAR + rb"]{1,32}+").fullmatch
_version = re.compile(rb"HTTP/([0-9]+)\.([0-9]+)").fullmatch
_partial = re.compile(rb"(?:[" + TCHAR + rb"]{1,32}+(?: .*+)?)?\r?", re.DOTALL).fullmatch
_response = re.compile(
    rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: (" + VALUE + rb"))?\r\n"
    rb"(?:Content-Length: ([0-9]++)\r\n)?(" + BLOCK + rb")\r\n"
).fullmatch
_status_line = re.compile(rb"HTTP/1\.[01] [1-5][0-9][0-9](?: " + VALUE + rb")?\r\n").match

_NEVER = frozenset((b"TRACE", b"CONNECT"))


class Head(NamedTuple):
    """A complete request head, cut out of a buffer."""

    line: bytes  # the request line, without CRLF
    block: bytes  # the field lines, each with CRLF
    end: int  # index of the first byte behind the head


def read_head(buffer: bytes, start: int = 0, limits: Limits = REQUEST_LIMITS) -> Head | None:
    """The request head that begins at ``start``; None while it is incomplete.

    An incomplete head that can no longer become a good one is refused at once, never waited for.
    Empty lines before it must be skipped by the caller (``skip_empty_line``).

    Raises:
        HttpError: 414, 431: over a limit; 400, 405, 505: hopeless.
    """
    stop = start + limits.head
    blank = buffer.find(b"\r\n\r\n", start, stop)
    if blank < 0:
        _check_partial(buffer[start : stop + 1], limits)
        return None
    line_end = buffer.find(b"\r\n", start)
    if line_end - start > limits.request_line:
        raise HttpError(414, "request-line-too-long", f"longer than {limits.request_line} bytes")
    return Head(buffer[start:line_end], buffer[line_end + 2 : blank + 2], blank + 4)


def skip_empty_line(buffer: bytes, start: int = 0) -> int:
    """Where a request begins: one CRLF before it is forgiven (RFC 9112 section 2.2)."""
    return start + 2 if buffer.startswith(b"\r\n", start) else start


def _check_partial(part: bytes, limits: Limits) -> None:
    line, newline, rest = part.partition(b"\r\n")
    if len(line) > limits.request_line + (not newline):  # the CR may have come alone
        raise HttpError(414, "request-line-too-long", f"longer than {limits.request_line} bytes")
    if len(part) >= limits.head:
        raise HttpError(431, "head-too-large", f"more than {limits.head} bytes")
    if part.count(b"\n") != part.count(b"\r\n"):
        raise HttpError(400, "bare-lf")
    if b"\0" in part:
        raise HttpError(400, "nul")
    if newline:
        parse_request_line(line)
        if rest[:1] in (b" ", b"\t"):
            raise HttpError(400, "folded-line")
    elif not _partial(line):
        raise HttpError(400, "request-line")


class RequestLine(NamedTuple):
    method: bytes
    target: bytes  # origin form ("/..."), or "*"; byte for byte what the visitor sent
    http11: bool  # False: HTTP/1.0
    authority: bytes | None  # of an absolute target; must equal Host, see ``check_authority``


def parse_request_line(line: bytes) -> RequestLine:
    """Read a request line without its CRLF.

    Raises:
        HttpError: 400 malformed, 405 for TRACE and CONNECT, 505 for HTTP/3 and later (A9, A10).
    """
    match = _request_line(line)
    if match is None:
        raise _line_fault(line)
    method, target, minor = match.groups()
    if method in _NEVER:
        raise HttpError(405, "method-refused")
    if target[0] == 47:  # fast path: origin form
        return RequestLine(method, target, minor == b"1", None)
    return _other_form(method, target, minor == b"1")


def is_method(text: bytes) -> bool:
    """Whether it can be a request's method, known or not."""
    return _method(text) is not None


def _other_form(method: bytes, target: bytes, http11: bool) -> RequestLine:
    if target == b"*":
        if method != b"OPTIONS":
            raise HttpError(400, "target")
        return RequestLine(method, target, http11, None)
    match = _absolute(target)
    if match is None:
        raise HttpError(400, "target")
    authority, path = match.groups()
    if not path:
        path = b"*" if method == b"OPTIONS" else b"/"  # RFC 9112 section 3.2.4
    elif path[0] != 47:
        path = b"/" + path
    return RequestLine(method, path, http11, read_authority(authority).host)


def _line_fault(line: bytes) -> HttpError:
    parts = line.split(b" ")
    version = _version(parts[-1])
    if version and int(version[1][:9]) >= 3:
        return HttpError(505, "version")
    if len(parts) != 3:
        return HttpError(400, "request-line")
    if len(parts[0]) > MAX_METHOD:
        return HttpError(400, "method", f"longer than {MAX_METHOD} bytes")
    if not version or parts[-1] not in (b"HTTP/1.0", b"HTTP/1.1"):
        return HttpError(400, "version")
    return HttpError(400, "request-line")


def check_authority(line: RequestLine, host: bytes) -> None:
    """Raises:
    HttpError: the target names another authority than the Host field (A8). ``host`` is lower case.
    """
    if line.authority is not None and line.authority != host:
        raise HttpError(400, "authority-differs")


class Framing(enum.Enum):
    """How the body behind a response head is delimited (RFC 9112 section 6.3)."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"  # it ends with the connection


class ResponseHead(NamedTuple):
    """An upstream's response head, judged; ``fields`` is ready to travel."""

    status: int
    reason: bytes
    framing: Framing
    content_length: int | None  # of the body, or for HEAD and 304 of the body that is not sent
    keep_alive: bool  # the connection may serve again, once the body is over
    fields: bytes  # end-to-end field lines, in order, without Content-Length


def find_head_end(buffer: bytes, start: int = 0, max_bytes: int = REPLY_LIMITS.head) -> int:
    """Index behind the response head that begins at ``start``; 0 while it is incomplete.

    Raises:
        HttpError: 502: more than ``max_bytes``, or not HTTP.
    """
    blank = buffer.find(b"\r\n\r\n", start, start + max_bytes)
    if blank >= 0:
        return blank + 4
    part = buffer[start : start + max_bytes + 1]
    if len(part) >= max_bytes:
        raise HttpError(502, "head-too-large", f"more than {max_bytes} bytes")
    if part[:7] != b"HTTP/1."[: len(part)] or part.count(b"\n") != part.count(b"\r\n"):
        raise HttpError(502, "not-http")
    return 0


Taken = tuple[int, bytes, bool, dict[bytes, bytes], bytes, Options]


def read_response(head: bytes) -> Taken:
    """Take a response head apart; it ends with the blank line. Nothing is decided yet.

    Returns status, reason, whether it is HTTP/1.1, the fields that concern an intermediary by
    lower-case name, the others, and what Connection says. (A bare tuple: a record costs 0.3 µs.)

    Raises:
        HttpError: 502: malformed or over ``REPLY_LIMITS``.
    """
    match = _response(head)
    if match is None or len(head) > REPLY_LIMITS.head or head.count(b"\n") > REPLY_LIMITS.fields + 2:
        raise _response_fault(head)
    minor, status, reason, length, block = match.groups(b"")
    found, fields = cut(block, REPLY_NAMES)
    if length:  # fast path: in the first line, where we and many servers write it
        again = found.get(b"content-length")
        found[b"content-length"] = length if again is None else length + b"," + again
    options = NO_OPTIONS
    if b"connection" in found:
        options = connection_options(found[b"connection"], 502)
        fields = without(fields, options.nominated)
    return int(status), reason, minor == b"1", found, fields, options


def _response_fault(head: bytes) -> HttpError:
    if len(head) > REPLY_LIMITS.head:
        return HttpError(502, "head-too-large", f"{len(head)} bytes, at most {REPLY_LIMITS.head} allowed")
    if head.count(b"\n") > REPLY_LIMITS.fields + 2:
        return HttpError(502, "too-many-fields", f"more than {REPLY_LIMITS.fields}")
    line = _status_line(head)
    if line is None:
        return HttpError(502, "status-line")
    if head[-4:] != b"\r\n\r\n":
        return HttpError(502, "no-blank-line")
    return HttpError(502, fault(head[line.end() : -2]))


def parse_response(head: bytes, method: bytes, *, upgrade: bool = False) -> ResponseHead:
    """Judge an upstream's response head; it ends with the blank line.

    ``method`` is the request's; ``upgrade`` says that it asked for a websocket, which alone permits
    101. A pure function: servers repeat their heads, so callers may remember the last one.

    Raises:
        HttpError: 502: malformed, ambiguous framing, or a 101 nobody asked for (A13, A14).
    """
    status, reason, http11, found, fields, options = read_response(head)
    if status == 101:
        _check_switch(found, upgrade and options.upgrade)
    framing, length = _framing(status, method, found, http11)
    keep_alive = not options.close and (http11 or options.keep_alive) and framing is not Framing.CLOSE
    if status == 204 and (length or b"transfer-encoding" in found):
        keep_alive = False  # it may believe in a body that we do not: nothing after it can be trusted
    if status < 200 or status == 204:
        length = None
    return ResponseHead(status, reason, framing, length, keep_alive, fields)


def _framing(
    status: int, method: bytes, found: dict[bytes, bytes], http11: bool
) -> tuple[Framing, int | None]:
    coding = found.get(b"transfer-encoding")
    length = content_length(found[b"content-length"], 502) if b"content-length" in found else None
    if coding is not None:
        if length is not None:
            raise HttpError(502, "length-and-coding")
        if not http11 or coding.lower() != b"chunked":
            raise HttpError(502, "transfer-encoding")
    if method == b"HEAD" or status < 200 or status in (204, 304):
        return Framing.NONE, length
    if coding is not None:
        return Framing.CHUNKED, None
    return (Framing.CLOSE, None) if length is None else (Framing.LENGTH, length)


def _check_switch(found: dict[bytes, bytes], allowed: bool) -> None:
    if not allowed or not list_has(found.get(b"upgrade", b""), b"websocket"):
        raise HttpError(502, "unasked-switch")
