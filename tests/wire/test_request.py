"""What a visitor's fields say, which of them travel, and which requests are refused."""

from __future__ import annotations

import pytest

from wellhead.errors import HttpError
from wellhead.wire.fields import Limits
from wellhead.wire.request import edge_fields, read_request_fields, request_envelope

HOST = b"Host: app.localhost:8443\r\n"
BROWSER = HOST + (
    b"Connection: keep-alive\r\n"
    b'sec-ch-ua: "Chromium";v="130"\r\n'
    b"Upgrade-Insecure-Requests: 1\r\n"
    b"User-Agent: Mozilla/5.0\r\n"
    b"Accept: */*;q=0.8\r\n"
    b"Cookie: a_b=c; d=e\r\n"
)


def refusal(block: bytes, http11: bool = True) -> tuple[int, str]:
    with pytest.raises(HttpError) as caught:
        read_request_fields(block, http11)
    return caught.value.status, caught.value.reason


def test_a_lone_host() -> None:
    fields = read_request_fields(b"host:\t App.Localhost:8443 \r\n")
    assert fields.host == b"app.localhost:8443"
    assert fields.hostname == "app.localhost"
    assert fields.forward == b"Host: App.Localhost:8443\r\n"
    assert (fields.content_length, fields.chunked, fields.has_body) == (None, False, False)
    assert fields.keep_alive and not fields.websocket and not fields.expect_continue


def test_a_browsers_fields_travel_in_order_and_spelling() -> None:
    fields = read_request_fields(BROWSER)
    assert fields.forward == BROWSER.replace(b"Connection: keep-alive\r\n", b"")
    assert fields.keep_alive


def test_host_goes_first_and_length_second() -> None:
    fields = read_request_fields(b"A: 1\r\ncontent-length: 05\r\nB: 2\r\n" + HOST + b"C: 3\r\n")
    assert fields.forward == HOST + b"Content-Length: 5\r\nA: 1\r\nB: 2\r\nC: 3\r\n"
    assert (fields.content_length, fields.has_body) == (5, True)


def test_a_length_of_nothing_is_told_and_is_no_body() -> None:
    fields = read_request_fields(HOST + b"Content-Length: 0\r\n")
    assert fields.forward == HOST + b"Content-Length: 0\r\n"
    assert (fields.content_length, fields.has_body) == (0, False)


@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b"CHUNKED", b"\t chunked "])
def test_a_chunked_body(value: bytes) -> None:
    fields = read_request_fields(HOST + b"Transfer-Encoding:" + value + b"\r\n")
    assert (fields.chunked, fields.has_body, fields.content_length) == (True, True, None)
    assert fields.forward == HOST


@pytest.mark.parametrize(
    ("connection", "http11", "keep_alive"),
    [
        (b"", True, True),
        (b"", False, False),
        (b"Connection: close\r\n", True, False),
        (b"Connection: Close, X\r\n", True, False),
        (b"Connection: keep-alive\r\n", False, True),
        (b"Connection: Keep-Alive\r\nConnection: close\r\n", False, False),
        (b"Connection: closed\r\n", True, True),
    ],
)
def test_who_wants_the_connection_to_stay(connection: bytes, http11: bool, keep_alive: bool) -> None:
    assert read_request_fields(HOST + connection, http11).keep_alive is keep_alive


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("value", [b"chunked", b"xchunked", b""])
def test_length_and_coding_together_are_refused(order: int, value: bytes) -> None:
    lines = [b"Content-Length: 5\r\n", b"Transfer-Encoding: " + value + b"\r\n"][::order]
    assert refusal(HOST + b"".join(lines)) == (400, "length-and-coding")


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nA: b\r\ncontent-length:\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Content-Length: 5,\r\n",
        b"Content-Length:\r\n",
        b"Content-Length: \t\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: 5_0\r\n",
        b"Content-Length: 5 0\r\n",
        b"Content-Length: 005\r\n",
        b"Content-Length: 10000000000000000000000\r\n",
        b"Content-Length: \xd9\xa5\r\n",
    ],
)
def test_bad_lengths_are_refused(lines: bytes) -> None:
    assert refusal(HOST + lines) == (400, "content-length")


NOT_CHUNKED = [
    *(
        b"",
        b"xchunked",
        b"chunkedx",
        b"chunk ed",
        b"chunked, identity",
        b"identity, chunked, identity",
        b"identity",
    ),
    *(
        b"chunked, chunked",
        b"chunked,",
        b",chunked",
        b", chunked",
        b'"chunked"',
        b"chunked;q=1",
        b"chunked\x80",
    ),
    *(
        b"gzip, nonsense",
        b"chunked, gzip",
        b"gzip;q=1, chunked",
        b"trailers",
        b"\xa0chunked",
        b"identity, chunked",
    ),
]
UNSUPPORTED = [
    *(
        b"gzip",
        b"gzip, chunked",
        b"GZIP,Chunked",
        b"deflate",
        b"compress, chunked",
        b"x-gzip",
        b"gzip, deflate",
    ),
    b"x-compress , chunked",
]


@pytest.mark.parametrize(
    ("value", "status"), [*((value, 400) for value in NOT_CHUNKED), *((value, 501) for value in UNSUPPORTED)]
)
def test_codings_that_are_not_exactly_chunked_are_refused(value: bytes, status: int) -> None:
    assert refusal(HOST + b"Transfer-Encoding: " + value + b"\r\n") == (status, "transfer-encoding")


@pytest.mark.parametrize("control", [b"\x0b", b"\x0c", b"\0"])
def test_controls_about_a_coding_are_refused(control: bytes) -> None:
    assert refusal(HOST + b"Transfer-Encoding: " + control + b"chunked\r\n")[0] == 400
    assert refusal(HOST + b"Transfer-Encoding: chunked" + control + b"\r\n")[0] == 400
    assert refusal(HOST + b"Transfer-Encoding" + control + b": chunked\r\n")[0] == 400


def test_a_tab_behind_a_coding_is_where_parsers_differ() -> None:
    assert refusal(HOST + b"Transfer-Encoding: chunked\t\r\n") == (400, "second-opinion")


def test_a_coding_twice_or_before_its_time_is_refused() -> None:
    line = b"Transfer-Encoding: chunked\r\n"
    assert refusal(HOST + line + line) == (400, "transfer-encoding")
    assert refusal(HOST + line, http11=False) == (400, "transfer-encoding")


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"A: b\r\n",
        HOST + HOST,
        HOST + b"host: other\r\n",
        b"Host:\r\n",
        b"Host: a, b\r\n",
        HOST + b"Host:\r\n",
    ]
    + [b"Host: u@a\r\n", b"Host: a/b\r\n", b"Host: a:0\r\n", b"Host: " + b"a" * 256 + b"\r\n"],
)
@pytest.mark.parametrize("http11", [True, False])
def test_bad_hosts_are_refused(lines: bytes, http11: bool) -> None:
    assert refusal(lines, http11) == (400, "host")


def test_only_one_expectation_is_known() -> None:
    fields = read_request_fields(HOST + b"A: 1\r\nexpect: 100-Continue\r\nContent-Length: 3\r\n")
    assert fields.expect_continue
    assert fields.forward == HOST + b"Content-Length: 3\r\nExpect: 100-continue\r\nA: 1\r\n"
    for value in (b"", b"200-ok", b"100-continue, x", b"100-continue,100-continue", b"100-continue; a=b"):
        assert refusal(HOST + b"Expect: " + value + b"\r\n") == (417, "expectation")


def test_an_expectation_of_http_1_0_is_ignored() -> None:
    fields = read_request_fields(HOST + b"Expect: 100-continue\r\n", http11=False)
    assert (fields.expect_continue, fields.forward) == (False, HOST)


@pytest.mark.parametrize(
    "line",
    [
        b"Forwarded: for=1.2.3.4\r\n",
        b"X-Forwarded-For: 1.2.3.4\r\n",
        b"x-forwarded-host: evil\r\n",
        b"X-FORWARDED-PROTO: https\r\n",
        b"X-Forwarded-Anything: x\r\n",
        b"X-Real-IP: 1.2.3.4\r\n",
        b"True-Client-IP: 1.2.3.4\r\n",
        b"CF-Connecting-IP: 1.2.3.4\r\n",
        b"X-Request-Id: mine\r\n",
        b"Wellhead-Session: 1\r\n",
        b"X-Wellhead-Tunnel: 1\r\n",
        b"Inkbox-Status: 200\r\n",
        b"inkbox-h-host: a\r\n",
        b"X-Tunnel-Secret: s\r\n",
        b"X-Owner-Token: s\r\n",
        b"Proxy: http://evil\r\n",
        b"Proxy-Connection: keep-alive\r\n",
        b"Proxy-Authorization: Basic x\r\n",
        b"Keep-Alive: timeout=5\r\n",
        b"TE: gzip\r\n",
        b"Trailer: X\r\n",
        b"Upgrade: h2c\r\n",
        b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        b"Upgrade: websocket\r\n",
        b"Connection: x-one\r\nX-One: 1\r\nx-ONE: 2\r\n",
        b"X-One: 1\r\nConnection: keep-alive, X-ONE, , X-Two\r\nX-Two: 2\r\n",
    ],
)
def test_fields_of_one_hop_and_spoofed_ones_stop_at_the_edge(line: bytes) -> None:
    fields = read_request_fields(HOST + b"A: 1\r\n" + line + b"B: 2\r\n")
    assert fields.forward == HOST + b"A: 1\r\nB: 2\r\n"
    assert not fields.websocket


def test_trailers_are_still_wanted_by_who_wants_them() -> None:
    for value in (b"trailers", b"Trailers, deflate;q=0.5"):
        fields = read_request_fields(HOST + b"TE: " + value + b"\r\nConnection: TE\r\nA: 1\r\n")
        assert fields.forward == HOST + b"TE: trailers\r\nA: 1\r\n"


def test_a_connection_field_cannot_take_away_what_others_rely_on() -> None:
    lines = b"Authorization: Bearer x\r\nCookie: a=b\r\nOrigin: https://a\r\nContent-Type: text/plain\r\n"
    nominate = (
        b"Connection: Host, Authorization, Cookie, Origin, Content-Type, Content-Length, X-Forwarded-For\r\n"
    )
    fields = read_request_fields(nominate + HOST + b"Content-Length: 3\r\n" + lines)
    assert fields.forward == HOST + b"Content-Length: 3\r\n" + lines


@pytest.mark.parametrize(
    "name",
    b"X_Forwarded_For x-forwarded_for X_REAL_IP Content_Length Transfer_Encoding Transfer-Encoding_ "
    b"Wellhead_Session Proxy_Connection x_request_id Sec_WebSocket_Key Keep_Alive HTTP2_Settings".split(),
)
def test_names_that_look_like_protected_ones_are_refused(name: bytes) -> None:
    if not name.endswith(b"_"):
        assert refusal(HOST + name + b": x\r\n") == (400, "look-alike")
        assert refusal(HOST + b"Connection: close\r\nContent-Length: 1\r\n" + name + b": x\r\n")[0] == 400


def test_other_underscores_are_nobodys_business() -> None:
    lines = b"X_Custom: 1\r\n_: 2\r\nHost_Name: 3\r\nContent_Type: x\r\n"
    assert read_request_fields(HOST + lines).forward == HOST + lines


WEBSOCKET = (
    b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
)


def test_a_websocket_is_recognised_and_its_fields_travel() -> None:
    fields = read_request_fields(HOST + WEBSOCKET)
    assert fields.websocket
    assert (fields.websocket_key, fields.websocket_version) == (b"dGhlIHNhbXBsZSBub25jZQ==", b"13")
    assert fields.forward == HOST + WEBSOCKET.partition(b"websocket\r\n")[2]
    assert not read_request_fields(HOST + WEBSOCKET, http11=False).websocket
    assert not read_request_fields(HOST + WEBSOCKET.replace(b", Upgrade", b"")).websocket
    assert not read_request_fields(HOST + WEBSOCKET.replace(b": websocket", b": websockets")).websocket
    assert read_request_fields(HOST + WEBSOCKET.replace(b": websocket", b": h2c, WebSocket")).websocket


@pytest.mark.parametrize(
    ("block", "status", "reason"),
    [
        (HOST + b"A: b\n", 400, "bare-lf"),
        (HOST + b"A : b\r\n", 400, "field-name"),
        (HOST + b"A: b\r\n\tc\r\n", 400, "folded-line"),
        (b" " + HOST, 400, "folded-line"),
        (HOST + b"Connection: a b\r\n", 400, "connection"),
        (HOST + b"A: 1\r\n" * 100, 431, "too-many-fields"),
        (HOST + b"A: " + b"x" * 8190 + b"\r\n", 431, "field-too-long"),
    ],
)
def test_other_refusals(block: bytes, status: int, reason: str) -> None:
    assert refusal(block) == (status, reason)


def test_a_hundred_fields_of_eight_kibibytes_at_most() -> None:
    wide = Limits(head=10**6)
    block = HOST + (b"A: " + b"x" * 8189 + b"\r\n") * 99
    assert read_request_fields(block, True, wide).forward == block


def test_the_edge_tells_who_asked() -> None:
    assert edge_fields("192.0.2.1", "https", b"app.example:8443") == (
        b"X-Forwarded-For: 192.0.2.1\r\n"
        b"X-Forwarded-Proto: https\r\n"
        b"X-Forwarded-Host: app.example:8443\r\n"
        b'Forwarded: for=192.0.2.1;host="app.example:8443";proto=https\r\n'
    )
    assert b'for="[2001:db8::1]";' in edge_fields("2001:db8::1", "http", b"a")
    assert b"X-Forwarded-For: 2001:db8::1\r\n" in edge_fields("2001:db8::1", "http", b"a")


def test_an_envelope() -> None:
    fields = read_request_fields(HOST + b"A: 1\r\nContent-Length: 3\r\n")
    assert request_envelope(b"PUT", b"/x", fields, b"X-Forwarded-For: 1.2.3.4\r\n", b"r1") == (
        b"PUT /x HTTP/1.1\r\nHost: app.localhost:8443\r\nContent-Length: 3\r\nA: 1\r\n"
        b"X-Forwarded-For: 1.2.3.4\r\nX-Request-Id: r1\r\n\r\n"
    )
