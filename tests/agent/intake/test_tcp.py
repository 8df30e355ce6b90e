"""TCP connections through an agent on the HTTP/2 carrier."""

from __future__ import annotations

import pytest

from tests.agent.intake.conftest import Agent, Bridged, MakeAgent, a_line
from tests.kit.scripted_edge import Line, scripted_edge
from wellhead.agent.intake import tcp as intake_tcp
from wellhead.net.authority import LocalAuthority
from wellhead.wire.facts import Facts
from wellhead.wire.intake_ws import OuterDecoder, outer_frame
from wellhead.wire.streams import Reason, StreamKind
from wellhead.wire.ws import close_frame, ping_frame
from wellhead.wire.ws_frames import CONTINUATION, TEXT, Binary, Close, frame

BOTH_LOOPS = True
ENVELOPE = (
    (b"inkbox-route-kind", b"tcp-stream"),
    (b"inkbox-sni-host", b"my-agent.example"),
    (b"inkbox-forwarded-for", b"203.0.113.9"),
)


class Pipe(Bridged):
    """A TCP connection that is bound."""

    @property
    def at_edge(self) -> bytes:
        events = OuterDecoder(masked=True, text=False).receive(bytes(self.bridge.body))
        return b"".join(bytes(event.data) for event in events if isinstance(event, Binary))

    @property
    def close(self) -> Close | None:
        events = OuterDecoder(masked=True, text=False).receive(bytes(self.bridge.body))
        return next((event for event in events if isinstance(event, Close)), None)


async def bound(our: Agent, line: Line, number: int = 0) -> Pipe:
    before = len(our.streams)
    await line.deliver(f"req-{number}", *ENVELOPE, (b"inkbox-tcp-id", b"tcp-%d" % number))
    bridge = await line.bridge(f"/_system/tcp/tcp-{number}")
    line.flush()
    return Pipe(line, bridge, await our.stream(before))


async def test_a_connection_is_bound_before_the_agent_hears_of_it(
    ca: LocalAuthority, agent: MakeAgent
) -> None:
    async with a_line(ca, agent, parked=2) as (our, line):
        await line.deliver("req-0", *ENVELOPE, (b"inkbox-tcp-id", b"tcp-0"))
        await line.until(lambda: len(line.bridges) == 1)
        assert not our.streams
        bridge = line.bridges["/_system/tcp/tcp-0"]
        assert (bridge.get(b":method"), bridge.get(b":protocol")) == ("CONNECT", "inkbox-tunnel-tcp")
        assert bridge.get(b"sec-websocket-protocol") == "inkbox-tunnel-tcp"
        assert bridge.get(b"inkbox-tcp-id") == "tcp-0"
        bridge.stream.headers([(b":status", b"200")])
        line.flush()
        upstream = await our.stream()
        assert upstream.kind is StreamKind.TCP
        facts = Facts.decode(upstream.envelope)
        assert (facts.peer, facts.server_name) == ("203.0.113.9", "my-agent.example")
        assert not line.replies
        upstream.stream.reset(Reason.CANCELLED)
        bridge.stream.data(b"", True)
        line.flush()


async def test_bytes_pass_both_ways_however_they_are_framed(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with scripted_edge(ca) as edge:
        pipe = await bound(agent(edge), await edge.line(parked=2))
        pipe.edge_says(outer_frame(b"hello", mask=None), b"\x02\x03one" + frame(CONTINUATION, b"two"))
        await pipe.upstream.until(lambda: pipe.upstream.body == b"helloonetwo")
        pipe.upstream.stream.send(b"x" * 40_000)
        await pipe.bridge.until(lambda: pipe.at_edge == b"x" * 40_000)
        pipe.edge_says(ping_frame(b"?"))
        pipe.upstream.stream.send(b"", True)
        await pipe.bridge.until(lambda: pipe.bridge.ended)
        pipe.edge_says(end=True)


async def test_each_side_may_end_and_the_other_go_on(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with a_line(ca, agent, parked=2) as (our, line):
        pipe = await bound(our, line)
        pipe.upstream.stream.send(b"all", True)
        await pipe.bridge.until(lambda: pipe.bridge.ended)
        assert pipe.close == Close(1000, "clean-eof")
        pipe.edge_says(outer_frame(b"and this", mask=None))
        await pipe.upstream.until(lambda: pipe.upstream.body == b"and this")
        pipe.edge_says(end=True)
        await pipe.upstream.until(lambda: pipe.upstream.ended)

        other = await bound(our, line, 1)
        other.edge_says(outer_frame(b"request", mask=None), close_frame(1000), end=True)
        await other.upstream.until(lambda: other.upstream.ended)
        other.upstream.stream.send(b"reply")
        await other.bridge.until(lambda: other.at_edge == b"reply")
        other.upstream.stream.send(b"", True)
        await other.bridge.until(lambda: other.bridge.ended)


async def test_a_visitor_who_said_all_and_hears_nothing_is_left(
    ca: LocalAuthority, agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_tcp, "HALF_CLOSE_SECONDS", 0.1)
    async with scripted_edge(ca) as edge:
        pipe = await bound(agent(edge), await edge.line(parked=2))
        pipe.edge_says(end=True)
        await pipe.bridge.until(lambda: pipe.bridge.ended)
        assert pipe.close == Close(1001, "cancelled")
        assert pipe.upstream.ended and pipe.upstream.reset is not None


async def test_a_slow_visitor_who_said_all_still_hears_all(
    ca: LocalAuthority, agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_tcp, "HALF_CLOSE_SECONDS", 0.05)
    monkeypatch.setattr(intake_tcp, "CLEAN_UP_SECONDS", 0.05)
    async with a_line(ca, agent, parked=2) as (our, line):
        pipe, clock = await bound(our, line), await bound(our, line, 1)
        pipe.bridge.greedy = False
        pipe.edge_says(end=True)
        await pipe.upstream.until(lambda: pipe.upstream.ended)
        pipe.upstream.stream.send(bytes(3 * 2**20), True)
        clock.edge_says(end=True)  # whose time runs out meanwhile
        await clock.bridge.until(lambda: clock.bridge.ended)
        pipe.bridge.greedy = True
        pipe.bridge.stream.consumed(pipe.bridge.stream.held)
        line.flush()
        await pipe.bridge.until(lambda: pipe.bridge.ended)
        assert len(pipe.at_edge) == 3 * 2**20


async def test_a_reset_is_told_as_one(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with a_line(ca, agent, parked=2) as (our, line):
        first, second = await bound(our, line), await bound(our, line, 1)
        first.upstream.stream.reset(Reason.UPSTREAM_FAILED)
        await first.bridge.until(lambda: first.bridge.ended)
        assert first.close == Close(1011, "outbound-error")
        first.edge_says(end=True)
        second.bridge.stream.reset(8)
        line.flush()
        await second.upstream.until(lambda: second.upstream.reset is not None)


async def test_a_text_frame_is_an_error(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with scripted_edge(ca) as edge:
        pipe = await bound(agent(edge), await edge.line(parked=2))
        pipe.edge_says(frame(TEXT, b"hi"))
        await pipe.bridge.until(lambda: pipe.bridge.ended)
        assert pipe.close == Close(1002, "protocol-error")
        assert pipe.upstream.reset is not None
        pipe.edge_says(end=True)


@pytest.mark.parametrize("refusal", ["404", "reset", "silence"])
async def test_a_connection_that_is_not_to_be_had_is_forgotten(
    ca: LocalAuthority, agent: MakeAgent, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    monkeypatch.setattr(intake_tcp, "TCP_SECONDS", 0.1)
    async with a_line(ca, agent, parked=2) as (our, line):
        await line.deliver("req-0", *ENVELOPE, (b"inkbox-tcp-id", b"tcp-0"))
        await line.until(lambda: len(line.bridges) == 1)
        bridge = line.bridges["/_system/tcp/tcp-0"]
        if refusal == "404":
            bridge.reply(404)
        elif refusal == "reset":
            bridge.stream.reset(7)
        else:
            await bridge.until(lambda: bridge.reset is not None)
        pipe = await bound(our, line, 1) if refusal == "silence" else None
        assert len(our.streams) == (0 if pipe is None else 1)
        if pipe is not None:
            pipe.bridge.stream.reset(8)
            line.flush()


async def test_what_is_held_is_credited_as_it_is_taken(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with scripted_edge(ca) as edge:
        pipe = await bound(agent(edge), await edge.line(parked=2))
        pipe.upstream.greedy = False
        for _ in range(128):
            pipe.edge_says(outer_frame(bytes(16 * 1024), mask=None))
        await pipe.upstream.until(lambda: len(pipe.upstream.body) > 2**20 - 20 * 1024)
        assert len(pipe.upstream.body) <= 2**20
        pipe.upstream.greedy = True
        pipe.upstream.stream.consumed(len(pipe.upstream.body))
        await pipe.upstream.until(lambda: len(pipe.upstream.body) == 2 * 2**20)
        pipe.upstream.stream.send(b"", True)
        await pipe.bridge.until(lambda: pipe.bridge.ended)
        pipe.edge_says(end=True)


async def test_what_nobody_took_of_connections_that_are_over_is_not_held_for_ever(
    ca: LocalAuthority, agent: MakeAgent
) -> None:
    async with scripted_edge(ca) as edge:
        our = agent(edge)
        line = await edge.line(parked=2)
        for number in range(3):
            pipe = await bound(our, line, number)
            pipe.upstream.greedy = False
            pipe.edge_says(*[outer_frame(bytes(16 * 1024), mask=None)] * 60, end=True)
            await pipe.upstream.until(lambda one=pipe.upstream: one.ended)  # type: ignore[misc]
            pipe.upstream.stream.reset(Reason.UPSTREAM_FAILED)
            await pipe.bridge.until(lambda one=pipe.bridge: one.ended)  # type: ignore[misc]
        assert not our.carrier.exchanges and our.carrier._sessions[0].h2.held == 0
