"""A WebSocket on one stream of a visitor's HTTP/2 connection (RFC 8441)."""

from __future__ import annotations

import asyncio

import pytest

from tests.kit.house import TERMS, House
from tests.kit.http2 import Http2Visit
from tests.visitors.test_conversation import client_text, server_text
from wellhead.visitors.conversation import CLOSE_SECONDS
from wellhead.wire.h2_frames import ErrorCode
from wellhead.wire.streams import Reason, StreamKind
from wellhead.wire.ws import accept_key, close_frame, ping_frame


def key_of(envelope: bytes) -> bytes:
    lines = dict(line.split(b": ", 1) for line in envelope.split(b"\r\n")[1:-2])
    return {name.lower(): text for name, text in lines.items()}[b"sec-websocket-key"]


def switch(visit: Http2Visit, *lines: bytes) -> bytes:
    """What an upstream answers that has understood."""
    accept = b"Sec-WebSocket-Accept: " + accept_key(key_of(visit.stream.envelope))
    return b"\r\n".join((b"HTTP/1.1 101 Switching Protocols", accept, *lines, b"", b""))


class Chat:
    """A WebSocket that is open; ``agent`` is the agent's end."""

    def __init__(self, visit: Http2Visit, stream: int) -> None:
        self.visit, self.id, self.agent = visit, stream, visit.stream
        self.reply = visit.replies[stream]

    async def says(self, data: bytes, end: bool = False) -> None:
        await self.visit.send(self.id, data, end)

    async def hears(self, data: bytes, end: bool = False) -> bytes:
        """The agent sends; what the visitor got until now."""
        self.agent.sink.on_data(data, end)
        await self.visit.turn()
        return self.reply.body


@pytest.fixture
async def chat(house: House) -> Chat:
    visit = Http2Visit(house)
    stream = await visit.connect()
    visit.stream.reply(switch(visit), end=False)
    await visit.turn()
    return Chat(visit, stream)


async def test_an_extended_connect_is_an_upgrade_for_the_agent(house: House) -> None:
    visit = Http2Visit(house)
    stream = await visit.connect("/chat?x", ("sec-websocket-protocol", "soup"), ("origin", "https://a"))
    assert visit.stream.kind is StreamKind.WEBSOCKET and visit.stream.interactive and not visit.stream.ended
    assert visit.stream.envelope.startswith(b"GET /chat?x HTTP/1.1\r\nHost: localhost\r\n")
    assert b"sec-websocket-protocol: soup\r\n" in visit.stream.envelope
    visit.stream.reply(switch(visit, b"Sec-WebSocket-Protocol: soup"), end=False)
    await visit.turn()
    reply = visit.replies[stream]
    assert reply.fields == [(b":status", b"200"), (b"sec-websocket-protocol", b"soup")]


async def test_no_two_are_asked_with_one_key(house: House) -> None:
    visit = Http2Visit(house)
    for _ in range(2):
        await visit.connect()
    first, second = (key_of(stream.envelope) for stream in house.door.opened)
    assert first != second


async def test_bytes_pass_both_ways_as_they_are(chat: Chat) -> None:
    await chat.says(client_text(b"hello"))
    assert chat.agent.sent == client_text(b"hello")
    assert await chat.hears(server_text(b"hi")) == server_text(b"hi")
    assert chat.agent.credit == 4


async def test_what_came_before_the_answer_is_not_lost(house: House) -> None:
    visit = Http2Visit(house)
    stream = await visit.connect()
    await visit.send(stream, client_text(b"early"))
    visit.stream.reply(switch(visit), server_text(b"first"), end=False)
    await visit.turn()
    assert visit.stream.sent == client_text(b"early") and visit.replies[stream].body == server_text(b"first")


async def test_a_window_full_of_early_bytes_is_credited_with_the_answer(house: House) -> None:
    visit = Http2Visit(house)
    stream = await visit.connect()
    early = client_text(b"x" * 100) * 1500
    await visit.send(stream, early)
    before = visit.h2.local_flow_control_window(stream)
    visit.stream.reply(switch(visit), end=False)
    await visit.turn()
    assert visit.stream.sent == early
    assert visit.h2.local_flow_control_window(stream) > before


async def test_a_close_of_ours_behind_the_visitors_end_is_the_end_of_both(chat: Chat) -> None:
    await chat.says(b"", end=True)
    chat.agent.sink.on_reset(Reason.SESSION_LOST)
    await chat.visit.turn()
    assert chat.reply.body == close_frame(1014, "agent-lost") and chat.reply.ended
    (line,) = chat.visit.house.lines
    assert line.reason == "agent-lost"
    assert not chat.visit.connection._requests


async def test_what_comes_after_our_close_is_taken_off_the_connection(chat: Chat) -> None:
    await chat.hears(b"", end=True)
    assert chat.reply.ended
    await chat.says(client_text(b"x" * 100) * 10)
    assert chat.visit.connection._h2.held == 0


async def test_a_refusal_is_an_ordinary_reply(house: House) -> None:
    visit = Http2Visit(house)
    stream = await visit.connect()
    visit.stream.reply(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n", b"no")
    await visit.turn()
    reply = visit.replies[stream]
    assert (reply.status, reply.body, reply.ended) == (403, b"no", True)
    assert visit.stream.resets == [Reason.CANCELLED]


async def test_an_answer_with_another_key_is_a_502(house: House) -> None:
    visit = Http2Visit(house)
    stream = await visit.connect()
    visit.stream.reply(
        b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: " + accept_key(b"x") + b"\r\n\r\n",
        end=False,
    )
    await visit.turn()
    assert visit.replies[stream].status == 502


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"sec-websocket-version": "8"}, 426),
        ({":protocol": "connect-udp"}, 400),
        ({":method": "GET"}, 400),
    ],
)
async def test_what_is_no_handshake_is_refused(house: House, fields: dict[str, str], status: int) -> None:
    visit = Http2Visit(house)
    asked = {
        ":method": "CONNECT", ":protocol": "websocket", ":scheme": "https", ":authority": "localhost",
        ":path": "/", "sec-websocket-version": "13",
    } | fields  # fmt: skip
    stream = await visit.ask(raw=asked.items(), end=False)
    assert visit.replies[stream].status == status and not house.door.opened


async def test_a_plain_connect_is_refused(house: House) -> None:
    visit = Http2Visit(house)
    stream = await visit.ask(raw=[(":method", "CONNECT"), (":authority", "localhost:22")], end=False)
    assert visit.replies[stream].status in (400, 405) and not house.door.opened


async def test_both_say_goodbye(chat: Chat) -> None:
    await chat.says(client_text(b"x") + b"\x88\x82\0\0\0\0\x03\xe8")
    await chat.hears(close_frame(1000), end=True)
    assert chat.reply.body.endswith(close_frame(1000)) and chat.reply.ended and chat.reply.reset is None
    await chat.says(b"", end=True)
    assert chat.reply.reset is None
    (line,) = chat.visit.house.lines
    assert line.status == 101 and line.whole
    await chat.visit.ask()
    assert chat.visit.stream.kind is StreamKind.HTTP, "the connection lives on"


async def test_a_visitor_that_does_not_close_its_half_is_let_go(chat: Chat) -> None:
    await chat.hears(close_frame(1000), end=True)
    await chat.visit.after(TERMS.linger_seconds + 0.1)
    assert chat.reply.reset == ErrorCode.NO_ERROR and chat.reply.ended


async def test_a_visitor_that_ends_its_half_ends_the_agents(chat: Chat) -> None:
    await chat.says(b"", end=True)
    assert chat.agent.ended and not chat.reply.ended
    await chat.hears(b"", end=True)
    assert chat.reply.ended


async def test_a_visitor_that_resets_is_told_to_the_agent(chat: Chat) -> None:
    chat.visit.h2.reset_stream(chat.id, ErrorCode.CANCEL)
    await chat.visit.turn()
    assert chat.agent.resets == [Reason.CANCELLED] and len(chat.visit.house.lines) == 1


async def test_a_lost_agent_is_a_close_frame_at_a_boundary_and_else_a_reset(chat: Chat) -> None:
    chat.agent.sink.on_reset(Reason.SESSION_LOST)
    await chat.visit.turn()
    assert chat.reply.body == close_frame(1014, "agent-lost") and chat.reply.ended
    await chat.visit.after(CLOSE_SECONDS + 0.1)
    assert chat.reply.reset == ErrorCode.CANCEL
    other = await chat.visit.connect()
    chat.visit.stream.reply(switch(chat.visit), server_text(b"half")[:-1], end=False)
    chat.visit.stream.sink.on_reset(Reason.SESSION_LOST)
    await chat.visit.turn()
    assert chat.visit.replies[other].reset == ErrorCode.CANCEL and not chat.visit.replies[other].ended


async def test_a_frame_that_may_not_be_closes_with_its_code(chat: Chat) -> None:
    await chat.says(server_text(b"not masked"))
    assert chat.reply.body == close_frame(1002, "mask") and chat.agent.resets == [Reason.PROTOCOL]
    await chat.says(b"", end=True)
    assert [line.reason for line in chat.visit.house.lines] == ["mask"]


async def test_an_agent_that_does_not_take_it_stops_the_credit(chat: Chat) -> None:
    before = chat.visit.h2.local_flow_control_window(chat.id)
    chat.agent.full = True
    for _ in range(15):
        await chat.says(b"\x82\xfe\x27\x10" + bytes(4) + bytes(10_000))
    assert chat.visit.h2.local_flow_control_window(chat.id) == before - 15 * 10_008
    chat.agent.full = False
    chat.agent.sink.on_writable()
    await chat.visit.turn()
    assert chat.visit.h2.local_flow_control_window(chat.id) == before


async def test_a_silent_visitor_is_asked_and_then_given_up(chat: Chat) -> None:
    await chat.visit.after(0.1)
    await chat.visit.after(TERMS.websocket_ping_seconds)
    assert chat.reply.body == ping_frame()
    await chat.visit.after(TERMS.websocket_ping_seconds)
    await chat.visit.after(TERMS.websocket_ping_seconds)
    assert chat.reply.reset == ErrorCode.CANCEL
    assert [line.reason for line in chat.visit.house.lines] == ["visitor-silent"]


async def test_a_drain_asks_visitors_to_come_again(chat: Chat) -> None:
    draining = asyncio.create_task(chat.visit.house.ingress.drain(5))
    await chat.visit.turn()
    assert chat.reply.body == close_frame(1012, "draining") and chat.reply.ended
    await chat.says(b"", end=True)
    assert chat.visit.transport.closed
    chat.visit.connection.connection_lost(None)
    await draining
