"""The path form at the edge: one name for the ports of all sandboxes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from tests.edge.test_port_access import BROWSER, Private
from tests.edge.test_port_door import OK
from tests.kit.house import status
from tests.kit.port_envelopes import read_port_envelope
from tests.kit.ports import DENIED, END
from tests.kit.sandboxes import PRIVATE, PUBLIC
from wellhead.edge.router import Router
from wellhead.model.sandboxes import new_sandbox_id
from wellhead.visitors.house import Place

NAME = "proxy.localhost"


@pytest.fixture
async def place() -> AsyncIterator[Private]:
    made = Private()
    made.records.change(made.sandbox, access=PUBLIC)
    yield made
    made.close()


def asked(place: Private, target: str, lines: str = "") -> bytes:
    """What the host is told of a request in the path form."""
    visit = place.asking(target, lines, host=NAME)
    told = read_port_envelope(place.bulk.stream.envelope)
    assert told is not None and (told.sandbox, told.port) == (place.sandbox, 3000)
    place.bulk.stream.reply(OK, b"hi")
    assert status(visit.transport.take()) == 200
    return told.envelope


@pytest.mark.parametrize(
    "rest",
    [
        "/",
        "/a%2Fb//c/",
        "/../../..",
        "/%2e%2e/%2e%2e/",
        "//evil.com/x",
        "/@evil.com",
        "/\\evil.com",
        "/?a=/b",
    ],
)
async def test_the_prefix_is_cut_and_the_rest_goes_on_byte_for_byte(place: Private, rest: str) -> None:
    prefix = f"/{place.sandbox}/3000"
    told = asked(place, prefix + rest)
    assert told.startswith(f"GET {rest} HTTP/1.1\r\nHost: {NAME}\r\n".encode())
    assert f"\r\nX-Forwarded-Prefix: {prefix}\r\n".encode() in told
    assert (place.lines[0].place, place.lines[0].name) == ("port", f"3000-{place.sandbox}")


async def test_what_a_visitor_says_of_the_prefix_is_not_believed(place: Private) -> None:
    told = asked(place, f"/{place.sandbox}/3000/", "X-Forwarded-Prefix: /evil\r\n")
    assert told.count(b"X-Forwarded-Prefix") == 1 and b"/evil" not in told


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/", (404, "path-form")),
        ("/favicon.ico", (404, "path-form")),
        ("/{0}/0/", (400, "port-number")),
        ("/{0}/65536/", (400, "port-number")),
        ("/x/3000/", (400, "sandbox-id")),
        ("/../{0}/3000/", (400, "port-number")),
        ("//evil.com/3000/", (400, "port-number")),
        ("/{1}/3000/", (404, "unknown-sandbox")),
        (f"/{{0}}/{DENIED}/", (403, "port-denied")),
    ],
)
async def test_a_path_that_is_wrong_is_told_how(
    place: Private, target: str, expected: tuple[int, str]
) -> None:
    assert place.ask(target.format(place.sandbox, new_sandbox_id()), host=NAME) == expected
    assert not place.bulk.opened


@pytest.mark.parametrize("rest", ["", "?a=b"])
async def test_a_port_alone_leads_to_its_root(place: Private, rest: str) -> None:
    head = place.asking(f"/{place.sandbox}/3000{rest}", host=NAME).transport.take()
    assert status(head) == 308 and f"\r\nLocation: /{place.sandbox}/3000/{rest}\r\n".encode() in head
    assert not place.bulk.opened


async def test_a_reply_is_rewritten_and_no_page_may_have_the_origin_of_all(place: Private) -> None:
    prefix = f"/{place.sandbox}/3000"
    visit = place.asking(f"{prefix}/dir", host=NAME)
    place.bulk.stream.reply(
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /dir/\r\n"
        b"Set-Cookie: a=b; Path=/; Domain=localhost\r\n"
        b"Content-Security-Policy: default-src *\r\n\r\n"
    )
    head = visit.transport.take().decode()
    assert f"\r\nLocation: {prefix}/dir/\r\nSet-Cookie: a=b; Path={prefix}/\r\n" in head
    assert "\r\nContent-Security-Policy: default-src *\r\nContent-Security-Policy: sandbox\r\n" in head


async def test_the_same_reply_under_the_ports_own_name_is_not_touched(place: Private) -> None:
    lines = b"Location: /dir/\r\nRefresh: 1; url=/x\r\nLink: </a>; rel=x\r\nSet-Cookie: a=b; Path=/\r\n"
    head = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n%b\r\n" % lines
    for host, same in ((NAME, False), (place.name(), True), (NAME, False)):
        target = "/" if same else f"/{place.sandbox}/3000/"
        visit = place.asking(target, host=host)
        place.bulk.stream.reply(head)
        assert (lines in visit.transport.take()) is same


async def test_a_key_in_a_header_opens_what_is_private_and_nothing_else_does(place: Private) -> None:
    place.records.change(place.sandbox, access=PRIVATE)
    target = f"/{place.sandbox}/3000/"
    cookie = place.cookie() + place.cookie().replace("wellhead-port", "__Host-wellhead-port")
    assert place.ask(target, host=NAME) == (401, "port-key")
    assert place.ask(target, cookie, host=NAME) == (401, "port-key")
    assert place.ask(f"{target}?wellhead_link={place.token()}", host=NAME) == (401, "port-key")
    page = place.asking(f"{target}?wellhead_link={place.token()}", BROWSER, host=NAME).transport.take()
    assert status(page) == 401 and b"Set-Cookie" not in page
    told = asked(place, target, f"X-API-Key: {place.admin.reveal()}\r\n{cookie}Cookie: a=b\r\n")
    assert (
        place.admin.reveal().encode() not in told
        and b"wellhead-port" not in told
        and b"\r\nCookie: a=b\r\n" in told
    )


def test_the_name_is_nobodys_where_the_path_form_is_off() -> None:
    on, off = (Router("localhost", "localhost", path_form=each).destination(NAME) for each in (True, False))
    assert on.place is Place.PORT and off.place is Place.TUNNEL


async def test_a_page_of_ours_there_is_json_for_a_program(place: Private) -> None:
    head, _, body = place.asking("/", host=NAME).transport.take().partition(END)
    assert status(head) == 404 and json.loads(body)["reason"] == "path-form"
