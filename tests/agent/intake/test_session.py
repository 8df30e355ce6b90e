"""A session on the HTTP/2 carrier: its hello, its takeover, its drain and its ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.agent.intake.conftest import MakeAgent, a_line
from tests.agent.intake.test_request import GET, POST
from tests.kit.scripted_edge import Asked, Line, saying, scripted_edge, welcoming
from tests.kit.watched import PATIENCE
from wellhead.agent.intake import session as intake_session
from wellhead.agent.intake.hello import TunnelUnknown, refusal
from wellhead.agent.intake.terms import TERMS, IntakeLimits
from wellhead.errors import (
    Draining,
    HelloError,
    ProtocolNotOffered,
    QuotaExceeded,
    RefusedError,
    Retry,
    SecretRejected,
    SessionLost,
    Superseded,
)
from wellhead.net.authority import LocalAuthority
from wellhead.net.session import Liveness
from wellhead.net.uplink import Status
from wellhead.wire.streams import HeadKind, Reason

BOTH_LOOPS = True
SUPERSEDED = b'{"reason":"superseded"}'
DRAIN = b'{"reason":"drain"}'


# Hello


async def test_a_hello_says_who_we_are(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with scripted_edge(ca, welcoming(ours=True)) as edge:
        our = agent(edge, IntakeLimits(pool=7))
        await our.connected()
        (hello,) = edge.hellos
        assert hello.get(b"x-tunnel-id") == "4b6c"
        assert hello.get(b"x-tunnel-secret") == "whs_secret"
        assert hello.get(b"user-agent") == "wellhead-python/0"
        assert (hello.get(b"x-pool-size"), hello.get(b"content-length")) == ("7", "0")
        (welcome,) = our.welcomes
        assert (welcome.session, welcome.public_urls) == ("s_1", ["https://my-agent.x"])


@pytest.mark.parametrize("status", [401, 403])
async def test_a_credential_that_is_not_good_is_final(
    ca: LocalAuthority, agent: MakeAgent, status: int
) -> None:
    async with scripted_edge(ca, saying(status)) as edge:
        our = agent(edge)
        assert isinstance(await our.failed(), SecretRejected)
        assert our.statuses == [Status.CLOSED]
        assert len(edge.hellos) == 1


async def test_a_hello_that_lost_its_race_is_final(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with scripted_edge(ca, saying(409, body=b'{"reason":"hello-superseded"}')) as edge:
        our = agent(edge)
        assert isinstance(await our.failed(), Superseded)
        assert our.statuses == [Status.SUPERSEDED]


@pytest.mark.parametrize(
    "answer",
    [
        saying(409, body=b"{}"), saying(429), saying(503), saying(500), saying(200), saying(200, body=b"{}"),
        saying(200, body=b"[]"), lambda line, asked: asked.stream.reset(2),
        lambda line, asked: line.hang_up(),
        lambda line, asked: line.goaway(0, DRAIN), lambda line, asked: line.goaway(2),
    ],
)  # fmt: skip
async def test_any_other_answer_is_asked_for_again(
    ca: LocalAuthority, agent: MakeAgent, answer: object
) -> None:
    async with scripted_edge(ca, answer, welcoming()) as edge:  # type: ignore[arg-type]
        our = agent(edge)
        await our.connected()
        assert len(edge.hellos) == 2
        assert our.statuses == [Status.RECONNECTING, Status.CONNECTED]


async def test_silence_is_not_waited_for_for_ever(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with scripted_edge(ca, lambda line, asked: None, welcoming()) as edge:
        our = agent(edge, hello_seconds=0.1)
        await our.connected()
        (error,) = [error for _, error in our.told if error is not None]
        assert isinstance(error, HelloError) and "within 0.1 s" in str(error)


def test_a_tunnel_that_nobody_knows_is_asked_for_ever_more_slowly() -> None:
    pauses = []
    for unknown in range(6):
        error = refusal(404, {}, b"", unknown)
        assert isinstance(error, TunnelUnknown) and error.retry is Retry.LATER
        pauses.append(error.retry_after_seconds)
    assert pauses == [30, 60, 120, 240, 300, 300]


def test_a_refusal_for_now_says_what_it_is_and_when_to_come_again() -> None:
    for status, kind in ((429, QuotaExceeded), (503, Draining), (500, RefusedError)):
        error = refusal(status, {b"retry-after": b"7"}, b"")
        assert type(error) is kind
        assert (error.retry, error.retry_after_seconds) == (Retry.LATER, 7)
    assert refusal(503, {b"retry-after": b"soon"}, b"").retry_after_seconds is None
    assert refusal(503, {b"retry-after": b"99999"}, b"").retry_after_seconds == 300


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"detail":"tunnel my-app is delete_pending"}', ", tunnel my-app is delete_pending"),
        (b'{"detail":"a\\u001b[2Jb"}', ""), (b'{"detail":"' + b"x" * 300 + b'"}', ""),
        (b'{"detail":[1]}', ""), (b"<html>", ""),
    ],
)  # fmt: skip
def test_an_edges_own_words_for_a_refusal_are_passed_on_where_they_can_be_shown(
    body: bytes, told: str
) -> None:
    assert str(refusal(503, {}, body)) == "the edge answers the hello with 503" + told


async def test_an_edge_that_speaks_no_carrier_of_ours_is_a_clear_error(
    ca: LocalAuthority, agent: MakeAgent
) -> None:
    async with scripted_edge(ca, alpn=["http/1.1"]) as edge:
        error = await agent(edge).failed()
        assert isinstance(error, ProtocolNotOffered)
        assert "does not speak h2" in str(error)
        assert not edge.hellos


# Takeover


async def _superseding(line: Line, way: str) -> None:
    if way == "intake":
        line.parked[0].reply(409, (b"inkbox-reason", b"intake-superseded"))
    elif way == "code":
        line.goaway(0x1201)
    else:
        line.goaway(2, SUPERSEDED)


@pytest.mark.parametrize("way", ["code", "debug", "intake"])
async def test_a_takeover_is_the_end(ca: LocalAuthority, agent: MakeAgent, way: str) -> None:
    async with scripted_edge(ca) as edge:
        our = agent(edge)
        line = await edge.line(parked=2)
        await _superseding(line, way)
        assert isinstance(await our.failed(), Superseded)
        assert our.statuses == [Status.CONNECTED, Status.SUPERSEDED]
        assert len(edge.hellos) == 1


@pytest.mark.parametrize("way", ["code", "debug", "intake"])
async def test_a_takeover_by_our_own_successor_is_none(
    ca: LocalAuthority, agent: MakeAgent, way: str
) -> None:
    async with scripted_edge(ca) as edge:
        our = agent(edge)
        first = await edge.line(parked=2)
        await first.deliver("req-1", *GET)  # so that the old one is still needed
        upstream = await our.stream()
        await first.until(lambda: len(first.parked) == 2)
        first.goaway(0, DRAIN)
        second = await edge.line(1, parked=2)
        await _superseding(first, way)
        first.flush()
        upstream.reply(b"x")
        await second.reply_to("req-1")
        assert our.statuses == [Status.CONNECTED, Status.DRAINING, Status.CONNECTED]
        assert not our.task.done()


# Drain


async def test_a_drained_session_is_replaced_before_it_is_left(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with scripted_edge(ca) as edge:
        our = agent(edge)
        first = await edge.line(parked=2)
        first.goaway(0, DRAIN)
        await edge.line(1, parked=2)
        assert not first.lost.is_set()
        assert our.statuses == [Status.CONNECTED, Status.DRAINING, Status.CONNECTED]
        await asyncio.wait_for(first.lost.wait(), PATIENCE)  # with nothing left to do there


@pytest.mark.parametrize("ours", [True, False])
async def test_what_was_taken_before_a_drain_is_answered(
    ca: LocalAuthority, agent: MakeAgent, ours: bool
) -> None:
    """To an edge of ours where it was taken, to any other on the new session."""
    async with scripted_edge(ca, welcoming(ours=ours)) as edge:
        our = agent(edge)
        first = await edge.line(parked=2)
        await first.deliver("req-1", *GET)
        upstream = await our.stream()
        first.goaway(0, DRAIN)
        second = await edge.line(1, parked=2)
        upstream.reply(b"kept")
        reply = await (first if ours else second).reply_to("req-1")
        assert bytes(reply.body) == b"kept"


async def test_a_reply_waits_for_the_new_session(ca: LocalAuthority, agent: MakeAgent) -> None:
    held: list[Asked] = []
    async with scripted_edge(ca, welcoming(), lambda line, asked: held.append(asked)) as edge:
        our = agent(edge)
        first = await edge.line(parked=2)
        await first.deliver("req-1", *GET)
        upstream = await our.stream()
        first.goaway(0, DRAIN)
        first.flush()
        await edge.until(lambda: len(held) == 1)  # the second hello is not answered yet
        upstream.reply(b"kept")
        first.hang_up()
        await asyncio.wait_for(first.lost.wait(), PATIENCE)
        welcoming()(edge.lines[1], held[0])
        assert bytes((await edge.lines[1].reply_to("req-1")).body) == b"kept"


async def test_a_reply_that_runs_goes_on_on_the_drained_session(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with scripted_edge(ca, welcoming(ours=True)) as edge:
        our = agent(edge)
        first = await edge.line(parked=2)
        await first.deliver("req-1", *GET)
        stream = (await our.stream()).stream
        stream.head(HeadKind.REPLY, b"HTTP/1.1 200 OK\r\n\r\n", b"a")
        await first.until(lambda: "req-1" in first.replies)
        first.goaway(0, DRAIN)
        await edge.line(1, parked=2)
        stream.send(b"b", True)
        assert bytes((await first.reply_to("req-1")).body) == b"ab"


async def test_a_reply_that_the_leaving_edge_did_not_look_at_is_repeated(
    ca: LocalAuthority, agent: MakeAgent
) -> None:
    async with scripted_edge(ca) as edge:
        our = agent(edge)
        first = await edge.line(parked=2)
        await first.deliver("req-1", *GET)
        upstream = await our.stream()
        await first.until(lambda: len(first.parked) == 2)
        last = max(intake.stream.id for intake in first.parked)
        upstream.reply(b"kept")
        await first.until(lambda: "req-1" in first.replies)
        first.goaway(0, DRAIN, last)
        await edge.line(1, parked=2)
        assert bytes((await edge.lines[1].reply_to("req-1")).body) == b"kept"
        assert upstream.reset is None


async def test_a_session_whose_stream_ids_run_out_is_replaced(
    ca: LocalAuthority, agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_session, "TERMS", replace(TERMS, last_id=15))

    def parked() -> Line | None:
        return next((line for line in edge.lines if line.parked and not line.goaways), None)

    def answered(request_id: str) -> Line | None:
        return next((line for line in edge.lines if request_id in line.replies), None)

    async with scripted_edge(ca, welcoming(2)) as edge:
        our = agent(edge)
        our.answers = lambda upstream: upstream.reply(b"x")
        for number in range(12):
            request_id = f"req-{number}"
            await edge.until(lambda: parked() is not None)
            line = parked()
            assert line is not None
            await line.deliver(request_id, *GET)
            await edge.until(lambda request_id=request_id: answered(request_id) is not None)  # type: ignore[misc]
            there = answered(request_id)
            assert there is not None and bytes((await there.reply_to(request_id)).body) == b"x"
        assert len(edge.lines) > 2
        assert Status.RECONNECTING not in our.statuses


async def test_sessions_that_are_drained_as_they_begin_are_not_replaced_in_haste(
    ca: LocalAuthority, agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted_edge(ca) as edge:
        our = agent(edge)
        pauses: list[float] = []

        def pause(error: object = None) -> float:
            pauses.append(1.0)
            return 0.01

        monkeypatch.setattr(our.uplink._backoff, "pause", pause)
        for number in range(3):
            line = await edge.line(number, parked=2)
            line.goaway(0, DRAIN)
        await edge.line(3, parked=2)
        assert len(pauses) == 3


# Ends


async def test_any_other_goaway_is_a_loss(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with scripted_edge(ca) as edge:
        our = agent(edge)
        line = await edge.line(parked=2)
        line.goaway(11)
        await edge.line(1, parked=2)
        lost = [error for status, error in our.told if status is Status.RECONNECTING]
        assert isinstance(lost[0], SessionLost) and "error 11" in str(lost[0])


async def test_what_was_under_way_on_a_lost_session_is_told(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with scripted_edge(ca) as edge:
        our = agent(edge)
        line = await edge.line(parked=2)
        await line.deliver("req-1", *GET)
        await line.deliver("req-2", *POST, body=None)
        first, second = await our.stream(0), await our.stream(1)
        line.hang_up()
        for upstream in (first, second):
            await upstream.until(lambda upstream=upstream: upstream.reset is not None)  # type: ignore[misc]
        assert first.reset == Reason.SESSION_LOST
        await edge.line(1, parked=2)
        first.reply(b"too late")
        assert not edge.lines[1].replies


async def test_an_edge_that_answers_no_ping_is_given_up(
    ca: LocalAuthority, agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_session, "PULSE", replace(Liveness(), ping_seconds=0.3, pong_seconds=1.5))
    async with a_line(ca, agent, parked=2) as (our, line):
        assert line.transport is not None
        line.transport.pause_reading()
        await our.until(lambda: Status.RECONNECTING in our.statuses)
        lost = [error for status, error in our.told if status is Status.RECONNECTING]
        assert "no answer to a ping" in str(lost[0])


async def test_an_agent_that_leaves_says_so_and_finishes_what_it_took(
    ca: LocalAuthority, agent: MakeAgent
) -> None:
    async with a_line(ca, agent, parked=2) as (our, line):
        await line.deliver("req-1", *GET)
        upstream = await our.stream()
        leaving = asyncio.ensure_future(our.uplink.aclose(PATIENCE))
        await line.until(lambda: line.goaways == [(0, 0)])
        parked = len(line.parked)
        await line.deliver("req-2", *GET)  # it was under way
        second = await our.stream(1)
        second.reply(b"2")
        await line.reply_to("req-2")
        assert len(line.parked) == parked - 1
        upstream.reply(b"1")
        await line.reply_to("req-1")
        await asyncio.wait_for(leaving, PATIENCE)
        await asyncio.wait_for(line.lost.wait(), PATIENCE)


# Envelopes that break other agents


async def test_an_envelope_that_is_no_request_costs_that_request_alone(
    ca: LocalAuthority, agent: MakeAgent
) -> None:
    async with scripted_edge(ca) as edge:
        our = agent(edge)
        our.answers = lambda upstream: upstream.reply(b"x")
        line = await edge.line(parked=2)
        for number, bad in enumerate(
            [
                (b"inkbox-path", b"no-slash"), (b"inkbox-method", b"G E T"), (b"inkbox-h-x", b" blanks "),
                (b"inkbox-h-connection", b"close"),
            ]
        ):  # fmt: skip
            await line.deliver(f"req-{number}", bad)
            reply = await line.reply_to(f"req-{number}")
            assert reply.get(b"inkbox-status") in ("400", "200")
        await line.deliver("req-9", *GET)
        assert (await line.reply_to("req-9")).get(b"inkbox-status") == "200"
        assert len(edge.lines) == 1


async def test_large_and_odd_heads_are_taken_as_they_are(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with scripted_edge(ca) as edge:
        our = agent(edge)
        line = await edge.line(parked=2)
        many = [(b"inkbox-h-x-%d" % number, b"v" * 300) for number in range(180)]
        await line.deliver("req-1", *GET, (b"inkbox-h-x-latin", b"caf\xe9"), *many)
        upstream = await our.stream()
        assert b"x-latin: caf\xe9\r\n" in upstream.envelope
        assert upstream.envelope.count(b"v" * 300) == 180
        upstream.reply(b"x")
        await line.reply_to("req-1")
        assert len(edge.lines) == 1


async def test_a_body_that_is_elsewhere_is_not_fetched(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with a_line(ca, agent, parked=2) as (our, line):
        await line.deliver("req-1", *POST, (b"inkbox-body-uri", b"http://127.0.0.1:1/secret"))
        reply = await line.reply_to("req-1")
        assert (reply.get(b"inkbox-status"), reply.get(b"inkbox-reason")) == ("502", "body-fetch-failed")
        assert not our.streams


async def test_bodies_have_bounds_where_the_edge_is_not_ours(ca: LocalAuthority, agent: MakeAgent) -> None:
    limits = IntakeLimits(max_request_bytes=1000, max_reply_bytes=1000)
    async with scripted_edge(ca) as edge:
        our = agent(edge, limits)
        line = await edge.line(parked=2)
        await line.deliver("req-1", *POST, body=bytes(1001))
        reply = await line.reply_to("req-1")
        assert (reply.get(b"inkbox-status"), reply.get(b"inkbox-reason")) == ("413", "request-body-too-large")
        assert (await our.stream()).reset is not None
        for number, head in enumerate(
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n")
        ):
            await line.deliver(f"req-2{number}", *GET)
            upstream = await our.stream(number + 1)
            upstream.stream.head(HeadKind.REPLY, head, bytes(900))
            upstream.stream.send(bytes(101))
            reply = await line.reply_to(f"req-2{number}")
            assert (reply.get(b"inkbox-status"), reply.get(b"inkbox-reason")) == ("502", "response-too-large")
            assert upstream.reset is not None


def test_limits_out_of_their_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="pool of 33 intakes, 1 to 32 allowed"):
        IntakeLimits(pool=33)
    with pytest.raises(ValueError, match="max_reply_bytes must be at least 1, not 0"):
        IntakeLimits(max_reply_bytes=0)
