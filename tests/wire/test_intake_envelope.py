"""Envelopes: no visitor may cost an agent its connection, and every request arrives as it was meant."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.errors import HttpError
from wellhead.wire.facts import Facts
from wellhead.wire.fields import Limits
from wellhead.wire.headers import edge_fields, read_request_fields, request_envelope
from wellhead.wire.hpack import Decoder, Fields, list_size
from wellhead.wire.intake_envelope import (
    MAX_FIELDS,
    MAX_LIST,
    envelope_block,
    envelope_fields,
    envelope_parts,
    expects_continue,
    tcp_fields,
    websocket_key,
)

LARGE = Limits(field=70_000, head=200_000, fields=1000)  # of an operator who lets visitors say much
ID = b"0123456789abcdef"
PEER = "203.0.113.9"


def head(*lines: bytes, method: bytes = b"GET", target: bytes = b"/x?y", scheme: str = "https") -> bytes:
    """The canonical head of a visitor's request with these lines."""
    block = b"".join([line + b"\r\n" for line in (b"Host: A.tun.test:443", *lines)])
    fields = read_request_fields(block, True, LARGE)
    return request_envelope(method, target, fields, edge_fields(PEER, scheme, fields.host), b"req-1")


def sent(*lines: bytes, websocket: bool = False, faithful: bool = False) -> Fields:
    """The visitor's fields as an agent gets them, without their prefix."""
    fields = envelope_fields(head(*lines), ID, websocket=websocket, faithful=faithful)
    return [(name[9:], value) for name, value in fields if name.startswith(b"inkbox-h-")]


def values(fields: Fields, name: bytes) -> list[bytes]:
    return [value for one, value in fields if one == name]


def test_a_request_becomes_an_envelope() -> None:
    fields = envelope_fields(head(b"User-Agent: curl/8", b"Accept: */*", method=b"PATCH"), ID)
    assert fields == [
        (b":status", b"200"),
        (b"inkbox-request-id", ID),
        (b"inkbox-method", b"PATCH"),
        (b"inkbox-path", b"/x?y"),
        (b"inkbox-h-x-request-id", b"req-1"),
        (b"inkbox-route-kind", b"webhook"),
        (b"inkbox-forwarded-for", b"203.0.113.9"),
        (b"inkbox-host", b"A.tun.test:443"),
        (b"inkbox-h-user-agent", b"curl/8"),
        (b"inkbox-h-accept", b"*/*"),
        (b"inkbox-h-accept-encoding", b"identity"),
        (b"inkbox-h-cookie", b""),
    ]


def test_a_websocket_has_a_bridge_and_no_extensions() -> None:
    asked = head(
        b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", b"Sec-WebSocket-Protocol: a, b",
        b"Sec-WebSocket-Extensions: permessage-deflate",
    )  # fmt: skip
    said = dict(envelope_fields(asked, ID, websocket=True))
    assert said[b"inkbox-route-kind"] == b"ws-upgrade" and said[b"inkbox-ws-id"] == ID
    assert said[b"inkbox-h-sec-websocket-protocol"] == b"a, b"
    assert [name for name in said if b"websocket" in name] == [b"inkbox-h-sec-websocket-protocol"]
    assert b"inkbox-h-cookie" not in said
    assert websocket_key(asked) == b"AAAAAAAAAAAAAAAAAAAAAA=="
    assert websocket_key(head()) == b""


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: x-private", b"X-Private: 1", b"Keep-Alive: 5", b"TE: trailers", b"Trailer: x",
        b"Proxy-Authorization: x", b"Proxy-Connection: close", b"Proxy-Authenticate: x", b"Upgrade: h2c",
        b"Expect: 100-continue", b"Forwarded: for=1", b"X-Forwarded-For: 1.1.1.1", b"X-Forwarded-Host: evil",
        b"X-Forwarded-Proto: http", b"Inkbox-Status: 200", b"X-Owner-Token: t", b"X-Request-Id: mine",
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", b"Sec-WebSocket-Version: 13",
    ],
)  # fmt: skip
def test_what_is_of_the_hop_or_ours_alone_to_say_does_not_travel(line: bytes) -> None:
    lines = [line] if line.startswith(b"Connection") else [b"Connection: x-private", line]
    assert sent(*lines) == sent()


def test_a_visitor_that_waits_for_a_100_is_recognised() -> None:
    waiting = head(b"Content-Length: 5", b"Expect: 100-continue", method=b"POST")
    assert expects_continue(waiting) and not expects_continue(head())
    assert values(sent(b"Content-Length: 5", b"Expect: 100-continue"), b"content-length") == [b"5"]


def test_a_visitor_without_tls_is_told_of() -> None:
    assert (b"inkbox-scheme", b"http") in envelope_fields(head(scheme="http"), ID)
    assert b"inkbox-scheme" not in dict(envelope_fields(head(), ID))


# What protects agents that are not ours


def test_cookies_arrive_as_one_field() -> None:
    assert values(sent(b"Cookie: a=1", b"Cookie: b=2; c=3"), b"cookie") == [b"a=1; b=2; c=3"]
    assert values(sent(b"Cookie: a=1", b"Cookie: b=2", faithful=True), b"cookie") == [b"a=1; b=2"]


def test_a_visitor_without_cookies_says_so_that_no_other_visitors_are_sent() -> None:
    assert values(sent(), b"cookie") == [b""]
    assert values(sent(faithful=True), b"cookie") == []


def test_an_sdk_is_asked_for_replies_that_are_not_compressed() -> None:
    assert values(sent(b"Accept-Encoding: gzip, br"), b"accept-encoding") == [b"identity"]
    assert values(sent(b"Accept-Encoding: gzip, br", faithful=True), b"accept-encoding") == [b"gzip, br"]


@pytest.mark.parametrize("value", [b"caf\xe9", "café".encode(), b"\x80"])
def test_a_field_that_is_not_ascii_is_left_out(value: bytes) -> None:
    assert sent(b"X-Name: " + value, b"X-Other: 1") == sent(b"X-Other: 1")
    assert values(sent(b"X-Name: " + value, faithful=True), b"x-name") == [value]


def test_of_a_cookie_only_the_crumb_is_left_out() -> None:
    assert values(sent("Cookie: a=1; name=é; b=2".encode()), b"cookie") == [b"a=1; b=2"]
    assert values(sent("Cookie: name=é".encode()), b"cookie") == [b""]


@pytest.mark.parametrize(
    ("lines", "cookie"),
    [
        ([b"Cookie: a=1", b"Cookie:"], b"a=1"),
        ([b"Cookie:", b"Cookie: a=1"], b"a=1"),
        ([b"Cookie: \xe9;  b=2"], b"b=2"),
        ([b"Cookie: \xe9; \tb=2"], b"b=2"),
        ([b"Cookie: a=1 ; \xe9"], b"a=1"),
        ([b"Cookie: a=1; ; b=2"], b"a=1; b=2"),
        ([b"Cookie: \xe9;   ; \xe9"], b""),
    ],
)
def test_what_a_cookie_is_put_together_of_leaves_no_outer_blanks(lines: list[bytes], cookie: bytes) -> None:
    assert values(sent(*lines), b"cookie") == [cookie]


def test_an_empty_value_leaves_no_outer_blanks_where_fields_are_joined() -> None:
    rest = [b"X-Many: %d" % at for at in range(120)]
    many = sent(b"X-A: one", b"X-A:", b"X-B:", b"X-B: two", b"X-C:", b"X-C:", *rest)
    assert [values(many, name) for name in (b"x-a", b"x-b", b"x-c")] == [[b"one"], [b"two"], [b""]]


def test_a_path_is_percent_encoded_and_its_query_too() -> None:
    fields = dict(envelope_fields(head(target="/café?é=%C3".encode()), ID))
    assert fields[b"inkbox-path"] == b"/caf%C3%A9?%C3%A9=%C3"


def test_values_lose_their_outer_blanks() -> None:
    assert values(sent(b"X-A:  \t one two \t "), b"x-a") == [b"one two"]


def test_more_fields_than_node_takes_are_joined_where_they_can_be() -> None:
    many = sent(*[b"X-Many: %d" % at for at in range(150)])
    assert values(many, b"x-many") == [b", ".join([b"%d" % at for at in range(150)])]
    few = sent(*[b"X-Many: %d" % at for at in range(50)])
    assert values(few, b"x-many") == [b"%d" % at for at in range(50)]


def test_more_names_than_node_takes_are_refused() -> None:
    with pytest.raises(HttpError) as caught:
        sent(*[b"X-%d: 1" % at for at in range(110)])
    assert (caught.value.status, caught.value.reason) == (431, "envelope-fields")


def test_a_list_that_python_would_drop_its_connection_for_is_refused() -> None:
    with pytest.raises(HttpError) as caught:
        sent(b"X-Long: " + b"x" * (MAX_LIST - 500))
    assert (caught.value.status, caught.value.reason) == (431, "envelope-too-large")
    with pytest.raises(HttpError):
        envelope_fields(head(target=b"/" + b"x" * MAX_LIST), ID)
    assert sent(b"X-Long: " + b"x" * (MAX_LIST - 1000))


def test_what_repeats_is_the_same_list() -> None:
    one, common = envelope_parts(head(b"Accept: a", target=b"/1"), b"id-1")
    two, again = envelope_parts(head(b"Accept: a", target=b"/2"), b"id-2")
    assert common is again and one != two
    assert one + common == envelope_fields(head(b"Accept: a", target=b"/1"), b"id-1")


@pytest.mark.parametrize("faithful", [False, True])
@pytest.mark.parametrize("path", [b"/", b"/" + b"x" * 200, "/é".encode()])
def test_an_envelope_that_is_encoded_beforehand_says_the_same(path: bytes, faithful: bool) -> None:
    asked = head(b"Accept: a", target=path, method=b"DELETE")
    method, lead, common = envelope_block(asked, ID, faithful=faithful)
    fields = Decoder(65536).decode(lead) + common
    assert fields == envelope_fields(asked, ID, faithful=faithful)
    assert method == b"DELETE"


names = st.one_of(
    st.from_regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}", fullmatch=True).map(str.encode),
    st.sampled_from([b"Cookie", b"X-Same"]),
)
texts = st.one_of(
    st.lists(
        st.one_of(st.integers(0x20, 0x7E), st.integers(0x80, 0xFF), st.just(0x09)), max_size=60
    ).map(bytes),
    st.lists(st.sampled_from([b"", b" ", b"; ", b"a=1", b"\xe9"]), max_size=6).map(b"".join),
)  # fmt: skip


@given(
    st.lists(st.tuples(names, texts), max_size=120),
    st.lists(st.integers(0x21, 0xFF).filter(lambda b: b not in (0x23, 0x7F)), max_size=80).map(bytes),
    st.booleans(),
)
def test_whatever_a_visitor_says_an_agent_survives_it(
    lines: list[tuple[bytes, bytes]], path: bytes, websocket: bool
) -> None:
    try:
        asked = head(*[b"%b: %b" % line for line in lines], target=b"/" + path)
        fields = envelope_fields(asked, ID, websocket=websocket)
    except HttpError:
        return
    assert list_size(fields) <= MAX_LIST and len(fields) <= MAX_FIELDS
    assert fields[0] == (b":status", b"200")
    for name, value in fields:
        assert re.fullmatch(rb":status|[!#$%&'*+.^_`|~0-9a-z-]+", name)
        assert re.fullmatch(rb"[\t\x20-\x7e]*", value) and value == value.strip(b" \t")
    assert len(values(fields, b"inkbox-h-cookie")) <= 1
    assert re.fullmatch(rb"/[\x21-\x7e]*", dict(fields)[b"inkbox-path"])


# TCP


def test_a_tcp_connection_is_told_of() -> None:
    facts = Facts("2001:db8::1", 4711, "a.tun.test", "0.0.0.0:443")
    assert tcp_fields(facts, ID) == [
        (b":status", b"200"),
        (b"inkbox-request-id", ID),
        (b"inkbox-method", b"CONNECT"),
        (b"inkbox-path", b"/"),
        (b"inkbox-route-kind", b"tcp-stream"),
        (b"inkbox-tcp-id", ID),
        (b"inkbox-sni-host", b"a.tun.test"),
        (b"inkbox-forwarded-for", b"2001:db8::1"),
        (b"inkbox-forwarded-port", b"4711"),
        (b"inkbox-listener", b"0.0.0.0:443"),
    ]
