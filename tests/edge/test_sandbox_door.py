"""Visitors of sandboxes: who they are, where they are led, and what goes on of what they said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from tests.kit.doors import FakeDoor
from tests.kit.house import COUNTS, SWITCH, TERMS, UPGRADE, House, Visit, status
from tests.kit.http2 import Http2Visit
from tests.kit.sandboxes import SandboxRecords
from tests.visitors.test_conversation import client_text, server_text
from wellhead.edge.hosts import HostLive, Hosts
from wellhead.edge.sandbox_door import Sandboxes
from wellhead.edge.sandbox_paths import sandbox_path
from wellhead.model.access import Scope, ScopeKind, Secret
from wellhead.model.rates import Rate
from wellhead.model.records import OrganizationId
from wellhead.model.sandboxes import Lane, SandboxStatus, new_sandbox_id
from wellhead.visitors.exchange import Door
from wellhead.visitors.pages import Page
from wellhead.wire.overflow import ALLOWANCE, MARK
from wellhead.wire.streams import HeadKind, Reason, StreamKind
from wellhead.wire.ws import accept_key

JUMPING_CLOCK = True
MOST = 3  # wrong keys a minute


class Place(House):
    """The edge with one host, whose lanes are ``keys`` and ``bulk``, and one running sandbox on it."""

    def __init__(self) -> None:
        super().__init__(TERMS, COUNTS)
        self.records = SandboxRecords()
        self.hosts = Hosts(lambda seen: None)
        self.host, self.host_key = self.records.new_host()
        self.sandbox = self.records.new_sandbox(self.host)
        self.admin = self.records.new_key()
        self.keys, self.bulk = FakeDoor(), FakeDoor()
        for door, lane in ((self.keys, Lane.INTERACTIVE), (self.bulk, Lane.BULK)):
            door.peer = "192.0.2.9"  # type: ignore[attr-defined]  # of a session
            self.hosts.add(self.host, lane, cast(HostLive, door), "")
        self.sandboxes = Sandboxes(
            self.records, self.hosts, self.ingress.pressure, frozenset(("https://localhost",)),
            Rate(MOST, asyncio.get_running_loop().time), self.ingress.refused, loopback_exempt=True,
        )  # fmt: skip
        self.ingress._control = self._way

    def _way(self, target: bytes, peer: str) -> tuple[str, str, Door | Page]:
        path = sandbox_path(target)
        if path is None:
            return "control", "", self.door
        return "sandbox", path.name, self.sandboxes.door(path, peer)

    def path(self, rest: str, sandbox: str | None = None, prefix: str = "") -> str:
        return f"{prefix}/api/v1/sandboxes/{sandbox or self.sandbox}{rest}"

    def asking(self, rest: str, lines: str = "", method: str = "GET") -> Visit:
        """A visitor that has asked with the admin key."""
        visit = self.visit()
        key = f"X-API-Key: {self.admin.reveal()}\r\n"
        visit.says(f"{method} {self.path(rest)} HTTP/1.1\r\nHost: localhost\r\n{key}{lines}\r\n".encode())
        return visit

    async def ask(
        self, rest: str = "/exec", lines: str | None = None, *, method: str = "GET", target: str | None = None
    ) -> bytes:
        """What a visitor is answered who shows the admin key, or says ``lines`` instead."""
        lines = f"X-API-Key: {self.admin.reveal()}\r\n" if lines is None else lines
        visit = self.visit()
        head = f"{method} {target or self.path(rest)} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"
        reply = visit.says(head.encode())
        for _ in range(3):
            await asyncio.sleep(0)
        return reply + visit.transport.take()

    @property
    def opened(self) -> int:
        return len(self.keys.opened) + len(self.bulk.opened)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    made = Place()
    yield made
    made.close()


def error(reply: bytes) -> tuple[int, str]:
    """Status and code of a refusal, which must have the API's form."""
    head, _, body = reply.partition(b"\r\n\r\n")
    assert b"\r\nContent-Type: application/json\r\n" in head, reply
    told = json.loads(body)
    assert list(told) == ["error"] and list(told["error"]) == ["code", "message"]
    return status(reply), told["error"]["code"]


# Whose key


async def test_a_key_in_either_place_opens_and_goes_no_further(place: Place) -> None:
    key = place.admin.reveal()
    for lines in (
        f"X-API-Key: {key}\r\nCookie: a=b\r\n",
        f"authorization: bearer {key}\r\nx_api_key: {key}\r\n",
        f"X-API-Key: {key}\r\nAuthorization: Bearer other\r\n",
        f"COOKIE: a\r\nX-Kept: 1\r\nAuthorization:   Bearer   {key}  \r\ncookie: b\r\n",
    ):
        await place.ask("/ports", lines)
        envelope = place.keys.stream.envelope
        assert key.encode() not in envelope and b"ookie" not in envelope and b"other" not in envelope
    assert b"\r\nX-Kept: 1\r\n" in envelope
    assert len(place.keys.opened) == 4 and len(place.records.uses) == 4


async def test_whoever_shows_no_good_key_learns_nothing(place: Place) -> None:
    gone, late = place.records.new_key(), place.records.new_key(expires_at=datetime.now(UTC) - timedelta(1))
    place.records.revoke(gone)
    key = place.admin.reveal()
    for lines in (
        "",
        "X-API-Key: \r\n",
        "X-API-Key: wh_wrong\r\n",
        f"X-API-Key: {gone.reveal()}\r\n",
        f"X-API-Key: {late.reveal()}\r\n",
        f"X-API-Key: wrong\r\nAuthorization: Bearer {key}\r\n",
        f"X-API-Key: {key}\r\nX-API-Key: {key}\r\n",
        f"Authorization: Basic {key}\r\n",
        f"Authorization: {key}\r\n",
        f"Cookie: X-API-Key={key}\r\n",
    ):
        for sandbox in (None, str(new_sandbox_id()), "nonsense"):
            place.sandboxes._failures._whole.clear()
            reply = await place.ask(target=place.path("/exec", sandbox), lines=lines)
            assert error(reply) == (401, "unauthorized"), lines
            assert b"\r\nWWW-Authenticate: Bearer\r\n" in reply
    assert not place.opened and not place.records.uses
    assert set(place.refused) == {"sandbox-key"}


@pytest.mark.parametrize("kind", [ScopeKind.TUNNEL, ScopeKind.HOST])
async def test_a_key_of_a_smaller_scope_is_told_so(place: Place, kind: ScopeKind) -> None:
    key = place.records.new_key(Scope(kind, place.host)).reveal()
    assert error(await place.ask(lines=f"X-API-Key: {key}\r\n")) == (403, "forbidden")
    assert not place.opened


async def test_a_sandbox_of_others_is_one_that_does_not_exist(place: Place) -> None:
    foreign = place.records.new_sandbox(place.host, organization=OrganizationId("another"))
    replies = [await place.ask(target=place.path("/exec", each)) for each in (foreign, new_sandbox_id())]
    assert [error(reply) for reply in replies] == [(404, "not_found")] * 2
    bodies = {reply.partition(b"\r\n\r\n")[2] for reply in replies}
    assert len(bodies) == 1 and not place.opened


@pytest.mark.parametrize("sandbox", ["..", "cl-" + "z" * 25, "CL-1", "x" * 300, "%00"])
async def test_what_is_no_id_is_a_bad_request(place: Place, sandbox: str) -> None:
    assert error(await place.ask(target=place.path("/exec", sandbox))) == (400, "invalid_request")


async def test_a_path_that_climbs_to_another_sandbox_is_a_bad_request(place: Place) -> None:
    reply = await place.ask(f"/files/..%2f..%2f{new_sandbox_id()}/exec")
    assert error(reply) == (400, "invalid_request") and not place.opened


@pytest.mark.parametrize(
    "now", [each for each in SandboxStatus if each not in (SandboxStatus.RUNNING, SandboxStatus.MISSING)]
)
async def test_a_sandbox_that_does_not_run_cannot_be_asked(place: Place, now: SandboxStatus) -> None:
    sandbox = place.records.new_sandbox(place.host, now)
    reply = await place.ask(target=place.path("/exec", sandbox))
    assert error(reply) == (409, "invalid_state") and now.value.encode() in reply
    assert not place.opened


async def test_of_a_stopped_sandbox_there_are_no_metrics(place: Place) -> None:
    """Source: wrenn-sandboxes, "Lifecycle and files API"."""
    for now, told in ((SandboxStatus.STOPPED, 404), (SandboxStatus.ERROR, 409)):
        sandbox = place.records.new_sandbox(place.host, now)
        assert error(await place.ask(target=place.path("/metrics?range=5m", sandbox)))[0] == told


async def test_a_paused_sandbox_is_asked_for_its_metrics_alone(place: Place) -> None:
    sandbox = place.records.new_sandbox(place.host, SandboxStatus.PAUSED)
    await place.ask(target=place.path("/metrics?range=5m", sandbox))
    assert place.opened == 1
    assert error(await place.ask(target=place.path("/ports", sandbox))) == (409, "invalid_state")
    assert place.opened == 1


async def test_a_host_that_is_not_there_is_told_with_a_time_to_wait(place: Place) -> None:
    missing = place.records.new_sandbox(place.host, SandboxStatus.MISSING)
    gone = place.records.new_sandbox(place.records.new_host()[0])
    for sandbox in (missing, gone):
        reply = await place.ask(target=place.path("/exec", sandbox))
        assert error(reply) == (503, "host_unavailable") and b"\r\nRetry-After: 5\r\n" in reply
    assert place.refused == ["no-host", "no-host"]


async def test_guessing_keys_is_slow_for_the_network_and_nobody_else(place: Place) -> None:
    async def answer(peer: str, key: str) -> int:
        connection = place.visit()
        connection.connection.peer = peer
        asked = f"GET {place.path('/ports')} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\n\r\n"
        reply = connection.says(asked.encode())
        await asyncio.sleep(0)
        reply += connection.transport.take()
        return error(reply)[0] if reply else 0

    good = place.admin.reveal()
    assert [await answer("2001:db8::1", "bad") for _ in range(MOST + 2)] == [401] * MOST + [429] * 2
    assert await answer("2001:db8::2", good) == 429, "the same network, however good the key"
    assert await answer("2001:db8:1::2", good) == 0
    assert [await answer("127.0.0.1", "bad") for _ in range(MOST + 2)] == [401] * (MOST + 2)
    await asyncio.sleep(61)
    assert await answer("2001:db8::2", good) == 0
    assert place.refused.count("api-failures") == 3


async def test_while_the_records_are_away_what_is_known_works_and_nothing_is_denied(place: Place) -> None:
    place.records.current = False
    await place.ask()
    assert place.opened == 1
    stopped = place.records.new_sandbox(place.host, SandboxStatus.PAUSED)
    for reply in (
        await place.ask(lines="X-API-Key: wh_perhaps\r\n"),
        await place.ask(target=place.path("/exec", new_sandbox_id())),
        await place.ask(target=place.path("/exec", stopped)),
    ):
        assert error(reply) == (503, "host_unavailable") and b"\r\nRetry-After: 2\r\n" in reply
    assert error(await place.ask(lines="")) == (401, "unauthorized"), "no key is never one"


async def test_an_edge_with_too_much_to_do_takes_no_more(place: Place) -> None:
    place.ingress.pressure.high = place.ingress.pressure._full = True
    assert error(await place.ask()) == (503, "host_unavailable") and place.refused == ["held-bytes"]


# What goes on


@pytest.mark.parametrize(("prefix", "dialect"), [("", b"standard"), ("/legacy", b"legacy")])
async def test_the_host_is_told_what_the_visitor_asked_byte_for_byte(
    place: Place, prefix: str, dialect: bytes
) -> None:
    target = place.path("/processes/a%2Fb?x=%2F&y=..", prefix=prefix)
    key = place.admin.reveal()
    lines = f"X-API-Key: {key}\r\nWellhead-Key: forged\r\nWellhead-Dialect: forged\r\nX-Own: 1\r\n"
    await place.ask(lines=lines, method="DELETE", target=target)
    head, _, rest = place.keys.stream.envelope.partition(b"\r\n")
    assert head == f"DELETE /sandboxes/{place.sandbox}/processes/a%2Fb?x=%2F&y=.. HTTP/1.1".encode()
    assert b"forged" not in rest and b"\r\nX-Own: 1\r\n" in rest and rest.startswith(b"Host: localhost\r\n")
    record = place.records.key(place.admin)
    assert record is not None
    own = b"Wellhead-Dialect: %b\r\nWellhead-Key: %b\r\nX-Request-Id: " % (dialect, record.id.encode())
    assert own in rest


@pytest.mark.parametrize(
    ("rest", "lane"),
    [("/exec", "keys"), ("/ports", "keys"), ("/pty", "keys"), ("/logs", "keys"), ("/files/read", "bulk")],
)
async def test_each_kind_has_its_lane(place: Place, rest: str, lane: str) -> None:
    await place.ask(rest)
    door: FakeDoor = getattr(place, lane)
    assert len(door.opened) == place.opened == 1
    assert door.stream.interactive is (lane == "keys")


async def test_a_reply_goes_to_the_visitor_and_the_access_line_names_the_sandbox(place: Place) -> None:
    visit = place.asking("/ports")
    place.keys.stream.reply(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"{}")
    assert visit.transport.take().endswith(b"\r\n\r\n{}")
    (line,) = place.lines
    assert (line.place, line.name, line.status, line.whole) == ("sandbox", place.sandbox, 200, True)


async def test_a_command_may_take_as_long_as_who_runs_it_said(place: Place) -> None:
    visit = place.asking("/exec")
    assert visit.after(TERMS.reply_seconds + 1) == b"" == visit.after(TERMS.sandbox_reply_seconds - 1)
    assert status(visit.after(TERMS.sandbox_reply_seconds + 1)) == 504
    assert place.keys.stream.resets == [Reason.TIMEOUT]


async def test_a_command_over_http2_may_take_as_long(place: Place) -> None:
    visit = Http2Visit(place)
    stream = await visit.ask(place.path("/exec"), ("x-api-key", place.admin.reveal()))
    await visit.after(TERMS.sandbox_reply_seconds - 1)
    assert not visit.replies[stream].status and not place.keys.stream.resets
    await visit.after(2)
    assert visit.replies[stream].status == 504


async def test_an_upload_that_the_host_does_not_take_waits_as_long(place: Place) -> None:
    visit = place.asking("/files/write", "Transfer-Encoding: chunked\r\n", "POST")
    place.bulk.stream.full = True
    visit.says(b"5\r\nhello\r\n")
    assert visit.after(TERMS.reply_seconds + 1) == b"" == visit.after(TERMS.sandbox_reply_seconds - 1)
    assert status(visit.after(TERMS.sandbox_reply_seconds + 1)) == 504


async def test_an_upload_passes_through_and_nothing_of_it_waits(place: Place) -> None:
    visit = place.asking("/files/stream/write", "Transfer-Encoding: chunked\r\n", "POST")
    visit.says(b"5\r\nhello\r\n")
    assert place.bulk.stream.sent == b"hello" and not place.bulk.stream.ended
    place.bulk.stream.full = True
    visit.says(b"3\r\nyou\r\n")
    assert not visit.transport.is_reading(), "the host is slow, and so is the visitor"
    place.bulk.stream.sink.on_writable()
    assert visit.transport.is_reading()
    visit.says(b"0\r\n\r\n")
    place.bulk.stream.reply(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
    assert status(visit.transport.take()) == 413


@pytest.mark.parametrize(
    ("reason", "told", "word"),
    [
        (Reason.REFUSED, (503, "host_unavailable"), "host-busy"),
        (Reason.OVERLOADED, (503, "host_unavailable"), "host-busy"),
        (Reason.SESSION_LOST, (503, "host_unavailable"), "host-lost"),
        (Reason.REMOVED, (503, "host_unavailable"), "host-lost"),
        (Reason.TIMEOUT, (502, "agent_error"), "host-late"),
        (Reason.INTERNAL, (502, "agent_error"), "host-failed"),
        (77, (502, "agent_error"), "host-failed"),
    ],
)
@pytest.mark.parametrize("rest", ["/ports", "/exec"])
async def test_a_stream_that_breaks_before_its_answer_is_an_error_of_the_api(
    place: Place, rest: str, reason: int, told: tuple[int, str], word: str
) -> None:
    visit = place.asking(rest)
    place.keys.stream.sink.on_reset(reason)
    assert error(visit.transport.take()) == told
    assert place.refused == [word] and place.opened == 1, "it is not asked twice"


async def test_no_tunnel_is_asked_for_what_a_host_refuses(place: Place) -> None:
    """One may have the name of a sandbox, and the request has a key in it."""
    tunnel = place.tunnel(place.sandbox)
    place.keys.refuses = Reason.REFUSED
    assert error(await place.ask()) == (503, "host_unavailable")
    assert not tunnel.opened


async def test_a_stream_that_breaks_behind_its_head_is_cut_visibly(place: Place) -> None:
    visit = place.visit()
    head = (
        f"GET {place.path('/ports')} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {place.admin.reveal()}\r\n\r\n"
    )
    visit.says(head.encode())
    place.keys.stream.reply(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"half", False)
    place.keys.stream.sink.on_reset(Reason.SESSION_LOST)
    assert visit.transport.take().endswith(b"\r\n\r\nhalf") and visit.transport.closed
    assert not place.lines[0].whole


async def test_a_refusal_of_a_head_request_has_no_body(place: Place) -> None:
    reply = await place.ask(lines="", method="HEAD")
    assert status(reply) == 401 and reply.endswith(b"\r\n\r\n")
    place.keys.refuses = Reason.INTERNAL
    reply = await place.ask(method="HEAD")
    assert status(reply) == 502 and reply.endswith(b"\r\n\r\n")


# Long replies


async def test_a_long_reply_goes_on_in_a_second_stream_on_the_bulk_lane(place: Place) -> None:
    visit = place.visit()
    head = (
        f"GET {place.path('/exec')} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {place.admin.reveal()}\r\n\r\n"
    )
    visit.says(head.encode())
    main = place.keys.stream
    offer = b"\r\nWellhead-Overflow: "
    assert main.envelope.count(offer) == 1
    token = main.envelope.partition(offer)[2].partition(b"\r\n")[0]
    assert len(token) == 32 and not place.bulk.opened
    main.reply(b"HTTP/1.1 200 OK\r\n\r\n", bytes(ALLOWANCE), False)
    main.sink.on_head(HeadKind.INTERIM, MARK, b"", False)
    rest = place.bulk.stream
    assert rest.envelope.startswith(b"GET /overflow/" + token + b" HTTP/1.1\r\n") and rest.ended
    assert not rest.interactive
    rest.reply(b"HTTP/1.1 200 OK\r\n\r\n", b"", False)
    rest.sink.on_data(b"the rest", True)
    main.sink.on_data(b"", True)
    reply = visit.transport.take()
    assert status(reply) == 200 and b"the rest" in reply and b"199" not in reply
    assert (main.credit, rest.credit) == (ALLOWANCE, 8) and not main.resets and not rest.resets


async def test_without_a_second_session_no_second_stream_is_offered(place: Place) -> None:
    place.hosts.remove(place.host, cast(HostLive, place.bulk))
    await place.ask("/exec")
    assert b"Overflow" not in place.keys.stream.envelope
    await place.ask("/files/read")
    assert len(place.keys.opened) == 2, "the lane that is there carries both"


async def test_a_visitor_cannot_offer_one(place: Place) -> None:
    key = place.admin.reveal()
    await place.ask("/ports", f"X-API-Key: {key}\r\nWellhead-Overflow: mine\r\n")
    assert b"mine" not in place.keys.stream.envelope


# WebSockets


async def test_a_websocket_is_led_to_the_host_and_carries_bytes(place: Place) -> None:
    visit = place.asking("/pty", UPGRADE)
    stream = place.keys.stream
    assert stream.kind is StreamKind.WEBSOCKET and stream.interactive
    stream.reply(SWITCH, end=False)
    assert status(visit.transport.take()) == 101
    stream.sink.on_data(server_text(b"$ "), False)
    assert visit.says(client_text(b"ls")) == server_text(b"$ ")
    assert stream.sent == client_text(b"ls") and stream.credit == 4


async def test_a_websocket_over_http2_is_served_alike(place: Place) -> None:
    visit = Http2Visit(place)
    stream = await visit.connect(place.path("/exec/stream"), ("x-api-key", place.admin.reveal()))
    main = place.keys.stream
    assert main.kind is StreamKind.WEBSOCKET and place.admin.reveal().encode() not in main.envelope
    key = main.envelope.lower().partition(b"\r\nsec-websocket-key: ")[0]
    sent = main.envelope[len(key) + 21 :].partition(b"\r\n")[0]
    accept = b"HTTP/1.1 101 X\r\nSec-WebSocket-Accept: " + accept_key(sent) + b"\r\n\r\n"
    main.reply(accept, server_text(b"a"), False)
    main.sink.on_data(bytes(0), False)
    await visit.turn()
    assert visit.replies[stream].status == 200 and visit.replies[stream].body == server_text(b"a")
    refused = await visit.connect(place.path("/exec/stream"))
    await visit.turn()
    assert visit.replies[refused].status == 401


async def test_requests_over_http2_are_judged_alike(place: Place) -> None:
    visit = Http2Visit(place)
    key = place.admin.reveal()
    good = await visit.ask(place.path("/ports"), ("authorization", f"Bearer {key}"), ("cookie", "a=b"))
    assert b"ookie" not in place.keys.stream.envelope and key.encode() not in place.keys.stream.envelope
    place.keys.stream.reply(b"HTTP/1.1 200 OK\r\n\r\n", b"{}")
    bad = await visit.ask(place.path("/ports"))
    await visit.turn()
    assert visit.replies[good].body == b"{}" and visit.replies[bad].status == 401
    assert json.loads(visit.replies[bad].body)["error"]["code"] == "unauthorized"


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("", True),
        ("Origin: http://localhost\r\n", True),
        ("Origin: https://localhost\r\n", True),
        ("Origin: https://localhost:444\r\n", False),
        ("Origin: https://localhost.evil\r\n", False),
        ("Origin: https://my-agent.localhost\r\n", False),
        ("Origin: null\r\n", False),
        ("Origin: \r\n", False),
        ("Origin: https://localhost\r\nOrigin: https://localhost\r\n", False),
        ("Origin: https://evil\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n", False),
    ],
)
async def test_only_pages_of_ours_and_programs_open_websockets(
    place: Place, origin: str, allowed: bool
) -> None:
    reply = await place.ask("/pty", f"X-API-Key: {place.admin.reveal()}\r\n{UPGRADE}{origin}")
    assert place.opened == allowed
    if not allowed:
        assert error(reply) == (403, "forbidden") and place.refused == ["sandbox-origin"]


async def test_a_websocket_without_a_key_is_refused_before_it_is_one(place: Place) -> None:
    assert error(await place.ask("/pty", UPGRADE)) == (401, "unauthorized")
    assert not place.opened


async def test_a_secret_is_never_in_the_log(place: Place) -> None:
    await place.ask()
    assert not any(place.admin.reveal() in repr(line) for line in place.lines)
    assert Secret("x") != place.admin
