"""Header lists: what HTTP/2 forbids, and that both versions of HTTP are judged by one judgement."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.errors import HttpError
from wellhead.wire.fields import Limits
from wellhead.wire.h1 import Framing
from wellhead.wire.h2_fields import (
    MEMO_MAX,
    RequestReader,
    interim_fields,
    read_request,
    reply_fields,
    request_fields,
    response_head,
    trailer_block,
    trailer_fields,
)
from wellhead.wire.headers import ReplyFacts, read_interim, read_reply, read_request_fields, reply_head
from wellhead.wire.hpack import Fields
from wellhead.wire.ws import accept_key, check_handshake

LINE: Fields = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"a.example"),
    (b":path", b"/x?y"),
]
KEY = b"AAAAAAAAAAAAAAAAAAAAAA=="


def without(name: bytes) -> Fields:
    return [field for field in LINE if field[0] != name]


def with_(name: bytes, value: bytes) -> Fields:
    return [(one, value if one == name else before) for one, before in LINE]


MALFORMED: dict[str, Fields] = {
    "upper case": [*LINE, (b"X-One", b"1")],
    "a blank in a name": [*LINE, (b"x one", b"1")],
    "a colon in a name": [*LINE, (b"x:one", b"1")],
    "a control in a name": [*LINE, (b"x\x7f", b"1")],
    "a newline in a name": [*LINE, (b"x\ny", b"1")],
    "an empty name": [*LINE, (b"", b"1")],
    "CR LF in a value": [*LINE, (b"x", b"1\r\ny: 2")],
    "LF in a value": [*LINE, (b"x", b"1\n2")],
    "CR in a value": [*LINE, (b"x", b"1\r2")],
    "NUL in a value": [*LINE, (b"x", b"1\x002")],
    "a blank before a value": [*LINE, (b"x", b" 1")],
    "a tab behind a value": [*LINE, (b"x", b"1\t")],
    "connection": [*LINE, (b"connection", b"close")],
    "keep-alive": [*LINE, (b"keep-alive", b"5")],
    "proxy-connection": [*LINE, (b"proxy-connection", b"close")],
    "transfer-encoding": [*LINE, (b"transfer-encoding", b"chunked")],
    "upgrade": [*LINE, (b"upgrade", b"websocket")],
    "te of something else": [*LINE, (b"te", b"trailers, gzip")],
    "te twice": [*LINE, (b"te", b"trailers"), (b"te", b"deflate")],
    "no method": without(b":method"),
    "no scheme": without(b":scheme"),
    "no path": without(b":path"),
    "no authority and no host": without(b":authority"),
    "method twice": [(b":method", b"GET"), *LINE],
    "path twice": [*LINE, (b":path", b"/")],
    "a pseudo-header too late": [*without(b":path"), (b"x", b"1"), (b":path", b"/")],
    "an unknown pseudo-header": [*LINE, (b":status", b"200")],
    "a pseudo-header of nothing": [*LINE, (b":", b"1")],
    "an empty path": with_(b":path", b""),
    "a path without slash": with_(b":path", b"x"),
    "an absolute path": with_(b":path", b"http://other/"),
    "a star for GET": with_(b":path", b"*"),
    "a blank in the path": with_(b":path", b"/a b"),
    "a control in the path": with_(b":path", b"/a\x01"),
    "a fragment": with_(b":path", b"/a#b"),
    "CR LF in the path": with_(b":path", b"/ HTTP/1.1\r\nx: y"),
    "a method that is no token": with_(b":method", b"GE T"),
    "an empty method": with_(b":method", b""),
    "a method above 32 bytes": with_(b":method", b"A" * 33),
    "another scheme": with_(b":scheme", b"ftp"),
    "a user in the authority": with_(b":authority", b"me@a.example"),
    "a path in the authority": with_(b":authority", b"a.example/x"),
    "an empty authority": with_(b":authority", b""),
    "a blank behind the authority": with_(b":authority", b"a.example "),
    "a field in the authority": with_(b":authority", b"a.example\r\nx: y"),
    "a length in the authority": with_(b":authority", b"a.example\r\ncontent-length: 5"),
    "an upgrade in the authority": with_(
        b":authority", b"a.example\r\nconnection: upgrade\r\nupgrade: websocket"
    ),
    "another host": [*LINE, (b"host", b"b.example")],
    "host twice": [*LINE, (b"host", b"a.example"), (b"host", b"a.example")],
    "lengths that differ": [*LINE, (b"content-length", b"5"), (b"content-length", b"6")],
    "a length twice": [*LINE, (b"content-length", b"5"), (b"content-length", b"5")],
    "a length with a sign": [*LINE, (b"content-length", b"+5")],
    "a look-alike": [*LINE, (b"x_forwarded_for", b"1.2.3.4")],
    "protocol without CONNECT": [*LINE, (b":protocol", b"websocket")],
    "another protocol": [(b":method", b"CONNECT"), *LINE[1:], (b":protocol", b"connect-udp")],
    "nothing": [],
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_request_is_refused(what: str) -> None:
    remembering = RequestReader(websocket_key=lambda: KEY)
    remembering.read(list(LINE))
    for reader in (RequestReader(websocket_key=lambda: KEY), remembering):
        with pytest.raises(HttpError) as caught:
            reader.read(MALFORMED[what])
        assert caught.value.status == 400


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (with_(b":method", b"TRACE"), 405),
        (with_(b":method", b"CONNECT"), 405),
        (with_(b":path", b"/" + b"a" * 8192), 414),
        ([*LINE, (b"x", b"y" * 8192)], 431),
        ([*LINE, *[(b"x", b"y")] * 100], 431),
        ([*LINE, *[(b"x", b"y" * 8000)] * 5], 431),
        ([*LINE, (b"expect", b"miracles")], 417),
    ],
)
def test_other_refusals_have_the_status_they_have_in_http1(fields: Fields, status: int) -> None:
    with pytest.raises(HttpError) as caught:
        read_request(fields)
    assert caught.value.status == status


def test_a_request_says_what_its_fields_say_in_http1() -> None:
    request = read_request([*LINE, (b"accept", b"*/*"), (b"content-length", b"5"), (b"te", b"trailers")])
    assert (request.method, request.target, request.scheme) == (b"GET", b"/x?y", b"https")
    block = b"host: a.example\r\naccept: */*\r\ncontent-length: 5\r\nte: trailers\r\n"
    assert request.fields == read_request_fields(block)
    assert request.fields.forward == (
        b"Host: a.example\r\nContent-Length: 5\r\nTE: trailers\r\naccept: */*\r\n"
    )


names = st.sampled_from(
    [
        b"accept",
        b"x-forwarded-for",
        b"cookie",
        b"proxy",
        b"expect",
        b"content-length",
        b"wellhead-x",
        b"cache-control",
    ]
)
values = st.sampled_from([b"", b"1", b"a=1; b=2", b"100-continue", b"5", b"05", b"\xff"])


@given(st.lists(st.tuples(names, values), max_size=6))
def test_both_versions_are_judged_alike(fields: Fields) -> None:
    crumbs = [value for name, value in fields if name == b"cookie"]
    lines = [(name, value) for name, value in fields if name != b"cookie"]
    if crumbs:
        at = [name for name, _ in fields].index(b"cookie")
        lines.insert(at, (b"cookie", b"; ".join(crumbs)))
    block = b"host: a.example\r\n" + b"".join(b"%b: %b\r\n" % line for line in lines)
    try:
        expected = read_request_fields(block)
    except HttpError as error:
        with pytest.raises(HttpError) as caught:
            read_request([*LINE, *fields])
        assert (caught.value.status, caught.value.reason) == (error.status, error.reason)
    else:
        assert read_request([*LINE, *fields]).fields == expected


def test_cookie_crumbs_become_one_field() -> None:
    fields = [*LINE, (b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2"), (b"cookie", b"c=3")]
    assert read_request(fields).fields.forward == b"Host: a.example\r\ncookie: a=1; b=2; c=3\r\nx: y\r\n"


def test_host_stands_in_for_the_authority_and_may_repeat_it() -> None:
    assert read_request([*without(b":authority"), (b"host", b"A.example:8")]).fields.host == b"a.example:8"
    assert read_request([*LINE, (b"host", b"A.Example")]).fields.hostname == "a.example"


def test_a_star_is_a_target_for_options() -> None:
    assert read_request([(b":method", b"OPTIONS"), *with_(b":path", b"*")[1:]]).target == b"*"


def test_an_extended_connect_is_what_an_upgrade_is_in_http1() -> None:
    fields: Fields = [
        (b":method", b"CONNECT"), *LINE[1:], (b":protocol", b"websocket"), (b"sec-websocket-version", b"13"),
        (b"sec-websocket-key", b"theirs"), (b"sec-websocket-protocol", b"chat"),
    ]  # fmt: skip
    request = read_request(fields, websocket_key=lambda: KEY)
    assert request.websocket and request.method == b"GET"
    check_handshake(request.method, request.fields)
    assert request.fields.forward.count(b"sec-websocket-key") == 1
    assert b"sec-websocket-protocol: chat" in request.fields.forward
    with pytest.raises(HttpError):
        read_request(fields)


def test_a_remembered_request_is_what_would_have_been_read() -> None:
    reader = RequestReader()
    first = [*LINE, (b"accept", b"*/*")]
    lists = [
        first,
        first,
        [*with_(b":path", b"/other"), (b"accept", b"*/*")],
        [*with_(b":method", b"DELETE"), (b"accept", b"*/*")],
        [*with_(b":authority", b"b.example"), (b"accept", b"*/*")],
        [*with_(b":scheme", b"http"), (b"accept", b"*/*")],
        [*LINE, (b"accept", b"text/html")],
        [*LINE, (b"content-length", b"3")],
        [*LINE, (b"content-length", b"3")],
        [*LINE, (b"x", b"y" * MEMO_MAX)],
        [LINE[3], *LINE[:3]],
        list(LINE),
    ]
    for fields in lists * 2:
        assert reader.read(fields) == read_request(fields)


def test_a_remembering_reader_keeps_its_limits() -> None:
    reader = RequestReader(Limits(request_line=40))
    reader.read(list(LINE))
    with pytest.raises(HttpError) as caught:
        reader.read(with_(b":path", b"/" + b"a" * 40))
    assert caught.value.status == 414


# Replies


def test_a_reply_is_told_in_lower_case_with_its_length() -> None:
    facts = read_reply(
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-One: 1\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n", b"GET"
    )
    assert reply_fields(facts, b"X-Request-Id: 7\r\n") == [
        (b":status", b"200"), (b"x-one", b"1"), (b"set-cookie", b"a"), (b"set-cookie", b"b"),
        (b"x-request-id", b"7"), (b"content-length", b"5"),
    ]  # fmt: skip


def test_what_belongs_to_a_connection_and_alt_svc_reach_no_visitor() -> None:
    head = b"HTTP/1.1 204 No\r\nAlt-Svc: h3\r\nKeep-Alive: 5\r\nConnection: x-a\r\nX-A: 1\r\nX-B: 2\r\n\r\n"
    assert reply_fields(read_reply(head, b"GET")) == [(b":status", b"204"), (b"x-b", b"2")]


def test_a_switch_becomes_the_200_that_answers_extended_connect() -> None:
    fields = b"Sec-WebSocket-Accept: abc\r\nSec-WebSocket-Protocol: chat\r\n"
    facts = ReplyFacts(101, None, True, False, b"", fields)
    assert reply_fields(facts) == [(b":status", b"200"), (b"sec-websocket-protocol", b"chat")]


def test_interim_heads_and_trailers_are_told() -> None:
    head = read_interim(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    assert interim_fields(head) == [(b":status", b"103"), (b"link", b"</a>")]
    assert trailer_fields(b"Grpc-Status: 0\r\n") == [(b"grpc-status", b"0")]


def test_trailers_that_would_be_dropped_in_http1_are_dropped() -> None:
    fields = [(b"grpc-status", b"0"), (b"content-length", b"5"), (b"cookie", b"a"), (b"host", b"b")]
    assert trailer_block(fields) == b"grpc-status: 0\r\n"
    for bad in [(b":path", b"/")], [(b"Upper", b"1")], [(b"x", b"1\r\n2")], [(b"x", b"y" * 8192)]:
        with pytest.raises(HttpError):
            trailer_block(bad)


# Towards an upstream


def test_a_request_head_is_told_to_an_upstream() -> None:
    head = (
        b"POST /x HTTP/1.1\r\nHost: up:80\r\nConnection: TE\r\nTE: trailers\r\n"
        b"Content-Length: 5\r\nX-One:  1 \r\n\r\n"
    )
    assert request_fields(head, b"http") == [
        (b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"up:80"), (b":path", b"/x"),
        (b"te", b"trailers"), (b"content-length", b"5"), (b"x-one", b"1"),
    ]  # fmt: skip


def test_a_websocket_is_asked_for_by_extended_connect() -> None:
    head = (
        b"GET /x HTTP/1.1\r\nHost: up\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert request_fields(head, b"https", websocket=True) == [
        (b":method", b"CONNECT"), (b":scheme", b"https"), (b":authority", b"up"), (b":path", b"/x"),
        (b":protocol", b"websocket"), (b"sec-websocket-version", b"13"),
    ]  # fmt: skip


def test_a_response_is_judged_as_in_http1() -> None:
    fields = [(b":status", b"200"), (b"content-length", b"5"), (b"alt-svc", b"h3"), (b"x", b"y")]
    response = response_head(fields, b"GET")
    assert response[:5] == (200, b"", Framing.LENGTH, 5, True)
    assert reply_head(response) == b"HTTP/1.1 200 \r\nContent-Length: 5\r\nx: y\r\n\r\n"
    assert response_head([(b":status", b"200")], b"GET").framing is Framing.CHUNKED
    assert response_head([(b":status", b"103"), (b"link", b"</a>")], b"GET").status == 103


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b"x", b"y")],
        [(b":status", b"99")],
        [(b":status", b"600")],
        [(b":status", b"2 0")],
        [(b":status", b"200"), (b":status", b"200")],
        [(b":status", b"200"), (b"X", b"y")],
        [(b":status", b"200"), (b"x", b"y\n")],
        [(b":status", b"200"), (b"connection", b"close")],
        [(b":status", b"200"), (b"content-length", b"x")],
        [(b":status", b"200"), (b"x", b"y" * 65536)],
    ],
)
def test_a_malformed_response_is_the_upstreams_fault(fields: Fields) -> None:
    with pytest.raises(HttpError) as caught:
        response_head(fields, b"GET")
    assert caught.value.status == 502


def test_the_answer_to_extended_connect_is_a_switch_that_the_edge_will_accept() -> None:
    response = response_head(
        [(b":status", b"200"), (b"sec-websocket-protocol", b"chat")], b"GET", websocket_key=KEY
    )
    facts = read_reply(reply_head(response), b"GET", upgrade=True)
    assert facts.status == 101
    assert b"Sec-WebSocket-Accept: %b\r\n" % accept_key(KEY) in facts.fields
    assert response_head([(b":status", b"403")], b"GET", websocket_key=KEY).status == 403
