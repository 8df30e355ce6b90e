"""HTTP/2 header lists and the house's own heads: one judgement for both versions of HTTP.

What HTTP/2 adds is judged here: pseudo-headers, names in lower case, no connection-specific fields,
cookie crumbs. The rest is put into the form of an HTTP/1.1 field block and read by the code that reads
those, so that nothing is allowed, dropped or rewritten in one version alone.

::

    visitor ── read_request ─> RequestFields            reply_fields <─ ReplyFacts ══> visitor
    agent: HostPolicy.request_head ─> request_fields    response_head ─> ResponseHead ─> reply_head

Source: RFC 9113 sections 8.2 and 8.3; RFC 8441 section 4.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from wellhead.errors import HttpError
from wellhead.wire.fields import REQUEST_LIMITS, Limits, read_trailers
from wellhead.wire.h1 import Framing, ResponseHead, parse_request_line, parse_response
from wellhead.wire.hostname import read_authority
from wellhead.wire.hpack import Fields
from wellhead.wire.reply import ReplyFacts
from wellhead.wire.request import RequestFields, read_request_fields
from wellhead.wire.ws import accept_key

# Lower-case tokens, each ending in a newline; values without controls and outer blanks.
_names = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9a-z]++\n)*+").fullmatch
_values = re.compile(rb"(?:(?:[\x21-\x7e\x80-\xff](?:[\t\x20]*+[\x21-\x7e\x80-\xff]++)*+)?\n)*+").fullmatch
_line = re.compile(rb"([^:\r]++):[\t ]*+([^\r]*+)\r\n").findall
_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))
_CONNECTION_SPECIFIC = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"http2-settings")
)
_SCHEMES = frozenset((b"http", b"https"))
MEMO_MAX = 4 * 1024  # bytes of fields that are worth remembering
_PLAIN = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"))


class H2Request(NamedTuple):
    """A visitor's request, judged; what an HTTP/1.1 request line and its fields would say."""

    method: bytes  # of a websocket: GET
    target: bytes  # origin form, or "*"
    scheme: bytes
    fields: RequestFields  # ``host``, ``hostname``, ``content_length``, ``websocket``, ``forward``, ...

    @property
    def websocket(self) -> bool:
        """Asks for a websocket by extended CONNECT (RFC 8441); answered 200, not 101."""
        return self.fields.websocket


def read_request(
    fields: Fields, limits: Limits = REQUEST_LIMITS, websocket_key: Callable[[], bytes] | None = None
) -> H2Request:
    """Judge a visitor's header list.

    ``websocket_key`` makes the Sec-WebSocket-Key that an upstream will be asked with: HTTP/2 has none.
    Without it extended CONNECT is refused. But for the key, a pure function.

    Raises:
        HttpError: 400 malformed or ambiguous, 405, 414, 417, 431: as an HTTP/1.1 head that says the same.
    """
    pseudo, rest = _split(fields)
    method, scheme, path = pseudo.get(b":method"), pseudo.get(b":scheme"), pseudo.get(b":path")
    if method is None or scheme is None or path is None or len(pseudo) + len(rest) != len(fields):
        raise HttpError(400, "pseudo-header")
    key = b""
    if b":protocol" in pseudo:
        if method != b"CONNECT" or pseudo[b":protocol"].lower() != b"websocket" or websocket_key is None:
            raise HttpError(400, "extended-connect")
        method, key = b"GET", websocket_key()
    _check_line(method, path, limits)
    if scheme not in _SCHEMES:
        raise HttpError(400, "scheme")
    block = _request_block(pseudo.get(b":authority"), rest, key)
    if len(block) + len(path) > limits.head:
        raise HttpError(431, "head-too-large", f"more than {limits.head} bytes")
    return H2Request(method, path, scheme, read_request_fields(block, True, limits))


class RequestReader:
    """``read_request`` for one connection: what its last request said is recognised, not read again.

    Only plain requests are remembered: no body, no websocket, no expectation, no more than MEMO_MAX bytes.
    """

    __slots__ = ("_fields", "_key", "_limits", "_request")

    def __init__(
        self, limits: Limits = REQUEST_LIMITS, websocket_key: Callable[[], bytes] | None = None
    ) -> None:
        self._limits = limits
        self._key = websocket_key
        self._fields: Fields | None = None
        self._request: H2Request | None = None

    def read(self, fields: Fields) -> H2Request:
        """As ``read_request``."""
        known = self._request
        if known is not None:
            if fields is self._fields:  # fast path: the connection knew the whole block
                return known
            again = self._same_but_line(fields, known)
            if again is not None:
                self._fields, self._request = fields, again
                return again
        request = read_request(fields, self._limits, self._key)
        heard = request.fields
        if (
            not (heard.has_body or heard.websocket or heard.expect_continue)
            and len(heard.forward) <= MEMO_MAX
        ):
            self._fields, self._request = fields, request
        return request

    def _same_but_line(self, fields: Fields, known: H2Request) -> H2Request | None:
        """The request, if it differs from the last one in method and path alone."""
        last = self._fields
        assert last is not None
        if len(fields) != len(last) or fields[4:] != last[4:]:
            return None
        method = path = b""
        for (name, value), before in zip(fields[:4], last, strict=False):
            if name != before[0]:
                return None
            if name == b":method":
                method = value
            elif name == b":path":
                path = value
            elif value != before[1]:
                return None
        if method not in _PLAIN or not path:
            return None
        _check_line(method, path, self._limits)
        return known._replace(method=method, target=path)


def _split(fields: Fields) -> tuple[dict[bytes, bytes], Fields]:
    """The pseudo-headers by name, and the fields behind them."""
    pseudo: dict[bytes, bytes] = {}
    at = 0
    for at, (name, value) in enumerate(fields):
        if name[:1] != b":":
            return pseudo, fields[at:]
        if name not in _PSEUDO or name in pseudo:
            raise HttpError(400, "pseudo-header")
        pseudo[name] = value
    return pseudo, []


def _check_line(method: bytes, path: bytes, limits: Limits) -> None:
    line = b"%b %b HTTP/1.1" % (method, path)
    if len(line) > limits.request_line:
        raise HttpError(414, "request-line-too-long", f"longer than {limits.request_line} bytes")
    if path[:1] != b"/" and path != b"*":
        raise HttpError(400, "target")
    parse_request_line(line)


def _request_block(authority: bytes | None, rest: Fields, key: bytes) -> bytes:
    names = [name for name, _ in rest]
    check_fields(rest, names)
    named = None if authority is None else read_authority(authority).host  # it becomes a line of the block
    host = b""
    if b"host" in names:
        hosts = [value for name, value in rest if name == b"host"]
        if len(hosts) > 1 or (named is not None and read_authority(hosts[0]).host != named):
            raise HttpError(400, "authority-differs")
        host = hosts[0]
        rest = [field for field in rest if field[0] != b"host"]
    if names.count(b"cookie") > 1:
        rest = joined_cookies(rest)
    if key:
        rest = [field for field in rest if field[0] != b"sec-websocket-key"]
        rest += ((b"connection", b"Upgrade"), (b"upgrade", b"websocket"), (b"sec-websocket-key", key))
    lines = b"".join([b"%b: %b\r\n" % field for field in rest])
    return b"host: %b\r\n%b" % (host if authority is None else authority, lines)


def check_fields(fields: Fields, names: list[bytes], status: int = 400) -> None:
    """Judge a header list whose names are ``names``.

    Raises:
        HttpError: ``status``: what HTTP/2 forbids in any header list (RFC 9113 section 8.2).
    """
    count = len(names)
    text = b"\n".join(names) + b"\n" if names else b""
    if text.count(b"\n") != count or not _names(text):
        raise HttpError(status, "field-name")
    text = b"\n".join([value for _, value in fields]) + b"\n" if fields else b""
    if text.count(b"\n") != count or not _values(text):
        raise HttpError(status, "field-value")
    if not _CONNECTION_SPECIFIC.isdisjoint(names):
        raise HttpError(status, "connection-specific")
    if b"te" in names and any(name == b"te" and value.lower() != b"trailers" for name, value in fields):
        raise HttpError(status, "te")


def joined_cookies(rest: Fields) -> Fields:
    """One Cookie of all crumbs, where the first was (RFC 9113 section 8.2.3)."""
    whole = (b"cookie", b"; ".join([value for name, value in rest if name == b"cookie"]))
    first = next(at for at, (name, _) in enumerate(rest) if name == b"cookie")
    return [*rest[:first], whole, *[field for field in rest[first:] if field[0] != b"cookie"]]


def trailer_block(fields: Fields, *, max_bytes: int = 8192, status: int = 400) -> bytes:
    """Trailers as field lines, each ending in CRLF; those that must not be passed on are dropped.

    Raises:
        HttpError: ``status``: malformed, or more than ``max_bytes``.
    """
    check_fields(fields, [name for name, _ in fields], status)
    return read_trailers(b"".join([b"%b: %b\r\n" % f for f in fields]), max_bytes=max_bytes, status=status)


def block_fields(block: bytes) -> Fields:
    """A checked block's lines as a header list: names in lower case, values without outer blanks."""
    return [(name.lower(), value.rstrip(b" \t")) for name, value in _line(block)]


def reply_fields(facts: ReplyFacts, extra: bytes = b"") -> Fields:
    """The header list for a visitor; ``extra``: complete lines of our own. A pure function.

    A 101 becomes the 200 that answers extended CONNECT.
    """
    fields: Fields = [(b":status", b"200" if facts.status == 101 else b"%d" % facts.status)]
    fields += block_fields(facts.fields)
    if extra:
        fields += block_fields(extra)
    if facts.status == 101:
        return [field for field in fields if field[0] != b"sec-websocket-accept"]
    if facts.content_length is not None:
        fields.append((b"content-length", b"%d" % facts.content_length))
    return fields


def interim_fields(head: bytes) -> Fields:
    """The header list of a 1xx head that ``reply.read_interim`` gave."""
    line, _, block = head.partition(b"\r\n")
    return [(b":status", line[9:12]), *block_fields(block)]


def trailer_fields(block: bytes) -> Fields:
    """The header list of trailer lines that ``fields.read_trailers`` gave."""
    return block_fields(block)


def request_fields(head: bytes, scheme: bytes, *, websocket: bool = False) -> Fields:
    """The header list for an upstream, of the HTTP/1.1 head that ``HostPolicy.request_head`` gave.

    ``websocket``: ask by extended CONNECT.
    """
    line, _, block = head.partition(b"\r\n")
    method, target, _ = line.split(b" ")
    fields = block_fields(block)
    host = next(value for name, value in fields if name == b"host")
    dropped = _CONNECTION_SPECIFIC | {b"host"}
    pseudo: Fields = [
        (b":method", method), (b":scheme", scheme), (b":authority", host), (b":path", target),
    ]  # fmt: skip
    if websocket:
        pseudo[0] = (b":method", b"CONNECT")
        pseudo.append((b":protocol", b"websocket"))
        dropped |= {b"sec-websocket-key"}
    return pseudo + [field for field in fields if field[0] not in dropped]


def response_head(fields: Fields, method: bytes, *, websocket_key: bytes = b"") -> ResponseHead:
    """Judge an upstream's header list, interim or final, as ``h1.parse_response`` does a head.

    ``websocket_key``: the request was an extended CONNECT for a visitor's request with this
    Sec-WebSocket-Key; a 2xx then becomes the 101 that answers it.

    Raises:
        HttpError: 502: malformed or over a limit.
    """
    if not fields or fields[0][0] != b":status" or len(fields[0][1]) != 3:
        raise HttpError(502, "pseudo-header")
    rest = fields[1:]
    check_fields(rest, [name for name, _ in rest], 502)
    block = b"".join([b"%b: %b\r\n" % field for field in rest])
    head = parse_response(b"HTTP/1.1 %b \r\n%b\r\n" % (fields[0][1], block), method)
    if websocket_key and 200 <= head.status < 300:
        accept = b"Sec-WebSocket-Accept: %b\r\n" % accept_key(websocket_key)
        return ResponseHead(101, b"", Framing.NONE, None, True, head.fields + accept)
    if head.framing is Framing.CLOSE:
        head = head._replace(framing=Framing.CHUNKED)
    return head._replace(keep_alive=True)
