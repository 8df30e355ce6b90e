"""Requests for paused sandboxes: resumed for them, held meanwhile, answered in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.kit.house import UPGRADE, Visit, status
from tests.kit.http2 import Http2Visit
from tests.kit.ports import MOST_WAITING, RESUME_SECONDS, PortHouse
from wellhead.edge.wakes import APART_SECONDS
from wellhead.model.sandboxes import SandboxStatus
from wellhead.model.visibility import PortAccess, Visibility
from wellhead.wire.feed import Wake
from wellhead.wire.streams import Stream, StreamKind

JUMPING_CLOCK = True
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
RESUMED = PortAccess(Visibility.PUBLIC, auto_resume=True)


@pytest.fixture
async def place() -> AsyncIterator[PortHouse]:
    """Its sandbox is paused, and says that requests resume it."""
    made = PortHouse()
    made.records.change(made.sandbox, status=SandboxStatus.PAUSED, access=RESUMED)
    yield made
    made.close()


def becomes(place: PortHouse, *statuses: SandboxStatus) -> None:
    for each in statuses:
        place.records.change(place.sandbox, status=each)


def page(visit: Visit) -> tuple[int, bool]:
    """The status of the page that came, and whether it says that the sandbox is being resumed."""
    reply = visit.transport.take()
    return status(reply), b'"sandbox-resuming"' in reply and b"\r\nRetry-After: " in reply


async def test_a_request_waits_until_the_sandbox_runs(place: PortHouse) -> None:
    visit = place.asking("/x")
    assert place.wakes == [Wake(place.sandbox)]
    becomes(place, SandboxStatus.RESUMING)
    assert not place.bulk.opened and not visit.transport.take()
    becomes(place, SandboxStatus.RUNNING)
    assert place.bulk.stream.envelope.startswith(b"GET /x ") and place.bulk.stream.ended
    place.bulk.stream.reply(OK, b"hi")
    assert status(visit.transport.take()) == 200
    assert not len(place.ports.wakes) and len(place.wakes) == 1


async def test_all_who_wait_wake_it_once(place: PortHouse) -> None:
    for _ in range(MOST_WAITING // 2):
        place.asking()
    assert page(place.asking()) == (503, True)
    becomes(place, SandboxStatus.RESUMING)
    assert place.wakes == [Wake(place.sandbox)]
    becomes(place, SandboxStatus.RUNNING)
    assert len(place.bulk.opened) == MOST_WAITING // 2


async def test_those_who_wait_for_one_sandbox_leave_room_for_others_up_to_a_number(place: PortHouse) -> None:
    others = [place.records.new_sandbox(place.host, SandboxStatus.PAUSED, access=RESUMED) for _ in range(3)]
    for sandbox in (place.sandbox, place.sandbox, *others[:2]):
        assert not place.asking(host=place.name(sandbox=sandbox)).transport.take()
    assert page(place.asking(host=place.name(sandbox=others[2]))) == (503, True)
    assert len(place.ports.wakes) == MOST_WAITING == len(list(place.ports.wakes))


async def test_visitors_that_come_and_go_wake_it_no_more_often(place: PortHouse) -> None:
    for _ in range(5):
        place.asking().connection.connection_lost(None)
    assert len(place.wakes) == 1
    visit = place.asking()
    await asyncio.sleep(APART_SECONDS + 0.1)
    assert len(place.wakes) == 2
    becomes(place, SandboxStatus.RUNNING, SandboxStatus.PAUSED)
    assert place.bulk.opened and not visit.transport.take()
    place.asking()
    assert len(place.wakes) == 3  # it had been resumed, and is paused again


async def test_a_new_control_plane_is_told_at_once_of_all_that_are_waited_for(place: PortHouse) -> None:
    place.asking()
    place.ports.wakes.tell_all()
    assert place.wakes == [Wake(place.sandbox)] * 2
    await asyncio.sleep(APART_SECONDS + 0.1)
    assert len(place.wakes) == 3


async def test_one_that_fails_holds_up_no_other_and_not_who_told_of_the_change(
    place: PortHouse, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.asking()
    place.asking()
    opens, faults = place.bulk.open, [RuntimeError("a bug")]

    def open_or_fail(*arguments: Any, **named: Any) -> Stream:
        if faults:
            raise faults.pop()
        return opens(*arguments, **named)

    monkeypatch.setattr(place.bulk, "open", open_or_fail)
    becomes(place, SandboxStatus.RUNNING)
    assert len(place.bulk.opened) == 1 and "a bug" in caplog.text and not len(place.ports.wakes)


async def test_bytes_that_wait_are_counted(place: PortHouse) -> None:
    visit = place.asking("/", "Content-Length: 9\r\n", method="POST")
    visit.says(b"abc")
    assert [waiter.held for waiter in place.ports.wakes] == [3]


async def test_it_is_woken_again_where_a_resuming_came_to_nothing(place: PortHouse) -> None:
    place.asking()
    becomes(place, SandboxStatus.RESUMING, SandboxStatus.PAUSED)
    assert len(place.wakes) == 1
    await asyncio.sleep(APART_SECONDS + 0.1)
    assert len(place.wakes) == 2
    becomes(place, SandboxStatus.RESUMING)
    await asyncio.sleep(APART_SECONDS + 0.1)
    assert len(place.wakes) == 2
    becomes(place, SandboxStatus.PAUSED)
    assert len(place.wakes) == 3


async def test_one_that_is_being_paused_is_woken_when_it_is(place: PortHouse) -> None:
    becomes(place, SandboxStatus.RUNNING, SandboxStatus.PAUSING)
    place.asking()
    assert not place.wakes
    becomes(place, SandboxStatus.PAUSED)
    assert len(place.wakes) == 1


async def test_who_waits_too_long_is_told_to_come_again(place: PortHouse) -> None:
    visit = place.asking()
    await asyncio.sleep(RESUME_SECONDS - 0.1)
    assert not visit.transport.take()
    await asyncio.sleep(0.2)
    assert page(visit) == (503, True)
    assert not len(place.ports.wakes) and not place.bulk.opened
    told = len(place.wakes)
    await asyncio.sleep(2 * APART_SECONDS)
    assert len(place.wakes) == told


async def test_the_time_for_an_answer_begins_when_the_application_is_asked(place: PortHouse) -> None:
    visit = place.asking()
    limit = place.ingress.terms.reply_seconds
    assert not visit.after(limit + RESUME_SECONDS - 1)
    await asyncio.sleep(RESUME_SECONDS - 1)
    becomes(place, SandboxStatus.RUNNING)
    assert not visit.after(limit - 1)
    assert b'"app-late"' in visit.after(limit + 1)


async def test_the_session_of_its_host_is_waited_for_too(place: PortHouse) -> None:
    for door in (place.keys, place.bulk):
        place.hosts.remove(place.host, door)  # type: ignore[arg-type]
    visit = place.asking()
    becomes(place, SandboxStatus.RUNNING)
    assert not visit.transport.take()
    keys, bulk = place.joined(place.host)
    assert len(keys.opened) + len(bulk.opened) == 1


async def test_a_visitor_that_leaves_waits_no_more(place: PortHouse) -> None:
    visit = place.asking()
    visit.connection.connection_lost(None)
    assert not len(place.ports.wakes)
    becomes(place, SandboxStatus.RUNNING)
    assert not place.bulk.opened


@pytest.mark.parametrize("over", [SandboxStatus.STOPPED, SandboxStatus.ERROR, None])
async def test_one_that_is_over_is_not_waited_for(place: PortHouse, over: SandboxStatus | None) -> None:
    visit = place.asking()
    if over is None:
        place.records.drop_sandbox(place.sandbox)
    else:
        becomes(place, over)
    assert page(visit) == (409, False) and not len(place.ports.wakes)


async def test_one_that_no_longer_says_so_is_not_waited_for(place: PortHouse) -> None:
    visit = place.asking()
    place.records.change(place.sandbox, access=PortAccess(Visibility.PUBLIC))
    assert page(visit) == (409, False)


async def test_who_may_not_see_the_port_wakes_nobody(place: PortHouse) -> None:
    place.records.change(place.sandbox, access=PortAccess(Visibility.PRIVATE, auto_resume=True))
    assert place.ask() == (401, "port-key")
    assert not place.wakes


async def test_a_body_waits_with_its_request_and_no_more_of_it_is_read(place: PortHouse) -> None:
    visit = place.asking("/", "Content-Length: 9\r\n", method="POST")
    visit.says(b"abc")
    read_on = [visit.transport.reading]
    becomes(place, SandboxStatus.RUNNING)
    read_on.append(visit.transport.reading)
    assert place.bulk.stream.sent == b"abc" and read_on == [False, True]
    visit.says(b"defghi")
    assert place.bulk.stream.sent == b"abcdefghi" and place.bulk.stream.ended


@pytest.mark.parametrize("trailers", ["", "X-Sum: 1\r\n"])
async def test_a_whole_body_waits_with_its_end(place: PortHouse, trailers: str) -> None:
    visit = place.asking("/", "Transfer-Encoding: chunked\r\n", method="POST")
    visit.says(f"3\r\nabc\r\n0\r\n{trailers}\r\n".encode())
    becomes(place, SandboxStatus.RUNNING)
    stream = place.bulk.stream
    assert (stream.sent, stream.ended, stream.trailers) == (b"abc", True, trailers.encode())


async def test_a_body_over_http2_is_not_credited_while_it_waits(place: PortHouse) -> None:
    visit = Http2Visit(place, sni=place.name())
    number = await visit.ask("/", method="POST", authority=place.name(), end=False)
    for _ in range(10):
        visit.h2.send_data(number, b"a" * 16_000)
    await visit.turn()
    held = visit.h2.local_flow_control_window(number)
    becomes(place, SandboxStatus.RUNNING)
    assert len(place.bulk.stream.sent) == 160_000
    await visit.turn()
    assert visit.h2.local_flow_control_window(number) == held + 160_000


async def test_a_websocket_waits_as_well(place: PortHouse) -> None:
    place.asking("/", UPGRADE)
    becomes(place, SandboxStatus.RUNNING)
    stream = place.bulk.stream
    assert stream.kind is StreamKind.WEBSOCKET and stream.interactive and not stream.ended
