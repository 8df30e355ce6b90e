"""A visitor's HTTP/2 connection, between a fake transport and a fake door: the control plane's."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.kit.house import COUNTS, TERMS, House
from tests.kit.http2 import Http2Visit
from wellhead.visitors.http2_stream import REST_SECONDS, Http2Request
from wellhead.wire import h2_frames
from wellhead.wire.h2 import H2Terms
from wellhead.wire.h2_frames import ErrorCode
from wellhead.wire.streams import HeadKind, Reason, StreamKind

CROWD = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/")]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


@pytest.fixture
async def visit(house: House) -> Http2Visit:
    return Http2Visit(house)


async def test_a_request_becomes_the_envelope_that_http11_would_make(visit: Http2Visit) -> None:
    await visit.ask("/a%2Fb?c", ("x-one", "1"), ("x-forwarded-for", "me"), ("te", "trailers"))
    line, host, *rest = visit.stream.envelope.split(b"\r\n")
    assert (line, host) == (b"GET /a%2Fb?c HTTP/1.1", b"Host: localhost")
    assert b"X-Forwarded-For: 192.0.2.7" in rest and b"x-forwarded-for: me" not in rest
    assert b"x-one: 1" in rest and b"TE: trailers" in rest
    assert visit.stream.kind is StreamKind.HTTP and visit.stream.ended


async def test_a_reply_ends_the_stream_and_leaves_a_line(visit: Http2Visit) -> None:
    stream = await visit.ask()
    visit.stream.reply(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: 1\r\n\r\n", b"hi")
    await visit.turn()
    reply = visit.replies[stream]
    assert (reply.status, reply.body, reply.ended, reply.reset) == (200, b"hi", True, None)
    assert reply.get(b"x-a") == b"1" and reply.get(b"content-length") == b"2"
    assert [(line.status, line.whole, line.bytes_out) for line in visit.house.lines] == [(200, True, 2)]


async def test_what_is_made_in_one_turn_is_one_write(visit: Http2Visit) -> None:
    for _ in range(10):
        await visit.ask()
    before = visit.transport.writes
    for stream in visit.house.door.opened:
        stream.reply(OK, b"hi")
    await asyncio.sleep(0)
    assert visit.transport.writes == before + 1


async def test_requests_are_answered_in_any_order(visit: Http2Visit) -> None:
    first, second = await visit.ask("/a"), await visit.ask("/b")
    visit.house.door.opened[1].reply(OK, b"B2")
    await visit.turn()
    assert visit.replies[second].ended and not visit.replies[first].fields
    visit.house.door.opened[0].reply(OK, b"A1")
    await visit.turn()
    assert visit.replies[first].body == b"A1"


async def test_a_reply_of_unknown_length_ends_with_the_stream(visit: Http2Visit) -> None:
    stream = await visit.ask()
    visit.stream.reply(b"HTTP/1.1 200 OK\r\n\r\n", b"a", end=False)
    await visit.turn()
    assert visit.replies[stream].body == b"a" and not visit.replies[stream].ended
    visit.stream.sink.on_data(b"b", False)
    await visit.turn()
    assert visit.replies[stream].body == b"ab", "nothing is held back"
    visit.stream.sink.on_data(b"", True)
    await visit.turn()
    assert visit.replies[stream].ended
    assert visit.replies[stream].get(b"transfer-encoding") is None


@pytest.mark.parametrize(
    ("method", "head", "length"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"9"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", None),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b"9"),
    ],
)
async def test_a_reply_without_a_body_is_its_head(
    visit: Http2Visit, method: str, head: bytes, length: bytes | None
) -> None:
    stream = await visit.ask(method=method)
    visit.stream.reply(head)
    await visit.turn()
    reply = visit.replies[stream]
    assert reply.ended and reply.body == b"" and reply.get(b"content-length") == length


async def test_interim_heads_come_before_the_reply(visit: Http2Visit) -> None:
    stream = await visit.ask()
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
    visit.stream.sink.on_head(HeadKind.INTERIM, early, b"", False)
    visit.stream.reply(OK, b"hi")
    await visit.turn()
    (hints,) = visit.replies[stream].interim
    assert hints == [(b":status", b"103"), (b"link", b"</a.css>; rel=preload")]
    assert visit.replies[stream].status == 200


async def test_an_expectation_is_the_agents_to_meet(visit: Http2Visit) -> None:
    stream = await visit.ask("/", ("expect", "100-continue"), method="POST", end=False)
    assert b"Expect: 100-continue" in visit.stream.envelope
    visit.stream.sink.on_head(HeadKind.INTERIM, b"HTTP/1.1 100 Continue\r\n\r\n", b"", False)
    await visit.turn()
    assert visit.replies[stream].interim == [[(b":status", b"100")]]
    await visit.send(stream, b"body", end=True)
    assert visit.stream.sent == b"body" and visit.stream.ended


async def test_trailers_travel_both_ways(visit: Http2Visit) -> None:
    stream = await visit.ask(method="POST", end=False)
    await visit.send(stream, b"data")
    visit.h2.send_headers(stream, [("x-sum", "1"), ("authorization", "no")], end_stream=True)
    await visit.turn()
    assert visit.stream.trailers == b"x-sum: 1\r\n" and visit.stream.ended
    visit.stream.reply(b"HTTP/1.1 200 OK\r\n\r\n", b"hi", end=False)
    visit.stream.sink.on_head(HeadKind.TRAILERS, b"Grpc-Status: 0\r\n\r\n", b"", True)
    await visit.turn()
    reply = visit.replies[stream]
    assert reply.body == b"hi" and reply.trailers == [(b"grpc-status", b"0")] and reply.ended


async def test_empty_trailers_are_an_end(visit: Http2Visit) -> None:
    stream = await visit.ask()
    visit.stream.reply(b"HTTP/1.1 200 OK\r\n\r\n", b"hi", end=False)
    visit.stream.sink.on_head(HeadKind.TRAILERS, b"Set-Cookie: a=b\r\n\r\n", b"", True)
    await visit.turn()
    assert visit.replies[stream].ended and visit.replies[stream].trailers is None


async def test_cookie_crumbs_are_one_cookie(visit: Http2Visit) -> None:
    await visit.ask("/", ("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"))
    assert b"cookie: a=1; b=2\r\n" in visit.stream.envelope
    assert visit.stream.envelope.count(b"cookie") == 1


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([("X-Upper", "1")], 400),
        ([("connection", "close")], 400),
        ([("te", "gzip")], 400),
        ([("x", " blank")], 400),
        ([("x_forwarded_for", "1")], 400),
        ([("host", "other.localhost")], 400),
        ([("expect", "something")], 417),
        ([("x", "y" * 9000)], 431),
    ],
)
async def test_what_is_malformed_is_answered_and_no_agent_hears_of_it(
    visit: Http2Visit, fields: list[tuple[str, str]], status: int
) -> None:
    stream = await visit.ask("/", *fields)
    assert visit.replies[stream].status == status and visit.replies[stream].ended
    assert not visit.house.door.opened
    assert [line.status for line in visit.house.lines] == [status]
    other = await visit.ask()
    visit.stream.reply(OK, b"hi")
    await visit.turn()
    assert visit.replies[other].status == 200, "the connection lives on"


@pytest.mark.parametrize("method", ["", "GET x=y", "GET\naccess", "M" * 33])
async def test_a_method_that_is_none_is_not_in_the_access_line(visit: Http2Visit, method: str) -> None:
    stream = await visit.ask(method=method)
    assert visit.replies[stream].status == 400
    assert [line.method for line in visit.house.lines] == [b"-"]


async def test_another_tunnels_name_is_misdirected_and_the_connection_lives(house: House) -> None:
    door = house.tunnel("a")
    visit = Http2Visit(house, sni="a.localhost")
    wrong = await visit.ask(authority="b.localhost")
    control = await visit.ask(authority="localhost")
    right = await visit.ask(authority="a.localhost:8443")
    door.stream.reply(OK, b"hi")
    await visit.turn()
    assert [visit.replies[one].status for one in (wrong, control, right)] == [421, 421, 200]
    assert not visit.goaways and not visit.transport.closed


async def test_names_of_the_control_plane_may_share_a_connection(visit: Http2Visit) -> None:
    await visit.ask(authority="api.localhost")
    assert visit.stream.envelope.startswith(b"GET / HTTP/1.1\r\nHost: api.localhost\r\n")


async def test_a_page_of_ours_is_html_for_browsers_and_json_for_programs(house: House) -> None:
    visit = Http2Visit(house, sni="a.localhost")
    page = await visit.ask("/", ("accept", "text/html,*/*"), authority="a.localhost")
    told = await visit.ask(authority="a.localhost")
    headed = await visit.ask(authority="a.localhost", method="HEAD")
    assert visit.replies[page].status == visit.replies[told].status == 404
    assert visit.replies[page].body.startswith(b"<!doctype html>")
    assert b'"unknown-name"' in visit.replies[told].body
    assert visit.replies[headed].body == b"" and visit.replies[headed].ended
    assert visit.replies[headed].get(b"content-length") != b"0"


async def test_a_crowd_of_requests_leaves_others_their_turn(house: House) -> None:
    house.ingress.terms = replace(TERMS, h2=H2Terms(heads_at_once=5))
    visit = Http2Visit(house)
    await visit.turn()
    order: list[int] = []
    for stream in range(1, 25, 2):
        visit.h2.send_headers(stream, CROWD, end_stream=True)
    visit.connection.data_received(visit.h2.data_to_send())
    for _ in range(4):
        order.append(len(house.door.opened))
        assert visit.transport.reading == (len(house.door.opened) == 12)
        await asyncio.sleep(0)
    assert order == [5, 10, 12, 12]


async def test_who_breaks_a_rule_amid_a_crowd_is_told_so(house: House) -> None:
    house.ingress.terms = replace(TERMS, h2=H2Terms(heads_at_once=1))
    visit = Http2Visit(house)
    await visit.turn()
    for stream in (1, 3):
        visit.h2.send_headers(stream, CROWD, end_stream=True)
    ping_on_a_stream = b"\0\0\x08\x06\0\0\0\0\x01" + bytes(8)
    visit.connection.data_received(visit.h2.data_to_send() + ping_on_a_stream)
    paused = not visit.transport.reading
    await visit.turn()
    assert visit.goaways == [(ErrorCode.PROTOCOL_ERROR, 3)]
    assert (paused, visit.transport.reading, visit.transport.closed) == (True, True, True)


# Bodies and windows


async def test_a_body_arrives_and_is_credited_when_the_agent_takes_it(house: House) -> None:
    house.ingress.terms = replace(TERMS, h2=H2Terms(window=65536))
    visit = Http2Visit(house)
    stream = await visit.ask(method="POST", end=False)
    for _ in range(4):
        await visit.send(stream, b"x" * 30_000)
    assert len(visit.stream.sent) == 120_000
    assert visit.h2.local_flow_control_window(stream) >= 32768


async def test_a_body_that_the_agent_does_not_take_is_no_longer_credited(house: House) -> None:
    house.ingress.terms = replace(TERMS, h2=H2Terms(window=65536))
    visit = Http2Visit(house)
    stream = await visit.ask(method="POST", end=False)
    visit.stream.full = True
    await visit.send(stream, b"x" * 40_000)
    assert visit.h2.local_flow_control_window(stream) == 25_536
    other = await visit.ask("/b", method="POST", end=False)
    await visit.send(other, b"y" * 40_000, end=True)
    assert visit.stream.sent == b"y" * 40_000, "another stream goes on"
    held = visit.house.door.opened[0]
    held.full = False
    held.sink.on_writable()
    await visit.turn()
    assert visit.h2.local_flow_control_window(stream) == 65_536


async def test_an_agent_is_credited_when_its_visitor_takes_the_bytes(house: House) -> None:
    house.ingress.terms = replace(TERMS, h2=H2Terms(high_water=0, low_water=0))
    visit = Http2Visit(house, reads=False)
    slow, other = await visit.ask("/slow"), await visit.ask("/other")
    stream = house.door.opened[0]
    stream.reply(b"HTTP/1.1 200 OK\r\n\r\n", b"", end=False)
    for _ in range(5):
        stream.sink.on_data(b"x" * 16_384, False)
        await visit.turn()
    assert len(visit.replies[slow].body) == 65_535 and stream.credit == 4 * 16_384 - 16_384
    visit.h2.increment_flow_control_window(1 << 20)  # the connection's: the stream's is still used up
    house.door.opened[1].reply(OK, b"hi")
    await visit.turn()
    assert visit.replies[other].ended, "a slow stream holds up no other"
    visit.h2.increment_flow_control_window(1 << 20, slow)
    await visit.turn()
    assert len(visit.replies[slow].body) == stream.credit == 5 * 16_384


async def test_a_body_shorter_or_longer_than_it_said_never_ends_at_the_upstream(visit: Http2Visit) -> None:
    for body in (b"abc", b"abcde"):
        stream = await visit.ask("/", ("content-length", "4"), method="POST", end=False)
        await visit.send(stream, body, end=True)
        assert visit.replies[stream].reset == ErrorCode.PROTOCOL_ERROR
        assert visit.stream.resets == [Reason.CANCELLED] and not visit.stream.ended
    assert {line.reason for line in visit.house.lines} == {"visitor-reset"}


async def test_a_reply_before_the_body_is_whole_and_then_the_rest_is_not_wanted(visit: Http2Visit) -> None:
    stream = await visit.ask(method="POST", end=False)
    visit.stream.reply(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\n", b"no")
    await visit.turn()
    reply = visit.replies[stream]
    assert (reply.status, reply.body, reply.ended, reply.reset) == (413, b"no", True, None)
    assert visit.stream.resets == [Reason.CANCELLED]
    await visit.send(stream, bytes(200_000))
    assert visit.h2.local_flow_control_window(stream) < 100_000, "nothing is credited"
    await visit.after(REST_SECONDS)
    assert reply.reset == ErrorCode.NO_ERROR
    assert visit.connection._h2.held == 0 and not visit.connection._requests


async def test_a_request_that_ends_soon_after_its_reply_is_not_reset(visit: Http2Visit) -> None:
    stream = await visit.ask(method="POST", end=False)
    visit.stream.reply(OK, b"hi")
    await visit.turn()
    await visit.send(stream, bytes(1000), end=True)
    await visit.after(REST_SECONDS)
    assert visit.replies[stream].reset is None
    assert visit.connection._h2.idle and visit.connection._h2.held == 0


async def test_a_visitor_that_takes_back_the_rest_of_what_was_answered_resets_nothing(
    visit: Http2Visit,
) -> None:
    for _ in range(300):
        stream = await visit.ask(method="POST", end=False)
        visit.stream.reply(OK, b"hi")
        await visit.turn()
        visit.h2.reset_stream(stream, ErrorCode.CANCEL)
    await visit.turn()
    assert not visit.goaways


async def test_a_reset_of_what_was_answered_leaves_no_work_that_counts_as_running(visit: Http2Visit) -> None:
    streams = [await visit.ask() for _ in range(2)]
    visit.stream.reply(OK, b"hi")
    for stream in streams:
        visit.connection.data_received(h2_frames.reset_frame(stream, ErrorCode.CANCEL))
    assert list(visit.connection._h2._lingering) == streams[:1], "the agent may still be at work on one"


async def test_what_the_agent_had_not_taken_at_the_end_is_not_held_for_ever(visit: Http2Visit) -> None:
    stream = await visit.ask(method="POST", end=False)
    visit.stream.full = True
    await visit.send(stream, bytes(50_000), end=True)
    assert visit.connection._h2.held == 50_000
    visit.stream.reply(OK, b"no")
    await visit.turn()
    assert visit.replies[stream].ended
    assert visit.connection._h2.held == 0


async def test_a_visitor_that_resets_is_told_to_the_agent(visit: Http2Visit) -> None:
    stream = await visit.ask()
    visit.h2.reset_stream(stream, ErrorCode.CANCEL)
    await visit.turn()
    assert visit.stream.resets == [Reason.CANCELLED]
    assert [(line.status, line.reason) for line in visit.house.lines] == [(0, "visitor-left")]


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"]
)
async def test_a_broken_reply_is_a_reset_and_never_an_end(visit: Http2Visit, head: bytes) -> None:
    stream = await visit.ask()
    visit.stream.reply(head, b"part", end=False)
    visit.stream.sink.on_reset(Reason.UPSTREAM_FAILED)
    await visit.turn()
    reply = visit.replies[stream]
    assert (reply.body, reply.ended, reply.reset) == (b"part", False, ErrorCode.INTERNAL_ERROR)
    assert not visit.house.lines[0].whole


async def test_a_reply_that_broke_before_its_head_is_a_page(visit: Http2Visit) -> None:
    stream = await visit.ask()
    visit.stream.sink.on_reset(Reason.TIMEOUT)
    await visit.turn()
    assert visit.replies[stream].status == 504 and visit.replies[stream].ended


# Clocks


async def test_a_reply_that_does_not_come_is_a_504(visit: Http2Visit) -> None:
    stream = await visit.ask()
    await visit.after(TERMS.reply_seconds - 1)
    assert not visit.replies[stream].fields
    await visit.after(2)
    assert visit.replies[stream].status == 504 and visit.stream.resets == [Reason.TIMEOUT]


async def test_a_body_that_does_not_come_is_a_408(visit: Http2Visit) -> None:
    stream = await visit.ask(method="POST", end=False)
    await visit.send(stream, b"x")
    await visit.after(TERMS.body_grace_seconds + 1)
    await visit.after(REST_SECONDS)
    assert visit.replies[stream].status == 408 and visit.replies[stream].reset == ErrorCode.NO_ERROR
    assert visit.stream.resets == [Reason.CANCELLED]


async def test_a_body_that_the_agent_holds_up_is_not_slow(visit: Http2Visit) -> None:
    stream = await visit.ask(method="POST", end=False)
    visit.stream.full = True
    await visit.send(stream, b"x")
    await visit.after(TERMS.body_idle_seconds + 1)
    assert not visit.replies[stream].fields
    await visit.after(TERMS.reply_seconds)
    assert visit.replies[stream].status == 504


async def test_a_grpc_call_may_be_silent_for_long_but_not_for_ever(visit: Http2Visit) -> None:
    grpc = (("content-type", "application/grpc+proto"), ("te", "trailers"))
    asking = await visit.ask("/", *grpc, method="POST", end=False)
    asked = await visit.ask("/", *grpc, method="POST", end=False)
    await visit.send(asked, b"", True)
    await visit.after(TERMS.grpc_silent_seconds - 2)
    assert not visit.replies[asking].fields and not visit.replies[asked].fields
    await visit.send(asking, b"x")
    await visit.after(3)
    assert not visit.replies[asking].fields and visit.replies[asked].status == 504
    await visit.after(TERMS.grpc_silent_seconds)
    assert visit.replies[asking].status == 408


async def test_a_reply_that_has_begun_has_no_deadline(visit: Http2Visit) -> None:
    stream = await visit.ask()
    visit.stream.reply(b"HTTP/1.1 200 OK\r\n\r\n", b"first", end=False)
    for _ in range(4):
        await visit.after(1000)
    visit.stream.sink.on_data(b" last", True)
    await visit.turn()
    assert visit.replies[stream].body == b"first last" and visit.replies[stream].ended


async def test_an_idle_connection_is_asked_to_leave_and_closed(visit: Http2Visit) -> None:
    stream = await visit.ask()
    visit.stream.reply(OK, b"hi")
    await visit.turn()
    await visit.after(TERMS.idle_seconds - 1)
    assert not visit.goaways
    await visit.after(2)
    assert visit.goaways == [(0, 2**31 - 1), (0, stream)] and visit.transport.closed


async def test_an_old_connection_leaves_in_two_steps_and_loses_nothing(visit: Http2Visit) -> None:
    stream = await visit.ask("/long")
    visit.stream.reply(b"HTTP/1.1 200 OK\r\n\r\n", b"a", end=False)
    visit.house.ahead += TERMS.h2_max_age_seconds * 1.11
    visit.connection.tick(visit.house.clock())
    late = await visit.ask("/late", patient=False)  # sent before the visitor can know
    assert len(visit.house.door.opened) == 2
    for one in visit.house.door.opened:
        one.sink.on_data(b"b", True) if one.envelope.startswith(b"GET /long") else one.reply(OK, b"hi")
    await visit.turn()
    assert visit.replies[stream].body == b"ab" and visit.replies[late].body == b"hi"
    assert visit.goaways[0] == (0, 2**31 - 1) and visit.transport.closed


async def test_a_drain_finishes_what_runs_and_closes(visit: Http2Visit) -> None:
    stream = await visit.ask()
    draining = asyncio.create_task(visit.house.ingress.drain(5))
    await visit.turn()
    assert (len(visit.goaways), visit.transport.closed) == (2, False)
    visit.stream.reply(OK, b"hi")
    await visit.turn()
    assert visit.replies[stream].body == b"hi" and visit.transport.closed
    visit.connection.connection_lost(None)
    await draining


async def test_a_visitor_that_takes_no_leave_is_cut_when_all_is_sent(visit: Http2Visit) -> None:
    visit.connection.drain()
    await visit.turn()
    assert (visit.transport.closed, visit.transport.aborted) == (True, False)
    await visit.after(TERMS.linger_seconds)
    assert visit.transport.aborted


async def test_a_connection_that_leaves_is_not_cut_before_its_last_bytes_are_taken(visit: Http2Visit) -> None:
    await visit.ask()
    visit.connection.drain()
    visit.stream.reply(OK, b"hi")
    await visit.turn()
    visit.transport.unsent = 100_000
    await visit.after(TERMS.write_idle_seconds - 1)
    visit.transport.unsent = 50_000
    await visit.after(TERMS.write_idle_seconds - 1)
    assert (visit.transport.closed, visit.transport.aborted) == (True, False)
    await visit.after(TERMS.write_idle_seconds)
    assert visit.transport.aborted


async def test_a_connection_that_lost_what_it_was_to_write_is_cut(
    visit: Http2Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: Http2Request) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Http2Request, "on_writable", failing)
    visit.reads = False
    await visit.ask()
    visit.stream.reply(b"HTTP/1.1 200 OK\r\n\r\n", bytes(200_000), end=False)
    await visit.turn()
    visit.h2.increment_flow_control_window(200_000)
    visit.h2.increment_flow_control_window(200_000, 1)
    with pytest.raises(RuntimeError, match="a bug"):
        await visit.turn()
    assert visit.transport.aborted


async def test_a_lost_connection_tells_every_agent(visit: Http2Visit) -> None:
    for _ in range(3):
        await visit.ask()
    visit.connection.connection_lost(None)
    assert [stream.resets for stream in visit.house.door.opened] == [[Reason.CANCELLED]] * 3
    assert len(visit.house.lines) == 3 and len(visit.house.ingress) == 0


async def test_a_connection_over_a_limit_is_told_so_and_leaves(house: House) -> None:
    tight = House(TERMS, replace(COUNTS, connections_per_address=1, loopback_exempt=False))
    try:
        Http2Visit(tight)
        visit = Http2Visit(tight)
        stream = await visit.ask()
        assert visit.replies[stream].status == 429 and visit.goaways and visit.transport.closed
    finally:
        tight.close()


# Rules of the connection


async def test_who_breaks_the_rules_is_told_and_closed_and_so_are_the_agents(visit: Http2Visit) -> None:
    await visit.ask()
    await visit.say(h2_frames.header(8 << 8 | h2_frames.DATA, 0, 0) + bytes(8))
    assert visit.goaways == [(ErrorCode.PROTOCOL_ERROR, 1)] and visit.transport.closed
    assert visit.stream.resets == [Reason.CANCELLED]
    assert visit.house.refused == ["h2-protocol"] and visit.house.lines[0].reason == "h2-protocol"


async def test_what_comes_behind_a_goaway_of_ours_is_not_heard(visit: Http2Visit) -> None:
    await visit.say(h2_frames.header(8 << 8 | h2_frames.DATA, 0, 0) + bytes(8))
    written = visit.transport.writes
    visit.connection.data_received(h2_frames.ping_frame(bytes(8)))
    await asyncio.sleep(0)
    assert visit.transport.writes == written


async def test_a_visitor_that_does_not_take_leave_is_cut_within_a_second(visit: Http2Visit) -> None:
    await visit.say(h2_frames.header(8 << 8 | h2_frames.DATA, 0, 0) + bytes(8))
    visit.house.ahead += 0.75
    visit.connection.tick(visit.house.clock())
    assert visit.transport.aborted


async def test_a_visitor_that_says_nothing_is_closed_after_five_seconds(house: House) -> None:
    visit = Http2Visit(house)
    house.ahead += 5.1
    visit.connection.tick(house.clock())
    assert visit.transport.closed and house.refused == ["h2-preface"]


async def test_streams_above_the_limit_are_refused_and_others_live(house: House) -> None:
    house.ingress.terms = replace(TERMS, h2=H2Terms(max_streams=2))
    visit = Http2Visit(house)
    visit.h2.remote_settings.max_concurrent_streams = 100
    first = await visit.ask()
    await visit.ask()
    await visit.turn()
    block = visit.h2.encoder.encode(
        [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/")]
    )
    flags = h2_frames.END_HEADERS | h2_frames.END_STREAM
    await visit.say(h2_frames.header(len(block) << 8 | h2_frames.HEADERS, flags, 5) + block)
    assert len(house.door.opened) == 2 and house.refused == ["h2-streams"]
    house.door.opened[0].reply(OK, b"hi")
    await visit.turn()
    assert visit.replies[first].ended


async def test_a_visitor_that_reads_nothing_is_cut(visit: Http2Visit) -> None:
    await visit.ask()
    visit.transport.unsent = 1000
    visit.connection.tick(visit.house.clock())
    await visit.after(TERMS.write_idle_seconds + 1)
    assert visit.transport.aborted
    visit.connection.connection_lost(None)
    assert visit.house.lines[0].reason == "slow-reader"


async def test_nothing_is_taken_from_the_streams_while_the_transport_is_full(visit: Http2Visit) -> None:
    stream = await visit.ask()
    visit.connection.pause_writing()
    visit.stream.reply(OK, b"hi")
    await visit.turn()
    assert not visit.replies[stream].fields
    visit.connection.resume_writing()
    await visit.turn()
    assert visit.replies[stream].ended
