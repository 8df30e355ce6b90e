"""What a request for a port shows of ours, and whose page it comes from."""

from __future__ import annotations

import itertools
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.model.access import API_KEY, CONNECT_SECRET, mint
from wellhead.model.sandboxes import new_sandbox_id
from wellhead.wire.port_request import Provenance, preflight_answer, preflight_lines, read_shown

KEY = mint(API_KEY).reveal().encode()
OTHER = mint(API_KEY).reveal().encode()
SECRET = mint(CONNECT_SECRET).reveal().encode()
MISTYPED = KEY[:-1] + (b"0" if KEY[-1:] != b"0" else b"1")
SANDBOX = new_sandbox_id()
SIBLING = new_sandbox_id()
HOST = f"3000-{SANDBOX}.example.com:8443"


def block(*lines: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in (b"Host: " + HOST.encode(), *lines, b"X-Request-Id: 1", b""))


@pytest.mark.parametrize(
    ("lines", "key", "left"),
    [
        ([b"X-API-Key: " + KEY], KEY, []),
        ([b"x-api-key:\t" + KEY + b" "], KEY, []),
        ([b"Authorization: Bearer " + KEY], KEY, []),
        ([b"authorization: bEARER  " + KEY], KEY, []),
        ([b"Authorization: Bearer " + KEY, b"X-API-Key: mine"], KEY, [b"X-API-Key: mine"]),
        ([b"Authorization: Basic bWU6aXQ=", b"X-API-Key: " + KEY], KEY, [b"Authorization: Basic bWU6aXQ="]),
        ([b"X-API-Key: " + KEY, b"Authorization: Bearer " + OTHER], KEY, []),
        ([b"X-API-Key: " + KEY, b"X-API-Key: " + OTHER], None, []),
        ([b"X-API-Key: " + KEY + b", " + OTHER], None, []),
        ([b"X-API-Key: x" + KEY], None, []),
        ([b"X_API_Key: " + KEY], None, []),
        ([b"X-API-Key: " + SECRET], None, []),
        ([b"Authorization: Digest " + KEY], None, []),
        ([b"Authorization: Basic " + b64encode(b"x:" + KEY)], None, []),
        ([b"authorization: BASIC " + b64encode(KEY + b":").rstrip(b"=")], None, []),
        ([b"Authorization: Basic !"], None, [b"Authorization: Basic !"]),
        ([b"Authorization: Basic abcde"], None, [b"Authorization: Basic abcde"]),
        ([b"X-API-Key: " + MISTYPED], None, [b"X-API-Key: " + MISTYPED]),
        ([b"Authorization: Bearer mine"], None, [b"Authorization: Bearer mine"]),
        ([b"X-Key: " + KEY], None, [b"X-Key: " + KEY]),
    ],
    ids=map(str, itertools.count()),  # no keys, which are others in every worker
)
def test_a_key_is_ours_by_its_grammar(lines: list[bytes], key: bytes | None, left: list[bytes]) -> None:
    shown = read_shown(b"/", block(b"A: 1", *lines, b"B: 2"))
    assert (shown.key and shown.key.reveal().encode()) == key
    assert shown.block == block(b"A: 1", *left, b"B: 2")


@pytest.mark.parametrize(
    ("target", "link", "left"),
    [
        (b"/?wellhead_link=T", "T", b"/"),
        (b"/a%2Fb//?x=1&wellhead_link=T&y=%20", "T", b"/a%2Fb//?x=1&y=%20"),
        (b"/?wellhead_link=T&wellhead_link=U&&", "T", b"/?&"),
        (b"/?wellhead_link=", "", b"/"),
        (b"/?xwellhead_link=T", "", b"/?xwellhead_link=T"),
        (b"/&wellhead_link=T", "", b"/&wellhead_link=T"),
        (b"/?a=?wellhead_link=T", "", b"/?a=?wellhead_link=T"),
        (b"/wellhead_link=T?", "", b"/wellhead_link=T?"),
        (b"*", "", b"*"),
    ],
)
def test_a_link_is_a_parameter_and_the_rest_of_the_target_is_untouched(
    target: bytes, link: str, left: bytes
) -> None:
    shown = read_shown(target, block())
    assert (shown.link, shown.target, shown.block) == (link, left, block())


@pytest.mark.parametrize(
    ("value", "left"),
    [
        (b"https://x/a?wellhead_link=T", b"https://x/a"),
        (b"https://x/?b=1&wellhead_link=T&c", b"https://x/?b=1&c"),
        (b"https://x/wellhead_link=T", b"https://x/wellhead_link=T"),
    ],
)
def test_a_page_that_was_opened_with_a_link_does_not_pass_it_on(value: bytes, left: bytes) -> None:
    assert read_shown(b"/", block(b"referer: " + value, b"A: wellhead_link=")) == (
        b"/", block(b"referer: " + left, b"A: wellhead_link="), None, "", ()
    )  # fmt: skip


def test_a_key_in_the_target_is_no_key() -> None:
    shown = read_shown(b"/?x-api-key=" + KEY, block())
    assert shown.key is None and shown.target == b"/?x-api-key=" + KEY


LINES = st.lists(
    st.sampled_from(
        [b"X-API-Key: %b", b"authorization: BEARER %b", b"Authorization:%b", b"A: 1", b"Cookie: c=3",
         b"Cookie: a=1; wellhead-port=%b; b=2", b"Cookie: __Host-wellhead-port=%b"]
    )
)  # fmt: skip


@given(LINES)
def test_nothing_of_ours_goes_on_and_what_goes_on_is_what_came(lines: list[bytes]) -> None:
    sent = [line % KEY if b"%b" in line else line for line in lines]
    shown = read_shown(b"/?wellhead_link=" + KEY, block(*sent))
    assert KEY not in shown.block + shown.target and b"wellhead-" not in shown.block
    assert [line for line in shown.block.split(b"\r\n") if line in (b"A: 1", b"Cookie: c=3")] == [
        line for line in sent if line in (b"A: 1", b"Cookie: c=3")
    ]
    assert read_shown(shown.target, shown.block) == (shown.target, shown.block, None, "", ())


def is_own(*lines: str, method: bytes = b"GET", secure: bool = True) -> bool:
    fields = block(*[line.format(SANDBOX, SIBLING).encode() for line in lines])
    return Provenance(fields, SANDBOX, secure=secure).is_own(method)


TOP = ("Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document")


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["Sec-Fetch-Site: none", *TOP],
        ["Sec-Fetch-Site: same-origin"],
        ["Sec-Fetch-Site: same-origin", "Origin: https://3000-{}.example.com:8443"],
        ["Origin: https://8080-{}.example.com:8443"],
        ["Sec-Fetch-Site: same-site", "Origin: https://8080-{}.example.com:8443"],
        ["Sec-Fetch-Site: cross-site", "Origin: https://8080-{}.example.com:8443"],
        ["Sec-Fetch-Site: same-site", "Referer: https://8080-{}.example.com:8443/x"],
        ["Sec-Fetch-Site: same-site", *TOP],
        ["Sec-Fetch-Site: cross-site", "Referer: https://evil.com/", *TOP],
    ],
)
def test_a_page_of_the_sandbox_and_a_top_level_navigation_are_its_own(lines: list[str]) -> None:
    assert is_own(*lines)


@pytest.mark.parametrize(
    "lines",
    [
        ["Origin: https://3000-{1}.example.com:8443"],
        ["Origin: null"],
        ["Origin: http://3000-{}.example.com:8443"],
        ["Origin: https://3000-{}.example.com"],
        ["Origin: https://3000-{}.example.com:8443.evil.com"],
        ["Origin: https://3000-{}.evil.com"],
        ["Origin: https://03000-{}.example.com:8443"],
        ["Origin: https://evil.com", "Sec-Fetch-Site: same-origin"],
        ["Origin: https://evil.com", "Sec-Fetch-Site: none"],
        ["Origin: https://evil.com", "Sec-Fetch-Site: cross-site", *TOP],
        ["Origin: https://3000-{}.example.com:8443", "Origin: https://evil.com"],
        ["Sec-Fetch-Site: same-site"],
        ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"],
        ["Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"],
        ["Sec-Fetch-Site: same-site", "Referer: https://3000-{1}.example.com:8443/"],
        ["Sec-Fetch-Site: same-site", "Referer: https://3000-{}.example.com:8443@evil.com/"],
        ["Sec-Fetch-Site: what"],
    ],
)
def test_a_page_of_anybody_else_is_not(lines: list[str]) -> None:
    assert not is_own(*lines)


def test_a_navigation_that_changes_something_is_not_its_own() -> None:
    assert not is_own("Sec-Fetch-Site: same-site", *TOP, method=b"POST")


@pytest.mark.parametrize(
    ("method", "lines", "opens"),
    [
        (b"GET", [b"Sec-Fetch-Mode: navigate"], True),
        (b"HEAD", [b"Sec-Fetch-Mode: navigate"], True),
        (b"POST", [b"Sec-Fetch-Mode: navigate"], False),
        (b"GET", [b"Sec-Fetch-Mode: cors", b"Accept: text/html"], False),
        (b"GET", [b"Accept: text/html,*/*;q=0.8"], True),
        (b"GET", [b"Accept: */*"], False),
        (b"GET", [], False),
    ],
)
def test_who_opens_a_page_says_so(method: bytes, lines: list[bytes], opens: bool) -> None:
    assert Provenance(block(*lines), SANDBOX, secure=True).is_navigation(method) is opens


def test_a_preflight_goes_on_with_what_a_browser_puts_into_one() -> None:
    asked = [
        b"Origin: https://x",
        b"Access-Control-Request-Method: PUT",
        b"access-control-request-headers: a",
    ]
    others = [b"Cookie: a=b", b"Authorization: Basic x", b"X-HTTP-Method-Override: DELETE", b"X-Any: 1"]
    about = [b"User-Agent: it", b"Accept: */*", b"Sec-Fetch-Mode: cors", b"X-Forwarded-For: 192.0.2.7"]
    sent = block(*asked, *others, *about)
    assert Provenance(sent, SANDBOX, secure=True).is_preflight(b"OPTIONS")
    assert preflight_lines(sent) == block(*asked, *about)
    assert not Provenance(block(*asked), SANDBOX, secure=True).is_preflight(b"PUT")
    assert not Provenance(block(*asked[1:]), SANDBOX, secure=True).is_preflight(b"OPTIONS")
    assert not Provenance(block(asked[0]), SANDBOX, secure=True).is_preflight(b"OPTIONS")


@pytest.mark.parametrize(
    ("status", "length"), [(b"200 OK", True), (b"204 No Content", False), (b"404 No", True)]
)
def test_of_the_answer_to_a_preflight_goes_on_what_a_browser_reads(status: bytes, length: bool) -> None:
    allows = [b"Access-Control-Allow-Origin: *", b"access-control-max-age: 5", b"Vary: Origin", b"Allow: GET"]
    others = [
        b"Content-Length: 9",
        b"Set-Cookie: a=b",
        b"Location: /x",
        b"X-Any: 1",
        b"Content-Type: text/html",
    ]
    head = b"\r\n".join([b"HTTP/1.1 " + status, *others, *allows, b"", b""])
    ended = [b"Content-Length: 0"] if length else []
    assert preflight_answer(head) == b"\r\n".join([b"HTTP/1.1 " + status, *allows, *ended, b"", b""])
    assert preflight_answer(head[:-2]) == head[:-2]
