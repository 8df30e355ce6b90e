"""One request on the carrier: its envelope and body out, its reply in, whoever is slow, gone or wrong."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from tests.kit.house import Visit, status
from tests.kit.muxpair import RecordingSink
from tests.kit.zone import HOST, OURS, Answer, Zone, ZoneAgent
from wellhead.wire.h2_frames import ErrorCode
from wellhead.wire.streams import Reason, StreamKind

JUMPING_CLOCK = True
MIB = 1024 * 1024


def head(method: str = "GET", *lines: str, target: str = "/x?y=%2F") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {HOST}", *lines, "", ""]).encode()


def asked(zone: Zone, data: bytes) -> Visit:
    visit = zone.visit()
    visit.connection.data_received(data)
    return visit


async def exchange(zone: Zone, data: bytes, **options: str) -> tuple[Visit, ZoneAgent, Answer]:
    """A visitor's request that an agent was handed."""
    agent = await zone.welcomed(4, **options)
    visit = asked(zone, data)
    agent.talk()
    return visit, agent, agent.envelopes[0]


def is_read(visit: Visit) -> bool:
    return visit.transport.reading


# To the agent


async def test_an_envelope_says_what_the_visitor_asked_and_an_sdk_is_spared_what_breaks_it(
    zone: Zone,
) -> None:
    lines = (
        "Accept-Encoding: gzip",
        "X-Two: a",
        "X-Two: b",
        "X-Latin: caf\xe9",
        "Connection: close, X-Hop",
        "X-Hop: 1",
    )
    visit, agent, envelope = await exchange(zone, head("GET", *lines).replace("\xe9".encode(), b"\xe9"))
    told = [(name, value) for name, value in envelope.fields if name.startswith(b"inkbox-")]
    assert dict(told)[b"inkbox-method"] == b"GET" and dict(told)[b"inkbox-path"] == b"/x?y=%2F"
    assert dict(told)[b"inkbox-route-kind"] == b"webhook"
    assert dict(told)[b"inkbox-forwarded-for"] == b"192.0.2.7"
    assert [value for name, value in told if name == b"inkbox-h-x-two"] == [b"a", b"b"]
    assert dict(told)[b"inkbox-h-accept-encoding"] == b"identity" and dict(told)[b"inkbox-h-cookie"] == b""
    assert not {b"inkbox-h-x-latin", b"inkbox-h-x-hop", b"inkbox-h-connection"} & dict(told).keys()
    assert envelope.ended
    agent.reply(envelope.request_id)
    assert status(visit.transport.take()) == 200


async def test_an_agent_of_ours_gets_the_visitors_own_words(zone: Zone) -> None:
    visit, agent, envelope = await exchange(zone, head("GET", "Accept-Encoding: gzip"), user_agent=OURS)
    assert envelope.get(b"inkbox-h-accept-encoding") == b"gzip"
    assert b"inkbox-h-cookie" not in dict(envelope.fields)
    agent.reply(envelope.request_id)
    assert status(visit.transport.take()) == 200


async def test_a_body_goes_out_as_it_comes(zone: Zone) -> None:
    visit, agent, envelope = await exchange(zone, head("POST", "Content-Length: 10") + b"first")
    assert (envelope.body, envelope.ended) == (b"first", False)
    visit.connection.data_received(b"later")
    agent.talk()
    assert (envelope.body, envelope.ended) == (b"firstlater", True)
    agent.reply(envelope.request_id, b"ok")
    assert visit.transport.take().endswith(b"ok")


async def test_a_body_waits_with_its_request_for_an_intake(zone: Zone) -> None:
    agent = await zone.welcomed(0)
    visit = asked(zone, head("POST", "Content-Length: 200000") + b"x" * 100_000)
    assert not is_read(visit), "what waits is bounded by what the visitor had sent"
    envelope = agent.park()
    agent.talk()
    assert is_read(visit)
    visit.connection.data_received(b"x" * 100_000)
    agent.talk()
    assert len(envelope.body) == 200_000 and envelope.ended
    agent.reply(envelope.request_id)
    assert status(visit.transport.take()) == 200


async def test_a_slow_agent_stops_the_visitor_that_sends_to_it_and_no_other(zone: Zone) -> None:
    agent = await zone.welcomed(4)
    slow = asked(zone, head("POST", "Content-Length: 400000") + b"x" * 200_000)
    assert not is_read(slow)
    quick = asked(zone, head())
    agent.talk()
    assert is_read(slow)
    slow.connection.data_received(b"x" * 200_000)
    agent.talk()
    first, second = agent.envelopes
    assert len(first.body) == 400_000
    for visit, envelope in ((quick, second), (slow, first)):
        agent.reply(envelope.request_id, b"ok")
        assert status(visit.transport.take()) == 200


async def test_a_chunked_body_ends_with_its_trailers_left_out(zone: Zone) -> None:
    body = b"5\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n"
    visit, agent, envelope = await exchange(zone, head("POST", "Transfer-Encoding: chunked") + body)
    assert (envelope.body, envelope.ended) == (b"hello", True)
    agent.reply(envelope.request_id)
    assert status(visit.transport.take()) == 200


async def test_who_waits_for_a_100_gets_it_when_there_is_an_agent_for_the_body(zone: Zone) -> None:
    agent = await zone.welcomed(0)
    visit = asked(zone, head("POST", "Content-Length: 4", "Expect: 100-continue"))
    await asyncio.sleep(0.1)
    assert not visit.transport.take()
    envelope = agent.park()
    await asyncio.sleep(0.1)
    assert visit.transport.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    visit.connection.data_received(b"body")
    agent.talk()
    assert envelope.body == b"body" and b"inkbox-h-expect" not in dict(envelope.fields)
    agent.reply(envelope.request_id)
    assert status(visit.transport.take()) == 200


async def test_a_body_that_says_it_is_too_large_never_gets_to_the_agent(zone: Zone) -> None:
    agent = await zone.welcomed(1)
    visit = asked(zone, head("POST", f"Content-Length: {32 * MIB + 1}", "Expect: 100-continue"))
    await asyncio.sleep(0.1)
    agent.talk()
    assert status(visit.transport.take()) == 413
    assert agent.parked == 1
    assert [line.reason for line in zone.house.lines] == ["body-too-large"]


async def test_a_body_that_grows_too_large_takes_its_envelope_back() -> None:
    zone = Zone(max_body_bytes=MIB)
    agent = await zone.welcomed(1)
    visit = asked(zone, head("POST", "Transfer-Encoding: chunked"))
    for _ in range(17):
        visit.connection.data_received(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        agent.talk()
    assert status(visit.transport.take()) == 413
    assert agent.intakes[0].reset == ErrorCode.CANCEL
    assert not zone.leaks()
    await zone.close()


async def test_a_head_that_would_cost_the_agent_its_connection_is_refused(zone: Zone) -> None:
    agent, sink = await zone.welcomed(1), RecordingSink()
    lines = b"".join([b"X-%d: %b\r\n" % (number, b"v" * 8000) for number in range(8)])
    envelope = (
        b"GET / HTTP/1.1\r\nHost: a\r\n" + lines + b"X-Forwarded-For: 192.0.2.7\r\n"
        b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: a\r\nX-Request-Id: 1\r\n\r\n"
    )
    agent.session.open(StreamKind.HTTP, envelope, sink, b"", True)
    assert not sink.resets, "whoever opens a stream does not expect an answer before it is open"
    await asyncio.sleep(0.1)
    assert sink.resets == [Reason.HEAD_TOO_LARGE] and agent.parked == 1


async def test_a_visitor_that_leaves_in_the_middle_takes_its_envelope_back(zone: Zone) -> None:
    visit, agent, envelope = await exchange(zone, head("POST", "Content-Length: 10") + b"half")
    visit.connection.connection_lost(None)
    agent.talk()
    assert envelope.reset == ErrorCode.CANCEL
    assert agent.reply(envelope.request_id).status == 410


async def test_a_visitor_that_leaves_behind_its_request_costs_the_agent_a_410_and_no_more(zone: Zone) -> None:
    visit, agent, envelope = await exchange(zone, head())
    visit.connection.connection_lost(None)
    late = agent.reply(envelope.request_id, b"x" * 100_000)
    assert late.status == 410 and late.reset is None


async def test_an_agent_that_does_not_want_the_rest_of_a_request_breaks_it_off(zone: Zone) -> None:
    visit, agent, envelope = await exchange(zone, head("POST", "Content-Length: 10") + b"half")
    assert envelope.stream is not None
    envelope.stream.reset(ErrorCode.CANCEL)
    agent.talk()
    assert status(visit.transport.take()) == 502


# To the visitor


async def test_a_reply_goes_out_as_it_comes_and_in_one_write_with_its_head(zone: Zone) -> None:
    visit, agent, envelope = await exchange(zone, head())
    writes = visit.transport.writes
    fields = [(b"content-type", b"text/plain"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    agent.reply(envelope.request_id, b"hello", 201, fields)
    reply = visit.transport.take()
    assert visit.transport.writes == writes + 1
    assert reply.startswith(b"HTTP/1.1 201 Created\r\n") and reply.endswith(b"\r\n\r\nhello")
    assert reply.count(b"set-cookie: ") == 2 and b"\r\nContent-Length: 5\r\n" in reply


async def test_a_cookie_is_for_the_name_that_sets_it_also_on_this_carrier(zone: Zone) -> None:
    fields = [(b"set-cookie", b"a=1; Domain=example.com; Secure"), (b"set-cookie", b"__Host-wellhead-port=x")]
    for _ in range(2):
        visit, agent, envelope = await exchange(zone, head())
        agent.reply(envelope.request_id, b"hello", 200, fields)
        cookies = [line for line in visit.transport.take().split(b"\r\n") if line.startswith(b"set-cookie")]
        assert cookies == [b"set-cookie: a=1; Secure"]


async def test_a_head_is_not_held_back_for_a_body_that_comes_later(zone: Zone) -> None:
    visit, agent, envelope = await exchange(zone, head())
    answer = agent.reply(envelope.request_id, None, length=10)
    assert status(visit.transport.take()) == 200
    assert answer.stream is not None
    answer.stream.data(b"first")
    agent.talk()
    assert visit.transport.take() == b"first"
    answer.stream.data(b"later", True)
    agent.talk()
    assert visit.transport.take() == b"later" and answer.status == 200


async def test_a_visitor_that_does_not_read_costs_the_agent_its_streams_window_and_nobody_else(
    zone: Zone,
) -> None:
    visit, agent, envelope = await exchange(zone, head())
    visit.transport.clogged = True
    body = b"x" * (3 * MIB)
    answer = agent.reply(envelope.request_id, body)
    assert not answer.fields and answer.stream is not None and answer.stream.queued >= MIB
    other = asked(zone, head())
    agent.talk()
    agent.reply(agent.envelopes[1].request_id, b"quick")
    assert other.transport.take().endswith(b"quick")
    while not answer.fields:
        visit.transport.unclog()
        visit.transport.clogged = True
        agent.talk()
    visit.transport.unclog()
    assert len(visit.transport.take()) > 3 * MIB


@pytest.mark.parametrize(
    ("method", "code", "fields", "length"),
    [
        ("HEAD", 200, [(b"content-length", b"123")], b"\r\nContent-Length: 123\r\n"),
        ("HEAD", 200, [], b""),
        ("GET", 204, [], b""),
        ("GET", 304, [(b"etag", b'"1"')], b""),
    ],
)
async def test_a_reply_without_a_body_has_none_whatever_the_agent_posts(
    zone: Zone, method: str, code: int, fields: list[tuple[bytes, bytes]], length: bytes
) -> None:
    visit, agent, envelope = await exchange(zone, head(method))
    assert agent.reply(envelope.request_id, b"not for the visitor", code, fields).status == 200
    reply = visit.transport.take()
    assert status(reply) == code and reply.endswith(b"\r\n\r\n")
    assert length in reply and (length or b"ontent-Length" not in reply)
    visit.connection.data_received(head(target="/next"))
    agent.talk()
    agent.reply(agent.envelopes[1].request_id, b"next")
    assert visit.transport.take().endswith(b"next")


@pytest.mark.parametrize("whole", [True, False])
async def test_a_body_that_was_decoded_does_not_say_that_it_is_compressed(zone: Zone, whole: bool) -> None:
    coded = [(b"content-encoding", b"gzip"), (b"content-type", b"text/plain")]
    for body, kept in ((b"plain text", False), (gzip.compress(b"plain text"), True)):
        visit, agent, envelope = await exchange(zone, head(), key="wh_good")
        if whole:
            agent.reply(envelope.request_id, body, 200, coded)
        else:  # byte by byte: two have to be seen
            answer = agent.reply(envelope.request_id, None, 200, coded, length=len(body))
            assert answer.stream is not None
            for at in range(len(body)):
                answer.stream.data(body[at : at + 1], at + 1 == len(body))
                agent.talk()
        reply = visit.transport.take()
        assert reply.endswith(b"\r\n\r\n" + body)
        assert (b"content-encoding: gzip" in reply) is kept


async def test_a_reply_that_breaks_off_is_cut_where_the_visitor_can_see_it(zone: Zone) -> None:
    visit, agent, envelope = await exchange(zone, head())
    answer = agent.reply(envelope.request_id, None, length=10)
    assert answer.stream is not None
    answer.stream.data(b"half")
    agent.talk()
    answer.stream.reset(ErrorCode.CANCEL)
    agent.talk()
    assert visit.transport.take().endswith(b"half") and visit.transport.closed
    assert [line.whole for line in zone.house.lines] == [False]


async def test_a_reply_that_breaks_off_before_its_head_was_told_is_a_502(zone: Zone) -> None:
    visit, agent, envelope = await exchange(zone, head())
    answer = agent.reply(envelope.request_id, None, 200, [(b"content-encoding", b"gzip")], length=10)
    assert answer.stream is not None
    answer.stream.reset(ErrorCode.CANCEL)
    agent.talk()
    assert status(visit.transport.take()) == 502


async def test_a_body_longer_than_it_said_is_not_passed_on(zone: Zone) -> None:
    visit, agent, envelope = await exchange(zone, head())
    answer = agent.reply(envelope.request_id, b"longer", length=3)
    assert answer.reset == ErrorCode.PROTOCOL_ERROR
    assert status(visit.transport.take()) in (200, 502)


@pytest.mark.parametrize(
    "field", [(b"x a", b"1"), (b"x-a", b"a\0b"), (b"x-a", b"a\r\nset-cookie: b=1"), (b"x-a:b", b"1")]
)
async def test_a_reply_that_no_visitor_can_be_given_is_a_502_and_nothing_of_it_is_kept(
    zone: Zone, field: tuple[bytes, bytes]
) -> None:
    visit, agent, envelope = await exchange(zone, head())
    assert agent.reply(envelope.request_id, b"x" * 10_000, fields=[field]).status == 200
    assert status(visit.transport.take()) == 502


async def test_of_a_whole_reply_before_the_request_was_whole_nothing_is_kept(zone: Zone) -> None:
    visit, agent, envelope = await exchange(zone, head("POST", "Content-Length: 100") + b"some")
    assert agent.reply(envelope.request_id, b"x" * 10_000).status == 200
    assert status(visit.transport.take()) == 200


async def test_an_agent_of_ours_may_stream_a_reply_of_unknown_length(zone: Zone) -> None:
    visit, agent, envelope = await exchange(zone, head(), user_agent=OURS)
    fields = [*agent.caller.response(envelope.request_id), (b"inkbox-status", b"200")]
    answer = agent.ask(fields, end=False)
    assert status(visit.transport.take()) == 200
    assert answer.stream is not None
    answer.stream.data(b"event")
    agent.talk()
    assert b"event" in visit.transport.take()
    answer.stream.data(b"", True)
    agent.talk()
    assert answer.status == 200


async def test_a_visitor_that_leaves_in_the_middle_of_a_reply_costs_the_agent_nothing(zone: Zone) -> None:
    visit, agent, envelope = await exchange(zone, head())
    answer = agent.reply(envelope.request_id, None, length=100_000)
    assert answer.stream is not None
    answer.stream.data(b"x" * 50_000)
    agent.talk()
    visit.connection.connection_lost(None)
    answer.stream.data(b"x" * 50_000, True)
    agent.talk()
    assert answer.status == 200 and answer.reset is None


@pytest.mark.parametrize(
    ("word", "code", "reason"),
    [
        (b"upstream-unreachable", 502, "upstream-unreachable"),
        (b"upstream-error", 502, "upstream-failed"),
        (b"response-deadline-exceeded", 504, "deadline"),
        (b"agent-overloaded", 503, "overloaded"),
    ],
)
@pytest.mark.parametrize("body", [b"upstream error", b""])
async def test_an_application_that_did_not_answer_is_told_in_the_houses_words(
    zone: Zone, word: bytes, code: int, reason: str, body: bytes
) -> None:
    visit, agent, envelope = await exchange(zone, head())
    answer = agent.reply(envelope.request_id, body, code, [(b"inkbox-reason", word)])
    assert answer.status == 200 and answer.reset is None
    reply = visit.transport.take()
    assert status(reply) == code and b"upstream error" not in reply
    assert [line.reason for line in zone.house.lines] == [reason]


async def test_an_applications_own_502_is_its_own(zone: Zone) -> None:
    visit, agent, envelope = await exchange(zone, head())
    agent.reply(envelope.request_id, b"mine", 502)
    assert visit.transport.take().endswith(b"mine")
