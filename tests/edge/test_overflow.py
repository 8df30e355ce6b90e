"""Where the rest of a long reply is asked for, and what happens where nobody is left to ask."""

from __future__ import annotations

from typing import cast

import pytest

from tests.kit.doors import FakeDoor
from tests.kit.muxpair import RecordingSink
from wellhead.edge.hosts import HostLive, Hosts
from wellhead.edge.overflow import open_long
from wellhead.errors import SessionLost
from wellhead.model.sandboxes import HostId, Lane
from wellhead.wire.overflow import ALLOWANCE, MARK, continued, take_offer
from wellhead.wire.streams import HeadKind, Reason, StreamKind

HOST = HostId("host-1")
ENVELOPE = b"POST /x HTTP/1.1\r\nHost: h\r\nX-Request-Id: 7\r\n\r\n"
REPLY = b"HTTP/1.1 200 OK\r\n\r\n"


class Lanes:
    def __init__(self) -> None:
        self.hosts = Hosts(lambda seen: None)
        self.doors = {lane: FakeDoor() for lane in Lane}
        for lane, door in self.doors.items():
            door.peer = ""  # type: ignore[attr-defined]  # of a session
            self.hosts.add(HOST, lane, cast(HostLive, door), "")
        self.visitor = RecordingSink()

    def lose(self, lane: Lane) -> None:
        self.hosts.remove(HOST, cast(HostLive, self.doors[lane]))

    def open(self) -> None:
        door = self.hosts.door(HOST, Lane.INTERACTIVE)
        assert door is not None
        open_long(self.hosts, HOST, door, StreamKind.HTTP, ENVELOPE, self.visitor, b"in", True)

    def overflow(self) -> None:
        main = self.doors[Lane.INTERACTIVE].opened[0]
        main.reply(REPLY, bytes(ALLOWANCE), False)
        main.sink.on_head(HeadKind.INTERIM, MARK, b"", False)


@pytest.fixture
def lanes() -> Lanes:
    return Lanes()


def test_the_rest_is_asked_for_by_the_token_that_was_offered(lanes: Lanes) -> None:
    lanes.open()
    main = lanes.doors[Lane.INTERACTIVE].stream
    envelope, token = take_offer(main.envelope)
    assert (envelope, main.sent, main.ended, main.interactive) == (ENVELOPE, b"in", True, True)
    lanes.overflow()
    assert continued(lanes.doors[Lane.BULK].stream.envelope) == token != b""


def test_tokens_are_never_the_same(lanes: Lanes) -> None:
    for _ in range(20):
        lanes.open()
    assert len({take_offer(each.envelope)[1] for each in lanes.doors[Lane.INTERACTIVE].opened}) == 20


@pytest.mark.parametrize("lane", list(Lane))
def test_a_host_with_one_session_gets_no_offer(lanes: Lanes, lane: Lane) -> None:
    lanes.lose(lane)
    lanes.open()
    (stream,) = [each for door in lanes.doors.values() for each in door.opened]
    assert stream.envelope == ENVELOPE and stream.sink is lanes.visitor


def test_the_rest_comes_on_the_lane_that_is_left(lanes: Lanes) -> None:
    lanes.open()
    lanes.lose(Lane.BULK)
    lanes.overflow()
    assert len(lanes.doors[Lane.INTERACTIVE].opened) == 2


def test_where_nobody_is_left_the_reply_is_cut(lanes: Lanes) -> None:
    lanes.open()
    for lane in Lane:
        lanes.lose(lane)
    lanes.overflow()
    assert lanes.visitor.resets == [Reason.SESSION_LOST]
    assert lanes.doors[Lane.INTERACTIVE].stream.resets == [Reason.CANCELLED]


def test_a_session_that_ends_in_that_moment_is_nobody(lanes: Lanes) -> None:
    def lost(*asked: object) -> None:
        raise SessionLost("gone")

    lanes.doors[Lane.BULK].open_late = lost  # type: ignore[method-assign, assignment]  # it has just ended
    lanes.open()
    lanes.overflow()
    assert lanes.visitor.resets == [Reason.SESSION_LOST]
