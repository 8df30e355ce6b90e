import json

import pytest

from wellhead.visitors import pages, port_pages

PORTS = [
    *(page for page in vars(port_pages).values() if isinstance(page, pages.Page)),
    *port_pages.NOT_RUNNING.values(),
]
PAGES = [*(page for page in vars(pages).values() if isinstance(page, pages.Page)), *PORTS]


def split(reply: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = reply.partition(b"\r\n\r\n")
    line, *lines = head.decode("ascii").split("\r\n")
    return line, dict(each.split(": ", 1) for each in lines), body


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.reason)
@pytest.mark.parametrize("html", [True, False])
def test_a_page_is_a_whole_reply_with_its_request_id(page: pages.Page, html: bool) -> None:
    line, fields, body = split(pages.render(page, html=html, request_id="r1", close=True))
    assert line.startswith(f"HTTP/1.1 {page.status} ")
    assert int(fields["Content-Length"]) == len(body)
    assert fields["X-Request-Id"] == "r1" and b"r1" in body
    assert fields["Connection"] == "close"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.reason)
def test_who_is_told_to_come_again_is_told_when(page: pages.Page) -> None:
    _, fields, _ = split(pages.render(page, html=False, request_id="r1", close=False))
    assert ("Retry-After" in fields) == (page.status in (429, 503))
    assert "Connection" not in fields


@pytest.mark.parametrize("page", PORTS, ids=lambda page: page.reason)
def test_a_page_of_a_port_speaks_of_no_tunnel_and_no_address(page: pages.Page) -> None:
    whole = pages.render(page, html=True, request_id="r1", close=False).decode().lower()
    text = whole.partition("<main>")[2]
    for word in ("tunnel", "agent", "10.", "127.", "169.254", "localhost"):
        assert word not in text, word


def test_a_program_gets_the_reason_as_json() -> None:
    _, fields, body = split(pages.render(pages.NO_AGENT, html=False, request_id="r1", close=False))
    assert fields["Content-Type"] == "application/json"
    assert json.loads(body)["reason"] == "no-agent"


def test_the_answer_to_head_has_no_body_but_its_length() -> None:
    _, fields, body = split(
        pages.render(pages.UNKNOWN, html=True, request_id="r1", close=False, bodyless=True)
    )
    assert body == b"" and int(fields["Content-Length"]) > 0


@pytest.mark.parametrize(
    ("fields", "html"),
    [
        (b"Host: a\r\nAccept: text/html,*/*\r\n", True),
        (b"accept:TEXT/HTML\r\n", True),
        (b"Accept: */*\r\n", False),
        (b"Accept: application/json\r\nX: text/html\r\n", False),
        (b"", False),
    ],
)
def test_html_is_for_whoever_asks_for_it(fields: bytes, html: bool) -> None:
    assert pages.wants_html(fields) is html


def test_a_wrong_websocket_version_is_told_the_right_one() -> None:
    page = pages.for_status(426, "websocket-version")
    _, fields, _ = split(pages.render(page, html=False, request_id="r1", close=True))
    assert fields["Sec-WebSocket-Version"] == "13"
