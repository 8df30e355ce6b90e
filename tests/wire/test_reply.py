"""Replies on their way to a visitor: nothing of an agent's head goes out unread."""

from __future__ import annotations

import pytest

from wellhead.errors import HttpError
from wellhead.wire.h1 import parse_response
from wellhead.wire.reply import VisitorHead, read_interim, read_reply, reply_head, visitor_head

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: x\r\n\r\n"


def test_an_agents_canonical_head() -> None:
    upstream = b"HTTP/1.0 200\r\nServer: x\r\nConnection: keep-alive\r\nCONTENT-LENGTH: 05\r\nA: 1\r\n\r\n"
    assert reply_head(parse_response(upstream, b"GET")) == (
        b"HTTP/1.1 200 \r\nContent-Length: 5\r\nServer: x\r\nA: 1\r\n\r\n"
    )
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: 1\r\n\r\n"
    assert reply_head(parse_response(chunked, b"GET")) == b"HTTP/1.1 200 OK\r\nA: 1\r\n\r\n"


def test_a_canonical_head_is_accepted_as_it_is() -> None:
    assert read_reply(HEAD, b"GET") == (200, 5, False, False, b"OK", b"Server: x\r\n")
    assert read_reply(HEAD, b"HEAD") == (200, 5, True, False, b"OK", b"Server: x\r\n")


@pytest.mark.parametrize(
    ("head", "method", "length", "bodyless"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"GET", None, False),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"HEAD", None, True),
        (b"HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\n", b"GET", None, True),
        (b"HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n", b"GET", 5, True),
        (b"HTTP/1.1 304 x\r\n\r\n", b"GET", None, True),
        (b"HTTP/1.1 500 x\r\nA: 1\r\nContent-Length: 0\r\n\r\n", b"GET", 0, False),
    ],
)
def test_which_replies_have_a_body(head: bytes, method: bytes, length: int | None, bodyless: bool) -> None:
    facts = read_reply(head, method)
    assert (facts.content_length, facts.bodyless) == (length, bodyless)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\n", "no-blank-line"),
        (b"HTTP/1.1 200 OK\r\nA: 1\r\n", "no-blank-line"),
        (b"HTTP/1.1 200 OK\r\nA: 1\r\n\r\nbody", "no-blank-line"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "no-colon"),
        (b"HTTP/1.1 200 OK\r\nA: 1\nB: 2\r\n\r\n", "bare-lf"),
        (b"HTTP/1.1 200 OK\r\nA: 1\rB: 2\r\n\r\n", "bare-cr"),
        (b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", "nul"),
        (b"HTTP/1.1 200 OK\r\nA: 1\r\n b\r\n\r\n", "folded-line"),
        (b"HTTP/1.1 200 O\nK\r\n\r\n", "status-line"),
        (b"HTTP/1.1 199 x\r\n\r\n", "interim-reply"),
        (b"HTTP/1.1 100 x\r\n\r\n", "interim-reply"),
        (b"HTTP/1.1 101 x\r\n\r\n", "unasked-switch"),
        (b"HTTP/1.1 600 x\r\n\r\n", "status-line"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer-encoding"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", "content-length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA: b\r\ncontent-length:\r\n\r\n", "content-length"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 5, 5\r\n\r\n", "content-length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 005\r\n\r\n", "content-length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "content-length"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 65536 + b"\r\n\r\n", "head-too-large"),
    ],
)
def test_a_hostile_agent_is_refused(head: bytes, reason: str) -> None:
    with pytest.raises(HttpError) as caught:
        read_reply(head, b"GET")
    assert (caught.value.status, caught.value.reason) == (502, reason)


def test_what_must_not_reach_a_visitor_is_dropped() -> None:
    head = (
        b"HTTP/1.1 200 OK\r\nAlt-Svc: h3=':443'\r\nA: 1\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\n"
        b"Keep-Alive: a\r\nUpgrade: h2c\r\nProxy-Authenticate: x\r\nWellhead-Session: 1\r\nInkbox-R: x\r\n"
        b"Inkbox-Notices: []\r\nTrailer: X\r\nTE: x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n"
    )
    facts = read_reply(head, b"GET")
    assert facts.fields == b"A: 1\r\nInkbox-Notices: []\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n"


def test_a_switch_is_for_those_who_asked() -> None:
    plain = b"HTTP/1.1 101 Switching\r\nContent-Length: 3\r\nSec-WebSocket-Accept: x\r\n\r\n"
    facts = read_reply(plain, b"GET", upgrade=True)
    assert (facts.status, facts.content_length, facts.bodyless, facts.extensions) == (101, None, True, False)
    assert visitor_head(facts) == VisitorHead(
        b"HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: x\r\n"
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        False,
        False,
    )
    deflate = plain.replace(b"Sec-WebSocket-Accept", b"sec-websocket-Extensions")
    assert read_reply(deflate, b"GET", upgrade=True).extensions
    assert read_reply(HEAD, b"GET", upgrade=True).status == 200


def test_interim_heads() -> None:
    assert read_interim(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\nConnection: close\r\n\r\n") == (
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    )
    assert (
        read_interim(b"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n")
        == b"HTTP/1.1 100 Continue\r\n\r\n"
    )
    for bad in (b"HTTP/1.1 101 x\r\n\r\n", b"HTTP/1.1 200 x\r\n\r\n", b"HTTP/1.1 100 x\r\nA\r\n\r\n"):
        with pytest.raises(HttpError) as caught:
            read_interim(bad)
        assert caught.value.status == 502


UNKNOWN = b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"
NONE = b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "http11", "keep_alive", "framing", "chunked", "stays"),
    [
        (HEAD, True, True, b"Content-Length: 5\r\n", False, True),
        (HEAD, True, False, b"Content-Length: 5\r\nConnection: close\r\n", False, False),
        (HEAD, False, True, b"Content-Length: 5\r\nConnection: keep-alive\r\n", False, True),
        (HEAD, False, False, b"Content-Length: 5\r\nConnection: close\r\n", False, False),
        (UNKNOWN, True, True, b"Transfer-Encoding: chunked\r\n", True, True),
        (UNKNOWN, True, False, b"Transfer-Encoding: chunked\r\nConnection: close\r\n", True, False),
        (UNKNOWN, False, True, b"Connection: close\r\n", False, False),
        (NONE, True, True, b"", False, True),
        (NONE, False, True, b"Connection: keep-alive\r\n", False, True),
    ],
)
def test_a_visitor_gets_the_one_framing_field_it_needs(
    head: bytes, http11: bool, keep_alive: bool, framing: bytes, chunked: bool, stays: bool
) -> None:
    out = visitor_head(read_reply(head, b"GET"), http11=http11, keep_alive=keep_alive, extra=b"Own: 1\r\n")
    line = head.partition(b"\r\n")[0]
    assert out == VisitorHead(line + b"\r\nServer: x\r\nOwn: 1\r\n" + framing + b"\r\n", chunked, stays)
