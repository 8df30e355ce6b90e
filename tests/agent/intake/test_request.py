"""HTTP requests through an agent on the HTTP/2 carrier."""

from __future__ import annotations

import pytest

from tests.agent.intake.conftest import MakeAgent, a_line
from tests.kit.scripted_edge import scripted_edge, welcoming
from wellhead.agent.intake import request as intake_request
from wellhead.net.authority import LocalAuthority
from wellhead.wire.streams import HeadKind, Reason, StreamKind

BOTH_LOOPS = True
GET = (
    (b"inkbox-method", b"GET"),
    (b"inkbox-path", b"/echo?x=1"),
    (b"inkbox-route-kind", b"webhook"),
    (b"inkbox-forwarded-for", b"203.0.113.9"),
    (b"inkbox-h-user-agent", b"probe/1"),
)
POST = ((b"inkbox-method", b"POST"), *GET[1:])


async def test_a_request_becomes_a_stream_and_its_reply_a_post(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with a_line(ca, agent, parked=2) as (our, line):
        await line.deliver("req-1", *GET)
        upstream = await our.stream()
        assert (upstream.kind, upstream.ended) == (StreamKind.HTTP, True)
        assert upstream.envelope == (
            b"GET /echo?x=1 HTTP/1.1\r\nHost: my-agent.example\r\nuser-agent: probe/1\r\n"
            b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n"
            b"X-Forwarded-Host: my-agent.example\r\n"
            b'Forwarded: for=203.0.113.9;host="my-agent.example";proto=https\r\nX-Request-Id: req-1\r\n\r\n'
        )
        upstream.reply(
            b"hello", b"Content-Type: text/plain", b"Set-Cookie: a=1", b"Set-Cookie: b=2", status=201
        )
        reply = await line.reply_to("req-1")
        assert reply.get(b":method") == "POST"
        assert reply.get(b"x-tunnel-id") == "4b6c"
        assert reply.get(b"x-tunnel-secret") == "whs_secret"
        assert (reply.get(b"inkbox-status"), reply.get(b"content-length")) == ("201", "5")
        assert reply.get(b"inkbox-request-id") == "req-1"
        assert reply.all(b"inkbox-h-set-cookie") == ["a=1", "b=2"]
        assert reply.get(b"inkbox-h-content-type") == "text/plain"
        assert bytes(reply.body) == b"hello"
        await line.until(lambda: len(line.parked) == 2)


async def test_the_slot_is_parked_again_before_the_reply(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with scripted_edge(ca, welcoming(1)) as edge:
        our = agent(edge)
        our.answers = lambda upstream: upstream.reply(b"x")
        line = await edge.line()
        await line.deliver("req-1", *GET)
        await line.reply_to("req-1")
        assert [asked.path for asked in edge.asked] == [
            "/_system/hello", "/_system/intake", "/_system/intake", "/_system/response/req-1",
        ]  # fmt: skip


async def test_a_body_reaches_the_upstream_while_it_arrives(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with a_line(ca, agent) as (our, line):
        intake = await line.deliver("req-1", *POST, body=None)
        upstream = await our.stream()
        assert not upstream.ended
        intake.stream.data(b"first")
        await upstream.until(lambda: upstream.body == b"first")
        intake.stream.data(b" second", True)
        await upstream.until(lambda: upstream.ended)
        assert upstream.body == b"first second"
        upstream.reply()
        await line.reply_to("req-1")


async def test_a_body_is_credited_as_the_upstream_takes_it(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with a_line(ca, agent) as (our, line):
        intake = await line.deliver("req-1", *POST, body=None)
        upstream = await our.stream()
        upstream.greedy = False
        intake.stream.data(bytes(2 * 2**20), True)
        await upstream.until(lambda: len(upstream.body) == 2**20)  # its window
        upstream.stream.consumed(2**20)
        await upstream.until(lambda: upstream.ended)
        assert len(upstream.body) == 2 * 2**20
        upstream.stream.consumed(2**20)
        upstream.reply()
        await line.reply_to("req-1")


@pytest.mark.parametrize("ours", [True, False])
async def test_an_upload_that_fails_costs_no_slot(ca: LocalAuthority, agent: MakeAgent, ours: bool) -> None:
    async with scripted_edge(ca, welcoming(2, ours=ours)) as edge:
        our = agent(edge)
        line = await edge.line(parked=2)
        for number in range(4):
            intake = await line.deliver(f"req-{number}", *POST, body=None)
            line.flush()
            (await our.stream(number)).stream.reset(Reason.UPSTREAM_FAILED)
            await line.reply_to(f"req-{number}")
            await intake.until(lambda one=intake: one.reset is not None)  # type: ignore[misc]
        await line.until(lambda: len(line.parked) == 2)


@pytest.mark.parametrize("fails", [True, False])
async def test_a_body_that_the_upstream_did_not_take_is_not_held_for_ever(
    ca: LocalAuthority, agent: MakeAgent, fails: bool
) -> None:
    async with scripted_edge(ca) as edge:
        our = agent(edge)
        our.answers = lambda upstream: setattr(upstream, "greedy", False)
        line = await edge.line()
        for number in range(3):
            await line.deliver(f"req-{number}", *POST, body=bytes(2**20))
            line.flush()
            upstream = await our.stream(number)
            await upstream.until(lambda one=upstream: one.ended)  # type: ignore[misc]
            if fails:
                upstream.stream.reset(Reason.UPSTREAM_FAILED)
            else:
                upstream.reply()
            await line.reply_to(f"req-{number}")
            line.flush()
        await line.deliver("last", *GET)  # behind all acknowledgements
        line.flush()
        await our.stream(3)
        assert our.carrier._sessions[0].h2.held == 0


async def test_a_reply_of_known_length_is_sent_as_it_comes(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with a_line(ca, agent) as (our, line):
        await line.deliver("req-1", *GET)
        upstream = await our.stream()
        upstream.stream.head(HeadKind.REPLY, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", b"abc")
        reply = await line.begun("req-1")
        assert await reply.has(3) == b"abc" and not reply.ended
        assert reply.get(b"content-length") == "6"
        upstream.stream.send(b"def", True)
        assert await reply.whole() == b"abcdef"
        reply.reply(200)


async def test_a_reply_of_unknown_length_streams_to_an_edge_of_ours(
    ca: LocalAuthority, agent: MakeAgent
) -> None:
    async with a_line(ca, agent, welcoming(ours=True)) as (our, line):
        await line.deliver("req-1", *GET)
        upstream = await our.stream()
        upstream.stream.head(HeadKind.REPLY, b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        reply = await line.begun("req-1")
        assert b"content-length" not in dict(reply.fields)
        for number in range(3):
            upstream.stream.send(b"data: %d\n\n" % number)
            await reply.has(9 * (number + 1))
        upstream.stream.send(b"", True)
        await line.reply_to("req-1")


async def test_a_reply_of_unknown_length_is_measured_for_any_other_edge(
    ca: LocalAuthority, agent: MakeAgent
) -> None:
    async with a_line(ca, agent) as (our, line):
        await line.deliver("req-1", *GET)
        upstream = await our.stream()
        upstream.stream.head(HeadKind.REPLY, b"HTTP/1.1 200 OK\r\n\r\n", b"abc")
        upstream.stream.send(b"def")
        assert "req-1" not in line.replies
        upstream.stream.send(b"ghi", True)
        reply = await line.reply_to("req-1")
        assert (reply.get(b"content-length"), bytes(reply.body)) == ("9", b"abcdefghi")


async def test_a_reply_to_head_tells_an_edge_of_ours_how_long_it_would_be(
    ca: LocalAuthority, agent: MakeAgent
) -> None:
    for ours, told in ((True, "123"), (False, "")):
        async with a_line(ca, agent, welcoming(ours=ours)) as (our, line):
            await line.deliver("req-1", (b"inkbox-method", b"HEAD"), (b"inkbox-path", b"/"))
            upstream = await our.stream()
            upstream.stream.head(HeadKind.REPLY, b"HTTP/1.1 200 OK\r\nContent-Length: 123\r\n\r\n", b"", True)
            reply = await line.reply_to("req-1")
            assert reply.get(b"content-length") == "0"
            assert reply.get(b"inkbox-h-content-length") == told


async def test_what_the_upstream_cannot_answer_is_told_with_a_reason(
    ca: LocalAuthority, agent: MakeAgent
) -> None:
    reasons = {
        Reason.UPSTREAM_UNREACHABLE: ("502", "upstream-unreachable"),
        Reason.UPSTREAM_FAILED: ("502", "upstream-error"),
        Reason.TIMEOUT: ("504", "response-deadline-exceeded"),
        Reason.OVERLOADED: ("503", "agent-overloaded"),
        Reason.INTERNAL: ("500", "internal-error"),
    }
    async with a_line(ca, agent) as (our, line):
        for number, (reason, told) in enumerate(reasons.items()):
            await line.deliver(f"req-{number}", *GET)
            (await our.stream(number)).stream.reset(reason)
            reply = await line.reply_to(f"req-{number}")
            assert (reply.get(b"inkbox-status"), reply.get(b"inkbox-reason")) == told
            assert reply.get(b"inkbox-h-inkbox-reason") == told[1]
            assert len(reply.body) == int(reply.get(b"content-length"))


async def test_a_reply_that_breaks_off_is_reset(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with a_line(ca, agent) as (our, line):
        await line.deliver("req-1", *GET)
        upstream = await our.stream()
        upstream.stream.head(HeadKind.REPLY, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", b"abc")
        reply = await line.begun("req-1")
        await reply.has(3)
        upstream.stream.reset(Reason.UPSTREAM_FAILED)
        await reply.until(lambda: reply.reset is not None)


async def test_a_visitor_who_leaves_during_the_upload_takes_the_request_back(
    ca: LocalAuthority, agent: MakeAgent
) -> None:
    async with a_line(ca, agent, parked=2) as (our, line):
        intake = await line.deliver("req-1", *POST, body=None)
        upstream = await our.stream()
        intake.stream.reset(8)
        line.flush()
        await upstream.until(lambda: upstream.reset == Reason.CANCELLED)
        await line.until(lambda: len(line.parked) == 2)


async def test_a_visitor_who_leaves_during_the_reply_cancels_it(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with a_line(ca, agent) as (our, line):
        await line.deliver("req-1", *GET)
        upstream = await our.stream()
        upstream.stream.head(HeadKind.REPLY, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", b"abc")
        await line.until(lambda: "req-1" in line.replies)
        line.replies["req-1"].stream.reset(8)
        line.flush()
        await upstream.until(lambda: upstream.reset == Reason.CANCELLED)


async def test_a_reply_that_the_edge_no_longer_wants_is_given_up(
    ca: LocalAuthority, agent: MakeAgent
) -> None:
    async with scripted_edge(ca) as edge:
        our = agent(edge)
        edge.on_reply = lambda line, asked: asked.reply(404)
        line = await edge.line()
        await line.deliver("req-1", *GET)
        upstream = await our.stream()
        upstream.stream.head(HeadKind.REPLY, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", b"abc")
        await upstream.until(lambda: upstream.reset == Reason.CANCELLED)


async def test_a_slow_edge_stops_the_upstream(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with scripted_edge(ca) as edge:
        our = agent(edge)

        def slow(line: object, asked: object) -> None:
            asked.greedy = False  # type: ignore[attr-defined]

        edge.on_reply = slow
        line = await edge.line()
        await line.deliver("req-1", *GET)
        upstream = await our.stream()
        stream, size = upstream.stream, 4 * 2**20
        ready = stream.head(HeadKind.REPLY, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        sent = 0
        while ready and sent < size:
            ready = stream.send(bytes(65536))
            sent += 65536
        assert sent < size
        reply = await line.begun("req-1")
        await reply.has(1)
        reply.greedy = True
        reply.stream.consumed(reply.stream.held)
        line.flush()
        while sent < size:
            await upstream.until(lambda: upstream.writable > 0)
            upstream.writable = 0
            ready = True
            while ready and sent < size:
                sent += 65536
                ready = stream.send(bytes(65536), sent == size)
        assert len(await reply.whole()) == size
        reply.reply(200)


async def test_a_whole_reply_has_the_time_that_its_visitor_takes(
    ca: LocalAuthority, agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_request, "ACK_SECONDS", 0.05)
    async with scripted_edge(ca) as edge:
        our = agent(edge)
        edge.on_reply = lambda line, asked: setattr(asked, "greedy", False)
        line = await edge.line()
        await line.deliver("req-1", *GET)
        (await our.stream()).reply(bytes(3 * 2**20))
        reply = await line.begun("req-1")
        await line.deliver("req-2", *GET)  # whose acknowledgement does not come
        (await our.stream(1)).reply(b"x")
        await line.until(lambda: "req-2" in line.replies)
        await line.replies["req-2"].until(lambda: line.replies["req-2"].reset is not None)
        assert reply.reset is None
        reply.greedy = True
        reply.stream.consumed(reply.stream.held)
        line.flush()
        assert len(await reply.whole()) == 3 * 2**20
        reply.reply(200)


async def test_a_deadline_is_told_and_the_upstream_let_go(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with a_line(ca, agent, welcoming(deadline=0.2)) as (our, line):
        await line.deliver("req-1", *GET)
        upstream = await our.stream()
        reply = await line.reply_to("req-1")
        assert (reply.get(b"inkbox-status"), reply.get(b"inkbox-reason")) == (
            "504", "response-deadline-exceeded",
        )  # fmt: skip
        assert upstream.reset == Reason.TIMEOUT


async def test_a_reply_that_has_begun_has_no_deadline(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with a_line(ca, agent, welcoming(deadline=0.05, ours=True)) as (our, line):
        await line.deliver("req-1", *GET)
        upstream = await our.stream()
        upstream.stream.head(HeadKind.REPLY, b"HTTP/1.1 200 OK\r\n\r\n", b"a")
        await line.deliver("req-2", *GET)  # whose deadline comes later
        assert (await line.reply_to("req-2")).get(b"inkbox-status") == "504"
        assert upstream.reset is None
        upstream.stream.send(b"b", True)
        assert bytes((await line.reply_to("req-1")).body) == b"ab"
