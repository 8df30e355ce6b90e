"""Heads of HTTP/1.1 messages: request lines, limits, responses of upstreams."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.errors import HttpError
from wellhead.wire.h1 import (
    Framing,
    Head,
    HeadLimits,
    RequestLine,
    check_authority,
    find_head_end,
    parse_request_line,
    parse_response,
    read_head,
    skip_empty_line,
)

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    ("line", "method", "target", "http11"),
    [
        (b"GET / HTTP/1.1", b"GET", b"/", True),
        (b"GET / HTTP/1.0", b"GET", b"/", False),
        (b"get /x HTTP/1.1", b"get", b"/x", True),
        (b"POST /a/%2F..//b/?q=1&r=%00 HTTP/1.1", b"POST", b"/a/%2F..//b/?q=1&r=%00", True),
        (b"GET //evil HTTP/1.1", b"GET", b"//evil", True),
        (b'GET /"<>{}|^`\\ HTTP/1.1', b"GET", b'/"<>{}|^`\\', True),
        (b"GET /\xc3\xa4 HTTP/1.1", b"GET", b"/\xc3\xa4", True),
        (b"OPTIONS * HTTP/1.1", b"OPTIONS", b"*", True),
        (b"M-SEARCH /x HTTP/1.1", b"M-SEARCH", b"/x", True),
        (b"!#$%&'*+-.^_`|~09 /x HTTP/1.1", b"!#$%&'*+-.^_`|~09", b"/x", True),
        (b"A" * 32 + b" /x HTTP/1.1", b"A" * 32, b"/x", True),
    ],
)
def test_good_request_lines(line: bytes, method: bytes, target: bytes, http11: bool) -> None:
    assert parse_request_line(line) == (method, target, http11, None)


@pytest.mark.parametrize(
    ("line", "method", "target", "authority"),
    [
        (b"GET http://a.example HTTP/1.1", b"GET", b"/", b"a.example"),
        (b"GET http://a.example/ HTTP/1.1", b"GET", b"/", b"a.example"),
        (b"GET HTTPS://A.Example:8443/x?y HTTP/1.1", b"GET", b"/x?y", b"a.example:8443"),
        (b"GET http://a?b HTTP/1.1", b"GET", b"/?b", b"a"),
        (b"OPTIONS http://a HTTP/1.1", b"OPTIONS", b"*", b"a"),
        (b"OPTIONS http://a/ HTTP/1.1", b"OPTIONS", b"/", b"a"),
        (b"GET http://[::1]:80/ HTTP/1.1", b"GET", b"/", b"[::1]:80"),
        (b"GET http://a//b HTTP/1.1", b"GET", b"//b", b"a"),
    ],
)
def test_an_absolute_target_becomes_origin_form(
    line: bytes, method: bytes, target: bytes, authority: bytes
) -> None:
    read = parse_request_line(line)
    assert read == RequestLine(method, target, True, authority)
    check_authority(read, authority)
    with pytest.raises(HttpError) as caught:
        check_authority(read, b"other.example")
    assert (caught.value.status, caught.value.reason) == (400, "authority-differs")


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        (b"", 400, "request-line"),
        (b"GET", 400, "request-line"),
        (b"GET /", 400, "request-line"),
        (b"GET  / HTTP/1.1", 400, "request-line"),
        (b"GET / HTTP/1.1 ", 400, "request-line"),
        (b" GET / HTTP/1.1", 400, "request-line"),
        (b"GET\t/\tHTTP/1.1", 400, "request-line"),
        (b"GET / x HTTP/1.1", 400, "request-line"),
        (b"GET /\x0b HTTP/1.1", 400, "request-line"),
        (b"GET /\x00 HTTP/1.1", 400, "request-line"),
        (b"GET /\r HTTP/1.1", 400, "request-line"),
        (b"GET /\n HTTP/1.1", 400, "request-line"),
        (b"GET /\x7f HTTP/1.1", 400, "request-line"),
        (b"GET /a#b HTTP/1.1", 400, "request-line"),
        (b"G(T / HTTP/1.1", 400, "request-line"),
        (b"G\xc3\xa4T / HTTP/1.1", 400, "request-line"),
        (b"A" * 33 + b" / HTTP/1.1", 400, "method"),
        (b"GET / HTTP/1.2", 400, "version"),
        (b"GET / HTTP/0.9", 400, "version"),
        (b"GET / HTTP/2.0", 400, "version"),
        (b"GET / HTTP/1.1.1", 400, "version"),
        (b"GET / HTTP/1", 400, "version"),
        (b"GET / HTTP/01.1", 400, "version"),
        (b"GET / HTTP/1.01", 400, "version"),
        (b"GET / http/1.1", 400, "version"),
        (b"GET / HTTP /1.1", 400, "request-line"),
        (b"GET / HTTPS/1.1", 400, "version"),
        (b"GET / ICY", 400, "version"),
        (b"GET / HTTP/3.0", 505, "version"),
        (b"GET / HTTP/3.1", 505, "version"),
        (b"PRI * HTTP/2.0", 400, "version"),
        (b"TRACE / HTTP/1.1", 405, "method-refused"),
        (b"CONNECT a:443 HTTP/1.1", 405, "method-refused"),
        (b"CONNECT / HTTP/1.1", 405, "method-refused"),
        (b"GET * HTTP/1.1", 400, "target"),
        (b"OPTIONS ** HTTP/1.1", 400, "target"),
        (b"GET a HTTP/1.1", 400, "target"),
        (b"GET @evil/ HTTP/1.1", 400, "target"),
        (b"GET \\evil HTTP/1.1", 400, "target"),
        (b"GET ?q HTTP/1.1", 400, "target"),
        (b"GET a:443 HTTP/1.1", 400, "target"),
        (b"GET ftp://a/ HTTP/1.1", 400, "target"),
        (b"GET file:///etc HTTP/1.1", 400, "target"),
        (b"GET http:/a HTTP/1.1", 400, "target"),
        (b"GET http:///a HTTP/1.1", 400, "host"),
        (b"GET http://u@a/ HTTP/1.1", 400, "host"),
        (b"GET http://a:0/ HTTP/1.1", 400, "host"),
        (b"GET http://a\\b/ HTTP/1.1", 400, "host"),
    ],
)
def test_bad_request_lines(line: bytes, status: int, reason: str) -> None:
    with pytest.raises(HttpError) as caught:
        parse_request_line(line)
    assert (caught.value.status, caught.value.reason) == (status, reason)


def test_a_head_is_cut_out_of_what_came() -> None:
    assert read_head(GET + b"body") == Head(b"GET / HTTP/1.1", b"Host: a\r\n", len(GET))
    assert read_head(b"xx" + GET, 2) == Head(b"GET / HTTP/1.1", b"Host: a\r\n", len(GET) + 2)
    assert read_head(b"GET / HTTP/1.0\r\n\r\n") == Head(b"GET / HTTP/1.0", b"", 18)


def test_every_prefix_of_a_good_head_is_waited_for() -> None:
    head = b"GET /" + b"x" * 50 + b" HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"
    for end in range(len(head)):
        assert read_head(head[:end]) is None
    assert read_head(head) is not None


@pytest.mark.parametrize(
    ("part", "status", "reason"),
    [
        (b"GET / HTTP/1.1\n", 400, "bare-lf"),
        (b"GET / HTTP/1.1\r\nHost: a\n\n", 400, "bare-lf"),
        (b"\n", 400, "bare-lf"),
        (b"GET /\0", 400, "nul"),
        (b"GET /\r\n", 400, "request-line"),
        (b"GET / HTTP/3.0\r\nHost", 505, "version"),
        (b"PRI * HTTP/2.0\r\n", 400, "version"),
        (b"CONNECT a:1 HTTP/1.1\r\n", 405, "method-refused"),
        (b"GET / HTTP/1.1\r\n Host: a", 400, "folded-line"),
        (b"\x16\x03\x01\x02\x05\x01", 400, "request-line"),
        (b" GET", 400, "request-line"),
        (b"A" * 33, 400, "request-line"),
        (b"G\xff", 400, "request-line"),
    ],
)
def test_a_hopeless_beginning_is_refused_before_its_end(part: bytes, status: int, reason: str) -> None:
    with pytest.raises(HttpError) as caught:
        read_head(part)
    assert (caught.value.status, caught.value.reason) == (status, reason)


def _line_of(size: int) -> bytes:
    return b"GET /" + b"x" * (size - 14) + b" HTTP/1.1"


@pytest.mark.parametrize("limit", [40, 8192])
def test_the_request_line_has_a_limit(limit: int) -> None:
    limits = HeadLimits(request_line=limit)
    good = _line_of(limit) + b"\r\nHost: a\r\n\r\n"
    assert read_head(good, 0, limits) is not None
    for end in (limit - 1, limit, limit + 1, limit + 2):
        assert read_head(good[:end], 0, limits) is None
    bad = _line_of(limit + 1)
    for part in (bad + b"\r", bad + b"\r\n", bad + b"\r\nHost: a\r\n\r\n", b"GET /" + b"x" * limit):
        with pytest.raises(HttpError) as caught:
            read_head(part, 0, limits)
        assert (caught.value.status, caught.value.reason) == (414, "request-line-too-long")


@pytest.mark.parametrize("limit", [200, 32768])
def test_the_head_has_a_limit(limit: int) -> None:
    limits = HeadLimits(head=limit)
    rest = b"GET / HTTP/1.1\r\nX: "
    good = rest + b"x" * (limit - len(rest) - 4) + b"\r\n\r\n"
    assert len(good) == limit
    assert read_head(good, 0, limits) is not None
    assert read_head(good[:-1], 0, limits) is None
    assert read_head(b"??" + good + b"body" * 1000, 2, limits) is not None
    for bad in (good[:-4] + b"x\r\n\r\n", good[:-4] + b"xxxx", good[:-4] + b"x" * 10_000):
        with pytest.raises(HttpError) as caught:
            read_head(bad, 0, limits)
        assert (caught.value.status, caught.value.reason) == (431, "head-too-large")


def test_one_empty_line_before_a_request_is_forgiven() -> None:
    assert skip_empty_line(b"\r\nGET") == 2
    assert skip_empty_line(b"\r\n\r\nGET") == 2
    assert skip_empty_line(b"GET") == 0
    assert skip_empty_line(b"xGET\r\nGET", 4) == 6
    head = read_head(b"\r\n\r\n" + GET, 2)
    assert head is not None
    with pytest.raises(HttpError):
        parse_request_line(head.line)


def _response(text: bytes, method: bytes = b"GET", *, upgrade: bool = False) -> tuple[object, ...]:
    head = parse_response(text, method, upgrade=upgrade)
    return head.status, head.framing, head.content_length, head.keep_alive


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", (200, Framing.CLOSE, None, False)),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", (200, Framing.LENGTH, 0, True)),
        (b"HTTP/1.1 200 \r\ncontent-length:5\r\n\r\n", (200, Framing.LENGTH, 5, True)),
        (b"HTTP/1.1 200 OK\r\nX: y\r\nCONTENT-LENGTH: 05\r\n\r\n", (200, Framing.LENGTH, 5, True)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked \r\n\r\n", (200, Framing.CHUNKED, None, True)),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n",
            (200, Framing.LENGTH, 5, False),
        ),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", (200, Framing.LENGTH, 5, False)),
        (
            b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive\r\n\r\n",
            (200, Framing.LENGTH, 5, True),
        ),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", (200, Framing.CLOSE, None, False)),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, Framing.NONE, None, True)),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", (204, Framing.NONE, None, True)),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", (204, Framing.NONE, None, False)),
        (b"HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n", (204, Framing.NONE, None, False)),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", (304, Framing.NONE, 5, True)),
        (b"HTTP/1.1 100 Continue\r\n\r\n", (100, Framing.NONE, None, True)),
        (
            b"HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\nLink: x\r\n\r\n",
            (103, Framing.NONE, None, True),
        ),
        (b"HTTP/1.1 599 \xc3\xa4\t!\r\nContent-Length: 1\r\n\r\n", (599, Framing.LENGTH, 1, True)),
        (
            b"HTTP/1.1 418 I'm a teapot\r\nX: \x80\xff\r\nContent-Length: 1\r\n\r\n",
            (418, Framing.LENGTH, 1, True),
        ),
    ],
)
def test_good_responses(text: bytes, expected: tuple[object, ...]) -> None:
    assert _response(text) == expected


def test_a_response_to_head_has_no_body_whatever_it_says() -> None:
    assert _response(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"HEAD") == (200, Framing.NONE, 5, True)
    assert _response(b"HTTP/1.1 200 OK\r\n\r\n", b"HEAD") == (200, Framing.NONE, None, True)
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert _response(chunked, b"HEAD") == (200, Framing.NONE, None, True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "length-and-coding"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n", "length-and-coding"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", "content-length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\ncontent-length: 6\r\n\r\n", "content-length"),
        (b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 5, 5\r\n\r\n", "content-length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", "content-length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\n", "content-length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", "content-length"),
        (b"HTTP/1.1 204 OK\r\nContent-Length: no\r\n\r\n", "content-length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", "content-length"),
        (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer-encoding"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "transfer-encoding"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", "transfer-encoding"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n", "transfer-encoding"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n", "transfer-encoding"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "transfer-encoding",
        ),
        (b"HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\n", "status-line"),
        (b"HTTP/1.1 200 O\rK\r\n\r\n", "status-line"),
        (b"HTTP/1.1 200 O\0K\r\n\r\n", "status-line"),
        (b"HTTP/1.1  200 OK\r\n\r\n", "status-line"),
        (b"HTTP/1.1 099 OK\r\n\r\n", "status-line"),
        (b"HTTP/1.1 99 OK\r\n\r\n", "status-line"),
        (b"HTTP/1.1 000 OK\r\n\r\n", "status-line"),
        (b"HTTP/1.1 600 OK\r\n\r\n", "status-line"),
        (b"HTTP/1.1 1000 OK\r\n\r\n", "status-line"),
        (b"HTTP/1.1 2_0 OK\r\n\r\n", "status-line"),
        (b"HTTP/1.1 +20 OK\r\n\r\n", "status-line"),
        (b"HTTP/1.1 200OK\r\n\r\n", "status-line"),
        (b"HTTP/1.2 200 OK\r\n\r\n", "status-line"),
        (b"HTTP/2 200 OK\r\n\r\n", "status-line"),
        (b"ICY 200 OK\r\n\r\n", "status-line"),
        (b"http/1.1 200 OK\r\n\r\n", "status-line"),
        (b"HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n", "bare-lf"),
        (b"HTTP/1.1 200 OK\r\nA: b\rC: d\r\n\r\n", "bare-cr"),
        (b"HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", "nul"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "folded-line"),
        (b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "field-name"),
        (b"HTTP/1.1 200 OK\r\nA\r\n\r\n", "no-colon"),
        (b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n", "field-name"),
        (b"HTTP/1.1 200 OK\r\nConnection: a b\r\n\r\n", "connection"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "unasked-switch"),
    ],
)
def test_bad_responses(text: bytes, reason: str) -> None:
    with pytest.raises(HttpError) as caught:
        parse_response(text, b"GET")
    assert (caught.value.status, caught.value.reason) == (502, reason)


def test_a_switch_needs_the_question_and_both_fields_of_the_answer() -> None:
    good = b"HTTP/1.1 101 Switching\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nX: y\r\n\r\n"
    head = parse_response(good, b"GET", upgrade=True)
    assert (head.status, head.framing, head.fields) == (101, Framing.NONE, b"X: y\r\n")
    for bad in (
        b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 S\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 S\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    ):
        with pytest.raises(HttpError):
            parse_response(bad, b"GET", upgrade=True)


def test_fields_of_one_hop_and_of_ours_stop_at_the_agent() -> None:
    head = parse_response(
        b"HTTP/1.1 200 OK\r\nServer: x\r\nConnection: close, X-Mine\r\nx-mine: 1\r\nKeep-Alive: timeout=5\r\n"
        b"Proxy-Authenticate: B\r\nAlt-Svc: h3\r\nTrailer: A\r\nWellhead-Session: 1\r\nContent-Length: 2\r\n"
        b"Set-Cookie: a=1\r\nUpgrade: h2c\r\nSet-Cookie: b=2\r\n\r\n",
        b"GET",
    )
    assert head.fields == b"Server: x\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"


def test_a_response_head_has_a_limit() -> None:
    start = b"HTTP/1.1 200 OK\r\nX: "
    good = start + b"x" * (65536 - len(start) - 4) + b"\r\n\r\n"
    assert find_head_end(good + b"body") == 65536
    assert parse_response(good, b"GET").status == 200
    assert find_head_end(good[:-1]) == 0
    for bad in (good[:-4] + b"xxxx", good[:-4] + b"x\r\n\r\n", good[:-4] + b"x" * 10_000):
        with pytest.raises(HttpError) as caught:
            find_head_end(bad)
        assert (caught.value.status, caught.value.reason) == (502, "head-too-large")
    with pytest.raises(HttpError) as caught:
        parse_response(good[:-4] + b"x\r\n\r\n", b"GET")
    assert caught.value.reason == "head-too-large"


def test_a_response_may_have_a_thousand_fields() -> None:
    assert parse_response(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n", b"GET").status == 200
    with pytest.raises(HttpError) as caught:
        parse_response(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1001 + b"\r\n", b"GET")
    assert caught.value.reason == "too-many-fields"


def test_what_is_not_http_is_seen_before_the_head_ends() -> None:
    assert find_head_end(b"") == 0
    assert find_head_end(b"HTT") == 0
    assert find_head_end(b"HTTP/1.1 200 OK\r\nA: b\r") == 0
    assert find_head_end(b"xHTTP/1.1 200 OK\r\n\r\nbody", 1) == 20
    for part in (b"SSH-2.0-x\r\n", b"HTTP/2", b"HTTP/1.1 200 OK\n", b"\x15\x03\x01", b"<html>"):
        with pytest.raises(HttpError) as caught:
            find_head_end(part)
        assert (caught.value.status, caught.value.reason) == (502, "not-http")


@given(st.binary(max_size=200))
def test_whatever_comes_a_reader_answers_or_refuses(data: bytes) -> None:
    for read in (
        lambda: read_head(data),
        lambda: parse_request_line(data),
        lambda: find_head_end(data),
        lambda: parse_response(data, b"GET"),
        lambda: parse_response(b"HTTP/1.1 200 OK\r\n" + data + b"\r\n\r\n", b"GET"),
    ):
        try:
            read()
        except HttpError as error:
            assert 400 <= error.status <= 505
