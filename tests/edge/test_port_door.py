"""Visitors of sandboxes' ports: who gets through, what the host is told, and what everybody else is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.kit.house import SWITCH, UPGRADE, status
from tests.kit.http2 import Http2Visit
from tests.kit.port_envelopes import read_port_envelope
from tests.kit.ports import DENIED, LINKS, MOST_EXCHANGES, PortHouse
from tests.kit.sandboxes import PRIVATE, PUBLIC, TEAM
from tests.visitors.test_conversation import client_text, server_text
from wellhead.edge.port_door import CHANGE_SECONDS
from wellhead.model.access import Scope, ScopeKind
from wellhead.model.links import Pass
from wellhead.model.records import OrganizationId
from wellhead.model.sandboxes import SandboxStatus, new_sandbox_id
from wellhead.model.visibility import PortAccess, Visibility
from wellhead.wire.streams import Reason, StreamKind
from wellhead.wire.ws import close_frame

JUMPING_CLOCK = True
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


@pytest.fixture
async def place() -> AsyncIterator[PortHouse]:
    made = PortHouse()
    yield made
    made.close()


async def test_a_request_goes_to_the_bulk_lane_of_its_host_with_the_port_beside_it(place: PortHouse) -> None:
    visit = place.asking("/a%2Fb//c/?q=%20", "X-Mine: 1\r\n")
    stream = place.bulk.stream
    told = read_port_envelope(stream.envelope)
    assert told is not None and (told.sandbox, told.port) == (place.sandbox, 3000)
    assert told.envelope.startswith(b"GET /a%2Fb//c/?q=%20 HTTP/1.1\r\nHost: ")
    assert b"\r\nX-Mine: 1\r\n" in told.envelope and b"\r\nX-Forwarded-For: 192.0.2.7\r\n" in told.envelope
    stream.reply(OK, b"hi")
    assert visit.transport.take().endswith(b"\r\n\r\nhi")
    line = place.lines[0]
    assert (line.place, line.name, line.status) == ("port", f"3000-{place.sandbox}", 200)


async def test_what_a_visitor_says_of_a_port_is_not_believed(place: PortHouse) -> None:
    place.asking("/", f"Wellhead-Port: {new_sandbox_id()}/1\r\n")
    told = read_port_envelope(place.bulk.stream.envelope)
    assert told is not None and (told.sandbox, told.port) == (place.sandbox, 3000)
    assert b"Wellhead-Port" not in told.envelope


async def test_http2_comes_to_the_same_door(place: PortHouse) -> None:
    visit = Http2Visit(place, sni=place.name())
    number = await visit.ask("/x", authority=place.name())
    place.bulk.stream.reply(OK, b"hi")
    await visit.turn()
    assert visit.replies[number].status == 200 and visit.replies[number].body == b"hi"


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("0-{}", (400, "port-number")),
        ("65536-{}", (400, "port-number")),
        ("08000-{}", (400, "port-number")),
        ("3000-cl-", (400, "sandbox-id")),
        ("3000-cl-" + "z" * 25, (400, "sandbox-id")),
        ("3000-cl-" + "0" * 24, (400, "sandbox-id")),
        (f"{DENIED}-{{}}", (403, "port-denied")),
        (f"{DENIED}-cl-{1:025}", (403, "port-denied")),
        (f"3000-cl-{1:025}", (404, "unknown-sandbox")),
        ("3000-", (404, "unknown-name")),
    ],
)
async def test_a_name_that_is_wrong_is_told_how(
    place: PortHouse, label: str, expected: tuple[int, str]
) -> None:
    assert place.ask(host=label.format(place.sandbox) + ".localhost") == expected
    assert not place.bulk.opened and not place.keys.opened


async def test_nobody_is_told_that_a_sandbox_is_not_there_while_nobody_knows(place: PortHouse) -> None:
    place.records.current = False
    assert place.ask(host=place.name(sandbox=new_sandbox_id())) == (503, "records-away")
    place.asking()
    assert len(place.bulk.opened) == 1


@pytest.mark.parametrize("now", SandboxStatus)
async def test_the_status_decides_at_each_request(place: PortHouse, now: SandboxStatus) -> None:
    place.records.change(place.sandbox, status=now)
    if now in (SandboxStatus.RUNNING, SandboxStatus.SNAPSHOTTING):
        place.asking()
        assert place.bulk.opened
        return
    away = now is SandboxStatus.MISSING
    assert place.ask() == ((503, "host-away") if away else (409, "sandbox-not-running"))
    place.records.change(place.sandbox, status=SandboxStatus.RUNNING)
    place.asking()
    assert place.bulk.opened


async def test_a_host_without_a_session_is_away(place: PortHouse) -> None:
    for door in (place.keys, place.bulk):
        place.hosts.remove(place.host, door)  # type: ignore[arg-type]
    assert place.ask() == (503, "host-away")


async def test_one_lane_is_enough(place: PortHouse) -> None:
    place.hosts.remove(place.host, place.bulk)  # type: ignore[arg-type]
    place.asking()
    assert len(place.keys.opened) == 1


async def test_a_sandbox_takes_so_many_exchanges_and_then_others_still_come_through(place: PortHouse) -> None:
    other = place.records.new_sandbox(place.host, access=PUBLIC)
    for _ in range(MOST_EXCHANGES):
        place.asking()
    assert place.ask() == (503, "sandbox-exchanges")
    place.asking(host=place.name(sandbox=other))
    place.bulk.opened[0].reply(OK, b"hi")
    place.asking()
    assert len(place.bulk.opened) == MOST_EXCHANGES + 2


async def test_an_edge_that_holds_too_much_says_so_after_all_else(place: PortHouse) -> None:
    pressure = place.ingress.pressure
    place.asking()
    pressure._full = pressure.high = True
    assert place.ask() == (503, "held-bytes")
    place.records.change(place.sandbox, status=SandboxStatus.STOPPING)
    assert place.ask() == (409, "sandbox-not-running")


async def test_who_may_not_see_a_port_is_not_told_how_its_sandbox_is(place: PortHouse) -> None:
    place.records.change(place.sandbox, status=SandboxStatus.STOPPED, access=PRIVATE)
    assert place.ask() == (401, "port-key")
    assert place.ask("/", f"X-API-Key: {place.admin.reveal()}\r\n") == (409, "sandbox-not-running")


# Who is let in


async def test_a_key_of_ours_goes_no_further_and_what_is_the_applications_does(place: PortHouse) -> None:
    key = place.admin.reveal()
    lines = f"Authorization: Bearer {key}\r\nX-API-Key: mine\r\nCookie: a=b\r\n"
    place.asking("/", lines)
    envelope = place.bulk.stream.envelope
    assert key.encode() not in envelope
    assert b"\r\nX-API-Key: mine\r\n" in envelope and b"\r\nCookie: a=b\r\n" in envelope


async def test_private_is_for_admin_keys_and_team_for_every_key_of_its_organization(place: PortHouse) -> None:
    small = place.records.new_key(Scope(ScopeKind.TUNNEL, "t"))
    foreign = place.records.new_key(organization=OrganizationId("other"))
    for access, good, bad in (
        (PRIVATE, [place.admin], [small, foreign]),
        (TEAM, [place.admin, small], [foreign]),
    ):
        place.records.change(place.sandbox, access=access)
        assert place.ask() == (401, "port-key")
        for secret in good:
            place.asking("/", f"X-API-Key: {secret.reveal()}\r\n")
            place.bulk.stream.reply(OK, b"hi")
        for secret in bad:
            assert place.ask("/", f"X-API-Key: {secret.reveal()}\r\n") == (403, "port-scope")
    assert len(place.bulk.opened) == 3


# A host that does not have it


@pytest.mark.parametrize("lines", ["", UPGRADE])
async def test_what_a_host_refuses_unheard_goes_to_where_the_sandbox_has_moved(
    place: PortHouse, lines: str
) -> None:
    other, _ = place.records.new_host()
    _, there = place.joined(other)
    place.asking("/", lines)
    view = place.records.sandbox(place.sandbox)
    assert view is not None
    place.records.put_sandbox(replace(view, host_id=other))
    place.bulk.stream.sink.on_reset(Reason.REFUSED)
    assert len(place.bulk.opened) == len(there.opened) == 1
    assert there.stream.envelope == place.bulk.stream.envelope


async def test_a_host_that_refuses_has_a_second_to_have_said_why(place: PortHouse) -> None:
    paused, silent, back = place.asking(), place.asking(), place.asking()
    place.bulk.opened[0].sink.on_reset(Reason.REFUSED)
    place.records.change(place.sandbox, status=SandboxStatus.PAUSED)
    assert status(paused.transport.take()) == 409
    place.records.change(place.sandbox, status=SandboxStatus.RUNNING)
    place.bulk.opened[1].sink.on_reset(Reason.REFUSED)
    assert silent.transport.take() == b"" and len(place.ports.wakes) == 1
    await asyncio.sleep(CHANGE_SECONDS * 1.01)
    page = silent.transport.take()
    assert status(page) == 503 and b'"sandbox-away"' in page and not len(place.ports.wakes)
    place.bulk.opened[2].sink.on_reset(Reason.REFUSED)
    place.records.change(place.sandbox, status=SandboxStatus.SNAPSHOTTING)
    place.bulk.stream.reply(OK, b"hi")
    assert status(back.transport.take()) == 200


async def test_what_was_refused_twice_is_not_asked_a_third_time(place: PortHouse) -> None:
    visit = place.asking()
    place.bulk.stream.sink.on_reset(Reason.REFUSED)
    place.records.change(place.sandbox)
    place.bulk.stream.sink.on_reset(Reason.REFUSED)
    assert status(visit.transport.take()) == 503 and len(place.bulk.opened) == 2


async def test_a_request_of_which_a_byte_was_sent_is_never_sent_again(place: PortHouse) -> None:
    visit = place.asking("/", "Content-Length: 9\r\n", method="POST")
    visit.says(b"a")
    assert place.bulk.stream.sent == b"a"
    place.bulk.stream.sink.on_reset(Reason.REFUSED)
    page = visit.transport.take()
    assert status(page) == 503 and b'"sandbox-away"' in page and len(place.bulk.opened) == 1


# What becomes of it


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (Reason.UPSTREAM_UNREACHABLE, (502, "port-closed")),
        (Reason.UPSTREAM_FAILED, (502, "app-broke")),
        (Reason.TIMEOUT, (504, "app-late")),
        (Reason.OVERLOADED, (503, "sandbox-busy")),
        (Reason.SESSION_LOST, (503, "host-lost")),
        (250, (502, "app-broke")),
    ],
)
async def test_what_went_wrong_behind_the_door_has_a_page_of_its_own(
    place: PortHouse, reason: int, expected: tuple[int, str]
) -> None:
    place.bulk.refuses = reason
    assert place.ask() == expected


async def test_an_application_that_does_not_answer_is_late(place: PortHouse) -> None:
    visit = place.asking()
    page = visit.after(121)
    assert status(page) == 504 and b'"app-late"' in page and b"tunnel" not in page


@pytest.mark.parametrize(
    ("why", "word"), [(Reason.SESSION_LOST, b"host-lost"), (Reason.UPSTREAM_FAILED, b"app-broke")]
)
async def test_a_websocket_that_breaks_off_says_where(place: PortHouse, why: Reason, word: bytes) -> None:
    visit = place.asking("/ws", UPGRADE)
    place.bulk.stream.reply(SWITCH, end=False)
    visit.transport.take()
    place.bulk.stream.sink.on_reset(why)
    assert visit.transport.take() == close_frame(1014, word.decode())
    assert not place.ports._lines[place.sandbox].streams


async def test_a_websocket_runs_through_and_is_closed_when_the_sandbox_is_over(place: PortHouse) -> None:
    visit = place.asking("/ws", UPGRADE)
    stream = place.bulk.stream
    assert stream.kind is StreamKind.WEBSOCKET
    stream.reply(SWITCH, end=False)
    assert status(visit.transport.take()) == 101
    assert visit.says(client_text(b"hello")) == b"" and stream.sent == client_text(b"hello")
    stream.sink.on_data(server_text(b"hi"), False)
    assert visit.transport.take() == server_text(b"hi")
    place.records.change(place.sandbox, status=SandboxStatus.STOPPING)
    assert visit.transport.take() == b"\x88\x09\x03\xe9removed"
    assert stream.resets == [Reason.CANCELLED]


async def test_who_would_not_be_let_in_any_more_is_out(place: PortHouse) -> None:
    key = place.records.new_key(Scope(ScopeKind.TUNNEL, "t"))
    records, sandbox = place.records, place.sandbox
    shows = f"X-API-Key: {key.reveal()}\r\n"
    records.change(sandbox, access=TEAM)
    talk, begun, waiting = (
        place.asking("/ws", UPGRADE + shows),
        place.asking("/", shows),
        place.asking("/", shows),
    )
    place.bulk.opened[0].reply(SWITCH, end=False)
    place.bulk.opened[1].reply(b"HTTP/1.1 200 OK\r\n\r\n", b"some", end=False)
    talk.transport.take()
    records.change(sandbox, access=PRIVATE)
    assert talk.transport.take() == b"\x88\x09\x03\xe9removed"
    assert begun.transport.take().endswith(b"4\r\nsome\r\n") and begun.transport.closed
    assert status(waiting.transport.take()) == 401
    assert [stream.resets for stream in place.bulk.opened] == [[Reason.CANCELLED]] * 3
    assert not place.ports._lines[sandbox].streams


async def test_a_keys_end_ends_what_it_opened(place: PortHouse) -> None:
    place.records.change(place.sandbox, access=PRIVATE)
    other = place.records.new_key()
    shut, stays = (place.asking("/", f"X-API-Key: {key.reveal()}\r\n") for key in (place.admin, other))
    place.records.revoke(place.admin)
    assert status(shut.transport.take()) == 401
    assert stays.transport.take() == b"" and place.bulk.opened[1].resets == []


async def test_everybody_is_out_when_a_port_is_everybodys_no_more_and_other_ports_go_on(
    place: PortHouse,
) -> None:
    shut, stays = place.asking(), place.asking(host=place.name(3001))
    place.records.change(place.sandbox, access=PortAccess(Visibility.PUBLIC, ((3000, Visibility.TEAM),)))
    assert status(shut.transport.take()) == 401
    assert stays.transport.take() == b"" and place.bulk.opened[1].resets == []


async def test_what_a_link_opened_ends_with_all_links(place: PortHouse) -> None:
    place.records.change(place.sandbox, access=PRIVATE)
    token = LINKS.sign(Pass.LINK, place.sandbox, 3000, 0, int(time.time()) + 60)
    visit = place.asking(f"/?wellhead_link={token}")
    place.records.change(place.sandbox, access=PortAccess(auto_resume=True))
    assert visit.transport.take() == b""
    place.records.change(place.sandbox, access=PortAccess(links_epoch=1))
    assert status(visit.transport.take()) == 401


async def test_a_reply_that_runs_is_cut_when_the_sandbox_is_dropped(place: PortHouse) -> None:
    begun, waiting = place.asking(), place.asking()
    place.bulk.opened[0].reply(b"HTTP/1.1 200 OK\r\n\r\n", b"some", end=False)
    place.records.drop_sandbox(place.sandbox)
    reply = begun.transport.take()
    assert reply.endswith(b"4\r\nsome\r\n") and begun.transport.closed
    assert status(waiting.transport.take()) == 409
    assert [stream.resets for stream in place.bulk.opened] == [[Reason.CANCELLED]] * 2


async def test_the_end_of_a_sandbox_reaches_all_its_visitors_though_one_of_them_fails(
    place: PortHouse, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    visits = [place.asking(), place.asking()]
    first = visits[0].connection._exchange

    def fail(reason: int) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(first, "on_reset", fail)
    line = place.ports._lines[place.sandbox]
    place.records.drop_sandbox(place.sandbox)
    assert status(visits[1].transport.take()) == 409 and "a bug" in caplog.text and not line.streams


async def test_a_paused_sandboxs_conversations_wait(place: PortHouse) -> None:
    visit = place.asking("/ws", UPGRADE)
    place.bulk.stream.reply(SWITCH, end=False)
    visit.transport.take()
    place.records.change(place.sandbox, status=SandboxStatus.PAUSED)
    assert not place.bulk.stream.resets and not visit.transport.take()


async def test_nothing_is_kept_of_what_is_over(place: PortHouse) -> None:
    place.asking()
    place.bulk.stream.reply(OK, b"hi")
    line = place.ports._lines[place.sandbox]
    assert not line.streams and not line.exchanges
    left = place.asking()
    left.connection.connection_lost(None)
    assert not line.streams and not line.exchanges and place.bulk.stream.resets == [Reason.CANCELLED]
    place.records.drop_sandbox(place.sandbox)
    assert not place.ports._lines
