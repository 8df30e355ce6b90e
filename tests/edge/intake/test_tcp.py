"""A visitor's TCP connection over the HTTP/2 carrier: framed, ended and given up as it is."""

from __future__ import annotations

import os
from typing import cast

import pytest

from tests.kit.house import House
from tests.kit.intake_edge import LOST, Ear, IntakeEdge
from tests.kit.lumpy_agent import LumpyBridge
from tests.kit.transport import FakeTransport
from wellhead.edge.intake.tcp import EARLY_HIGH
from wellhead.edge.passthrough import RawTerms, RawVisitor
from wellhead.model.records import TlsMode
from wellhead.net.session import Session
from wellhead.wire.facts import Facts
from wellhead.wire.streams import Reason, StreamKind
from wellhead.wire.ws_frames import BINARY, CLOSE, PING, PONG, TEXT

FILL = os.urandom(300_000)


@pytest.fixture
def edge() -> IntakeEdge:
    return IntakeEdge()


def test_the_agent_is_told_who_came_and_gets_the_first_bytes_when_it_binds(edge: IntakeEdge) -> None:
    bridge, _, far = edge.tcp(b"ClientHello")
    headers, body = edge.agent.envelopes[-1]
    assert headers["inkbox-route-kind"] == "tcp-stream" and headers["inkbox-sni-host"] == "a.test"
    assert headers["inkbox-forwarded-for"] == "192.0.2.7" and not body
    assert headers["inkbox-tcp-id"] == headers["inkbox-request-id"] == "req-1"
    assert far.status == "200" and far.data == b"ClientHello"


def test_bytes_pass_both_ways_in_whole_frames_of_at_most_16_kib(edge: IntakeEdge) -> None:
    bridge, ear, far = edge.tcp()
    bridge.send(FILL)
    edge.settle()
    assert far.data == b"hello" + FILL
    assert set(far.frames) == {BINARY} and max(map(len, far.messages)) <= 16_384
    far.frame(BINARY, FILL[:200_000])
    edge.settle()
    assert bytes(ear.data) == FILL[:200_000] and edge.connection.held == 0


def test_how_the_agents_bytes_are_cut_makes_no_difference(edge: IntakeEdge) -> None:
    _, ear, far = edge.tcp()
    far.send(b"\x02\x83\1\2\3\4" + bytes((65 ^ 1, 66 ^ 2)))  # a fragment, cut in its payload
    edge.settle()
    assert bytes(ear.data) == b"AB", "what is there goes on"
    far.send(bytes((67 ^ 3,)) + b"\x80\x81\0\0\0\0D")
    edge.settle()
    assert bytes(ear.data) == b"ABCD"


def test_the_agents_ping_is_answered(edge: IntakeEdge) -> None:
    _, _, far = edge.tcp()
    far.frame(PING, b"?")
    edge.settle()
    assert far.frames == [BINARY, PONG]


def test_what_the_visitor_says_before_the_agent_binds_waits_within_bounds(edge: IntakeEdge) -> None:
    ear = Ear()
    bridge = edge.open(StreamKind.TCP, Facts("192.0.2.7").encode(), ear, b"x" * 1000)
    assert bridge.send(b"y" * 1000)
    assert not bridge.send(b"z" * EARLY_HIGH)
    edge.settle()
    far = edge.agent.connect("req-1", raw=True)
    edge.settle()
    assert len(far.data) == 2000 + EARLY_HIGH and ear.writable == 1


def test_an_agent_that_does_not_bind_is_a_time_out(edge: IntakeEdge) -> None:
    ear = Ear()
    edge.open(StreamKind.TCP, Facts("192.0.2.7").encode(), ear, b"x")
    edge.settle()
    edge.after(9)
    assert not ear.resets
    edge.after(2)
    assert ear.resets == [Reason.TIMEOUT] and not edge.pending
    far = edge.agent.connect("req-1", raw=True)
    edge.settle()
    assert far.status == "404"


def test_a_visitors_end_is_a_close_and_an_end_and_the_agent_may_go_on(edge: IntakeEdge) -> None:
    bridge, ear, far = edge.tcp()
    bridge.send(b"last", True)
    edge.settle()
    assert far.data == b"hellolast" and far.frames[-1] == CLOSE and far.ended
    edge.after(100)
    far.frame(BINARY, b"reply")
    far.frame(CLOSE, b"\3\xe8clean-eof", end=True)
    edge.settle()
    assert bytes(ear.data) == b"reply" and ear.ended
    assert not edge.pending and edge.connection.streams == len(edge.parked) and not far.was_reset


def test_a_visitor_that_has_ended_before_the_agent_binds(edge: IntakeEdge) -> None:
    ear = Ear()
    edge.open(StreamKind.TCP, Facts("192.0.2.7").encode(), ear, b"all", True)
    edge.settle()
    far = edge.agent.connect("req-1", raw=True)
    edge.settle()
    assert far.data == b"all" and far.ended


def test_an_agents_end_alone_is_of_its_half(edge: IntakeEdge) -> None:
    bridge, ear, far = edge.tcp()
    far.end()
    edge.settle()
    assert (ear.ended, far.ended) == (True, False)
    bridge.send(b"more")
    bridge.send(b"", True)
    edge.settle()
    assert far.data == b"hellomore" and far.ended and not edge.pending


@pytest.mark.parametrize("payload", [b"\3\xe8clean-eof", b"\3\xe9cancelled", b""])
def test_an_agents_clean_close_is_a_fin_behind_its_bytes(edge: IntakeEdge, payload: bytes) -> None:
    bridge, ear, far = edge.tcp()
    far.frame(BINARY, b"tail")
    far.frame(CLOSE, payload, end=True)
    edge.settle()
    assert bytes(ear.data) == b"tail" and ear.ended and not ear.resets
    assert far.ended and not far.was_reset and not edge.pending
    assert bridge.send(b"nobody reads it")


@pytest.mark.parametrize("payload", [b"\3\xeaprotocol-error", b"\3\xf3tls-error"])
def test_any_other_close_is_a_reset(edge: IntakeEdge, payload: bytes) -> None:
    _, ear, far = edge.tcp()
    far.frame(CLOSE, payload, end=True)
    edge.settle()
    assert ear.resets == [Reason.UPSTREAM_FAILED] and not edge.pending


def test_text_and_broken_frames_end_it(edge: IntakeEdge) -> None:
    for opcode in (TEXT, 7):
        _, ear, far = edge.tcp()
        far.frame(opcode, b"x")
        edge.settle()
        assert ear.resets == [Reason.PROTOCOL] and far.was_reset, opcode
    assert not edge.pending


def test_a_reset_goes_through_both_ways(edge: IntakeEdge) -> None:
    _, ear, far = edge.tcp()
    far.agent.h2.reset_stream(far.stream_id)
    edge.settle()
    assert ear.resets == [Reason.UPSTREAM_FAILED]
    bridge, ear, far = edge.tcp()
    bridge.reset(Reason.CANCELLED)
    edge.settle()
    assert far.was_reset and not edge.pending


@pytest.mark.parametrize("bound", [True, False])
def test_an_agent_that_is_lost_is_told(edge: IntakeEdge, bound: bool) -> None:
    ear = Ear()
    if bound:
        bridge, ear, _ = edge.tcp()
        edge.lose()
    else:
        edge.open(StreamKind.TCP, Facts("192.0.2.7").encode(), ear, b"x")
        edge.pending[b"req-1"].failed(LOST)
    assert ear.resets == [LOST] and not edge.pending


def test_a_reset_visitor_hears_nothing_more_and_its_bytes_are_credited(edge: IntakeEdge) -> None:
    bridge, ear, far = edge.tcp()
    ear.choked = True
    far.frame(BINARY, b"x" * 10_000)
    edge.settle()
    assert edge.connection.held > 0
    bridge.reset(Reason.CANCELLED)
    far.frame(BINARY, b"y" * 10_000)
    edge.settle()
    assert edge.connection.held == 0 and len(ear.data) == 10_000


def test_a_slow_visitor_holds_up_its_own_stream_alone(edge: IntakeEdge) -> None:
    _, slow, far = edge.tcp()
    _, quick, near = edge.tcp()
    slow.choked = True
    for _ in range(20):
        far.frame(BINARY, FILL[:10_000])
    edge.settle()
    assert edge.connection.held > 190_000
    near.frame(BINARY, b"now")
    edge.settle()
    assert bytes(quick.data) == b"now"
    slow.unchoke()
    assert edge.connection.held == 0


def test_a_slow_reader_behind_the_agent_stops_its_visitor(edge: IntakeEdge) -> None:
    bridge, ear, far = edge.tcp()
    far.slow = True
    while bridge.send(FILL[:10_000]):
        edge.settle()
    assert bridge.queued > 30_000
    far.slow = False
    edge.settle()
    assert ear.writable == 1 and not bridge.queued


# With a real visitor


def passing(house: House, edge: IntakeEdge) -> tuple[FakeTransport, RawVisitor, LumpyBridge]:
    """A visitor of a passthrough tunnel that the agent has bound."""
    view = house.record("p", TlsMode.PASSTHROUGH)
    house.registry.add(view.id, cast(Session, Door(edge)))
    visitor = RawVisitor(house.ingress, RawTerms(), view, "p.localhost", "192.0.2.7")
    transport = FakeTransport("192.0.2.7")
    transport.protocol = visitor
    visitor.connection_made(transport)
    visitor.data_received(b"ClientHello")
    edge.settle()
    far = edge.agent.connect(edge.agent.envelopes[-1][0]["inkbox-request-id"], raw=True)
    edge.settle()
    return transport, visitor, far


class Door:
    """A session that opens on the edge of a test."""

    usable, load, own_certificate, carrier = True, 0, True, "h2"

    def __init__(self, edge: IntakeEdge) -> None:
        self.open = edge.open


async def test_a_visitor_of_the_edge_passes_through_it(house: House, edge: IntakeEdge) -> None:
    transport, visitor, far = passing(house, edge)
    visitor.data_received(b" and more")
    far.frame(BINARY, b"ServerHello")
    edge.settle()
    assert far.data == b"ClientHello and more" and transport.take() == b"ServerHello"
    far.frame(BINARY, b"bye")
    far.frame(CLOSE, b"\3\xe8clean-eof", end=True)
    edge.settle()
    assert transport.take() == b"bye" and transport.ended and not transport.aborted
    visitor.eof_received()
    visitor.connection_lost(None)
    assert house.lines[-1].whole and not edge.pending


async def test_an_agent_that_failed_cuts_the_visitor_off(house: House, edge: IntakeEdge) -> None:
    transport, _, far = passing(house, edge)
    far.frame(BINARY, b"half")
    far.frame(CLOSE, b"\3\xf3tls-error", end=True)
    edge.settle()
    assert transport.aborted and house.lines[-1].reason == "upstream-failed"


async def test_a_visitor_that_hangs_up_resets_the_bridge(house: House, edge: IntakeEdge) -> None:
    _, visitor, far = passing(house, edge)
    visitor.connection_lost(ConnectionResetError())
    edge.settle()
    assert far.was_reset and not edge.pending and house.lines[-1].reason == "visitor-left"
