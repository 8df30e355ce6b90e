"""WebSockets through an agent on the HTTP/2 carrier."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.agent.intake.conftest import Agent, Bridged, MakeAgent, a_line
from tests.kit.scripted_edge import Line, scripted_edge, welcoming
from tests.kit.watched import PATIENCE
from wellhead.agent.intake import websocket as intake_websocket
from wellhead.agent.intake.terms import IntakeLimits
from wellhead.net.authority import LocalAuthority
from wellhead.wire.intake_ws import (
    EnvelopeDecoder,
    OuterDecoder,
    binary_envelope,
    close_envelope,
    outer_frame,
    text_envelope,
)
from wellhead.wire.streams import HeadKind, Reason, StreamKind
from wellhead.wire.ws import accept_key, close_frame, ping_frame
from wellhead.wire.ws_frames import (
    BINARY,
    CONTINUATION,
    PONG,
    TEXT,
    Binary,
    Close,
    Event,
    FrameReader,
    Text,
    frame,
)
from wellhead.wire.ws_messages import MessageReader

BOTH_LOOPS = True
UPGRADE = (
    (b"inkbox-route-kind", b"ws-upgrade"),
    (b"inkbox-ws-id", b"ws-1"),
    (b"inkbox-method", b"GET"),
    (b"inkbox-path", b"/ws"),
    (b"inkbox-h-sec-websocket-protocol", b"chat, x"),
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: %b\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
)


class Conversation(Bridged):
    """A WebSocket that is open: the edge's end of its bridge and the upstream's end of its stream."""

    def framed(self, piece: bytes) -> bytes:
        return outer_frame(piece, mask=None)

    def at_edge(self) -> list[Event]:
        """What came over the bridge so far: messages, then the outer Close if there is one."""
        envelopes = EnvelopeDecoder(2**26)
        events: list[Event] = []
        for event in OuterDecoder(masked=True).receive(bytes(self.bridge.body)):
            events += envelopes.receive(event.data) if isinstance(event, Binary) else [event]
        return events

    def at_upstream(self) -> list[Event]:
        return MessageReader(from_client=True, max_message=2**26).receive(bytes(self.upstream.body))

    async def edge_hears(self, count: int) -> list[Event]:
        await self.bridge.until(lambda: len(self.at_edge()) >= count)
        return self.at_edge()

    async def upstream_hears(self, count: int) -> list[Event]:
        await self.upstream.until(lambda: len(self.at_upstream()) >= count)
        return self.at_upstream()


async def opened(our: Agent, line: Line, number: int = 0) -> Conversation:
    name = f"ws-{number}"
    fields = [(key, name.encode() if key == b"inkbox-ws-id" else value) for key, value in UPGRADE]
    await line.deliver(f"req-{number}", *fields)
    upstream = await our.stream(number)
    upstream.stream.head(HeadKind.REPLY, SWITCH % b"x")
    await line.reply_to(f"req-{number}")
    return Conversation(line, await line.bridge(f"/_system/ws/{name}"), upstream)


async def test_an_upgrade_asks_the_upstream_first_and_then_opens_its_bridge(
    ca: LocalAuthority, agent: MakeAgent
) -> None:
    async with a_line(ca, agent, parked=2) as (our, line):
        await line.deliver("req-1", *UPGRADE)
        upstream = await our.stream()
        assert upstream.kind is StreamKind.WEBSOCKET and not upstream.ended
        assert b"Sec-WebSocket-Version: 13\r\n" in upstream.envelope
        assert b"sec-websocket-protocol: chat, x\r\n" in upstream.envelope
        key = re.search(rb"Sec-WebSocket-Key: (\S{24})\r\n", upstream.envelope)
        assert key is not None
        upstream.stream.head(HeadKind.REPLY, SWITCH % accept_key(key[1]))
        reply = await line.begun("req-1")
        assert (reply.get(b"inkbox-status"), reply.get(b"content-length")) == ("200", "0")
        assert reply.get(b"inkbox-h-sec-websocket-protocol") == "chat"
        assert not reply.get(b"inkbox-h-sec-websocket-accept")
        assert not line.bridges  # before the reply is acknowledged
        reply.reply(200)
        line.flush()
        bridge = await line.bridge("/_system/ws/ws-1")
        assert (bridge.get(b":method"), bridge.get(b":protocol")) == ("CONNECT", "inkbox-tunnel-ws")
        assert (bridge.get(b"inkbox-ws-id"), bridge.get(b"sec-websocket-version")) == ("ws-1", "13")
        assert bridge.get(b"x-tunnel-secret") == "whs_secret"


async def test_messages_pass_whole_both_ways(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with scripted_edge(ca) as edge:
        our = agent(edge)
        both = await opened(our, await edge.line(parked=2))
        both.edge_says(text_envelope("héllo".encode()), binary_envelope(b"\0\1\xff"))
        assert await both.upstream_hears(2) == [Text("héllo".encode()), Binary(b"\0\1\xff")]
        both.upstream.stream.send(frame(TEXT, b"hi") + frame(BINARY, b"\2"))
        assert await both.edge_hears(2) == [Text(b"hi"), Binary(b"\2")]


async def test_what_the_upstream_says_with_its_101_is_not_lost(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with a_line(ca, agent, parked=2) as (our, line):
        await line.deliver("req-0", *UPGRADE)
        upstream = await our.stream()
        upstream.stream.head(HeadKind.REPLY, SWITCH % b"x", frame(TEXT, b"first"))
        upstream.stream.send(frame(TEXT, b"second"))
        await line.reply_to("req-0")
        both = Conversation(line, await line.bridge("/_system/ws/ws-1"), upstream)
        assert await both.edge_hears(2) == [Text(b"first"), Text(b"second")]


async def test_fragments_of_the_upstream_are_put_together(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with scripted_edge(ca) as edge:
        both = await opened(agent(edge), await edge.line(parked=2))
        both.upstream.stream.send(b"\x01\x02he" + ping_frame(b"?") + b"\x80\x03llo")
        assert await both.edge_hears(1) == [Text(b"hello")]


async def test_a_ping_of_the_upstream_is_answered_here(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with scripted_edge(ca) as edge:
        both = await opened(agent(edge), await edge.line(parked=2))
        both.upstream.stream.send(ping_frame(b"alive?"))
        await both.upstream.until(lambda: len(both.upstream.body) > 0)
        (piece,) = FrameReader(masked=True).read(bytes(both.upstream.body))
        assert (piece.opcode, piece.data) == (PONG, b"alive?")
        assert both.at_edge() == []


async def test_a_ping_of_the_edge_is_answered(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with scripted_edge(ca) as edge:
        both = await opened(agent(edge), await edge.line(parked=2))
        both.bridge.stream.data(ping_frame(b"12345678"))
        both.line.flush()
        await both.bridge.until(lambda: len(both.bridge.body) > 0)
        (piece,) = FrameReader(masked=True).read(bytes(both.bridge.body))
        assert (piece.opcode, piece.data) == (PONG, b"12345678")


async def test_outer_frames_may_be_cut_anywhere_and_even_fragmented(
    ca: LocalAuthority, agent: MakeAgent
) -> None:
    async with scripted_edge(ca) as edge:
        both = await opened(agent(edge), await edge.line(parked=2))
        envelope = text_envelope(b"x" * 300) + text_envelope(b"y")
        cut = bytes((BINARY, 100)) + envelope[:100], frame(CONTINUATION, envelope[100:])
        for piece in cut:
            for byte in piece:
                both.bridge.stream.data(bytes((byte,)))
        both.line.flush()
        assert await both.upstream_hears(2) == [Text(b"x" * 300), Text(b"y")]


async def test_an_envelope_that_means_nothing_is_dropped(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with scripted_edge(ca) as edge:
        both = await opened(agent(edge), await edge.line(parked=2))
        bad = b'{"type":"binary","data":"!"}'
        both.edge_says(len(bad).to_bytes(4, "big") + bad, b"\0\0\0\x02{]", text_envelope(b"good"))
        assert await both.upstream_hears(1) == [Text(b"good")]


async def test_a_message_larger_than_every_window_passes(ca: LocalAuthority, agent: MakeAgent) -> None:
    """Of a message that is not whole nothing may hold back credit, or it never becomes whole."""
    size = 3 * 2**20
    async with a_line(ca, agent, parked=2) as (our, line):
        both = [await opened(our, line, number) for number in range(2)]
        for each in both:
            each.edge_says(binary_envelope(bytes(size)))
        for each in both:
            assert await each.upstream_hears(1) == [Binary(bytes(size))]
        both[0].upstream.stream.send(frame(BINARY, bytes(size)))
        assert await both[0].edge_hears(1) == [Binary(bytes(size))]


async def test_an_upstream_that_does_not_read_holds_up_its_own_visitor_alone(
    ca: LocalAuthority, agent: MakeAgent
) -> None:
    async with a_line(ca, agent, parked=2) as (our, line):
        slow, quick = await opened(our, line, 0), await opened(our, line, 1)
        slow.upstream.greedy = False
        for _ in range(200):
            slow.edge_says(binary_envelope(bytes(32 * 1024)))
        quick.edge_says(text_envelope(b"still here"))
        assert await quick.upstream_hears(1) == [Text(b"still here")]
        await slow.upstream.until(lambda: len(slow.upstream.body) > 64 * 1024)
        quick.edge_says(text_envelope(b"and now"))
        await quick.upstream_hears(2)
        assert len(slow.upstream.body) < 3 * 2**20
        assert slow.bridge.stream.queued > 0
        slow.upstream.greedy = True
        slow.upstream.stream.consumed(len(slow.upstream.body))
        assert len(await slow.upstream_hears(200)) == 200


async def test_a_visitor_that_does_not_read_stops_the_upstream(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with scripted_edge(ca) as edge:
        both = await opened(agent(edge), await edge.line(parked=2))
        both.bridge.greedy = False
        sent = 0
        while both.upstream.stream.send(frame(BINARY, bytes(32 * 1024))):
            sent += 1
            assert sent < 1000
        both.bridge.greedy = True
        await both.bridge.has(1)
        both.bridge.stream.consumed(both.bridge.stream.held)
        both.line.flush()
        await both.upstream.until(lambda: both.upstream.writable > 0)


# Ends


async def test_a_close_of_the_upstream_is_told_with_code_and_reason(
    ca: LocalAuthority, agent: MakeAgent
) -> None:
    async with scripted_edge(ca) as edge:
        both = await opened(agent(edge), await edge.line(parked=2))
        both.upstream.stream.send(close_frame(4001, "bye"))
        assert await both.edge_hears(2) == [
            Close(4001, "bye"),
            Close(4001, "bye"),
        ]  # envelope, and outer frame
        await both.bridge.until(lambda: both.bridge.ended)
        assert await both.upstream_hears(1) == [Close(4001, "")]
        assert both.upstream.ended
        both.edge_says(end=True)


@pytest.mark.parametrize("words", [frame(TEXT, b"last") + close_frame(4001, "bye"), frame(TEXT, b"last")])
async def test_an_upstream_that_ends_before_its_bridge_is_there_is_heard(
    ca: LocalAuthority, agent: MakeAgent, words: bytes
) -> None:
    async with a_line(ca, agent, parked=2) as (our, line):
        await line.deliver("req-0", *UPGRADE)
        upstream = await our.stream()
        upstream.stream.head(HeadKind.REPLY, SWITCH % b"x", words)
        upstream.stream.send(b"", True)
        await line.reply_to("req-0")
        both = Conversation(line, await line.bridge("/_system/ws/ws-1"), upstream)
        assert (await both.edge_hears(1))[0] == Text(b"last")
        await both.bridge.until(lambda: both.bridge.ended)
        both.edge_says(end=True)


async def test_a_close_of_the_visitor_is_told_with_code_and_reason(
    ca: LocalAuthority, agent: MakeAgent
) -> None:
    async with scripted_edge(ca) as edge:
        both = await opened(agent(edge), await edge.line(parked=2))
        both.edge_says(close_envelope(4002, "had enough"))
        assert await both.upstream_hears(1) == [Close(4002, "had enough")]
        both.upstream.stream.send(close_frame(4002))
        await both.bridge.until(lambda: both.bridge.ended)
        assert both.at_edge() == [] and both.upstream.ended
        both.edge_says(end=True)


async def test_a_close_without_a_code_stays_without_one(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with scripted_edge(ca) as edge:
        both = await opened(agent(edge), await edge.line(parked=2))
        both.bridge.stream.data(b"\x88\0")
        both.line.flush()
        await both.upstream.until(lambda: len(both.upstream.body) > 0)
        assert both.upstream.body[:2] == b"\x88\x80"
        both.upstream.stream.send(b"\x88\0", True)
        await both.bridge.until(lambda: both.bridge.ended)
        both.edge_says(end=True)


async def test_an_upstream_that_answers_no_close_is_left(
    ca: LocalAuthority, agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_websocket, "STOP_SECONDS", 0.1)
    async with scripted_edge(ca) as edge:
        both = await opened(agent(edge), await edge.line(parked=2))
        both.edge_says(close_envelope(1000))
        await both.bridge.until(lambda: both.bridge.ended)
        assert both.upstream.reset is not None
        both.edge_says(end=True)


async def test_an_upstream_that_vanishes_ends_the_bridge_without_a_close(
    ca: LocalAuthority, agent: MakeAgent
) -> None:
    async with a_line(ca, agent, parked=2) as (our, line):
        first, second = await opened(our, line, 0), await opened(our, line, 1)
        first.upstream.stream.send(b"", True)
        await first.bridge.until(lambda: first.bridge.ended)
        assert first.at_edge() == [] and first.upstream.ended
        second.upstream.stream.reset(Reason.UPSTREAM_FAILED)
        await second.bridge.until(lambda: second.bridge.reset is not None)
        first.edge_says(end=True)


async def test_a_visitor_who_vanishes_cuts_the_upstream(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with a_line(ca, agent, parked=2) as (our, line):
        first, second = await opened(our, line, 0), await opened(our, line, 1)
        first.edge_says(end=True)
        second.bridge.stream.reset(8)
        line.flush()
        for each in (first, second):
            await each.upstream.until(lambda each=each: each.upstream.reset is not None)  # type: ignore[misc]
        await first.bridge.until(lambda: first.bridge.ended)


async def test_a_bridge_that_the_edge_never_ends_is_cleaned_up(
    ca: LocalAuthority, agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_websocket, "CLEAN_UP_SECONDS", 0.1)
    async with scripted_edge(ca) as edge:
        both = await opened(agent(edge), await edge.line(parked=2))
        both.upstream.stream.send(close_frame(1000), True)
        await both.bridge.until(lambda: both.bridge.reset is not None)


async def test_a_message_above_the_limit_closes_both_with_1009(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with scripted_edge(ca) as edge:
        our = agent(edge, IntakeLimits(max_message_bytes=1000))
        line = await edge.line(parked=2)
        first, second = await opened(our, line, 0), await opened(our, line, 1)
        first.upstream.stream.send(frame(BINARY, bytes(1001)))
        assert (await first.edge_hears(1))[0] == Close(1009, "message-too-big")
        assert (await first.upstream_hears(1))[0] == Close(1009, "message-too-big")
        second.edge_says(binary_envelope(bytes(3000)))
        assert isinstance(close := (await second.upstream_hears(1))[0], Close) and close.code == 1009
        for each in (first, second):
            each.edge_says(end=True)


async def test_an_upgrade_that_is_refused_is_an_ordinary_reply(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with a_line(ca, agent, parked=2) as (our, line):
        await line.deliver("req-1", *UPGRADE)
        (await our.stream()).reply(b"no", b"Content-Type: text/plain", status=403)
        reply = await line.reply_to("req-1")
        assert (reply.get(b"inkbox-status"), bytes(reply.body)) == ("403", b"no")
        await line.deliver("req-2", *UPGRADE)
        (await our.stream(1)).stream.reset(Reason.UPSTREAM_UNREACHABLE)
        assert (await line.reply_to("req-2")).get(b"inkbox-reason") == "upstream-unreachable"
        assert not line.bridges


async def test_an_upgrade_that_takes_too_long_is_answered_504(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with a_line(ca, agent, welcoming(deadline=0.1), parked=2) as (our, line):
        await line.deliver("req-1", *UPGRADE)
        upstream = await our.stream()
        assert (await line.reply_to("req-1")).get(b"inkbox-status") == "504"
        assert upstream.reset == Reason.TIMEOUT


@pytest.mark.parametrize("refusal", ["404", "reset", "silence", "reply"])
async def test_a_bridge_that_is_not_to_be_had_ends_the_upstreams_socket(
    ca: LocalAuthority, agent: MakeAgent, refusal: str
) -> None:
    async with a_line(ca, agent, welcoming(deadline=0.3), parked=2) as (our, line):
        await line.deliver("req-1", *UPGRADE)
        upstream = await our.stream()
        upstream.stream.head(HeadKind.REPLY, SWITCH % b"x")
        await line.until(lambda: "req-1" in line.replies)
        line.replies["req-1"].reply(410 if refusal == "reply" else 200)
        line.flush()
        if refusal != "reply":
            await line.until(lambda: len(line.bridges) == 1)
            bridge = line.bridges["/_system/ws/ws-1"]
            if refusal == "404":
                bridge.reply(404)
            elif refusal == "reset":
                bridge.stream.reset(7)
            line.flush()
        await upstream.until(lambda: upstream.reset is not None)


async def test_a_bridge_outlives_the_drain_of_its_session(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with scripted_edge(ca) as edge:
        our = agent(edge)
        first = await edge.line(parked=2)
        both = await opened(our, first)
        first.goaway(0, b'{"reason":"drain"}')
        await edge.line(1, parked=2)
        both.edge_says(text_envelope(b"still"))
        assert await both.upstream_hears(1) == [Text(b"still")]
        both.upstream.stream.send(frame(TEXT, b"here"))
        assert await both.edge_hears(1) == [Text(b"here")]
        assert not first.lost.is_set()
        both.upstream.stream.send(close_frame(1000), True)
        await both.bridge.until(lambda: both.bridge.ended)
        both.edge_says(end=True)
        await asyncio.wait_for(first.lost.wait(), PATIENCE)


async def test_a_lost_session_cuts_its_bridges(ca: LocalAuthority, agent: MakeAgent) -> None:
    async with scripted_edge(ca) as edge:
        both = await opened(agent(edge), await edge.line(parked=2))
        both.line.hang_up()
        await both.upstream.until(lambda: both.upstream.reset is not None)


async def test_bridges_that_end_in_disorder_cost_the_connection_no_window(
    ca: LocalAuthority, agent: MakeAgent
) -> None:
    async with a_line(ca, agent, parked=2) as (our, line):
        for number in range(20):
            both = await opened(our, line, number)
            both.upstream.greedy = False
            both.edge_says(*[binary_envelope(bytes(60_000))] * 20)  # more than its window holds
            await both.upstream.until(lambda both=both: len(both.upstream.body) > 60_000)  # type: ignore[misc]
            both.upstream.stream.reset(Reason.UPSTREAM_FAILED)
            await both.bridge.until(lambda both=both: both.bridge.reset is not None)  # type: ignore[misc]
        last = await opened(our, line, 20)
        last.edge_says(binary_envelope(bytes(4 * 2**20)))
        await last.upstream_hears(1)
