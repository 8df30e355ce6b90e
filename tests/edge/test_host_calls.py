"""What the control plane asks of a host is answered once, whatever becomes of the host."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from tests.kit.doors import FakeDoor
from wellhead.edge.host_calls import HostCalls
from wellhead.edge.hosts import HostLive, Hosts
from wellhead.errors import SessionLost
from wellhead.model.sandboxes import HostId, Lane
from wellhead.wire.feed import ANSWER_MAX, HostAnswered, HostCall
from wellhead.wire.streams import HeadKind, Reason

JUMPING_CLOCK = True
HOST = HostId("host-1")


class Calls:
    def __init__(self) -> None:
        self.told: list[HostAnswered] = []
        self.hosts = Hosts(lambda seen: None)
        self.calls = HostCalls(self.hosts, self.told.append)
        self.door, self.bulk = FakeDoor(), FakeDoor()
        for door, lane in ((self.door, Lane.INTERACTIVE), (self.bulk, Lane.BULK)):
            door.peer = "192.0.2.7"  # type: ignore[attr-defined]  # of a session
            self.hosts.add(HOST, lane, cast(HostLive, door), "")

    def ask(self, number: int = 1, target: str = "/control/sandboxes", body: str = '{"é":1}') -> None:
        self.calls.call(HostCall(number, HOST, "POST", target, body, 5.0))


@pytest.fixture
async def calls() -> Calls:
    return Calls()


async def test_a_call_is_a_request_on_the_interactive_lane_and_its_answer_is_told(calls: Calls) -> None:
    calls.ask(7)
    stream = calls.door.stream
    assert stream.envelope == (
        b"POST /control/sandboxes HTTP/1.1\r\nHost: host-1\r\nContent-Length: 8\r\n"
        b"Content-Type: application/json\r\nX-Request-Id: call-7\r\n\r\n"
    )
    assert (stream.sent, stream.ended, stream.interactive) == ('{"é":1}'.encode(), True, True)
    stream.sink.on_head(HeadKind.INTERIM, b"HTTP/1.1 102 Processing\r\n\r\n", b"", False)
    stream.sink.on_head(HeadKind.REPLY, b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\n", b"{", False)
    stream.sink.on_data("é}".encode(), True)
    assert calls.told == [HostAnswered(7, 201, "{é}")] and stream.credit == 4
    assert not calls.calls and not calls.bulk.opened
    await asyncio.sleep(10)
    assert len(calls.told) == 1, "its time is over"


async def test_a_failure_of_the_hosts_is_an_answer(calls: Calls) -> None:
    calls.ask()
    calls.door.stream.reply(b"HTTP/1.1 404 Not Found\r\n\r\n", b"{}")
    assert calls.told == [HostAnswered(1, 404, "{}")]


async def test_a_host_without_a_session_cannot_be_asked(calls: Calls) -> None:
    calls.calls.call(HostCall(3, HostId("host-2"), "GET", "/control/inventory", "", 5.0))
    assert calls.told == [HostAnswered(3, 0, "the host is not connected")]


async def test_without_the_interactive_lane_the_other_one_is_asked(calls: Calls) -> None:
    calls.hosts.remove(HOST, cast(HostLive, calls.door))
    calls.ask()
    assert calls.bulk.opened and not calls.told


async def test_a_host_that_is_late_is_given_up_after_its_time(calls: Calls) -> None:
    calls.ask()
    await asyncio.sleep(4.9)
    assert not calls.told
    await asyncio.sleep(0.2)
    assert calls.told == [HostAnswered(1, 0, "the host did not answer within 5 s")]
    assert calls.door.stream.resets == [Reason.TIMEOUT] and not calls.calls


@pytest.mark.parametrize("reason", [Reason.SESSION_LOST, Reason.UPSTREAM_FAILED, 99])
async def test_a_stream_that_breaks_is_told_in_a_sentence(calls: Calls, reason: int) -> None:
    calls.ask()
    calls.door.stream.sink.on_reset(reason)
    (answer,) = calls.told
    assert answer.status == 0 and "host" in answer.body and not calls.calls


async def test_a_session_that_ends_in_that_moment_is_told_in_a_sentence(calls: Calls) -> None:
    def lost(*args: object, **named: object) -> None:
        raise SessionLost("gone")

    calls.door.open = lost  # type: ignore[method-assign, assignment]  # a session that has just ended
    calls.ask()
    assert calls.told == [HostAnswered(1, 0, "the host could not be asked: gone")] and not calls.calls


async def test_an_answer_of_a_mebibyte_is_told_and_a_larger_one_is_not(calls: Calls) -> None:
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    calls.ask(1)
    calls.door.stream.reply(head, b'"' * ANSWER_MAX)
    calls.ask(2)
    calls.door.stream.reply(head, b"x" * ANSWER_MAX, False)
    calls.door.stream.sink.on_data(b"x", False)
    assert [(len(each.body), each.status) for each in calls.told[:1]] == [(ANSWER_MAX, 200)]
    assert calls.told[1] == HostAnswered(2, 0, f"the host's answer is larger than {ANSWER_MAX} bytes")
    assert calls.door.stream.resets


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"\xff"),
        (b"hello\r\n\r\n", b""),
        (None, b"{}"),
    ],
)
async def test_what_is_no_answer_is_told_in_a_sentence(calls: Calls, head: bytes | None, body: bytes) -> None:
    calls.ask()
    if head is None:
        calls.door.stream.sink.on_data(body, True)
    else:
        calls.door.stream.reply(head, body)
    (answer,) = calls.told
    assert answer.status == 0 and answer.body.startswith("the host's answer") and not calls.calls


@pytest.mark.parametrize("target", ["/a b", "/a\r\nX: y", "//elsewhere", "elsewhere", ""])
async def test_what_is_no_request_is_not_sent(calls: Calls, target: str) -> None:
    calls.ask(target=target)
    assert calls.told == [HostAnswered(1, 0, "what the host should be asked is no request")]
    assert not calls.door.opened


async def test_answers_that_nobody_waits_for_any_more_are_not_told(calls: Calls) -> None:
    """The next control plane counts its calls anew: it must not take another's answer for its own."""
    calls.ask()
    stream = calls.door.stream
    calls.calls.forget()
    assert stream.resets == [Reason.CANCELLED] and not calls.calls
    await asyncio.sleep(10)
    assert not calls.told
