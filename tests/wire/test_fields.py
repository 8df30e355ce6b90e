"""The grammar of field lines, and the names that are cut out of a block."""

from __future__ import annotations

import pytest

from wellhead.errors import HttpError
from wellhead.wire.fields import (
    REPLY_NAMES,
    REQUEST_LIMITS,
    REQUEST_NAMES,
    TRAILER_NAMES,
    Limits,
    Options,
    check_block,
    connection_options,
    content_length,
    cut,
    is_grpc,
    list_has,
    read_trailers,
    without,
)

HOP = """
    connection keep-alive proxy proxy-authenticate proxy-authorization proxy-connection te trailer
    transfer-encoding upgrade http2-settings
""".split()
CONTROL = """
    wellhead-session x-wellhead-tunnel x-tunnel-id x-tunnel-secret x-owner-token x-pool-slot x-pool-size
    inkbox-status inkbox-h-host
""".split()
FORWARDED = """
    forwarded x-forwarded x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port
    x-forwarded-anything x-original-forwarded-for x-real-ip true-client-ip cf-connecting-ip
    x-client-ip x-cluster-client-ip
    fastly-client-ip x-request-id
""".split()


@pytest.mark.parametrize(
    "line",
    [
        b"A: b",
        b"A:b",
        b"A:",
        b"A: ",
        b"A:\t b \t",
        b"!#$%&'*+-.^_`|~09azAZ: x",
        b"A: \x80\xff obs-text",
        b"A: b: c \x7e",
        b"X: " + "ü€".encode(),
    ],
)
def test_what_rfc_9110_allows_in_a_line_is_allowed(line: bytes) -> None:
    check_block(b"First: 1\r\n" + line + b"\r\nLast: 2\r\n", REQUEST_LIMITS, 400)


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (b"A: b\n", "bare-lf"),
        (b"A: b\nC: d\r\n", "bare-lf"),
        (b"A: b\rC: d\r\n", "bare-cr"),
        (b"A: b\r\r\n", "bare-cr"),
        (b"\rA: b\r\n", "bare-cr"),
        (b"A: b\0c\r\n", "nul"),
        (b"A\0: b\r\n", "nul"),
        (b"A: b\r\n c\r\n", "folded-line"),
        (b"A: b\r\n\tc\r\n", "folded-line"),
        (b" A: b\r\n", "folded-line"),
        (b"A : b\r\n", "field-name"),
        (b"A\t: b\r\n", "field-name"),
        (b": b\r\n", "field-name"),
        (b"A b: c\r\n", "field-name"),
        (b"A(: c\r\n", "field-name"),
        (b"\xc3\xa4: c\r\n", "field-name"),
        (b"A\x0b: c\r\n", "field-name"),
        (b"no colon\r\n", "no-colon"),
        (b"\r\nA: b\r\n", "no-colon"),
        (b"A: \x01\r\n", "field-value"),
        (b"A: \x0b\r\n", "field-value"),
        (b"A: \x0c\r\n", "field-value"),
        (b"A: \x7f\r\n", "field-value"),
        (b"A: \x1b[0m\r\n", "field-value"),
    ],
)
@pytest.mark.parametrize("status", [400, 502])
@pytest.mark.parametrize("before", [b"", b"Good: 1\r\n"])
def test_a_malformed_line_is_refused_and_the_reason_named(
    block: bytes, reason: str, status: int, before: bytes
) -> None:
    with pytest.raises(HttpError) as caught:
        check_block(before + block, REQUEST_LIMITS, status)
    assert (caught.value.status, caught.value.reason) == (status, reason)


@pytest.mark.parametrize(("status", "large"), [(400, 431), (502, 502)])
def test_limits_hold_on_both_sides(status: int, large: int) -> None:
    limits = Limits(field=20, fields=3)
    check_block(b"A: b\r\n" * 3, limits, status)
    check_block(b"A: " + b"x" * 17 + b"\r\nB: c\r\n", limits, status)
    with pytest.raises(HttpError) as caught:
        check_block(b"A: b\r\n" * 4, limits, status)
    assert (caught.value.status, caught.value.reason) == (large, "too-many-fields")
    with pytest.raises(HttpError) as caught:
        check_block(b"A: " + b"x" * 18 + b"\r\nB: c\r\n", limits, status)
    assert (caught.value.status, caught.value.reason) == (large, "field-too-long")


def test_ten_thousand_hostile_bytes_are_judged_in_linear_time() -> None:
    # Each of these would blow up an expression that backtracks.
    wide = Limits(field=10**6, head=10**6, fields=10**6)
    for block in (
        b"a" * 100_000,
        b"a:" * 50_000,
        b"a: b\r\n" * 20_000 + b"\x00",
        b"a:" + b" " * 100_000 + b"\n",
    ):
        with pytest.raises(HttpError):
            check_block(block, wide, 400)


@pytest.mark.parametrize("name", [*HOP, *CONTROL, *FORWARDED, "host", "content-length", "expect"])
def test_every_name_that_is_ours_to_judge_is_cut_from_a_request(name: str) -> None:
    for spelled in (name, name.title(), name.upper()):
        line = f"{spelled}: Value \r\n".encode()
        assert cut(line, REQUEST_NAMES) == ({name.encode(): b"Value"}, b"")
        assert cut(b"A: 1\r\n" + line + b"B: 2\r\n", REQUEST_NAMES) == (
            {name.encode(): b"Value"},
            b"A: 1\r\nB: 2\r\n",
        )


@pytest.mark.parametrize("name", [*HOP, *CONTROL, *FORWARDED, "content-length"])
def test_every_name_that_is_ours_is_found_with_underscores(name: str) -> None:
    if "-" in name:
        looks_like = name.replace("-", "_", 1).encode()
        assert looks_like in cut(looks_like + b": x\r\n", REQUEST_NAMES)[0]


@pytest.mark.parametrize("name", [*HOP, *CONTROL, "content-length", "alt-svc"])
def test_every_name_that_stops_here_is_cut_from_a_reply(name: str) -> None:
    assert cut(f"A: 1\r\n{name.title()}: v\r\n".encode(), REPLY_NAMES) == ({name.encode(): b"v"}, b"A: 1\r\n")


@pytest.mark.parametrize(
    "name",
    [*HOP, *CONTROL, *FORWARDED, "host", "content-length", "content-type", "authorization", "cookie"]
    + ["set-cookie", "expect", "range", "if-match", "cache-control", "location", "sec-websocket-key"],
)
def test_every_name_that_may_not_be_a_trailer_is_dropped(name: str) -> None:
    block = f"Grpc-Status: 0\r\n{name.title()}: v\r\nX-Sum: 1\r\n".encode()
    assert read_trailers(block) == b"Grpc-Status: 0\r\nX-Sum: 1\r\n"


@pytest.mark.parametrize(
    "name",
    "accept cookie upgrade-insecure-requests te-x tex hostx xhost content-lengthx connections proxied proxyx "
    "trailers x-forward forwarded-for wellhead inkbox x-tunnel sec-websocket-protocol sec-fetch-site "
    "content-type x-api-key authorization via expectation".split(),
)
def test_names_that_only_begin_alike_are_left_alone(name: str) -> None:
    line = f"{name}: x\r\n".encode()
    assert cut(line, REQUEST_NAMES) == ({}, line)


def test_notices_of_the_compatible_rest_interface_pass_in_replies_only() -> None:
    line = b"Inkbox-Notices: []\r\n"
    assert cut(line, REPLY_NAMES) == ({}, line)
    assert cut(line, REQUEST_NAMES)[1] == b""


def test_a_name_inside_a_value_is_no_name() -> None:
    block = b"X: Host: a, Content-Length: 5\r\nReferer: http://host:1/\r\n"
    assert cut(block, REQUEST_NAMES) == ({}, block)


def test_values_of_a_repeated_name_are_joined() -> None:
    found, rest = cut(b"Host: a\r\nA: 1\r\nHOST: b\r\nhost:\r\n", REQUEST_NAMES)
    assert found == {b"host": b"a,b,"}
    assert rest == b"A: 1\r\n"


def test_kept_names_are_reported_and_stay() -> None:
    block = b"A: 1\r\nSec-WebSocket-Key: k\r\nTE: x\r\nSec-WebSocket-Version: 13\r\nB: 2\r\n"
    found, rest = cut(block, REQUEST_NAMES, (b"sec-websocket-key", b"sec-websocket-version"))
    assert found == {b"sec-websocket-key": b"k", b"te": b"x", b"sec-websocket-version": b"13"}
    assert rest == block.replace(b"TE: x\r\n", b"")


def test_without_removes_every_line_of_a_name() -> None:
    assert without(b"A: 1\r\na: 2\r\nAB: 3\r\n", {b"a"}) == b"AB: 3\r\n"
    assert without(b"A: 1\r\n", {b"a"}) == b""
    assert without(b"A: 1\r\n", ()) == b"A: 1\r\n"


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (b"0", 0),
        (b"00", 0),
        (b"05", 5),
        (b"5", 5),
        (b"42", 42),
        (b"1000", 1000),
        (b"9" * 19, 10**19 - 1),
        (b"0" + b"9" * 18, 10**18 - 1),
    ],
)
def test_lengths(value: bytes, number: int) -> None:
    assert content_length(value, 400) == number


@pytest.mark.parametrize(
    "value",
    [
        *(
            b"",
            b"+5",
            b"-5",
            b"-0",
            b"0x5",
            b"5_0",
            b"5 0",
            b" 5",
            b"5 ",
            b"5,5",
            b"5,",
            b",5",
            b"5;5",
            b"5.0",
        ),
        *(b"005", b"000", b"9" * 20, b"0" * 20, b"5e3", b"a", b"\xd9\xa5", b"5\x0b", b"\xb2", b'"5"', b"5\r"),
    ],
)
@pytest.mark.parametrize("status", [400, 502])
def test_lengths_that_two_parsers_may_read_in_two_ways(value: bytes, status: int) -> None:
    with pytest.raises(HttpError) as caught:
        content_length(value, status)
    assert (caught.value.status, caught.value.reason) == (status, "content-length")


@pytest.mark.parametrize(
    ("value", "close", "keep_alive", "upgrade", "nominated"),
    [
        (b"close", True, False, False, set()),
        (b"Keep-Alive", False, True, False, set()),
        (b"keep-alive, Upgrade", False, True, True, set()),
        (b"UPGRADE", False, False, True, set()),
        (b"close,keep-alive", True, True, False, set()),
        (b" , close\t,,", True, False, False, set()),
        (b"", False, False, False, set()),
        (b"X-A, x-b", False, False, False, {b"x-a", b"x-b"}),
        (b"te, trailer, HTTP2-Settings", False, False, False, set()),
        (b"Host, Authorization, Content-Length, Cookie", False, False, False, set()),
        (b"Sec-WebSocket-Key", False, False, False, set()),
    ],
)
def test_connection_options(
    value: bytes, close: bool, keep_alive: bool, upgrade: bool, nominated: set[bytes]
) -> None:
    assert connection_options(value, 400) == Options(close, keep_alive, upgrade, frozenset(nominated))


@pytest.mark.parametrize("value", [b"a b", b"close;", b'"close"', b"\xff", b"a," * 40 + b"x y"])
def test_connection_options_that_are_no_tokens(value: bytes) -> None:
    with pytest.raises(HttpError):
        connection_options(value, 400)


def test_long_connection_values_are_read_alike() -> None:
    value = b", ".join(b"x-%d" % number for number in range(100))
    assert len(connection_options(value, 400).nominated) == 100


def test_list_elements_are_compared_whole() -> None:
    assert list_has(b"a, WebSocket", b"websocket")
    assert not list_has(b"websockets", b"websocket")
    assert not list_has(b"", b"websocket")


def test_trailers_have_a_limit_and_a_grammar() -> None:
    assert read_trailers(b"") == b""
    assert read_trailers(b"\r\n") == b""
    assert read_trailers(b"A: 1\r\n\r\n") == b"A: 1\r\n"
    assert read_trailers(b"A: 12\r\n", max_bytes=7) == b"A: 12\r\n"
    with pytest.raises(HttpError) as caught:
        read_trailers(b"A: 123\r\n", max_bytes=7, status=400)
    assert (caught.value.status, caught.value.reason) == (400, "trailers-too-large")
    for bad in (b"A: 1\n", b"A : 1\r\n", b"A: 1\r\n\r\nB: 2\r\n", b"A: 1"):
        with pytest.raises(HttpError) as caught:
            read_trailers(bad)
        assert (caught.value.status, caught.value.reason) == (502, "trailers")


def test_a_grpc_call_is_known_by_its_content_type() -> None:
    for mine in (b"application/grpc", b"Application/gRPC+proto", b"application/grpc;x=y"):
        assert is_grpc(b"POST / HTTP/1.1\r\nContent-Type: %b\r\n\r\n" % mine)
    for other in (b"application/grpc-web", b"application/json", b"text/application/grpc"):
        assert not is_grpc(b"POST / HTTP/1.1\r\nContent-Type: %b\r\n\r\n" % other)


def test_all_trailer_names_are_found_whatever_their_first_letter() -> None:
    assert TRAILER_NAMES.search(b"\r\nzebra: x") is None
    assert TRAILER_NAMES.search(b"\r\nwww-authenticate: x")
