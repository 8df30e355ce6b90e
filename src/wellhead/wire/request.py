"""The edge's view of a visitor's fields: what they mean, and which of them travel to the agent."""

from __future__ import annotations

from typing import NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from wellhead.errors import HttpError
from wellhead.wire.fields import (
    NO_OPTIONS,
    REQUEST_LIMITS,
    REQUEST_NAMES,
    Limits,
    check_block,
    connection_options,
    content_length,
    cut,
    list_has,
    without,
)
from wellhead.wire.hostname import read_authority

_KEPT = frozenset((b"sec-websocket-key", b"sec-websocket-version"))
# Registered codings that we do not undo: not malformed, so 501 rather than 400 (RFC 9112 section 6.1).
_CODINGS = frozenset((b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress"))


class RequestFields(NamedTuple):
    """What the fields of one request say, and what is carried on."""

    host: bytes  # authority, lower case, with the port as it was sent
    hostname: str  # lower case, without port, brackets and one trailing dot
    content_length: int | None
    chunked: bool
    keep_alive: bool  # the visitor wants the connection to stay
    websocket: bool  # asks to switch to a websocket; judged further by ws.check_handshake
    expect_continue: bool
    websocket_key: bytes  # empty if absent
    websocket_version: bytes
    forward: bytes  # "Host: ...", "Content-Length: ..." if any, then the end-to-end lines in order

    @property
    def has_body(self) -> bool:
        return self.chunked or bool(self.content_length)


def read_request_fields(block: bytes, http11: bool = True, limits: Limits = REQUEST_LIMITS) -> RequestFields:
    """Judge a visitor's field lines (each ending in CRLF, without the blank line).

    A pure function, so a connection may remember its last block.

    Raises:
        HttpError: 400 malformed or ambiguous (A1-A4, A6, A8, C8), 417 another expectation (A12),
            431 over a limit (A15), 501 a coding we do not undo (A4).
    """
    check_block(block, limits, 400)
    found, rest = cut(block, REQUEST_NAMES, _KEPT)
    given = found.pop(b"host", b"")
    authority = read_authority(given)
    if not found:  # fast path: nothing but Host concerns us
        _ask_llhttp(block)
        return RequestFields(
            authority.host, authority.hostname, None, False, http11, False, False, b"", b"",
            b"Host: %b\r\n%b" % (given, rest),
        )  # fmt: skip
    if b"_" in b"".join(found):
        raise HttpError(400, "look-alike")
    options = connection_options(found[b"connection"], 400) if b"connection" in found else NO_OPTIONS
    rest = without(rest, options.nominated)
    chunked, length = _framing(found, http11)
    expect_continue = http11 and b"expect" in found and _expects_continue(found[b"expect"])
    _ask_llhttp(block)
    return RequestFields(
        authority.host,
        authority.hostname,
        length,
        chunked,
        not options.close and (http11 or options.keep_alive),
        http11 and options.upgrade and list_has(found.get(b"upgrade", b""), b"websocket"),
        expect_continue,
        found.get(b"sec-websocket-key", b""),
        found.get(b"sec-websocket-version", b""),
        b"Host: %b\r\n%b%b" % (given, _own_lines(length, expect_continue, found.get(b"te")), rest),
    )


class _Deaf:
    """llhttp's callbacks, none of them: it only has to say yes or no."""


_DEAF = _Deaf()


def _ask_llhttp(block: bytes) -> None:
    """A second opinion from the parser that much of the world runs on: 0.4 to 0.8 µs.

    Of what RFC 9110 allows it refuses one thing only, and rightly: a tab behind ``chunked``, at which
    parsers are known to differ.
    """
    try:
        HttpRequestParser(_DEAF).feed_data(b"GET / HTTP/1.1\r\n%b\r\n" % block)
    except HttpParserUpgrade:
        pass  # an upgrade is judged by the reader
    except HttpParserError:
        raise HttpError(400, "second-opinion") from None


def _framing(found: dict[bytes, bytes], http11: bool) -> tuple[bool, int | None]:
    """Whether the body is chunked, and the length of one that is not; (False, None) for no body."""
    coding = found.get(b"transfer-encoding")
    given = found.get(b"content-length")
    if coding is None:
        return False, None if given is None else content_length(given, 400)
    if given is not None:
        raise HttpError(400, "length-and-coding")
    if not http11:
        raise HttpError(400, "transfer-encoding")
    if coding.lower() != b"chunked":
        raise _coding_fault(coding.lower())
    return True, None


def _coding_fault(coding: bytes) -> HttpError:
    codings = [one.strip(b" \t") for one in coding.split(b",")]
    if codings[-1] == b"chunked":
        codings.pop()
    known = bool(codings) and _CODINGS.issuperset(codings)
    return HttpError(501 if known else 400, "transfer-encoding")


def _expects_continue(value: bytes) -> bool:
    if value.lower() != b"100-continue":
        raise HttpError(417, "expectation")
    return True


def _own_lines(length: int | None, expect_continue: bool, te: bytes | None) -> bytes:
    """The lines that are written anew, because of their place or because only one meaning may travel."""
    lines = b"" if length is None else b"Content-Length: %d\r\n" % length
    if expect_continue:
        lines += b"Expect: 100-continue\r\n"
    if te is not None and list_has(te, b"trailers"):
        lines += b"TE: trailers\r\n"
    return lines


def edge_fields(peer_ip: str, scheme: str, authority: bytes) -> bytes:
    """The lines by which the edge tells an upstream about its visitor; constant for a connection and host.

    ``peer_ip`` without brackets or zone, ``scheme`` is ``http`` or ``https``. Source: RFC 7239.
    """
    node = f'"[{peer_ip}]"' if ":" in peer_ip else peer_ip
    host = authority.decode("ascii")
    return (
        f"X-Forwarded-For: {peer_ip}\r\n"
        f"X-Forwarded-Proto: {scheme}\r\n"
        f"X-Forwarded-Host: {host}\r\n"
        f'Forwarded: for={node};host="{host}";proto={scheme}\r\n'
    ).encode("ascii")


def request_envelope(
    method: bytes, target: bytes, fields: RequestFields, edge_fields: bytes, request_id: bytes
) -> bytes:
    """The canonical request head that opens a stream. Source: docs/reference/wire.md, "HTTP envelopes"."""
    return b"%b %b HTTP/1.1\r\n%b%bX-Request-Id: %b\r\n\r\n" % (
        method, target, fields.forward, edge_fields, request_id,
    )  # fmt: skip
