"""A visitor's connection, held between a fake transport and a fake door: the control plane's."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.kit.house import COUNTS, TERMS, House, status
from wellhead.wire.h1 import HeadLimits
from wellhead.wire.streams import HeadKind, Reason

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
GET = b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n"


async def test_a_request_becomes_a_canonical_envelope(house: House) -> None:
    visit = house.visit()
    visit.says(
        b"GET /a%2Fb?c HTTP/1.1\r\nhost: LocalHost\r\nX: 1\r\nConnection: x\r\nX-Forwarded-For: me\r\n\r\n"
    )
    line, host, *rest = visit.stream.envelope.split(b"\r\n")
    assert (line, host) == (b"GET /a%2Fb?c HTTP/1.1", b"Host: LocalHost")
    assert b"X-Forwarded-For: 192.0.2.7" in rest and b"X-Forwarded-For: me" not in rest
    assert b"X: 1" not in rest, "nominated by Connection"
    assert visit.stream.ended


async def test_a_reply_is_written_in_one_piece_and_the_connection_serves_again(house: House) -> None:
    visit = house.visit()
    for _ in range(3):
        visit.says(GET)
        visit.stream.reply(OK, b"hi")
        assert visit.transport.take() == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    assert [line.status for line in house.lines] == [200, 200, 200]


async def test_a_reply_of_unknown_length_is_chunked_for_11_and_closes_for_10(house: House) -> None:
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    visit = house.visit()
    visit.says(GET)
    visit.stream.reply(head, b"hi", end=False)
    visit.stream.sink.on_data(b"ho", False)
    visit.stream.sink.on_data(b"", True)
    assert (
        visit.transport.take()
        == b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n2\r\nho\r\n0\r\n\r\n"
    )
    old = house.visit()
    old.says(GET.replace(b"1.1", b"1.0"))
    old.stream.reply(head, b"hi", end=False)
    old.stream.sink.on_data(b"", True)
    assert old.transport.take() == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhi"
    assert old.transport.ended


async def test_trailers_follow_a_chunked_reply(house: House) -> None:
    visit = house.visit()
    visit.says(GET)
    visit.stream.reply(b"HTTP/1.1 200 OK\r\n\r\n", b"hi", end=False)
    visit.stream.sink.on_head(HeadKind.TRAILERS, b"X-Sum: 1\r\n\r\n", b"", True)
    assert visit.transport.take().endswith(b"2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n")


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_body_arrives_however_it_was_cut(house: House, size: int) -> None:
    visit = house.visit()
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    raw = head + b"3\r\nabc\r\n2\r\nde\r\n0\r\nX-A: 1\r\n\r\n"
    for start in range(0, len(raw), size):
        visit.says(raw[start : start + size])
    assert visit.stream.sent == b"abcde" and visit.stream.ended
    assert b"X-A: 1" in visit.stream.trailers
    assert b"Transfer-Encoding" not in visit.stream.envelope


async def test_pipelined_requests_are_answered_in_order(house: House) -> None:
    visit = house.visit()
    visit.says(GET + GET.replace(b"/a", b"/b"))
    assert len(house.door.opened) == 1
    visit.stream.reply(OK, b"A1")
    await asyncio.sleep(0)
    assert visit.stream.envelope.startswith(b"GET /b ")
    visit.stream.reply(OK, b"B2")
    assert visit.transport.take().count(b"200 OK") == 2


async def test_pipelining_without_end_stops_the_reading(house: House) -> None:
    visit = house.visit()
    visit.says(GET)
    visit.says(b"x" * 40000)
    assert not visit.transport.reading


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), 400),
        (b"GET / HTTP/1.1\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"GET /" + b"a" * 9000, 414),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 101 + b"\r\n", 431),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\n", 400),
    ],
)
async def test_what_is_malformed_is_answered_at_once_and_closed(
    house: House, raw: bytes, expected: int
) -> None:
    visit = house.visit()
    reply = visit.says(raw)
    assert status(reply) == expected and b"Connection: close\r\n" in reply
    assert visit.transport.ended
    assert not visit.says(GET), "leftover bytes never become a request"


async def test_a_name_under_the_domain_that_nobody_has_is_not_found(house: House) -> None:
    visit = house.visit()
    assert status(visit.says(GET.replace(b"localhost", b"nobody.localhost"))) == 404
    assert visit.says(GET) == b"" and len(house.door.opened) == 1, "the connection lives on"


async def test_another_tunnels_name_on_a_connection_made_for_one_is_misdirected(house: House) -> None:
    visit = house.visit(secure=True, sni="a.localhost")
    assert status(visit.says(GET.replace(b"localhost", b"b.localhost"))) == 421
    assert visit.transport.closed


async def test_the_control_plane_is_not_on_a_plain_port_of_the_network(house: House) -> None:
    assert status(house.visit(local=False).says(GET)) == 421
    house.visit(local=False, secure=True, sni="localhost").says(GET)
    assert len(house.door.opened) == 1


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (Reason.UPSTREAM_UNREACHABLE, 502),
        (Reason.UPSTREAM_FAILED, 502),
        (Reason.SESSION_LOST, 503),
        (Reason.TIMEOUT, 504),
        (Reason.OVERLOADED, 503),
        (4711, 502),
    ],
)
async def test_a_reset_before_the_head_is_a_page(house: House, reason: int, expected: int) -> None:
    door, visit = house.tunnel("a"), house.visit()
    visit.says(GET.replace(b"localhost", b"a.localhost"))
    door.stream.sink.on_reset(reason)
    assert status(visit.transport.take()) == expected
    assert not visit.transport.ended


@pytest.mark.parametrize("reason", [Reason.UPSTREAM_UNREACHABLE, Reason.UPSTREAM_FAILED])
async def test_a_control_plane_that_ends_under_a_request_may_be_asked_again(
    house: House, reason: int
) -> None:
    visit = house.visit()
    visit.says(GET)
    visit.stream.sink.on_reset(reason)
    reply = visit.transport.take()
    assert status(reply) == 503 and b"\r\nRetry-After: " in reply and b'"reason": "control-away"' in reply


async def test_a_reset_after_the_head_is_never_a_clean_end(house: House) -> None:
    visit = house.visit()
    visit.says(GET)
    visit.stream.reply(b"HTTP/1.1 200 OK\r\n\r\n", b"hi", end=False)
    visit.stream.sink.on_reset(Reason.UPSTREAM_FAILED)
    assert not visit.transport.take().endswith(b"0\r\n\r\n")
    assert visit.transport.closed
    assert not house.lines[-1].whole


@pytest.mark.parametrize(
    ("head", "data"),
    [(b"HTTP/1.1 200 OK\r\nX: a\nb\r\n\r\n", b""), (b"HTTP/1.1 99 No\r\n\r\n", b""), (OK, b"far too long")],
)
async def test_a_malicious_reply_is_a_page_and_its_stream_is_given_up(
    house: House, head: bytes, data: bytes
) -> None:
    visit = house.visit()
    visit.says(GET)
    visit.stream.reply(head, data)
    assert status(visit.transport.take()) == 502
    assert visit.stream.resets == [Reason.PROTOCOL]


async def test_a_short_body_is_visibly_cut(house: House) -> None:
    visit = house.visit()
    visit.says(GET)
    visit.stream.reply(OK, b"h", end=True)
    assert visit.transport.closed and not house.lines[-1].whole


async def test_a_visitor_that_leaves_is_told_to_the_agent(house: House) -> None:
    visit = house.visit()
    visit.says(GET)
    visit.connection.connection_lost(None)
    assert visit.stream.resets == [Reason.CANCELLED]


async def test_a_half_closed_visitor_gets_its_reply(house: House) -> None:
    visit = house.visit()
    visit.says(GET)
    assert visit.connection.eof_received()
    visit.stream.reply(OK, b"hi")
    assert visit.transport.take().endswith(b"hi")
    assert visit.transport.closed


async def test_a_half_closed_visitor_of_a_silent_upstream_is_taken_for_gone(house: House) -> None:
    visit = house.visit()
    visit.says(GET)
    visit.connection.eof_received()
    visit.after(4)
    assert not visit.transport.closed
    visit.after(6)
    assert visit.transport.aborted


async def test_a_slow_head_is_answered_after_ten_seconds_from_its_first_byte(house: House) -> None:
    visit = house.visit()
    visit.says(b"GET / HT")
    assert visit.after(9) == b""
    assert status(visit.after(10.5)) == 408


async def test_a_silent_body_and_a_trickle_are_cut_a_steady_one_lives(house: House) -> None:
    silent = house.visit()
    silent.says(POST)
    assert silent.after(9) == b"" and status(silent.after(31)) == 408
    assert silent.stream.resets == [Reason.CANCELLED]


async def test_an_upstream_that_never_answers_is_a_504(house: House) -> None:
    visit = house.visit()
    visit.says(GET)
    assert visit.after(119) == b""
    assert status(visit.after(120.5)) == 504
    assert visit.stream.resets == [Reason.TIMEOUT]


async def test_an_open_reply_has_no_deadline(house: House) -> None:
    visit = house.visit()
    visit.says(GET)
    visit.stream.reply(b"HTTP/1.1 200 OK\r\n\r\n", b"event", end=False)
    visit.transport.take()
    assert visit.after(3600) == b"" and not visit.transport.closed


async def test_a_reader_that_takes_nothing_is_cut(house: House) -> None:
    visit = house.visit()
    visit.says(GET)
    visit.stream.reply(b"HTTP/1.1 200 OK\r\n\r\n", b"event", end=False)
    visit.transport.unsent = 1000
    visit.after(0)
    visit.after(59)
    assert not visit.transport.closed
    visit.after(61)
    assert visit.transport.aborted


async def test_a_choked_visitor_gives_no_credit_until_it_reads(house: House) -> None:
    visit = house.visit()
    visit.says(GET)
    visit.connection.pause_writing()
    visit.stream.reply(b"HTTP/1.1 200 OK\r\n\r\n", b"abc", end=False)
    assert visit.stream.credit == 0
    visit.connection.resume_writing()
    assert visit.stream.credit == 3


@pytest.mark.parametrize("piece", [1000, 64 * 1024])
async def test_what_waits_here_for_the_visitor_counts_against_the_agents_window(
    house: House, piece: int
) -> None:
    visit = house.visit()
    visit.says(GET)
    visit.transport.clogged = True
    visit.stream.reply(b"HTTP/1.1 200 OK\r\n\r\n", b"", end=False)
    for _ in range(4):
        visit.stream.sink.on_data(bytes(piece), False)
    assert visit.stream.credit == 0
    visit.transport.unclog()
    assert visit.stream.credit == 4 * piece


async def test_a_full_stream_stops_the_reading_until_it_is_writable(house: House) -> None:
    visit = house.visit()
    visit.says(POST.replace(b"Length: 4", b"Length: 400"))
    visit.stream.full = True
    visit.says(b"x" * 100)
    assert not visit.transport.reading
    visit.stream.sink.on_writable()
    assert visit.transport.reading


async def test_a_reply_before_the_body_reads_a_short_rest_away(house: House) -> None:
    visit = house.visit()
    visit.says(POST)
    visit.stream.reply(OK, b"no")
    assert visit.stream.resets == [Reason.CANCELLED]
    visit.says(b"body" + GET)
    await asyncio.sleep(0)
    assert visit.stream.envelope.startswith(b"GET /a")


async def test_a_reply_before_a_long_body_closes(house: House) -> None:
    visit = house.visit()
    visit.says(POST.replace(b"Length: 4", b"Length: 4000000"))
    visit.stream.reply(OK, b"no")
    visit.says(b"x" * 70000)
    assert visit.transport.ended


async def test_a_final_answer_instead_of_100_continue_closes(house: House) -> None:
    visit = house.visit()
    visit.says(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    assert b"Expect: 100-continue" in visit.stream.envelope
    visit.stream.reply(OK, b"no")
    assert visit.transport.ended


async def test_100_continue_is_passed_and_the_body_follows(house: House) -> None:
    visit = house.visit()
    visit.says(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    visit.stream.sink.on_head(HeadKind.INTERIM, b"HTTP/1.1 100 Continue\r\n\r\n", b"", False)
    assert visit.transport.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    visit.says(b"body")
    assert visit.stream.sent == b"body" and visit.stream.ended


async def test_too_many_connections_of_an_address_are_told_so(house: House) -> None:
    house.ingress._counts = replace(COUNTS, connections_per_address=1)
    first, second = house.visit(), house.visit()
    first.says(GET)
    assert status(second.says(GET)) == 429
    assert len(house.door.opened) == 1


async def test_draining_finishes_what_is_open_and_closes(house: House) -> None:
    idle, busy = house.visit(), house.visit()
    busy.says(GET)
    drained = asyncio.create_task(house.ingress.drain(5))
    await asyncio.sleep(0)
    assert idle.transport.closed and not busy.transport.closed
    idle.connection.connection_lost(None)
    busy.stream.reply(OK, b"hi")
    assert b"Connection: close\r\n" in busy.transport.take()
    busy.connection.connection_lost(None)
    async with asyncio.timeout(1):
        await drained


@pytest.mark.parametrize(
    ("code", "reason"),
    [(401, "api-key"), (413, "api-body"), (429, "api-rate"), (503, "api-unavailable"), (404, ""), (422, "")],
)
async def test_what_the_control_plane_refuses_has_its_word(house: House, code: int, reason: str) -> None:
    head = b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\n" % code
    visit = house.visit()
    visit.says(GET)
    visit.stream.reply(head, b"hi")
    assert status(visit.transport.take()) == code and house.lines[0].reason == reason
    door = house.tunnel("my-agent")
    other = house.visit()
    other.says(GET.replace(b"localhost", b"my-agent.localhost"))
    door.stream.reply(head, b"hi")
    assert house.lines[1].reason == "", "what an application answers is its own affair"


@pytest.mark.parametrize(("said", "reason"), [(b"api-keys", "api-keys"), (b"no-word-of-ours", "api-rate")])
async def test_of_several_limits_the_control_plane_names_the_one(
    house: House, said: bytes, reason: str
) -> None:
    visit = house.visit()
    visit.says(GET)
    head = b"HTTP/1.1 429 No\r\nContent-Length: 2\r\nRetry-After: 1\r\nX-Limit: %b\r\n\r\n"
    visit.stream.reply(head % said, b"hi")
    assert house.lines[0].reason == reason


async def test_an_idle_visitor_that_takes_no_leave_is_cut_when_all_is_sent(house: House) -> None:
    """A pool's idle TLS connection answers nothing: each restart would wait for it."""
    visit = house.visit(secure=True, sni="localhost")
    visit.connection.drain()
    visit.transport.unsent = 10
    visit.after(TERMS.linger_seconds)
    assert (visit.transport.closed, visit.transport.aborted) == (True, False)
    visit.transport.unsent = 0
    visit.after(2 * TERMS.linger_seconds)
    assert visit.transport.aborted


async def test_a_bare_line_feed_behind_a_request_line_never_repeats_the_last_fields(house: House) -> None:
    visit = house.visit()
    visit.says(POST + b"body")
    visit.stream.reply(OK, b"hi")
    visit.transport.take()
    assert status(visit.says(b"GET / HTTP/1.1\r\n\nX: 1\r\n\r\n")) == 400
    assert len(house.door.opened) == 1


async def test_a_repeated_block_is_held_to_the_limit_of_the_whole_head() -> None:
    house = House(replace(TERMS, head=HeadLimits(request_line=200, head=250)), COUNTS)
    visit = house.visit()
    block = b"Host: localhost\r\nX: " + b"x" * 160 + b"\r\n\r\n"
    visit.says(b"GET / HTTP/1.1\r\n" + block)
    visit.stream.reply(OK, b"hi")
    visit.transport.take()
    assert status(visit.says(b"GET /" + b"a" * 150 + b" HTTP/1.1\r\n" + block)) == 431
    house.close()


async def test_what_is_malformed_is_answered_as_itself_and_not_as_the_request_before(house: House) -> None:
    visit = house.visit()
    visit.says(b"HEAD / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n")
    visit.stream.reply(OK)
    visit.transport.take()
    reply = visit.says(b"nonsense\r\n\r\n")
    assert status(reply) == 400 and b"application/json" in reply and reply.endswith(b"}\n")
    assert house.lines[-1].method == b"-"


async def test_first_bytes_of_a_body_that_was_refused_at_once_are_not_forgotten(house: House) -> None:
    """Else as many bytes of the next request would pass for the rest of this body."""
    house.door.refuses = Reason.OVERLOADED
    visit = house.visit()
    assert status(visit.says(POST + b"bo")) == 503
    house.door.refuses = None
    visit.says(b"dy" + GET)
    await asyncio.sleep(0)
    assert visit.stream.envelope.startswith(b"GET /a ")


async def test_early_hints_are_no_leave_to_send_the_body(house: House) -> None:
    visit = house.visit()
    visit.says(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    visit.stream.sink.on_head(HeadKind.INTERIM, b"HTTP/1.1 103 Early Hints\r\n\r\n", b"", False)
    visit.stream.reply(OK, b"no")
    assert b"Connection: close" in visit.transport.take() and visit.transport.ended
    visit.says(GET)
    assert len(house.door.opened) == 1


async def test_a_body_is_timed_from_the_leave_to_send_it(house: House) -> None:
    visit = house.visit()
    visit.says(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    house.ahead = 20
    visit.stream.sink.on_head(HeadKind.INTERIM, b"HTTP/1.1 100 Continue\r\n\r\n", b"", False)
    visit.transport.take()
    assert visit.after(1) == b""


async def test_an_expectation_without_a_body_keeps_the_connection(house: House) -> None:
    visit = house.visit()
    visit.says(POST.replace(b"Length: 4\r\n", b"Length: 0\r\nExpect: 100-continue\r\n"))
    visit.stream.reply(OK, b"hi")
    assert b"Connection: close" not in visit.transport.take() and not visit.transport.ended


async def test_a_pause_that_the_agent_asked_for_is_not_the_visitors_slowness(house: House) -> None:
    visit = house.visit()
    visit.says(POST.replace(b"Length: 4", b"Length: 400"))
    visit.stream.full = True
    visit.says(b"x")
    house.ahead = 60
    visit.stream.sink.on_writable()
    assert visit.after(0.1) == b""


async def test_an_agent_that_takes_no_more_of_a_body_is_a_504(house: House) -> None:
    visit = house.visit()
    visit.says(POST.replace(b"Length: 4", b"Length: 400"))
    visit.stream.full = True
    visit.says(b"x")
    assert visit.after(119) == b""
    assert status(visit.after(121)) == 504


async def test_a_slow_reader_is_not_cut_before_it_read_its_last_reply(house: House) -> None:
    visit = house.visit()
    visit.says(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    visit.stream.reply(OK, b"hi")
    for unsent, seconds in ((9000, 0), (6000, 20), (3000, 50)):
        visit.transport.unsent = unsent
        visit.after(seconds)
    assert visit.transport.ended and not visit.transport.closed
    visit.transport.unsent = 0
    visit.after(50.25)
    visit.after(52)
    assert visit.transport.closed


async def test_the_clock_of_a_slow_reader_stops_when_it_has_read_everything(house: House) -> None:
    visit = house.visit()
    visit.says(GET)
    visit.stream.reply(b"HTTP/1.1 200 OK\r\n\r\n", b"event", end=False)
    for unsent, seconds in ((1000, 0), (0, 1), (1000, 70)):
        visit.transport.unsent = unsent
        visit.after(seconds)
    assert not visit.transport.closed


async def test_who_does_not_read_its_replies_gets_no_more_of_them(house: House) -> None:
    visit = house.visit()
    visit.says(GET)
    visit.connection.pause_writing()
    visit.stream.reply(OK, b"hi")
    visit.says(GET + GET)
    await asyncio.sleep(0)
    assert len(house.door.opened) == 1
    visit.connection.resume_writing()
    await asyncio.sleep(0)
    assert len(house.door.opened) == 2
    visit.stream.reply(OK, b"hi")
    await asyncio.sleep(0)
    assert len(house.door.opened) == 3


async def test_who_was_refused_for_the_number_of_connections_is_hung_up_on(house: House) -> None:
    house.ingress._counts = replace(COUNTS, max_connections=0)
    visit = house.visit()
    assert status(visit.says(GET)) == 503
    assert visit.transport.ended


async def test_a_page_for_http_10_ends_with_its_connection(house: House) -> None:
    visit = house.visit()
    old = b"GET / HTTP/1.0\r\nHost: nobody.localhost\r\nConnection: keep-alive\r\n\r\n"
    assert b"Connection: close\r\n" in visit.says(old)
    assert visit.transport.ended


async def test_requests_sent_before_the_visitor_ended_its_half_are_all_answered(house: House) -> None:
    visit = house.visit()
    visit.says(GET + GET + b"GET /cut HT")
    assert visit.connection.eof_received()
    for _ in range(2):
        visit.stream.reply(OK, b"hi")
        await asyncio.sleep(0)
    assert visit.transport.take().count(b"200 OK") == 2
    assert visit.transport.closed


async def test_a_body_that_a_half_closed_visitor_never_finished_is_given_up(house: House) -> None:
    visit = house.visit()
    visit.says(GET + POST + b"bo")
    visit.connection.eof_received()
    visit.stream.reply(OK, b"hi")
    await asyncio.sleep(0)
    assert visit.transport.closed and visit.stream.resets == [Reason.CANCELLED]


async def test_a_cut_reply_that_ends_with_the_connection_is_reset_whatever_waits(house: House) -> None:
    visit = house.visit()
    visit.says(GET.replace(b"1.1", b"1.0"))
    visit.stream.reply(b"HTTP/1.1 200 OK\r\n\r\n", b"abc", end=False)
    visit.transport.unsent = 3
    visit.stream.sink.on_reset(Reason.UPSTREAM_FAILED)
    assert visit.transport.aborted, "a clean end would pass for a whole reply"


async def test_a_cut_reply_with_a_length_gives_what_there_is(house: House) -> None:
    visit = house.visit()
    visit.says(GET)
    visit.stream.reply(OK, b"h", end=False)
    visit.transport.unsent = 1
    visit.stream.sink.on_reset(Reason.UPSTREAM_FAILED)
    assert visit.transport.closed and not visit.transport.aborted


async def test_an_empty_line_between_requests_starts_no_clock(house: House) -> None:
    visit = house.visit()
    visit.says(GET)
    visit.stream.reply(OK, b"hi")
    visit.transport.take()
    assert visit.says(b"\r\n") == b"" and visit.after(30) == b""
    visit.says(GET)
    assert len(house.door.opened) == 2


async def test_a_request_that_is_here_when_draining_begins_is_answered(house: House) -> None:
    visit = house.visit()
    visit.says(GET + GET)
    visit.stream.reply(OK, b"hi")
    house.ingress.draining = True
    visit.connection.drain()
    assert not visit.transport.closed
    await asyncio.sleep(0)
    visit.stream.reply(OK, b"hi")
    assert b"Connection: close" in visit.transport.take()


async def test_bytes_after_a_close_of_ours_are_no_request(house: House) -> None:
    visit = house.visit()
    house.ingress.draining = True
    visit.connection.drain()
    assert visit.says(GET) == b"" and not house.door.opened


async def test_a_stream_that_is_over_does_not_start_the_reading_for_another(house: House) -> None:
    visit = house.visit()
    visit.says(POST + b"body")
    old = visit.stream
    old.reply(OK, b"hi")
    visit.says(POST.replace(b"Length: 4", b"Length: 400"))
    visit.stream.full = True
    visit.says(b"x")
    old.sink.on_writable()
    assert not visit.transport.reading
