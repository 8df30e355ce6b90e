"""Replies: from an upstream's head to an agent's POST, and from there to a visitor."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wellhead.errors import HttpError
from wellhead.wire.headers import ReplyFacts, read_reply
from wellhead.wire.hpack import Fields
from wellhead.wire.intake_calls import SECRET, Caller
from wellhead.wire.intake_reply import ReplyRead, ReplyReader, reply_fields, reply_head
from wellhead.wire.ws import accept_key, check_accept

CALLER = Caller(b"z.test", b"id", (SECRET, b"s"))
KEY = b"AAAAAAAAAAAAAAAAAAAAAA=="
GZIP = b"\x1f\x8b"


def post(status: bytes = b"200", *fields: tuple[bytes, bytes], length: bytes | None = b"5") -> Fields:
    """What an SDK posts."""
    told = [] if length is None else [(b"content-length", length)]
    said = [(b"inkbox-status", status), (b"inkbox-request-id", b"r")]
    return [*CALLER.response(b"r"), *said, *told, *[(b"inkbox-h-" + name, value) for name, value in fields]]


def facts(read: ReplyRead, method: bytes = b"GET") -> ReplyFacts:
    return read_reply(read.head, method)


def carried(head: bytes, method: bytes = b"GET", **how: int | None) -> ReplyRead:
    """What an upstream's head has become when it has travelled."""
    length = how.get("length", 5)
    bodyless = bool(how.get("bodyless", False))
    return reply_head(reply_fields(head, b"r", CALLER, length=length, bodyless=bodyless), method)


def test_a_reply_becomes_a_head_that_a_visitor_can_be_given() -> None:
    read = reply_head(post(b"201", (b"content-type", b"text/plain"), (b"x-a", b"1")))
    assert read == ReplyRead(
        201,
        b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\ncontent-type: text/plain\r\nx-a: 1\r\n\r\n",
        "", 5, False,
    )  # fmt: skip
    assert facts(read) == (201, 5, False, False, b"Created", b"content-type: text/plain\r\nx-a: 1\r\n")


def test_fields_of_the_same_name_stay_apart() -> None:
    read = reply_head(post(b"200", (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")))
    assert b"set-cookie: a=1\r\nset-cookie: b=2\r\n" in read.head


@pytest.mark.parametrize(
    "value, apart",
    [
        (b"a=1, b=2", [b"a=1", b"b=2"]),
        (b"a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Path=/, b=2", None),
        (b"a=1; Expires=Wed, 21-Oct-2026 07:28:00 GMT", None),
        (b"a=1,2", None),
    ],
)
def test_cookies_that_were_joined_are_told_apart_but_no_date_is_torn(
    value: bytes, apart: list[bytes] | None
) -> None:
    head = reply_head(post(b"200", (b"set-cookie", value)), joined_cookies=True).head
    cookies = [line[12:] for line in head.split(b"\r\n") if line.startswith(b"set-cookie")]
    if apart is None:
        assert b", ".join(cookies) == value and not any(cookie[:2].isdigit() for cookie in cookies)
    else:
        assert cookies == apart


@pytest.mark.parametrize(
    "name",
    [
        b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"proxy-authenticate", b"te",
        b"trailer", b"proxy-connection", b"content-length", b"inkbox-reason", b"inkbox-whatever",
        b"x-owner-token", b"alt-svc",
    ],
)  # fmt: skip
def test_what_is_of_the_hop_or_the_carrier_is_not_shown_to_a_visitor(name: bytes) -> None:
    read = reply_head(post(b"200", (name, b"7"), (b"x-a", b"1")))
    assert facts(read) == (200, 5, False, False, b"OK", b"x-a: 1\r\n")


@pytest.mark.parametrize("name", [b"inkbox-reason", b"inkbox-h-inkbox-reason"])
def test_a_reason_is_read_in_both_spellings(name: bytes) -> None:
    fields = [*post(b"502"), (name, b"upstream-error")]
    assert reply_head(fields).reason == "upstream-error"
    odd = [*post(b"502"), (name, b"Not A Word\xff")]
    assert reply_head(odd).reason == ""


@pytest.mark.parametrize(
    "status", [b"", b"99", b"100", b"102", b"600", b"2000", b"abc", b"-20", b" 20", b"\xb2\xb2\xb2"]
)
def test_a_reply_without_a_status_of_a_reply_is_refused(status: bytes) -> None:
    with pytest.raises(HttpError) as caught:
        reply_head(post(status))
    assert (caught.value.status, caught.value.reason) == (502, "reply-status")


@pytest.mark.parametrize(
    "field",
    [
        (b"x-a", b"a\r\nset-cookie: b=1"), (b"x-a", b"a\r\n\r\nb"), (b"x-a", b"a\nb"), (b"x-a", b"a\rb"),
        (b"x-a\r\nx-b", b"1"), (b"x-a:b", b"1"), (b":status", b"200"),
    ],
)  # fmt: skip
def test_a_field_that_would_be_two_is_refused(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(HttpError) as caught:
        reply_head(post(b"200", (b"x-0", b"1"), field))
    assert (caught.value.status, caught.value.reason) == (502, "reply-field")


@pytest.mark.parametrize("field", [(b"x-a", b"a\0b"), (b"x a", b"1"), (b"", b"1")])
def test_a_head_that_nobody_can_read_is_refused_where_it_is_verified(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(HttpError) as caught:
        facts(reply_head(post(b"200", field)))
    assert caught.value.status == 502


def test_a_length_that_is_not_told_is_none() -> None:
    for length in (None, b"", b"x", b"-1", b"1" * 20):
        read = reply_head(post(length=length))
        assert (read.length, facts(read).content_length) == (None, None)


# Bodies that are not sent


@pytest.mark.parametrize("status, method", [(b"200", b"HEAD"), (b"304", b"GET")])
def test_a_reply_without_a_body_promises_none_and_no_empty_one(status: bytes, method: bytes) -> None:
    assert b"Content-Length" not in reply_head(post(status, length=b"0"), method).head
    ours = post(status, (b"content-length", b"1234"), length=b"0")
    assert facts(reply_head(ours, method), method).content_length == 1234


def test_our_agent_keeps_the_length_that_a_head_has() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nx-a: 1\r\n\r\n"
    read = carried(head, b"HEAD", length=0, bodyless=True)
    assert facts(read, b"HEAD") == read_reply(head, b"HEAD")._replace(fields=b"x-a: 1\r\n")


def test_a_204_has_no_length() -> None:
    assert b"Content-Length" not in reply_head(post(b"204", length=b"0")).head


# Compressed bodies


@pytest.mark.parametrize("coding", [b"gzip", b"x-gzip", b"GZIP"])
def test_a_coding_that_the_body_has_not_is_left_out(coding: bytes) -> None:
    read = reply_head(post(b"200", (b"x-a", b"1"), (b"content-encoding", coding), (b"x-b", b"2")))
    assert read.may_be_gzip
    assert read.settled(GZIP) == read.settled(GZIP + b"...") == read.settled(GZIP[:1]) == read.head
    for first in (b"he", b"\x1fe", b""):
        assert b"content-encoding" not in read.settled(first)
        assert b"\r\nx-a: 1\r\nx-b: 2\r\n\r\n" in read.settled(first)


@pytest.mark.parametrize(
    "status, coding, method, length",
    [
        (b"200", b"br", b"GET", b"5"),
        (b"200", b"gzip, br", b"GET", b"5"),
        (b"200", b"gzip", b"HEAD", b"0"),
        (b"304", b"gzip", b"GET", b"0"),
        (b"200", b"gzip", b"GET", b"0"),
    ],
)
def test_other_codings_and_bodies_that_are_not_there_are_left_alone(
    status: bytes, coding: bytes, method: bytes, length: bytes
) -> None:
    read = reply_head(post(status, (b"content-encoding", coding), length=length), method)
    assert not read.may_be_gzip and read.settled(b"he") == read.head
    assert b"content-encoding: " + coding in read.head


# WebSockets


@pytest.mark.parametrize(
    "status, accepts", [(b"200", True), (b"101", True), (b"204", True), (b"403", False), (b"302", False)]
)
def test_which_replies_accept_a_websocket(status: bytes, accepts: bool) -> None:
    assert reply_head(post(status)).accepts_websocket is accepts


def test_a_visitor_is_answered_with_a_handshake_of_our_own() -> None:
    read = reply_head(
        post(
            b"200",
            (b"sec-websocket-protocol", b"chat"),
            (b"sec-websocket-accept", b"forged"),
            (b"sec-websocket-extensions", b"permessage-deflate"),
            (b"set-cookie", b"w=1"),
            (b"content-type", b"text/plain"),
            length=b"0",
        )
    )
    said = read_reply(read.switch_head(KEY), b"GET", upgrade=True)
    assert said.status == 101 and not said.extensions
    check_accept(said.fields, KEY)
    assert said.fields == (
        b"Sec-WebSocket-Accept: %b\r\nsec-websocket-protocol: chat\r\nset-cookie: w=1\r\n" % accept_key(KEY)
    )


def test_our_agent_accepts_as_the_sdks_do() -> None:
    head = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: a\r\n\r\n"
    fields = reply_fields(head, b"r", CALLER, length=0)
    assert fields[-4:] == [
        (b"inkbox-status", b"200"),
        (b"inkbox-request-id", b"r"),
        (b"content-length", b"0"),
        (b"inkbox-h-sec-websocket-protocol", b"a"),
    ]


# Our agent's


def test_our_agent_says_in_both_spellings_why_it_answers_itself() -> None:
    fields = reply_fields(b"HTTP/1.1 502 \r\n\r\n", b"r", CALLER, length=0, reason=b"upstream-error")
    assert (b"inkbox-reason", b"upstream-error") in fields
    assert (b"inkbox-h-inkbox-reason", b"upstream-error") in fields
    assert reply_head(fields).reason == "upstream-error"


def test_a_head_that_is_none_is_not_posted() -> None:
    with pytest.raises(HttpError):
        reply_fields(b"HTTP/1.1 200 OK\r\nx\r\n\r\n", b"r", CALLER, length=0)


LINES = st.lists(
    st.tuples(
        st.sampled_from([b"x-a", b"set-cookie", b"content-type", b"vary"]),
        st.from_regex(rb"[!-~]{0,9}", fullmatch=True),
    ),
    max_size=6,
)


@given(LINES, st.integers(200, 599), st.integers(0, 10**9))
@example([], 304, 0)
def test_what_an_upstream_says_reaches_the_visitor(lines: Fields, status: int, length: int) -> None:
    block = b"".join([b"%b: %b\r\n" % line for line in lines])
    head = b"HTTP/1.1 %d \r\nContent-Length: %d\r\n%b\r\n" % (status, length, block)
    found = facts(carried(head, length=length, bodyless=status == 304))
    given = read_reply(head, b"GET")
    assert found._replace(reason=b"") == given


PSEUDO = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"z")]
SAID = st.lists(
    st.sampled_from(
        [
            (b"inkbox-status", b"200"), (b"inkbox-status", b"404"), (b"inkbox-request-id", b"1"),
            (b"inkbox-request-id", b"2"), (b"content-length", b"5"), (b"content-length", b"6"),
            (b"inkbox-h-a", b"1"), (b"inkbox-h-content-length", b"9"), (b"inkbox-reason", b"why"),
            (b"inkbox-h-content-encoding", b"gzip"), (b"x-tunnel-id", b"t"),
        ]
    ),
    max_size=6,
)  # fmt: skip
POSTS = st.builds(
    lambda paths, said: [*PSEUDO, *paths, *said],
    st.lists(st.sampled_from([(b":path", b"/1"), (b":path", b"/2")]), max_size=2),
    SAID,
)


def outcome(reader: ReplyReader, fields: Fields, method: bytes) -> ReplyRead | str:
    try:
        return reader.read(fields, method)
    except HttpError as error:
        return error.reason


@given(st.lists(st.tuples(POSTS, st.sampled_from([b"GET", b"HEAD"])), max_size=8))
def test_a_reader_that_remembers_says_what_one_that_does_not_says(posts: list[tuple[Fields, bytes]]) -> None:
    reader = ReplyReader()
    for fields, method in posts * 2:
        assert outcome(reader, fields, method) == outcome(ReplyReader(), fields, method)


def test_replies_that_differ_in_their_id_alone_are_read_once() -> None:
    reader = ReplyReader()
    first, second = (
        [
            *PSEUDO,
            (b":path", b"/_system/response/" + one),
            (b"inkbox-request-id", one),
            (b"inkbox-status", b"200"),
        ]
        for one in (b"1", b"2")
    )
    assert reader.read(first, b"GET") is reader.read(second, b"GET")
    assert reader.read(first, b"HEAD") is not reader.read(second, b"GET")
