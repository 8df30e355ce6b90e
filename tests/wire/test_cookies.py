"""Cookies on their way, judged by what two readers of cookies make of them."""

from __future__ import annotations

import email.message
import http.cookiejar
import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.wire.cookies import confined, with_paths, without_ours

PIECES = st.sampled_from(
    [b"a=b", b"Domain=example.com", b"domain", b"DOMAIN=", b"Path=/", b"domain=x", b'"', b"\\", b";", b"; ",
     b" ", b"\t", b"\xa0", b"\x85", b"=", b",", b"HttpOnly", b"wellhead-port=1", b"__Host-wellhead-port=2",
     b"xdomain=y"]
)  # fmt: skip


def browser(value: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """Name and value as one, and the attributes, as RFC 6265 section 5.2 reads them."""
    first, *rest = value.split(b";")
    attributes: dict[bytes, bytes] = {}
    for each in rest:
        name, _, text = each.partition(b"=")
        attributes[name.strip(b" \t").lower()] = text.strip(b" \t")
    return first.strip(b" \t"), attributes


def jar(value: bytes) -> list[http.cookiejar.Cookie]:
    """As Python's own jar takes it, of a page at ``a.example.com``."""
    message = email.message.Message()
    message["Set-Cookie"] = value.decode("latin-1")

    class Answer:
        def info(self) -> email.message.Message:
            return message

    cookies = http.cookiejar.CookieJar()
    cookies.extract_cookies(Answer(), urllib.request.Request("https://a.example.com/"))  # type: ignore[arg-type]
    return list(cookies)


def line(value: bytes) -> bytes:
    return b"Set-Cookie: %b\r\n" % value


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b"a=b; Domain=example.com", b"a=b"),
        (b"a=b;domain=.example.com;Path=/", b"a=b;Path=/"),
        (b"a=b; Path=/; DOMAIN = example.com ; HttpOnly", b"a=b; Path=/; HttpOnly"),
        (b"a=b; Domain=one.com; Domain=two.com", b"a=b"),
        (b"a=b; Domain", b"a=b"),
        (b"a=b;\xa0Domain=example.com", b"a=b"),
        (b'a="b; Domain=example.com"', b'a="b'),
        (b"domain=example.com; Path=/", b"domain=example.com; Path=/"),
        (b"a=Domain=example.com", b"a=Domain=example.com"),
        (b"a=b; xdomain=c; domainx=d", b"a=b; xdomain=c; domainx=d"),
        (b"a=b;;  ;Secure", b"a=b;;  ;Secure"),
        (b"", b""),
    ],
)
def test_a_cookie_is_for_the_name_that_sets_it(sent: bytes, kept: bytes) -> None:
    for name in (b"Set-Cookie", b"set-cookie", b"SET-COOKIE", b"Set-Cookie2"):
        block = b"A: 1\r\n%b: %b\r\nB: domain; Domain=x\r\n"
        assert confined(block % (name, sent)) == block % (name, kept)


@pytest.mark.parametrize(
    "value",
    [
        b"wellhead-port=x; Path=/",
        b"__Host-wellhead-port=x; Secure; Path=/",
        b"__Secure-wellhead-port=x",
        b" \t__hOsT-Wellhead-anything=x",
        b"=wellhead-port=x",
        b" = wellhead-port=x",
        b"wellhead-port",
    ],
)
def test_no_tenant_sets_a_cookie_in_our_names(value: bytes) -> None:
    assert confined(b"A: 1\r\n" + line(value) + line(b"a=b")) == b"A: 1\r\n" + line(b"a=b")


def test_every_cookie_of_a_reply_is_looked_at() -> None:
    sent = [b"a=1; Domain=x.com", b"wellhead-port=2", b"c=3", b"d=4;domain=y.com; Secure"]
    assert confined(b"".join(map(line, sent))) == line(b"a=1") + line(b"c=3") + line(b"d=4; Secure")


def test_a_reply_without_cookies_is_the_same_object() -> None:
    block = b"Server: x\r\nX-Cookie: a; Domain=b\r\n"
    assert confined(block) is block


@given(st.lists(PIECES, max_size=12))
def test_no_reader_sees_a_domain_in_what_is_left(pieces: list[bytes]) -> None:
    sent = b"".join(pieces)
    block = confined(line(sent))
    assert confined(block) == block
    if not block:
        assert b"wellhead-" in sent
        return
    value = block[len("Set-Cookie: ") : -2]
    cookie, attributes = browser(value)
    assert b"domain" not in attributes
    before, others = browser(sent)
    assert cookie == before
    assert attributes == {name: text for name, text in others.items() if name.strip(b"\x85\xa0") != b"domain"}
    assert not any(each.domain_specified for each in jar(value))


def test_a_path_is_rewritten_and_nothing_else() -> None:
    block = line(b"a=b; Path=/x ; HttpOnly") + line(b"path=/c;path=/d") + b"Path: /e\r\n" + line(b"f=g")
    assert with_paths(block, lambda path: b"/p" + path) == (
        line(b"a=b; Path=/p/x; HttpOnly") + line(b"path=/c;path=/p/d") + b"Path: /e\r\n" + line(b"f=g")
    )


def test_our_cookies_are_taken_out_of_a_request_and_others_stay_as_they_are() -> None:
    mixed, alone = b'Cookie: a=1;b="2; c"; wellhead-port=T1;d\r\n', b"cookie:__Host-wellhead-port= T2 \r\n"
    kept = without_ours(b"Host: x\r\n%b%bB: 1\r\n\r\n" % (mixed, alone))
    assert kept.block == b'Host: x\r\nCookie: a=1;b="2; c";d\r\nB: 1\r\n\r\n'
    assert kept.ours == [(b"wellhead-port", b"T1"), (b"__Host-wellhead-port", b"T2")]


@pytest.mark.parametrize("cookie", [b"a=1; b=2", b"", b"xwellhead-port=1", b"a=wellhead-port=1"])
def test_a_request_without_ours_stays_byte_for_byte(cookie: bytes) -> None:
    block = b"Host: wellhead-port=1\r\nCookie: %b\r\nX: cookie: wellhead-port=1\r\n" % cookie
    assert without_ours(block) == (block, [])


@given(st.lists(PIECES, max_size=12))
def test_no_application_is_shown_a_cookie_of_ours(pieces: list[bytes]) -> None:
    kept = without_ours(b"Host: x\r\nCookie: %b\r\n\r\n" % b"".join(pieces))
    assert not any(
        pair.lstrip(b" \t=\x85\xa0").startswith((b"wellhead-", b"__Host-wellhead-"))
        for pair in kept.block.partition(b"Cookie:")[2].split(b";")
    )
    assert without_ours(kept.block) == (kept.block, [])
