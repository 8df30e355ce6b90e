"""Who may see a port: keys, links, the cookies that links become, and pages of somebody else."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.edge.test_port_door import OK
from tests.kit.house import SWITCH, UPGRADE, status
from tests.kit.http2 import Http2Visit
from tests.kit.ports import LINKS, MOST_WRONG_KEYS, PortHouse
from tests.kit.sandboxes import PRIVATE, PUBLIC, TEAM
from wellhead.edge import port_door
from wellhead.model import access
from wellhead.model.links import KEY_BYTES, LinkSigner, Pass
from wellhead.model.sandboxes import SandboxId, SandboxStatus
from wellhead.model.visibility import PortAccess, Visibility
from wellhead.wire.streams import HeadKind, Reason, StreamKind

BROWSER = "Accept: text/html\r\n"


class Private(PortHouse):
    """Its sandbox is private."""

    def __init__(self) -> None:
        super().__init__()
        self.records.change(self.sandbox, access=PRIVATE)

    def token(
        self, kind: Pass = Pass.LINK, *, port: int = 3000, epoch: int = 0, lasts: float = 60,
        sandbox: SandboxId | None = None, links: LinkSigner = LINKS,
    ) -> str:  # fmt: skip
        return links.sign(kind, sandbox or self.sandbox, port, epoch, int(time.time() + lasts))

    def cookie(self, value: str | None = None) -> str:
        """The field that shows it on the plain port."""
        return f"Cookie: wellhead-port={value or self.token(Pass.COOKIE)}\r\n"

    def passes(self, target: str = "/", lines: str = "", *, method: str = "GET") -> bytes:
        """What the host is asked for by a visitor that is let in."""
        before = len(self.bulk.opened)
        visit = self.asking(target, lines, method=method)
        assert len(self.bulk.opened) == before + 1, visit.transport.take()
        self.bulk.stream.reply(OK, b"hi")
        assert status(visit.transport.take()) == 200
        return self.bulk.stream.envelope

    def refuses(self, target: str = "/", lines: str = "", *, method: str = "GET") -> tuple[int, str]:
        """The page in its stead; nobody is asked."""
        before = len(self.bulk.opened)
        page = self.ask(target, lines, method=method)
        assert len(self.bulk.opened) == before
        return page


@pytest.fixture
async def place() -> AsyncIterator[Private]:
    made = Private()
    yield made
    made.close()


# Keys


async def test_a_stranger_is_told_how_to_be_let_in(place: Private) -> None:
    assert place.refuses() == (401, "port-key")
    page = place.asking("/", BROWSER).transport.take()
    assert b"WWW-Authenticate: Bearer\r\n" in page and b"wellhead sandbox share" in page


async def test_each_port_has_its_own_visibility(place: Private) -> None:
    place.records.change(place.sandbox, access=replace(PRIVATE, ports=((3000, Visibility.PUBLIC),)))
    place.passes()
    assert place.ask(host=place.name(3001)) == (401, "port-key")


async def test_wrong_keys_put_off_their_network_and_nobody_who_shows_none(place: Private) -> None:
    for _ in range(MOST_WRONG_KEYS):
        wrong = access.mint(access.API_KEY).reveal()
        assert place.refuses("/", f"X-API-Key: {wrong}\r\n") == (401, "port-key")
    good = f"X-API-Key: {place.admin.reveal()}\r\n"
    assert place.refuses("/", good) == (429, "api-failures")
    place.passes("/", place.cookie())
    place.passes(f"/?wellhead_link={place.token()}")


async def test_a_key_that_nobody_knows_is_not_denied_while_nobody_can_know(place: Private) -> None:
    place.records.current = False
    wrong = access.mint(access.API_KEY).reveal()
    assert place.refuses("/", f"X-API-Key: {wrong}\r\n") == (503, "records-away")
    place.passes("/", f"X-API-Key: {place.admin.reveal()}\r\n")


async def test_a_key_in_the_query_is_never_accepted(place: Private) -> None:
    key = place.admin.reveal()
    for name in ("x-api-key", "api_key", "X-API-Key", "wellhead_link", "authorization"):
        assert place.refuses(f"/?{name}={key}")[0] == 401


async def test_a_revoked_key_is_refused_at_once(place: Private) -> None:
    line = f"X-API-Key: {place.admin.reveal()}\r\n"
    place.passes("/", line)
    place.records.revoke(place.admin)
    assert place.refuses("/", line) == (401, "port-key")


async def test_a_key_opens_a_port_for_a_page_of_anybody(place: Private) -> None:
    """It is no browser that adds it: whoever shows it has it."""
    envelope = place.passes("/", f"X-API-Key: {place.admin.reveal()}\r\nOrigin: https://evil.com\r\n")
    assert b"\r\nOrigin: https://evil.com\r\n" in envelope  # for the application to judge


# Links


async def test_a_program_is_let_in_by_a_link_itself_and_the_application_never_sees_it(place: Private) -> None:
    token = place.token()
    for method in ("GET", "POST", "PUT"):
        envelope = place.passes(f"/a%2Fb?x=1&wellhead_link={token}&y", method=method)
        assert (
            envelope.startswith(f"{method} /a%2Fb?x=1&y HTTP/1.1\r\n".encode())
            and token.encode() not in envelope
        )


async def test_a_browser_is_sent_on_without_the_link_and_keeps_a_cookie(place: Private) -> None:
    visit = place.asking(f"/a%2F//b/?x=%20&wellhead_link={place.token()}", BROWSER)
    head = visit.transport.take().decode()
    assert status(head.encode()) == 303 and not place.bulk.opened
    assert f"\r\nLocation: http://{place.name()}/a%2F//b/?x=%20\r\n" in head
    assert "\r\nCache-Control: no-store\r\n" in head and "\r\nReferrer-Policy: no-referrer\r\n" in head
    found = re.search(
        r"Set-Cookie: wellhead-port=([^;]+); Path=/; Max-Age=(\d+); HttpOnly; SameSite=Lax\r\n", head
    )
    assert found is not None and 55 <= int(found[2]) <= 60
    place.passes("/", place.cookie(found[1]))
    # It is no link, and a link is no cookie.
    assert place.refuses(f"/?wellhead_link={found[1]}") == (401, "port-link")
    assert place.refuses("/", place.cookie(place.token())) == (401, "port-link")


async def test_over_tls_the_cookie_is_one_that_no_sibling_can_set(place: Private) -> None:
    visit = Http2Visit(place, sni=place.name())
    number = await visit.ask(
        f"/?wellhead_link={place.token()}", ("sec-fetch-mode", "navigate"), authority=place.name()
    )
    reply = visit.replies[number]
    cookie = dict(reply.fields)[b"set-cookie"].decode()
    assert reply.status == 303 and dict(reply.fields)[b"location"] == f"https://{place.name()}/".encode()
    assert (
        cookie.startswith("__Host-wellhead-port=") and cookie.endswith("; Secure") and "Domain" not in cookie
    )
    pair = cookie.partition(";")[0]
    for sent, lets_in in ((pair, True), (pair.removeprefix("__Host-"), False)):
        number = await visit.ask("/", ("cookie", f"a=b; {sent}"), authority=place.name())
        if lets_in:
            place.bulk.stream.reply(OK, b"hi")
            assert b"ookie: a=b\r\n" in place.bulk.stream.envelope
            await visit.turn()
        assert visit.replies[number].status == (200 if lets_in else 401)


async def test_a_target_that_looks_like_another_host_stays_at_this_one(place: Private) -> None:
    head = place.asking(f"/\\evil.com/@x?wellhead_link={place.token()}", BROWSER).transport.take()
    assert f"\r\nLocation: http://{place.name()}/\\evil.com/@x\r\n".encode() in head


@pytest.mark.parametrize(
    "how", ["expired", "revoked", "port", "sandbox", "key", "tampered", "cut", "long", "empty"]
)
async def test_a_link_that_is_not_good_opens_nothing(place: Private, how: str) -> None:
    good = place.token()
    token = {
        "expired": place.token(lasts=-1),
        "revoked": place.token(epoch=1),
        "port": place.token(port=3001),
        "sandbox": place.token(sandbox=place.records.new_sandbox(place.host)),
        "key": place.token(links=LinkSigner(b"x" * KEY_BYTES)),
        "tampered": ("B" if good[4] == "A" else "A").join((good[:4], good[5:])),
        "cut": good[:-1],
        "long": good + "A" * 40,
        "empty": "",
    }[how]
    assert place.refuses(f"/?wellhead_link={token}")[0] == 401
    assert status(place.asking(f"/?wellhead_link={token}", BROWSER).transport.take()) == 401
    assert not place.bulk.opened


async def test_a_link_to_every_port_becomes_a_cookie_of_one(place: Private) -> None:
    head = place.asking(f"/?wellhead_link={place.token(port=0)}", BROWSER).transport.take().decode()
    cookie = head.partition("wellhead-port=")[2].partition(";")[0]
    place.passes("/", place.cookie(cookie))
    assert place.ask("/", place.cookie(cookie), host=place.name(3001)) == (401, "port-link")


async def test_revoking_voids_links_and_cookies_from_the_next_request_on(place: Private) -> None:
    link, cookie = f"/?wellhead_link={place.token()}", place.cookie()
    place.passes(link)
    place.passes("/", cookie)
    place.records.change(place.sandbox, access=PortAccess(links_epoch=1))
    assert place.refuses(link) == place.refuses("/", cookie) == (401, "port-link")
    place.passes(f"/?wellhead_link={place.token(epoch=1)}")


async def test_links_open_what_is_for_the_team_too(place: Private) -> None:
    place.records.change(place.sandbox, access=TEAM)
    place.passes(f"/?wellhead_link={place.token()}")
    place.passes("/", place.cookie())


async def test_a_websocket_is_let_in_by_a_link_or_a_cookie(place: Private) -> None:
    own = f"Origin: http://{place.name(8080)}\r\n"
    for target, lines in ((f"/ws?wellhead_link={place.token()}", ""), ("/ws", place.cookie() + own)):
        visit = place.asking(target, UPGRADE + BROWSER + lines)
        stream = place.bulk.stream
        assert stream.kind is StreamKind.WEBSOCKET and stream.envelope.startswith(b"GET /ws HTTP/1.1\r\n")
        stream.reply(SWITCH, end=False)
        assert status(visit.transport.take()) == 101


# Cookies, and who uses them


async def test_the_status_is_told_to_nobody_who_may_not_see(place: Private) -> None:
    place.records.change(place.sandbox, status=SandboxStatus.PAUSED)
    assert place.refuses() == (401, "port-key")
    assert place.refuses("/", place.cookie()) == (409, "sandbox-not-running")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_siblings_page_cannot_use_a_visitors_cookie(place: Private, method: str) -> None:
    sibling = place.records.new_sandbox(place.host)
    for lines in (
        f"Origin: http://{place.name(sandbox=sibling)}\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n",
    ):
        assert place.refuses("/", place.cookie() + lines, method=method) == (403, "port-origin")
        assert place.refuses("/ws", place.cookie() + lines + UPGRADE) == (403, "port-origin")
    place.passes("/", place.cookie() + f"Origin: http://{place.name(8080)}\r\n", method=method)


async def test_a_cookie_of_a_sibling_opens_nothing(place: Private) -> None:
    sibling = place.records.new_sandbox(place.host)
    assert place.refuses("/", place.cookie(place.token(Pass.COOKIE, sandbox=sibling))) == (401, "port-link")


async def test_the_good_one_of_several_cookies_counts_and_none_of_them_goes_on(place: Private) -> None:
    good = place.token(Pass.COOKIE)
    lines = f"Cookie: wellhead-port=x; a=1; wellhead-port={good}\r\n"
    envelope = place.passes("/", lines)
    assert b"\r\nCookie: a=1\r\n" in envelope and b"wellhead-port" not in envelope


async def test_ours_is_taken_out_also_where_everybody_may_see(place: Private) -> None:
    place.records.change(place.sandbox, access=PUBLIC)
    key = place.admin.reveal()
    lines = f"{place.cookie()}X-API-Key: {key}\r\nX-Mine: 1\r\n"
    envelope = place.passes(f"/?wellhead_link={place.token()}&a", lines)
    assert envelope.startswith(b"GET /?a HTTP/1.1\r\n") and b"\r\nX-Mine: 1\r\n" in envelope
    assert b"wellhead-port" not in envelope and key.encode() not in envelope


# Preflights

ASKS = "Origin: https://any.com\r\nAccess-Control-Request-Method: PUT\r\n"


async def test_a_preflight_is_the_applications_to_answer_and_shows_nothing_of_who_asks(
    place: Private,
) -> None:
    lines = f"{ASKS}{place.cookie()}Cookie: a=b\r\nAuthorization: Basic eA==\r\nX-API-Key: mine\r\n"
    envelope = place.passes("/x", lines, method="OPTIONS")
    assert b"\r\nOrigin: https://any.com\r\nAccess-Control-Request-Method: PUT\r\n" in envelope
    assert not re.search(rb"(?i)\r\n(cookie|authorization|x-api-key):", envelope)


async def test_who_is_let_in_for_a_preflight_alone_reads_no_page_of_the_application(place: Private) -> None:
    """Applications there are that answer every method with what they have."""
    head = b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nX-Mine: secret\r\nSet-Cookie: a=secret\r\n"
    for length in (b"Content-Length: 12\r\n", b""):
        for whole in (True, False):
            visit = place.asking("/x", ASKS, method="OPTIONS")
            stream = place.bulk.stream
            stream.sink.on_head(HeadKind.INTERIM, b"HTTP/1.1 103 E\r\nLink: secret\r\n\r\n", b"", False)
            stream.reply(head + length + b"\r\n", b"secret", end=False)
            if whole:
                stream.sink.on_data(b"secret", True)
            said = visit.transport.take()
            assert status(said) == 200 and b"secret" not in said
            assert b"Access-Control-Allow-Origin: *\r\n" in said and said.endswith(b"\r\n\r\n")
            assert b"\r\nContent-Length: 0\r\n" in said
            assert stream.resets == [Reason.CANCELLED]  # nobody reads on


async def test_a_preflight_that_waits_is_answered_whatever_changes(place: Private) -> None:
    visit = place.asking("/x", ASKS, method="OPTIONS")
    place.records.change(place.sandbox, access=replace(PRIVATE, links_epoch=1))
    place.bulk.stream.reply(OK, b"hi")
    assert status(visit.transport.take()) == 200


async def test_strangers_preflights_leave_room_for_who_may_see_the_port(
    place: Private, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port_door, "PREFLIGHTS", 2)
    waiting = [place.asking("/x", ASKS, method="OPTIONS") for _ in range(2)]
    assert place.refuses("/x", ASKS, method="OPTIONS") == (503, "sandbox-exchanges")
    place.passes("/", f"X-API-Key: {place.admin.reveal()}\r\n")
    place.bulk.opened[0].reply(OK, b"hi")
    assert status(waiting[0].transport.take()) == 200
    place.asking("/x", ASKS, method="OPTIONS")
    assert len(place.bulk.opened) == 4


async def test_the_answer_to_a_preflight_of_somebody_who_needs_no_key_goes_on_whole(place: Private) -> None:
    place.records.change(place.sandbox, access=PUBLIC)
    visit = place.asking("/x", ASKS, method="OPTIONS")
    place.bulk.stream.reply(OK, b"hi")
    assert visit.transport.take().endswith(b"\r\n\r\nhi")


async def test_a_preflight_resumes_nothing_and_is_told_no_status(place: Private) -> None:
    sleeping = replace(PRIVATE, auto_resume=True)
    place.records.change(place.sandbox, status=SandboxStatus.PAUSED, access=sleeping)
    assert place.refuses("/", ASKS, method="OPTIONS") == (401, "port-key")
    assert not len(place.ports.wakes) and not place.bulk.opened


@pytest.mark.parametrize(
    ("method", "lines"),
    [
        ("OPTIONS", "Origin: https://any.com\r\n"),
        ("OPTIONS", "Access-Control-Request-Method: PUT\r\n"),
        ("GET", ASKS),
        ("OPTIONS", ASKS + "Content-Length: 2\r\n"),
        ("OPTIONS", ASKS + "Transfer-Encoding: chunked\r\n"),
    ],
)
async def test_what_is_no_preflight_is_not_let_in_as_one(place: Private, method: str, lines: str) -> None:
    assert place.refuses("/", lines, method=method) == (401, "port-key")


async def test_the_edge_allows_no_page_to_read_its_answers(place: Private) -> None:
    page = place.asking("/", "Origin: https://any.com\r\n").transport.take()
    assert status(page) == 401 and b"access-control" not in page.lower()


# One visitor's and another's


async def test_what_one_visitor_shows_opens_nothing_for_the_next_on_the_same_connection(
    place: Private,
) -> None:
    visit = place.asking("/", place.cookie())
    place.bulk.stream.reply(OK, b"hi")
    visit.transport.take()
    head = f"GET / HTTP/1.1\r\nHost: {place.name()}\r\n\r\n".encode()
    visit.connection.data_received(head)
    assert status(visit.transport.take()) == 401 and len(place.bulk.opened) == 1
