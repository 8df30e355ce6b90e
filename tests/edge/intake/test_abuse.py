"""An agent that abuses HTTP/2: ten times as much as a visitor is borne, and no more; its visitors are told.

The rows are those of visitors' connections, in ``tests.system.test_h2_attacks``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.kit.h2talk import Frame, frame, frames
from tests.kit.house import status
from tests.kit.zone import HOST, Zone, ZoneAgent
from wellhead.wire.h2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    MAX_WINDOW,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    ErrorCode,
    ping_frame,
    reset_frame,
    settings_frame,
    window_frame,
)
from wellhead.wire.hpack import Fields

JUMPING_CLOCK = True
CALM = ErrorCode.ENHANCE_YOUR_CALM
Flood = Callable[[ZoneAgent, int], bytes]


def stream(agent: ZoneAgent, fields: Fields, *, end: bool = True) -> tuple[int, bytes]:
    """The next stream's id and its head, behind the back of the agent's own HTTP/2."""
    number, agent.h2._next_id = agent.h2._next_id, agent.h2._next_id + 2
    flags = END_HEADERS | END_STREAM if end else END_HEADERS
    return number, frame(HEADERS, flags, number, agent.h2._encoder.encode(fields))


def resets(agent: ZoneAgent, count: int) -> bytes:
    """Intakes, parked and given up."""
    out = []
    for _ in range(count):
        number, head = stream(agent, agent.caller.intake(0, agent.token))
        out += [head, reset_frame(number, ErrorCode.CANCEL)]
    return b"".join(out)


def violations(agent: ZoneAgent, count: int) -> bytes:
    """Bodies that are longer than they said."""
    out = []
    for _ in range(count):
        number, head = stream(agent, [*agent.caller.response(b"x"), (b"content-length", b"1")], end=False)
        out += [head, frame(DATA, 0, number, b"longer")]
    return b"".join(out)


def pings(agent: ZoneAgent, count: int) -> bytes:
    return ping_frame(bytes(8)) * count


def settings(agent: ZoneAgent, count: int) -> bytes:
    return settings_frame({}) * count


def glitches(agent: ZoneAgent, count: int) -> bytes:
    return frame(SETTINGS, ACK) * count


def empty(agent: ZoneAgent, count: int) -> bytes:
    number, head = stream(agent, agent.caller.response(b"x"), end=False)
    return head + frame(DATA, 0, number) * count


def priorities(agent: ZoneAgent, count: int) -> bytes:
    return frame(PRIORITY, 0, 1, bytes(5)) * count


def continuations(agent: ZoneAgent, count: int) -> bytes:
    number, head = stream(agent, agent.caller.intake(0, agent.token))
    first = head[:4] + bytes((END_STREAM,)) + head[5:]
    pieces = [frame(CONTINUATION, 0, number) for _ in range(count - 1)]
    return b"".join([first, *pieces, frame(CONTINUATION, END_HEADERS, number)])


async def feed(agent: ZoneAgent, data: bytes) -> None:
    """Let the edge read all of it; many heads at once take it some turns."""
    agent.connection.data_received(data)
    for _ in range(100):
        if agent.connection._behind:
            await asyncio.sleep(0)
    assert not agent.connection._behind


def is_over(agent: ZoneAgent) -> bool:
    return agent.transport.closed


def told(agent: ZoneAgent) -> list[Frame]:
    agent.connection.flush()
    return frames(agent.transport.take())


def goaway(got: list[Frame]) -> int | None:
    """The code of the GOAWAY among them."""
    return next((int.from_bytes(one.payload[4:8], "big") for one in got if one.kind == GOAWAY), None)


@pytest.mark.parametrize(
    ("flood", "borne", "too_many", "reason"),
    [
        (resets, 1900, 2100, "rapid-reset"),
        (violations, 900, 1100, "made-you-reset"),
        (pings, 900, 1100, "ping-flood"),
        (settings, 450, 550, "settings-flood"),
        (glitches, 900, 1100, "glitches"),
        (empty, 90, 110, "empty-frames"),
        (continuations, 16, 17, "continuation-flood"),
        (priorities, 500, 5000, "priority-flood"),
    ],
)
async def test_ten_times_a_visitors_rate_is_borne_and_no_more(
    zone: Zone, flood: Flood, borne: int, too_many: int, reason: str
) -> None:
    agent = await zone.welcomed(4)
    await feed(agent, flood(agent, borne))
    assert goaway(told(agent)) is None and not is_over(agent)
    visit = zone.visit()
    visit.connection.data_received(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    told(agent)
    await feed(agent, flood(agent, too_many))
    assert goaway(told(agent)) == CALM and is_over(agent)
    assert zone.house.refused == [f"h2-{reason}"]
    assert status(visit.transport.take()) == 503, "its visitors do not wait for the end of the connection"
    agent.hang_up()


async def test_one_stream_more_than_there_may_be_is_refused_and_the_others_go_on(zone: Zone) -> None:
    agent = await zone.welcomed(1)
    asked = [stream(agent, agent.caller.intake(0, agent.token)) for _ in range(2000)]
    await feed(agent, b"".join(head for _, head in asked))
    got = told(agent)
    assert [(one.kind, one.stream_id, one.number) for one in got if one.kind == RST_STREAM] == [
        (RST_STREAM, asked[-1][0], ErrorCode.REFUSED_STREAM)
    ]
    assert goaway(got) is None


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (window_frame(0, MAX_WINDOW), ErrorCode.FLOW_CONTROL_ERROR),
        (settings_frame({5: 1}), ErrorCode.PROTOCOL_ERROR),
        (settings_frame({4: MAX_WINDOW + 1}), ErrorCode.FLOW_CONTROL_ERROR),
    ],
)
async def test_what_http2_forbids_ends_the_connection(zone: Zone, data: bytes, code: ErrorCode) -> None:
    agent = await zone.welcomed(1)
    agent.connection.data_received(data)
    assert goaway(told(agent)) == code and agent.transport.closed
    agent.hang_up()


async def test_a_head_as_large_as_replies_may_be_is_read_and_a_larger_one_is_a_431(zone: Zone) -> None:
    agent = await zone.welcomed(2)
    fields = [(b"x-%d" % number, b"v" * 8000) for number in range(11)]
    assert agent.reply(b"x", b"", 200, fields).status == 404
    number, head = stream(agent, [*agent.caller.response(b"x"), *fields, (b"x-last", b"v" * 12_000)])
    pieces = [head[9 + at : 9 + at + 16000] for at in range(0, len(head) - 9, 16000)]
    kinds = [HEADERS] + [CONTINUATION] * (len(pieces) - 1)
    flags = [END_STREAM] + [0] * (len(pieces) - 2) + [END_HEADERS]
    for kind, flag, piece in zip(kinds, flags, pieces, strict=True):
        agent.connection.data_received(frame(kind, flag, number, piece))
    assert [(one.kind, one.stream_id) for one in told(agent)] == [(HEADERS, number)]
    assert zone.house.refused == ["h2-header-list"] and not is_over(agent)


async def test_an_agent_asks_the_control_plane_no_more_at_once_than_a_visitor(zone: Zone) -> None:
    agent = await zone.welcomed(1)
    asked = [agent.ask([*agent.caller.hello()[:3], (b":path", b"/api/v1/tunnels/")]) for _ in range(101)]
    assert asked[-1].reset == ErrorCode.REFUSED_STREAM
    for opened in zone.house.door.opened:
        opened.reply(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    agent.talk()
    assert {answer.status for answer in asked[:100]} == {200}


async def test_before_its_hello_an_agent_has_no_more_than_a_visitor(zone: Zone) -> None:
    agent = zone.agent()
    agent.connection.data_received(pings(agent, 110))
    assert goaway(told(agent)) == CALM and agent.transport.closed
    agent.hang_up()
