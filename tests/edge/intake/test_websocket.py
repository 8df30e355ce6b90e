"""A visitor's WebSocket over the HTTP/2 carrier: how it begins, what passes, and how it ends."""

from __future__ import annotations

from typing import cast

import pytest

from tests.kit.doors import FakeDoor
from tests.kit.house import House, Visit, status
from tests.kit.http2 import Http2Visit
from tests.kit.intake_edge import HEAD, KEY, LOST, Ear, IntakeEdge
from tests.kit.lumpy_agent import LumpyBridge
from wellhead.edge.intake.bridge import BridgeTerms
from wellhead.edge.intake.websocket import ECHO_SECONDS, WebSocketBridge
from wellhead.wire.intake_ws import text_envelope
from wellhead.wire.masking import masked
from wellhead.wire.streams import Reason, StreamKind
from wellhead.wire.ws import accept_key, close_frame
from wellhead.wire.ws_frames import BINARY, CLOSE, PING, PONG, TEXT, frame

MASK = b"\1\2\3\4"


def said(opcode: int, payload: bytes = b"") -> bytes:
    """A visitor's frame."""
    return frame(opcode, payload, MASK)


def fragment(opcode: int, payload: bytes, *, last: bool) -> bytes:
    return bytes((opcode | (0x80 if last else 0), 0x80 | len(payload))) + MASK + bytes(masked(payload, MASK))


def closing(code: int, reason: str = "") -> bytes:
    return said(CLOSE, code.to_bytes(2, "big") + reason.encode())


@pytest.fixture
def edge() -> IntakeEdge:
    return IntakeEdge()


Talk = tuple[WebSocketBridge, Ear, LumpyBridge]


@pytest.fixture
def talk(edge: IntakeEdge) -> Talk:
    return edge.websocket()


# How it begins


def test_the_agent_is_told_what_the_visitor_asks_for_and_no_extension(edge: IntakeEdge) -> None:
    head = HEAD.replace(
        b"X-Forwarded-For",
        b"Sec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Extensions: permessage-deflate\r\nX-Forwarded-For",
    )
    edge.open(StreamKind.WEBSOCKET, head, Ear())
    edge.settle()
    headers, body = edge.agent.envelopes[-1]
    assert headers["inkbox-route-kind"] == "ws-upgrade" and headers["inkbox-path"] == "/chat"
    assert headers["inkbox-ws-id"] == headers["inkbox-request-id"] == "req-1"
    assert headers["inkbox-h-sec-websocket-protocol"] == "a, b"
    assert not [name for name in headers if "extensions" in name or "sec-websocket-key" in name]
    assert not body


@pytest.mark.parametrize("accepted", [200, 101, 204, 299])
def test_the_visitor_gets_a_101_when_the_agent_has_accepted_and_asks_for_the_bytes(
    edge: IntakeEdge, accepted: int
) -> None:
    bridge, ear = edge.ask()
    request_id = bridge.request_id.decode()
    fields = [
        ("sec-websocket-protocol", "chat"), ("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-app", "up"),
        ("sec-websocket-extensions", "permessage-deflate"), ("sec-websocket-accept", "forged"), ("te", "x"),
    ]  # fmt: skip
    posted = edge.agent.respond(request_id, accepted, fields)
    edge.settle()
    assert edge.agent.answers[posted] == "200", "acknowledged at once: it waits for that"
    assert not ear.heads
    far = edge.agent.connect(request_id)
    edge.settle()
    assert far.status == "200"
    (head,) = ear.heads
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Accept: %b\r\n" % accept_key(KEY) in head and head.count(b"ccept:") == 1
    for line in (b"sec-websocket-protocol: chat", b"set-cookie: a=1", b"set-cookie: b=2", b"x-app: up"):
        assert line + b"\r\n" in head
    assert b"extensions" not in head and b"te:" not in head and b"ontent-" not in head


def test_a_refusal_is_an_ordinary_reply(edge: IntakeEdge) -> None:
    bridge, ear = edge.ask()
    edge.agent.respond(bridge.request_id.decode(), 403, [("content-type", "text/plain")], b"not you")
    edge.settle()
    (head,) = ear.heads
    assert head.startswith(b"HTTP/1.1 403 ") and b"content-type: text/plain\r\n" in head
    assert bytes(ear.data) == b"not you" and ear.ended
    assert not edge.pending, "it is over"
    assert edge.connection.held == 0


def test_a_refusal_without_a_body_is_whole_at_once(edge: IntakeEdge) -> None:
    bridge, ear = edge.ask()
    edge.agent.respond(bridge.request_id.decode(), 502)
    edge.settle()
    assert ear.heads[0].startswith(b"HTTP/1.1 502 ") and ear.ended and not edge.pending


def test_a_refusals_body_is_credited_as_the_visitor_takes_it(edge: IntakeEdge) -> None:
    bridge, ear = edge.ask()
    ear.choked = True
    body = bytes(60_000)
    edge.agent.respond(bridge.request_id.decode(), 500, body=body[:16_000])
    edge.settle()
    assert edge.connection.held == 0, "it has ended: there is nobody to hold back"
    assert len(ear.data) == 16_000


def test_a_refusal_that_breaks_off_breaks_the_reply(edge: IntakeEdge) -> None:
    bridge, ear = edge.ask()
    agent = edge.agent
    posted = agent._open(
        "POST", "/_system/response/req-1", [("inkbox-status", "403"), ("content-length", "9")]
    )
    agent.h2.send_data(posted, b"half")
    edge.settle()
    agent.h2.reset_stream(posted)
    edge.settle()
    assert bytes(ear.data) == b"half" and ear.resets == [Reason.UPSTREAM_FAILED] and not edge.pending


def test_an_agent_that_does_not_answer_is_a_time_out(edge: IntakeEdge) -> None:
    _, ear = edge.ask()
    edge.after(29)
    assert not ear.resets
    edge.after(2)
    assert ear.resets == [Reason.TIMEOUT] and not edge.pending


def test_an_agent_that_accepts_and_never_asks_for_the_bytes_is_one_too(edge: IntakeEdge) -> None:
    bridge, ear = edge.ask()
    edge.after(20)
    edge.agent.respond(bridge.request_id.decode(), 200)
    edge.settle()
    edge.after(9)
    assert not ear.resets
    edge.after(2)
    assert ear.resets == [Reason.TIMEOUT] and not edge.pending


def test_the_bytes_of_what_was_not_accepted_are_nobodys(edge: IntakeEdge) -> None:
    bridge, ear = edge.ask()
    far = edge.agent.connect(bridge.request_id.decode())
    edge.settle()
    assert far.status == "404" and not ear.heads


def test_what_is_given_up_before_the_answer_is_answered_by_nobody(edge: IntakeEdge) -> None:
    bridge, ear = edge.ask()
    bridge.reset(Reason.CANCELLED)
    posted = edge.agent.respond(bridge.request_id.decode(), 200)
    edge.settle()
    assert edge.agent.answers[posted] == "404" and not ear.heads and not ear.resets


@pytest.mark.parametrize("reason", [LOST, Reason.REMOVED, Reason.CANCELLED])
def test_an_agent_lost_before_its_answer_is_told_as_it_is(edge: IntakeEdge, reason: Reason) -> None:
    bridge, ear = edge.ask()
    bridge.failed(reason)
    assert ear.resets == [reason] and not edge.pending


# What passes


def test_messages_pass_both_ways_with_their_kinds(edge: IntakeEdge, talk: Talk) -> None:
    bridge, ear, far = talk
    bridge.send(said(TEXT, 'häñ"\\\n😀'.encode()) + said(BINARY, bytes(range(256))) + said(TEXT))
    edge.settle()
    assert [message["type"] for message in far.messages] == ["text", "binary", "text"]
    assert far.texts == ['häñ"\\\n😀', ""]
    assert set(far.frames) == {BINARY}
    far.text("ünd zurück")
    far.frame(2, (b'{"type": "binary", "data": "AP8="}').join((b"\0\0\0\x22", b"")))
    edge.settle()
    assert bytes(ear.data) == frame(TEXT, "ünd zurück".encode()) + frame(BINARY, b"\0\xff")


def test_a_message_in_fragments_is_one_envelope_and_pings_between_them_are_answered(
    edge: IntakeEdge, talk: Talk
) -> None:
    bridge, ear, far = talk
    bridge.send(fragment(TEXT, b"one, ", last=False) + said(PING, b"there?"))
    bridge.send(fragment(0, b"two, ", last=False))
    edge.settle()
    assert not far.messages and bytes(ear.data) == frame(PONG, b"there?")
    bridge.send(fragment(0, b"three", last=True) + said(PONG, b"unasked"))
    edge.settle()
    assert far.texts == ["one, two, three"]


def test_it_makes_no_difference_how_the_bytes_are_cut(edge: IntakeEdge, talk: Talk) -> None:
    bridge, ear, far = talk
    for byte in said(TEXT, b"from the visitor") + said(BINARY, b"\1\2"):
        bridge.send(bytes((byte,)))
    wire = b"".join(
        bytes((0x82, 0x80 | len(part))) + MASK + bytes(masked(part, MASK))
        for part in (text_envelope(b"from the agent")[:9], text_envelope(b"from the agent")[9:])
    )
    for byte in wire:
        far.send(bytes((byte,)))
    edge.settle()
    assert far.texts == ["from the visitor"] and len(far.messages) == 2
    assert bytes(ear.data) == frame(TEXT, b"from the agent")


def test_the_agents_ping_is_answered_between_messages(edge: IntakeEdge, talk: Talk) -> None:
    bridge, _, far = talk
    far.frame(PING, b"still there?")
    bridge.send(said(TEXT, b"x"))
    edge.settle()
    assert sorted(far.frames) == [BINARY, PONG] and far.texts == ["x"]


def test_an_envelope_that_means_nothing_is_dropped(edge: IntakeEdge, talk: Talk) -> None:
    _, ear, far = talk
    for body in (
        b"no JSON",
        b"[]",
        b'{"type":"text"}',
        b'{"type":"binary","data":"@@@@"}',
        b'{"type":"new"}',
    ):
        far.frame(2, len(body).to_bytes(4, "big") + body)
    far.text("goes on")
    edge.settle()
    assert bytes(ear.data) == frame(TEXT, b"goes on")


def test_the_agent_is_credited_for_what_the_visitor_has_taken(edge: IntakeEdge, talk: Talk) -> None:
    _, ear, far = talk
    ear.choked = True
    for _ in range(4):
        far.text("m" * 10_000)
    edge.settle()
    assert edge.connection.held > 29_000
    ear.unchoke()
    assert edge.connection.held == 0


def test_an_unfinished_message_holds_back_nothing(edge: IntakeEdge, talk: Talk) -> None:
    """More than the stream's window: it has to be credited as it comes."""
    bridge, ear, far = talk
    body = text_envelope(b"L" * 3_000_000)
    sent = 0
    wire = b"\x82\xff" + len(body).to_bytes(8, "big") + bytes(4) + body
    while sent < len(wire):
        room = min(16_384, far.agent.h2.local_flow_control_window(far.stream_id), len(wire) - sent)
        assert room, "it waits for ever"
        far.send(wire[sent : sent + room])
        sent += room
        edge.settle()
    assert bytes(ear.data) == frame(TEXT, b"L" * 3_000_000)
    assert bridge.held == 0


def test_large_messages_pass_to_an_agent_whose_windows_are_large() -> None:
    edge = IntakeEdge(window=1 << 20)
    bridge, _, far = edge.websocket()
    for _ in range(3):
        bridge.send(said(TEXT, b"L" * 900_000))
        edge.settle()
    assert [len(text) for text in far.texts] == [900_000] * 3


# What is too much


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_beyond_what_a_python_agent_takes_closes_both_sides_with_1009(
    edge: IntakeEdge, talk: Talk, opcode: int
) -> None:
    bridge, ear, far = talk
    bridge.send(said(TEXT, b"before"))
    bridge.send(said(opcode, bytes(65_100) if opcode == TEXT else bytes(48_800)))
    edge.settle()
    assert ear.closes == [(1009, "message-too-big")]
    assert far.texts == ["before"] and far.closes == [1009]
    far.end()
    edge.settle()
    assert not edge.pending and edge.connection.streams == len(edge.parked)


def test_what_a_python_agent_takes_passes(edge: IntakeEdge, talk: Talk) -> None:
    bridge, ear, far = talk
    bridge.send(said(TEXT, b"t" * 64_900) + said(BINARY, bytes(48_700)))
    edge.settle()
    assert not ear.closes and [len(message["data"]) for message in far.messages] == [64_900, 64_936]


def test_too_many_fragments_of_a_message_are_refused_before_they_are_all_here() -> None:
    edge = IntakeEdge(terms=BridgeTerms(max_message_bytes=1000))
    bridge, ear, far = edge.websocket()
    for _ in range(9):
        bridge.send(fragment(TEXT if not _ else 0, b"x" * 120, last=False))
    assert ear.closes == [(1009, "message-too-big")]


def test_the_agents_message_above_the_limit_ends_it_with_1011_for_the_visitor() -> None:
    edge = IntakeEdge(terms=BridgeTerms(max_message_bytes=1000))
    bridge, ear, far = edge.websocket()
    far.text("x" * 1001)
    edge.settle()
    assert ear.closes == [(1011, "message-too-big")] and far.closes == [1009]


def test_messages_that_are_not_whole_are_given_up_where_a_session_holds_too_much() -> None:
    edge = IntakeEdge(terms=BridgeTerms(max_held_bytes=1 << 20), window=1 << 20)
    made = [edge.websocket() for _ in range(2)]
    for bridge, _, _ in made:
        for number in range(8_000):
            bridge.send(fragment(0 if number else BINARY, bytes(100), last=False))
    assert [ear.closes for _, ear, _ in made] == [[], [(1013, "held")]]
    assert edge.held < 1 << 20, "what was given up is not kept"


@pytest.mark.parametrize(
    ("data", "code", "reason"),
    [
        pytest.param(frame(TEXT, b"hi"), 1002, "mask", id="not masked"),
        pytest.param(said(TEXT, b"\xff"), 1007, "utf-8", id="not UTF-8"),
        pytest.param(b"\xc1\x80" + MASK, 1002, "reserved-bits", id="an extension nobody agreed on"),
        pytest.param(said(3, b"x"), 1002, "opcode", id="an unknown frame"),
        pytest.param(said(CLOSE, b"\3"), 1002, "close-code", id="half a close code"),
    ],
)
def test_a_visitor_that_breaks_a_rule_is_told_and_so_is_the_agent(
    edge: IntakeEdge, talk: Talk, data: bytes, code: int, reason: str
) -> None:
    bridge, ear, far = talk
    bridge.send(data)
    edge.settle()
    assert ear.closes == [(code, reason)] and far.closes == [code]


def test_an_agent_that_breaks_a_rule_loses_its_bridge(edge: IntakeEdge, talk: Talk) -> None:
    _, ear, far = talk
    far.send(b"\x72\x80" + MASK)
    edge.settle()
    assert ear.closes == [(1011, "reserved-bits")] and far.was_reset and not edge.pending


# How it ends


def test_a_visitors_close_is_answered_when_the_agent_has_ended(edge: IntakeEdge, talk: Talk) -> None:
    bridge, ear, far = talk
    bridge.send(said(TEXT, b"last") + closing(4001, "tschüß"))
    edge.settle()
    assert far.messages[-1] == {"type": "close", "code": 4001, "reason": "tschüß"} and far.texts == ["last"]
    assert (ear.ended, far.ended) == (False, False), "the SDK's end comes first"
    far.text("on its way")
    far.end()
    edge.settle()
    assert bytes(ear.data) == frame(TEXT, b"on its way") + close_frame(4001)
    assert ear.ended and not edge.pending and far.over and not far.was_reset


def test_the_visitors_close_wins_over_the_agents_later_one(edge: IntakeEdge, talk: Talk) -> None:
    bridge, ear, far = talk
    bridge.send(closing(4001))
    edge.settle()
    far.close(1000)
    edge.settle()
    assert bytes(ear.data) == close_frame(4001) and ear.ended
    far.frame(CLOSE, b"\3\xe8", end=True)
    edge.settle()
    assert not edge.pending


def test_a_close_without_a_code_is_answered_without_one(edge: IntakeEdge, talk: Talk) -> None:
    bridge, ear, far = talk
    bridge.send(said(CLOSE))
    edge.settle()
    assert far.closes == [1000], "the SDK puts it on its upstream's wire"
    far.end()
    edge.settle()
    assert bytes(ear.data) == b"\x88\x00"


def test_an_agent_that_does_not_end_is_not_waited_for(edge: IntakeEdge, talk: Talk) -> None:
    bridge, ear, far = talk
    bridge.send(closing(1000))
    edge.settle()
    edge.after(ECHO_SECONDS + 0.5)
    before = far.was_reset
    assert bytes(ear.data) == close_frame(1000) and ear.ended
    edge.after(5)
    assert (before, far.was_reset) == (False, True)
    assert not edge.pending and edge.connection.streams == len(edge.parked)


def test_the_agents_first_close_wins_and_its_second_means_nothing(edge: IntakeEdge, talk: Talk) -> None:
    """As the SDK ends an application that closed: two envelopes and a Close of the outer layer."""
    _, ear, far = talk
    far.text("bye")
    far.close(4001, "app")
    edge.settle()
    assert bytes(ear.data) == frame(TEXT, b"bye") + close_frame(4001, "app") and ear.ended
    far.close(1000)
    far.frame(CLOSE, b"\3\xe8", end=True)
    edge.settle()
    assert far.closes == [4001], "it waits for one"
    before = far.ended
    edge.after(1.5)
    assert (before, far.ended) == (False, True), "the end comes when it is done with the stream"
    assert not edge.pending and edge.connection.streams == len(edge.parked) and not far.was_reset


def test_an_agent_that_closes_and_does_not_end_is_cut_off(edge: IntakeEdge, talk: Talk) -> None:
    _, ear, far = talk
    far.close(1000)
    edge.after(6)
    assert ear.ended and far.was_reset and not edge.pending


def test_an_agent_that_ends_while_much_waits_for_it_leaves_no_stream_behind(
    edge: IntakeEdge, talk: Talk
) -> None:
    bridge, ear, far = talk
    far.slow = True
    for _ in range(100):
        bridge.send(said(TEXT, bytes(1000)))
    bridge.send(closing(1000))
    edge.settle()
    far.end()
    edge.settle()
    assert ear.ended and not edge.pending and edge.connection.streams == len(edge.parked)


def test_an_upstreams_close_comes_with_the_end(edge: IntakeEdge, talk: Talk) -> None:
    _, ear, far = talk
    far.close(4001, "", end=True)
    edge.settle()
    assert bytes(ear.data) == close_frame(4001) and ear.ended and not edge.pending
    assert far.ended and not far.messages, "it listens no more: what we sent would never be credited"


def test_a_close_of_the_outer_layer_alone_is_one(edge: IntakeEdge, talk: Talk) -> None:
    _, ear, far = talk
    far.frame(CLOSE, b"\x0f\xa1out", end=True)
    edge.settle()
    assert bytes(ear.data) == close_frame(4001, "out") and ear.ended
    edge.after(1.5)
    assert not edge.pending and edge.connection.streams == len(edge.parked)


@pytest.mark.parametrize(
    ("code", "wire"),
    [
        (0, 1011), (999, 1011), (1004, 1011), (1005, None), (1006, 1011), (1015, 1011), (1016, 1011),
        (2999, 1011), (5000, 1011), (-1, 1011), (1014, 1014), (3000, 3000), (4999, 4999),
    ],
)  # fmt: skip
def test_no_code_goes_to_a_visitor_that_may_not_be_on_the_wire(
    edge: IntakeEdge, talk: Talk, code: int, wire: int | None
) -> None:
    _, ear, far = talk
    far.close(code, "r" * 200)
    edge.settle()
    assert bytes(ear.data) == (b"\x88\x00" if wire is None else close_frame(wire, "r" * 123))


def test_a_bare_end_and_a_reset_are_1011(edge: IntakeEdge) -> None:
    for how in ("end", "reset"):
        _, ear, far = edge.websocket()
        if how == "end":
            far.end()
        else:
            far.agent.h2.reset_stream(far.stream_id)
        edge.settle()
        assert ear.closes == [(1011, "upstream-failed")], how
    assert not edge.pending


@pytest.mark.parametrize(
    ("reason", "close"),
    [
        (Reason.SESSION_LOST, (1011, "agent-lost")),
        (Reason.CANCELLED, (1012, "draining")),
        (Reason.REMOVED, (1001, "removed")),
        (Reason.INTERNAL, (1011, "upstream-failed")),
    ],
)
def test_what_becomes_of_the_session_is_told(
    edge: IntakeEdge, talk: Talk, reason: Reason, close: tuple[int, str]
) -> None:
    bridge, ear, _ = talk
    bridge.failed(reason)
    bridge.failed(reason)
    assert ear.closes == [close]


def test_an_agent_that_is_gone_is_1011(edge: IntakeEdge, talk: Talk) -> None:
    bridge, ear, _ = talk
    edge.lose()
    assert ear.closes == [(1011, "agent-lost")] and not edge.pending
    bridge.consumed(0)
    bridge.reset(Reason.CANCELLED)


def test_an_agent_that_goes_while_it_should_end_changes_nothing(edge: IntakeEdge, talk: Talk) -> None:
    bridge, ear, _ = talk
    bridge.send(closing(1000))
    edge.settle()
    edge.lose()
    assert bytes(ear.data) == close_frame(1000) and ear.ended


@pytest.mark.parametrize(
    ("reason", "code"), [(Reason.CANCELLED, 1001), (Reason.TIMEOUT, 1001), (Reason.PROTOCOL, 1002)]
)
def test_a_visitor_that_is_gone_is_a_close_for_the_agent(
    edge: IntakeEdge, talk: Talk, reason: Reason, code: int
) -> None:
    bridge, ear, far = talk
    bridge.reset(reason)
    edge.settle()
    assert far.closes == [code] and not far.was_reset
    far.text("nobody hears it")
    far.end()
    edge.settle()
    assert not ear.data and not edge.pending and edge.connection.held == 0


def test_a_visitor_that_ends_without_a_close_is_one_that_went_away(edge: IntakeEdge, talk: Talk) -> None:
    bridge, _, far = talk
    bridge.send(b"", True)
    edge.settle()
    assert far.closes == [1001]


def test_what_a_gone_visitor_said_does_not_stand_before_the_close(edge: IntakeEdge, talk: Talk) -> None:
    bridge, _, far = talk
    far.slow = True
    for _ in range(100):
        bridge.send(said(TEXT, bytes(1000)))
    edge.settle()
    bridge.reset(Reason.CANCELLED)
    far.slow = False
    edge.settle()
    assert len(far.texts) < 100 and far.closes == [1001]


def test_nothing_follows_the_close_that_the_agent_was_sent(edge: IntakeEdge, talk: Talk) -> None:
    """What came after it would never be credited."""
    bridge, _, far = talk
    bridge.send(closing(1000) + said(TEXT, b"late"))
    bridge.send(said(TEXT, b"later"))
    far.frame(PING, b"?")
    edge.settle()
    assert far.messages == [{"type": "close", "code": 1000, "reason": ""}] and far.frames == [BINARY]


# With a real visitor


async def test_a_visitor_of_the_edge_talks_through_it(house: House, edge: IntakeEdge) -> None:
    visit, far = met(house, edge)
    assert visit.says(said(TEXT, b"hello") + said(PING, b"!")) == frame(PONG, b"!")
    edge.settle()
    far.text("hi")
    edge.settle()
    assert far.texts == ["hello"] and visit.transport.take() == frame(TEXT, b"hi")
    far.close(4001, "bye", end=True)
    edge.settle()
    assert visit.transport.take() == close_frame(4001, "bye") and visit.transport.ended
    line = house.lines[-1]
    assert (line.status, line.reason) == (101, "") and not edge.pending and edge.connection.held == 0


async def test_why_it_ended_early_is_in_the_access_line(house: House, edge: IntakeEdge) -> None:
    visit, _ = met(house, edge)
    edge.lose()
    assert visit.transport.take().endswith(close_frame(1011, "agent-lost"))
    visit.connection.connection_lost(None)
    assert house.lines[-1].reason == "agent-lost"


async def test_a_visitor_that_hangs_up_is_a_close_for_the_agent(house: House, edge: IntakeEdge) -> None:
    visit, far = met(house, edge)
    visit.connection.connection_lost(None)
    edge.settle()
    assert far.closes == [1001]


async def test_a_visitor_that_reads_slowly_slows_the_agent(house: House, edge: IntakeEdge) -> None:
    visit, far = met(house, edge)
    visit.transport.clogged = True
    for _ in range(10):
        far.text("m" * 20_000)
        edge.settle()
    assert edge.connection.held > 100_000
    visit.transport.unclog()
    assert edge.connection.held == 0


async def test_a_visitor_whose_agent_reads_slowly_is_not_read(house: House, edge: IntakeEdge) -> None:
    visit, far = met(house, edge)
    far.slow = True
    while visit.transport.reading:
        visit.says(said(TEXT, bytes(10_000)))
        edge.settle()
    far.slow = False
    edge.settle()
    assert visit.transport.is_reading()


async def test_a_drained_edge_asks_the_visitor_to_come_again(house: House, edge: IntakeEdge) -> None:
    visit, far = met(house, edge)
    visit.connection.drain()
    answer = visit.transport.take() + visit.after(60)
    edge.settle()
    assert answer == close_frame(1012, "draining") and far.closes == [1001]


async def test_a_visitor_of_http2_talks_through_it(house: House, edge: IntakeEdge) -> None:
    house.door = cast(FakeDoor, edge)
    visit = Http2Visit(house)
    stream = await visit.connect("/chat", ("sec-websocket-protocol", "soup"))
    edge.settle()
    envelope = edge.agent.envelopes[-1][0]
    assert envelope["inkbox-h-sec-websocket-protocol"] == "soup" and envelope["inkbox-method"] == "GET"
    edge.agent.respond(envelope["inkbox-request-id"], 200, [("sec-websocket-protocol", "soup")])
    far = edge.agent.connect(envelope["inkbox-request-id"])
    edge.settle()
    await visit.turn()
    assert visit.replies[stream].fields == [(b":status", b"200"), (b"sec-websocket-protocol", b"soup")]
    await visit.send(stream, said(TEXT, b"hello") + closing(1000))
    edge.settle()
    far.text("hi")
    far.end()
    edge.settle()
    await visit.turn()
    assert far.texts == ["hello"] and far.closes == [1000]
    assert (
        visit.replies[stream].body == frame(TEXT, b"hi") + close_frame(1000) and visit.replies[stream].ended
    )
    assert house.lines[-1].status == 101 and not edge.pending


def met(house: House, edge: IntakeEdge) -> tuple[Visit, LumpyBridge]:
    """A visitor of HTTP/1.1 whose WebSocket the agent has accepted."""
    house.door = cast(FakeDoor, edge)
    visit = house.visit()
    visit.says(
        b"GET /chat HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
        b"Sec-WebSocket-Key: " + KEY + b"\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    edge.settle()
    request_id = edge.agent.envelopes[-1][0]["inkbox-request-id"]
    edge.agent.respond(request_id, 200)
    far = edge.agent.connect(request_id)
    edge.settle()
    answer = visit.transport.take()
    assert status(answer) == 101 and b"extensions" not in answer.lower()
    return visit, far
