"""A passthrough tunnel's visitor, on a fake transport, before a stream that a test holds in its hands."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.kit.doors import FakeDoor, FakeStream
from tests.kit.house import COUNTS, TERMS, House
from tests.kit.transport import FakeTransport
from wellhead.edge.passthrough import RawTerms, RawVisitor
from wellhead.errors import ClientHelloError
from wellhead.model.records import TlsMode, TunnelStatus
from wellhead.wire.facts import Facts
from wellhead.wire.sni import alert
from wellhead.wire.streams import HeadKind, Reason, StreamKind

PEER = "192.0.2.7"
TERMS_OF_RAW = RawTerms()
INTERNAL_ERROR, UNRECOGNIZED_NAME = 80, 112


class Passage:
    """One visitor of tunnel ``p``, let in, whose ClientHello is about to be read."""

    def __init__(self, house: House, *, hello: bytes = b"hello") -> None:
        self.house = house
        self.door: FakeDoor = house.tunnel("p", TlsMode.PASSTHROUGH)
        self.visitor = visitor_of(house)
        self.transport = FakeTransport(PEER)
        self.transport.protocol = self.visitor
        self.visitor.connection_made(self.transport)
        if hello:
            self.visitor.data_received(hello)

    @property
    def stream(self) -> FakeStream:
        return self.door.stream

    def after(self, seconds: float) -> None:
        """Sweep twice, so long after now: what moved shows at the first time."""
        self.visitor.tick(self.house.clock())
        self.visitor.tick(self.house.clock() + seconds)

    def lost(self, error: Exception | None = None) -> None:
        self.visitor.connection_lost(error)

    def line(self) -> tuple[Any, ...]:
        """What the one access line says of bytes, wholeness and reason."""
        (line,) = self.house.lines
        return line.bytes_in, line.bytes_out, line.whole, line.reason


def visitor_of(house: House, name: str = "p") -> RawVisitor:
    view = house.directory.views[name]
    return RawVisitor(house.ingress, TERMS_OF_RAW, view, f"{name}.localhost", PEER)


async def test_the_first_bytes_travel_beside_an_envelope_that_names_the_visitor(house: House) -> None:
    passage = Passage(house)
    stream = passage.stream
    assert (stream.kind, stream.sent, stream.interactive) == (StreamKind.TCP, b"hello", False)
    assert Facts.decode(stream.envelope) == Facts(PEER, 50000, "p.localhost", "")


async def test_bytes_pass_both_ways_as_they_are_and_are_credited(house: House) -> None:
    passage = Passage(house)
    passage.visitor.data_received(b" and more")
    passage.stream.sink.on_data(b"reply", False)
    assert passage.stream.sent == b"hello and more"
    assert (passage.transport.take(), passage.stream.credit) == (b"reply", 5)


async def test_two_ends_are_a_whole_connection_and_one_access_line(house: House) -> None:
    passage = Passage(house)
    passage.stream.sink.on_data(b"bye", True)
    assert passage.transport.ended and not passage.transport.closed
    assert passage.visitor.eof_received() is False
    assert passage.stream.ended and not passage.stream.resets
    passage.lost()
    assert passage.line() == (5, 3, True, "")
    assert len(house.ingress) == 0 and house.registry.lines[passage.visitor._view.id].exchanges == 0
    line = house.lines[0]
    assert (line.place, line.name, line.peer, line.method, line.status) == ("tunnel", "p", PEER, b"TLS", 0)
    assert 0 < line.began <= line.first_byte <= line.ended


async def test_a_visitor_that_ended_its_half_still_hears_the_other(house: House) -> None:
    passage = Passage(house)
    assert passage.visitor.eof_received() is True
    assert passage.stream.ended
    passage.stream.sink.on_data(b"late", False)
    passage.stream.sink.on_data(b"r", True)
    assert passage.transport.take() == b"later" and passage.transport.closed
    passage.lost()
    assert passage.line() == (5, 5, True, "")


async def test_a_slow_agent_stops_the_reading_until_it_takes_more(house: House) -> None:
    passage = Passage(house)
    passage.stream.full = True
    passage.visitor.data_received(b"x")
    assert not passage.transport.reading
    passage.stream.full = False
    passage.stream.sink.on_writable()
    assert passage.transport.reading


async def test_a_slow_visitor_gets_no_credit_for_what_waits(house: House) -> None:
    passage = Passage(house)
    passage.transport.clogged = True
    passage.stream.sink.on_data(bytes(1000), False)
    passage.stream.sink.on_data(bytes(1000), False)
    assert passage.stream.credit == 0 and passage.visitor.held == 2000
    passage.transport.unclog()
    assert passage.stream.credit == 2000


async def test_a_visitor_that_leaves_is_a_reset_for_the_agent(house: House) -> None:
    passage = Passage(house)
    passage.lost(ConnectionResetError())
    assert passage.stream.resets == [Reason.CANCELLED]
    assert passage.line() == (5, 0, False, "visitor-left")


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        (Reason.UPSTREAM_UNREACHABLE, "upstream-unreachable"),
        (Reason.OVERLOADED, "overloaded"),
        (Reason.SESSION_LOST, "agent-lost"),
        (Reason.REMOVED, "unknown-name"),
        (99, "upstream-failed"),
    ],
)
async def test_a_reset_before_the_first_byte_is_an_alert(house: House, reason: int, word: str) -> None:
    passage = Passage(house)
    passage.stream.sink.on_reset(reason)
    assert passage.transport.take() == alert(INTERNAL_ERROR)
    assert passage.transport.ended and not passage.transport.aborted
    assert passage.line() == (5, 0, False, word)
    passage.visitor.data_received(b"nobody reads this")
    assert passage.visitor.eof_received() is False
    assert len(passage.door.opened) == 1


async def test_a_reset_in_the_midst_is_a_reset_for_the_visitor(house: House) -> None:
    passage = Passage(house)
    passage.stream.sink.on_data(b"r", False)
    passage.transport.take()
    passage.stream.sink.on_reset(Reason.UPSTREAM_FAILED)
    assert passage.transport.aborted and not passage.transport.take()
    assert passage.line() == (5, 1, False, "upstream-failed")


async def test_a_reset_behind_the_agents_end_takes_nothing_back_from_a_slow_visitor(house: House) -> None:
    passage = Passage(house)
    passage.transport.clogged = True
    passage.stream.sink.on_data(bytes(1000), True)
    passage.stream.sink.on_reset(Reason.TIMEOUT)
    assert not passage.transport.reading, "nobody hears it any more"
    passage.after(59)
    assert (passage.transport.aborted,) == (False,)
    passage.transport.unclog()
    assert passage.transport.take() == bytes(1000)
    passage.after(0)
    assert (passage.transport.aborted,) == (True,)
    assert passage.line()[:3] == (5, 1000, False)


async def test_a_visitor_that_does_not_take_what_is_left_is_cut(house: House) -> None:
    passage = Passage(house)
    passage.transport.clogged = True
    passage.stream.sink.on_data(bytes(1000), True)
    passage.stream.sink.on_reset(Reason.TIMEOUT)
    passage.after(60)
    assert passage.transport.aborted


async def test_a_reset_behind_an_end_that_was_taken_is_a_reset_at_once(house: House) -> None:
    passage = Passage(house)
    passage.stream.sink.on_data(b"bye", True)
    passage.transport.take()
    passage.stream.sink.on_reset(Reason.OVERLOADED)
    assert passage.transport.aborted


async def test_a_head_on_a_raw_stream_is_against_the_rules(house: House) -> None:
    passage = Passage(house)
    passage.stream.sink.on_head(HeadKind.REPLY, b"HTTP/1.1 200 OK\r\n\r\n", b"", False)
    assert passage.stream.resets == [Reason.PROTOCOL] and passage.transport.aborted


async def test_a_session_that_went_meanwhile_is_told_by_an_alert(house: House) -> None:
    passage = Passage(house, hello=b"")
    passage.door.usable = False
    passage.visitor.data_received(b"hello")
    assert passage.transport.take() == alert(INTERNAL_ERROR)
    assert passage.line() == (5, 0, False, "no-agent")


async def test_a_door_that_refuses_within_the_call_is_told_by_an_alert(house: House) -> None:
    passage = Passage(house, hello=b"")
    passage.door.refuses = Reason.REFUSED
    passage.visitor.data_received(b"hello")
    passage.visitor.data_received(b"more")
    assert passage.transport.take() == alert(INTERNAL_ERROR)
    assert passage.stream.sent == b"hello"


async def test_a_connection_refused_unheard_is_served_by_another_session(house: House) -> None:
    first, second = house.tunnel("p", TlsMode.PASSTHROUGH), None
    passage = Passage(house)
    second = passage.door
    second.load = 1
    assert len(first.opened) == 1 and not second.opened
    first.stream.sink.on_reset(Reason.REFUSED)
    assert (second.stream.envelope, second.stream.sent) == (first.stream.envelope, b"hello")
    passage.visitor.data_received(b" and more")
    second.stream.sink.on_data(b"reply", True)
    assert second.stream.sent == b"hello and more" and passage.transport.take() == b"reply"
    passage.visitor.eof_received()
    passage.lost()
    assert passage.line() == (14, 5, True, "")
    assert house.registry.lines[passage.visitor._view.id].exchanges == 0


@pytest.mark.parametrize("said", ["more", "answer"])
async def test_a_connection_of_which_more_was_sent_is_not_begun_anew(house: House, said: str) -> None:
    first = house.tunnel("p", TlsMode.PASSTHROUGH)
    passage = Passage(house)
    if said == "more":
        passage.visitor.data_received(b" and more")
    else:
        first.stream.sink.on_data(b"r", False)
    first.stream.sink.on_reset(Reason.REFUSED)
    assert not passage.door.opened


async def test_two_refusals_are_told_and_a_half_that_ended_is_ended_again(house: House) -> None:
    first = house.tunnel("p", TlsMode.PASSTHROUGH)
    passage = Passage(house)
    passage.visitor.eof_received()
    passage.door.refuses = Reason.REFUSED
    first.stream.sink.on_reset(Reason.REFUSED)
    assert passage.stream.sent == b"hello" and passage.stream.ended
    assert passage.transport.take() == alert(INTERNAL_ERROR) and passage.visitor._stream is None


# Who is let in


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (TunnelStatus.AWAITING_CERT, "awaiting-certificate"),
        (TunnelStatus.PENDING_REMOVAL, "unknown-sni"),
        (TunnelStatus.DELETED, "unknown-sni"),
    ],
)
async def test_a_name_without_a_certificate_is_not_recognised(
    house: House, status: TunnelStatus, reason: str
) -> None:
    house.record("p", TlsMode.PASSTHROUGH, status)
    with pytest.raises(ClientHelloError) as caught:
        visitor_of(house)
    assert (caught.value.alert, caught.value.reason) == (UNRECOGNIZED_NAME, reason)
    assert len(house.ingress) == 0


async def test_who_brings_a_certificate_of_his_own_needs_none_of_ours(house: House) -> None:
    door = house.tunnel("p", TlsMode.PASSTHROUGH)
    house.record("p", TlsMode.PASSTHROUGH, TunnelStatus.AWAITING_CERT)
    with pytest.raises(ClientHelloError, match="awaiting-certificate"):
        visitor_of(house)
    door.own_certificate = True
    visitor_of(house).connection_lost(None)
    assert len(house.ingress) == 0


async def test_without_an_agent_or_room_in_the_tunnel_there_is_an_alert() -> None:
    house = House(TERMS, replace(COUNTS, connections_per_tunnel=1))
    house.record("p", TlsMode.PASSTHROUGH)
    with pytest.raises(ClientHelloError, match="no-agent") as caught:
        visitor_of(house)
    assert caught.value.alert == INTERNAL_ERROR
    passage = Passage(house)
    with pytest.raises(ClientHelloError, match="tunnel-connections"):
        visitor_of(house)
    passage.lost()
    visitor_of(house).connection_lost(None)
    house.close()


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        (replace(COUNTS, max_connections=1), "max-connections"),
        (replace(COUNTS, connections_per_address=1), "address-connections"),
    ],
)
async def test_limits_of_visitors_hold_for_raw_ones(counts: Any, reason: str) -> None:
    house = House(TERMS, counts)
    passage = Passage(house)
    with pytest.raises(ClientHelloError, match=reason):
        visitor_of(house)
    passage.lost()
    assert len(house.ingress) == 0
    house.close()


# Clocks


async def test_a_silent_connection_lasts_for_an_hour(house: House) -> None:
    passage = Passage(house)
    passage.after(3599)
    assert (passage.transport.ended, passage.stream.resets) == (False, [])
    passage.after(3600)
    assert (passage.transport.ended, passage.stream.resets) == (True, [Reason.TIMEOUT])
    assert passage.line() == (5, 0, False, "idle")
    passage.after(3602)
    assert passage.transport.aborted


async def test_a_half_closed_connection_is_ended_when_nothing_moves(house: House) -> None:
    passage = Passage(house)
    passage.visitor.eof_received()
    passage.after(4.9)
    passage.stream.sink.on_data(b"still talking", False)
    passage.after(4.9)
    assert (passage.transport.closed, passage.stream.resets) == (False, [])
    passage.after(5)
    assert (passage.transport.closed, passage.stream.resets) == (True, [Reason.TIMEOUT])
    assert passage.line() == (5, 13, False, "half-close")


async def test_a_visitor_that_goes_on_after_the_agents_end_has_the_same_grace(house: House) -> None:
    passage = Passage(house)
    passage.stream.sink.on_data(b"", True)
    passage.after(5)
    assert passage.stream.ended and not passage.stream.resets  # an end that its upstream understands
    assert passage.line() == (5, 0, False, "half-close")
    passage.after(6.1)
    assert passage.transport.aborted


async def test_what_waits_for_a_slow_visitor_is_no_silence(house: House) -> None:
    passage = Passage(house)
    passage.visitor.eof_received()
    passage.transport.clogged = True
    passage.stream.sink.on_data(bytes(1000), False)
    passage.after(60)
    assert not passage.transport.closed


async def test_a_visitor_that_never_takes_the_rest_of_a_whole_connection_is_cut(house: House) -> None:
    passage = Passage(house)
    passage.transport.clogged = True
    passage.stream.sink.on_data(bytes(1000), True)
    passage.visitor.eof_received()
    passage.after(59)
    assert (passage.transport.aborted,) == (False,)
    passage.after(60)
    passage.after(62)
    assert (passage.transport.aborted,) == (True,)


# The house


async def test_a_drain_lets_it_finish_and_then_cuts_it(house: House) -> None:
    passage = Passage(house)
    passage.visitor.drain()
    passage.visitor.data_received(b" more")
    assert passage.stream.sent == b"hello more"
    passage.visitor.abort("drained")
    assert passage.stream.resets == [Reason.CANCELLED] and passage.transport.aborted
    passage.lost()
    assert passage.line() == (10, 0, False, "drained")


async def test_one_that_is_cut_before_it_is_connected_opens_nothing(house: House) -> None:
    door = house.tunnel("p", TlsMode.PASSTHROUGH)
    visitor, transport = visitor_of(house), FakeTransport(PEER)
    visitor.abort("closed")
    visitor.connection_made(transport)
    assert transport.aborted and not door.opened
    visitor.connection_lost(None)
    assert len(house.ingress) == 0


async def test_a_plain_request_is_sent_to_https_and_never_to_the_agent(house: House) -> None:
    door = house.tunnel("p", TlsMode.PASSTHROUGH)
    reply = house.visit().says(b"GET /a%2Fb?q=\xc3\xa4 HTTP/1.1\r\nHost: P.localhost:8080\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 308 ") and not door.opened
    assert b"\r\nLocation: https://p.localhost/a%2Fb?q=%C3%A4\r\n" in reply


async def test_a_certificate_authoritys_question_is_not_sent_to_the_tenant(house: House) -> None:
    door = house.tunnel("p", TlsMode.PASSTHROUGH)
    reply = house.visit().says(b"GET /.well-known/acme-challenge/token HTTP/1.1\r\nHost: p.localhost\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 404 ") and b"Location" not in reply and not door.opened


async def test_a_connection_whose_tls_ended_here_does_not_serve_a_passthrough_name(house: House) -> None:
    door = house.tunnel("p", TlsMode.PASSTHROUGH)
    reply = house.visit(secure=True, sni="p.localhost").says(b"GET / HTTP/1.1\r\nHost: p.localhost\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 421 ") and b"\r\nConnection: close\r\n" in reply and not door.opened
    await asyncio.sleep(0)
