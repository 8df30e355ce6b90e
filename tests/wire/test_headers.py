"""Properties of the whole way of a head, through the one door."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from wellhead.errors import HttpError
from wellhead.wire import headers
from wellhead.wire.h1 import parse_response

NAMES = st.sampled_from(
    b"""
    Host host HOST Content-Length content-length Transfer-Encoding Connection Keep-Alive Proxy Proxy-Foo TE
    Trailer Upgrade HTTP2-Settings Expect X-Forwarded-For Forwarded X-Real-IP X-Request-Id Wellhead-X A X-One
    X-Two Cookie Set-Cookie Sec-WebSocket-Key Alt-Svc Accept Content_Length X_Forwarded_For
    """.split()
)
VALUES = st.one_of(
    st.sampled_from(
        [
            b"",
            b"a.example",
            b"5",
            b"0",
            b"chunked",
            b"close",
            b"keep-alive, X-One",
            b"upgrade, x-two",
            b"websocket",
        ]
        + [b"100-continue", b"trailers", b"Host, Content-Length", b"5, 5", b"a b", b"X-Forwarded-For"]
    ),
    st.binary(max_size=12),
)
LINES = st.tuples(NAMES, st.sampled_from([b": ", b":", b":\t", b" :", b""]), VALUES, st.just(b"\r\n")).map(
    b"".join
)
GOOD_LINES = st.tuples(
    st.sampled_from(
        b"A X-One X-Two Accept Cookie Connection TE Upgrade Expect Content-Length Forwarded".split()
    ),
    st.just(b": "),
    st.sampled_from(
        [b"5", b"x", b"close", b"keep-alive, X-One", b"x-two", b"websocket, upgrade", b"trailers"]
    ),
    st.just(b"\r\n"),
).map(b"".join)
BLOCKS = st.one_of(
    st.lists(LINES, max_size=8).map(b"".join),
    st.lists(GOOD_LINES, max_size=8).map(lambda lines: b"".join([b"Host: a.example\r\n", *lines])),
    st.binary(max_size=80),
)
HOP = frozenset(
    b"""
    connection keep-alive proxy proxy-foo trailer transfer-encoding upgrade http2-settings alt-svc wellhead-x
    """.split()
)
FORWARDED = frozenset(b"x-forwarded-for forwarded x-real-ip x-request-id".split())
STRICT_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")


@dataclass(frozen=True)
class Upstream:
    authority: bytes = b"localhost:8000"
    origin: bytes = b"http://localhost:8000"


def names_of(block: bytes) -> list[bytes]:
    """Lower-case names of a block whose every line is strictly well formed."""
    assert block.endswith(b"\r\n") or not block
    lines = block.split(b"\r\n")[:-1]
    assert all(STRICT_LINE.fullmatch(line) for line in lines)
    return [line.partition(b":")[0].lower() for line in lines]


def nominated(block: bytes) -> set[bytes]:
    """What the Connection lines of a block name."""
    values = re.findall(rb"(?im)^connection:([^\r]*)", block)
    return {name.strip(b" \t").lower() for value in values for name in value.split(b",")}


@given(BLOCKS, st.booleans())
def test_whatever_is_accepted_leads_to_one_host_one_length_and_no_hop_by_hop_field(
    block: bytes, http11: bool
) -> None:
    try:
        fields = headers.read_request_fields(block, http11)
    except HttpError as error:
        assert error.status in (400, 417, 431, 501)
        return
    names = names_of(fields.forward)
    assert names[0] == b"host"
    assert names.count(b"host") == 1
    assert names.count(b"content-length") == (fields.content_length is not None)
    assert not (fields.chunked and fields.content_length is not None)
    assert not HOP - {b"alt-svc"} & set(names)
    assert not FORWARDED & set(names)
    assert names.count(b"te") <= 1 and (b"te" not in names or b"\r\nTE: trailers\r\n" in fields.forward)
    assert not nominated(block) & {b"x-one", b"x-two"} & set(names)
    assert not any(b"_" in name for name in names)


@given(BLOCKS, st.booleans(), st.sampled_from(["rewrite", "preserve"]), st.booleans())
def test_an_upstream_gets_one_host_and_one_framing(
    block: bytes, http11: bool, policy: str, chunked: bool
) -> None:
    try:
        fields = headers.read_request_fields(block, http11)
    except HttpError:
        return
    own = headers.edge_fields("192.0.2.1", "https", fields.host)
    raw = headers.request_envelope(b"POST", b"/x", fields, own, b"r1")
    envelope = headers.read_envelope(raw)
    assert (envelope.content_length, envelope.host.lower()) == (fields.content_length, fields.host)
    chunked = chunked and fields.content_length is None
    head = headers.HostPolicy(policy, Upstream()).request_head(envelope, chunked=chunked)
    line, _, rest = head.partition(b"\r\n")
    assert line == b"POST /x HTTP/1.1"
    assert rest.endswith(b"\r\n\r\n")
    names = names_of(rest[:-2])
    assert names.count(b"host") == 1
    assert names.count(b"transfer-encoding") == chunked
    assert names.count(b"x-forwarded-for") == names.count(b"forwarded") == names.count(b"x-request-id") == 1


@given(BLOCKS, st.sampled_from([b"GET", b"HEAD"]), st.integers(90, 610), st.booleans(), st.booleans())
def test_a_reply_that_is_accepted_by_the_agent_is_accepted_by_the_edge(
    block: bytes, method: bytes, status: int, http11: bool, keep_alive: bool
) -> None:
    try:
        response = parse_response(b"HTTP/1.1 %d x\r\n%b\r\n" % (status, block), method)
    except HttpError as error:
        assert error.status == 502
        return
    canonical = headers.reply_head(response)
    if status < 200:
        assert headers.read_interim(canonical) == canonical
        return
    facts = headers.read_reply(canonical, method)
    assert (facts.status, facts.content_length, facts.fields) == (
        status,
        response.content_length,
        response.fields,
    )
    out = headers.visitor_head(facts, http11=http11, keep_alive=keep_alive)
    names = names_of(out.head.partition(b"\r\n")[2][:-2])
    framings = names.count(b"content-length") + names.count(b"transfer-encoding")
    assert framings == (facts.content_length is not None or out.chunked)
    assert names.count(b"connection") <= 1
    assert not (HOP - {b"connection", b"transfer-encoding"}) & set(names)
    if not framings and not facts.bodyless:
        assert not out.keep_alive


@given(BLOCKS, st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 304\r\n", b"HTTP/1.1 204 \r\n", b""]))
def test_whatever_an_agent_sends_a_visitor_gets_a_clean_head_or_a_502(block: bytes, line: bytes) -> None:
    try:
        facts = headers.read_reply(line + block + b"\r\n", b"GET")
    except HttpError as error:
        assert error.status == 502
        return
    names = names_of(headers.visitor_head(facts).head.partition(b"\r\n")[2][:-2])
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
    assert not (HOP - {b"transfer-encoding"}) & set(names)


TOKEN = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=12).map(str.encode)
VALUE = st.lists(st.sampled_from([*range(0x21, 0x7F), *range(0x80, 0x100), 9, 32]), max_size=20).map(bytes)


@given(st.lists(st.tuples(TOKEN, VALUE), max_size=20))
def test_the_second_opinion_refuses_nothing_that_rfc_9110_allows(lines: list[tuple[bytes, bytes]]) -> None:
    block = b"Host: a\r\n" + b"".join(b"x-%b: %b\r\n" % line for line in lines)
    try:
        assert headers.read_request_fields(block).forward.count(b"\r\n") == block.count(b"\r\n")
    except HttpError as error:
        assert error.reason == "look-alike"


@given(BLOCKS)
def test_trailers_that_are_passed_on_are_clean(block: bytes) -> None:
    try:
        passed = headers.read_trailers(block)
    except HttpError:
        return
    assert not set(names_of(passed)) & (HOP | FORWARDED | {b"host", b"content-length", b"cookie", b"te"})
