"""A visitor's WebSocket, from its handshake to its end."""

from __future__ import annotations

import asyncio

import pytest

from tests.kit.doors import FakeStream
from tests.kit.house import House, Visit, status
from wellhead.visitors.conversation import CLOSE_SECONDS
from wellhead.wire.streams import HeadKind, Reason, StreamKind
from wellhead.wire.ws import accept_key, close_frame, ping_frame

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ASK = (
    b"GET /chat HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: " + KEY + b"\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: " + accept_key(KEY) + b"\r\n\r\n"
MASK = b"\1\2\3\4"


def server_text(payload: bytes) -> bytes:
    assert len(payload) < 126
    return bytes((0x81, len(payload))) + payload


def client_text(payload: bytes) -> bytes:
    masked = bytes(byte ^ MASK[at & 3] for at, byte in enumerate(payload))
    return bytes((0x81, 0x80 | len(payload))) + MASK + masked


class Chat(Visit):
    """A visitor whose upgrade was answered; ``stream`` is the agent's end."""

    def __init__(self, house: House, visit: Visit) -> None:
        self.house, self.connection, self.transport = house, visit.connection, visit.transport
        self.ws: FakeStream = house.door.stream

    def hears(self, data: bytes, end: bool = False) -> bytes:
        """The agent sends; returns what the visitor gets at once."""
        self.ws.sink.on_data(data, end)
        return self.transport.take()


def ask(house: House, *, secure: bool = False) -> Visit:
    visit = house.visit(secure=secure, sni="localhost" if secure else None)
    visit.says(ASK)
    return visit


def chat(house: House, *, secure: bool = False) -> Chat:
    visit = ask(house, secure=secure)
    visit.stream.reply(SWITCH, end=False)
    assert status(visit.transport.take()) == 101
    return Chat(house, visit)


async def test_an_upgrade_opens_an_interactive_stream_of_its_own_kind(house: House) -> None:
    stream = ask(house).stream
    assert stream.kind is StreamKind.WEBSOCKET and stream.interactive and not stream.ended
    assert b"Upgrade" not in stream.envelope and b"Sec-WebSocket-Key: " + KEY in stream.envelope


async def test_the_answer_says_upgrade_and_promises_no_body(house: House) -> None:
    visit = ask(house)
    visit.stream.reply(SWITCH, end=False)
    head = visit.transport.take()
    assert b"Connection: Upgrade\r\nUpgrade: websocket\r\n" in head
    assert b"Content-Length" not in head and b"Transfer-Encoding" not in head


async def test_bytes_pass_both_ways_as_they_are(house: House) -> None:
    talk = chat(house)
    assert talk.says(client_text(b"hello")) == b""
    assert talk.ws.sent == client_text(b"hello")
    assert talk.hears(server_text(b"hi")) == server_text(b"hi")
    assert talk.ws.credit == 4


async def test_what_came_beside_the_heads_is_not_lost(house: House) -> None:
    visit = house.visit()
    visit.says(ASK + client_text(b"early"))
    visit.stream.reply(SWITCH, server_text(b"first"), end=False)
    assert visit.transport.take().endswith(server_text(b"first"))
    assert visit.stream.sent == client_text(b"early")


async def test_an_answer_that_ends_at_once_ends_the_conversation(house: House) -> None:
    visit = ask(house)
    visit.stream.reply(SWITCH, close_frame(1000), end=True)
    assert visit.transport.take().endswith(close_frame(1000))
    assert visit.transport.ended and house.lines[-1].status == 101


async def test_a_visitor_that_said_much_before_the_answer_is_read_again(house: House) -> None:
    visit = ask(house)
    visit.says(client_text(b"x" * 100) * 400)
    assert not visit.transport.reading
    visit.stream.reply(SWITCH, end=False)
    assert visit.transport.is_reading() and len(visit.stream.sent) == 400 * 106


async def test_a_refused_upgrade_is_an_ordinary_reply_and_the_connection_lives(house: House) -> None:
    visit = ask(house)
    visit.stream.reply(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n", b"no")
    assert status(visit.transport.take()) == 403
    assert visit.stream.resets == [Reason.CANCELLED], "our half was still open"
    visit.says(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert visit.stream.kind is StreamKind.HTTP


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        SWITCH.replace(accept_key(KEY), accept_key(b"x")),
        SWITCH[:-2] + b"Sec-WebSocket-Accept: " + accept_key(KEY) + b"\r\n\r\n",
    ],
)
async def test_an_answer_with_another_key_is_a_502(house: House, head: bytes) -> None:
    visit = ask(house)
    visit.stream.reply(head, end=False)
    assert status(visit.transport.take()) == 502
    assert visit.stream.resets == [Reason.PROTOCOL]


async def test_a_switch_that_nobody_asked_for_is_a_502(house: House) -> None:
    visit = house.visit()
    visit.says(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    visit.stream.reply(SWITCH, end=False)
    assert status(visit.transport.take()) == 502


@pytest.mark.parametrize(
    "violation",
    [server_text(b"unmasked"), b"\x83\x80" + MASK, b"\xc1\x80" + MASK, b"\x89\xfe\x00\x7e" + MASK],
)
async def test_a_visitor_that_breaks_the_rules_is_closed_with_1002(house: House, violation: bytes) -> None:
    talk = chat(house)
    assert talk.says(violation).startswith(b"\x88") and talk.transport.ended
    assert talk.ws.resets == [Reason.PROTOCOL] and talk.ws.sent == b""
    assert talk.says(client_text(b"more")) == b"" and talk.ws.sent == b""


async def test_the_close_code_of_a_violation_is_1002(house: House) -> None:
    talk = chat(house)
    assert talk.says(server_text(b"unmasked")) == close_frame(1002, "mask")


async def test_an_agent_that_breaks_the_rules_is_the_gateways_fault(house: House) -> None:
    talk = chat(house)
    assert talk.hears(client_text(b"masked")) == close_frame(1014, "mask")
    assert talk.ws.resets == [Reason.PROTOCOL]


async def test_a_close_passes_and_nothing_after_it(house: House) -> None:
    talk = chat(house)
    talk.says(close_frame(1000, mask=MASK) + client_text(b"late"))
    assert talk.ws.sent == close_frame(1000, mask=MASK)
    assert talk.hears(close_frame(1000) + server_text(b"late")) == close_frame(1000)
    assert talk.hears(b"", end=True) == b""
    assert talk.transport.ended
    assert house.lines[-1].bytes_out > 0 and house.lines[-1].whole


async def test_an_agents_end_is_read_out_so_that_its_last_words_arrive(house: House) -> None:
    """A close with unread bytes of the visitor would reset the connection under the Close frame."""
    talk = chat(house)
    talk.hears(close_frame(1000), end=True)
    assert talk.transport.ended and not talk.transport.closed
    assert talk.says(client_text(b"late")) == b""
    talk.after(1.5)
    assert talk.transport.closed


async def test_nothing_said_after_the_end_becomes_a_request(house: House) -> None:
    talk = chat(house)
    talk.hears(close_frame(1000), end=True)
    assert talk.says(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""
    assert len(house.door.opened) == 1


async def test_a_tls_visitor_whose_reading_was_paused_is_read_again_for_the_close(house: House) -> None:
    talk = chat(house, secure=True)
    talk.ws.full = True
    talk.says(client_text(b"x"))
    assert not talk.transport.reading
    talk.hears(b"", end=True)
    assert talk.transport.is_reading() and talk.transport.closed


async def test_a_lost_agent_is_told_at_a_frame_boundary(house: House) -> None:
    talk = chat(house)
    talk.hears(server_text(b"whole"))
    talk.ws.sink.on_reset(Reason.SESSION_LOST)
    assert talk.transport.take() == close_frame(1014, "agent-lost")
    assert talk.transport.ended


async def test_a_lost_agent_cuts_the_connection_inside_a_frame(house: House) -> None:
    talk = chat(house)
    talk.hears(server_text(b"whole")[:4])
    talk.ws.sink.on_reset(Reason.SESSION_LOST)
    assert talk.transport.take() == b"" and talk.transport.aborted


async def test_an_upstream_that_breaks_off_is_not_called_a_lost_agent(house: House) -> None:
    talk = chat(house)
    talk.ws.sink.on_reset(Reason.UPSTREAM_FAILED)
    assert talk.transport.take() == close_frame(1014, "upstream-failed")


async def test_a_tunnel_that_was_removed_says_that_nothing_more_will_come(house: House) -> None:
    talk = chat(house)
    talk.ws.sink.on_reset(Reason.REMOVED)
    assert talk.transport.take() == close_frame(1001, "removed")


async def test_a_visitor_that_reads_nothing_is_asked_to_come_later(house: House) -> None:
    talk = chat(house)
    talk.hears(server_text(b"unread"))
    talk.transport.unsent = 1000
    for at in (0, 19):
        talk.after(at)
    talk.transport.take()
    talk.after(59)
    assert not talk.ws.resets
    assert talk.after(60.5).endswith(close_frame(1013, "slow-reader"))
    assert talk.ws.resets == [Reason.TIMEOUT]
    talk.after(60.5 + CLOSE_SECONDS)
    assert talk.transport.aborted


async def test_a_visitor_whose_agent_reads_nothing_is_asked_to_come_later(house: House) -> None:
    talk = chat(house)
    talk.ws.full = True
    talk.says(client_text(b"x"))
    for at in (0, 20, 40, 59):
        assert talk.after(at) == b"", "a visitor that is not read owes no pong"
    assert talk.after(60.5) == close_frame(1013, "slow-upstream")


async def test_a_visitor_whose_agent_reads_again_in_time_is_kept(house: House) -> None:
    talk = chat(house)
    talk.ws.full = True
    talk.says(client_text(b"x"))
    talk.after(59)
    talk.ws.sink.on_writable()
    assert talk.after(61) == b"" and not talk.ws.resets


async def test_a_crowd_is_asked_to_come_again_one_after_the_other(house: House) -> None:
    talks = [chat(house) for _ in range(40)]
    draining = asyncio.create_task(house.ingress.drain(30))
    await asyncio.sleep(0)
    gone = [sum(bool(talk.transport.ended) for talk in talks)]
    for at in (0.5, 1.0, 2.0):
        for talk in talks:
            talk.after(at)
        gone.append(sum(bool(talk.transport.ended) for talk in talks))
    assert gone[0] < 20 and gone[1] < 40 and gone[0] < gone[2] and gone[3] == 40, gone
    draining.cancel()


async def test_a_visitor_that_does_not_close_after_our_close_is_cut(house: House) -> None:
    talk = chat(house)
    talk.ws.sink.on_reset(Reason.SESSION_LOST)
    talk.after(CLOSE_SECONDS - 1)
    assert not talk.transport.closed
    talk.after(CLOSE_SECONDS + 1)
    assert talk.transport.aborted
    talk.connection.connection_lost(None)
    assert house.lines[-1].reason == "agent-lost"


async def test_a_tls_visitor_whose_reading_was_paused_is_read_for_our_close(house: House) -> None:
    talk = chat(house, secure=True)
    talk.ws.full = True
    talk.says(client_text(b"x"))
    talk.ws.sink.on_reset(Reason.SESSION_LOST)
    assert talk.transport.is_reading() and talk.transport.closed


async def test_a_flood_of_pings_is_closed_with_1008(house: House) -> None:
    talk = chat(house)
    ping = ping_frame(mask=MASK)
    assert talk.says(ping * 100) == b""
    assert talk.says(ping) == close_frame(1008, "ping-flood")
    assert talk.ws.sent == ping * 100


async def test_pings_spread_over_seconds_are_no_flood(house: House) -> None:
    talk = chat(house)
    for second in range(3):
        house.ahead = second
        assert talk.says(ping_frame(mask=MASK) * 100) == b""


async def test_a_silent_visitor_is_asked_and_cut_after_two_questions(house: House) -> None:
    talk = chat(house)
    assert talk.after(0) == b"" and talk.after(19) == b""
    assert talk.after(20) == ping_frame() and talk.after(39) == b""
    assert talk.after(40) == ping_frame()
    assert not talk.transport.closed
    talk.after(60)
    assert talk.transport.aborted


async def test_a_visitor_that_answers_is_kept(house: House) -> None:
    talk = chat(house)
    talk.after(0)
    for at in range(20, 400, 40):
        assert talk.after(at) == ping_frame()
        talk.says(client_text(b"here"))
        assert talk.after(at + 10) == b""
    assert not talk.transport.closed


async def test_no_ping_is_put_inside_a_frame_or_behind_a_close(house: House) -> None:
    inside, behind = chat(house), chat(house)
    inside.hears(server_text(b"whole")[:4])
    behind.hears(close_frame(1000))
    for talk in (inside, behind):
        talk.after(0)
        assert talk.after(20) == b""
    behind.after(40)
    behind.after(60)
    assert behind.transport.aborted, "it did not close"


async def test_draining_asks_the_visitor_to_come_again(house: House) -> None:
    talk = chat(house)
    talk.connection.drain()
    assert talk.transport.take() == close_frame(1012, "draining")
    assert talk.ws.resets == [Reason.CANCELLED]


async def test_draining_waits_for_the_end_of_a_frame(house: House) -> None:
    talk = chat(house)
    frame = server_text(b"whole")
    talk.hears(frame[:4])
    talk.connection.drain()
    assert not talk.transport.closed
    assert talk.hears(frame[4:]) == frame[4:] + close_frame(1012, "draining")


async def test_an_upgrade_that_is_answered_while_draining_is_drained_too(house: House) -> None:
    visit = ask(house)
    house.ingress.draining = True
    visit.connection.drain()
    visit.stream.reply(SWITCH, end=False)
    assert visit.transport.take().endswith(close_frame(1012, "draining"))


async def test_a_visitors_half_close_is_passed_on_and_the_other_half_lives(house: House) -> None:
    talk = chat(house)
    assert talk.connection.eof_received()
    assert talk.ws.ended and not talk.ws.resets
    assert talk.hears(server_text(b"last")) == server_text(b"last")
    talk.hears(b"", end=True)
    assert talk.transport.closed


async def test_a_half_close_before_the_answer_is_passed_on(house: House) -> None:
    visit = ask(house)
    assert visit.connection.eof_received()
    visit.stream.reply(SWITCH, end=False)
    assert visit.stream.ended


async def test_a_visitor_that_leaves_cancels_the_stream_and_is_one_line(house: House) -> None:
    talk = chat(house)
    talk.says(client_text(b"hello"))
    talk.connection.connection_lost(None)
    assert talk.ws.resets == [Reason.CANCELLED]
    assert [(line.status, line.bytes_in) for line in house.lines] == [(101, 11)]


async def test_an_agent_that_takes_no_more_stops_the_reading_until_it_does(house: House) -> None:
    talk = chat(house)
    talk.ws.full = True
    talk.says(client_text(b"x"))
    assert not talk.transport.reading
    talk.ws.sink.on_writable()
    assert talk.transport.reading


async def test_a_visitor_that_reads_nothing_gives_the_agent_no_credit(house: House) -> None:
    talk = chat(house)
    talk.connection.pause_writing()
    talk.hears(server_text(b"1234"))
    assert talk.ws.credit == 0
    talk.connection.resume_writing()
    assert talk.ws.credit == 6


async def test_a_head_after_the_switch_breaks_the_rules_and_none_after_the_end_does(house: House) -> None:
    talk = chat(house)
    talk.ws.sink.on_head(HeadKind.TRAILERS, b"\r\n", b"", True)
    assert talk.transport.take() == close_frame(1014, "upstream-failed")
    over = chat(house)
    over.hears(b"", end=True)
    over.ws.sink.on_head(HeadKind.TRAILERS, b"\r\n", b"", True)
    assert over.transport.take() == b"" and len(house.lines) == 1


async def test_every_end_gives_its_place_in_the_tunnel_back(house: House) -> None:
    door = house.tunnel("my-agent")
    line = next(iter(house.registry.lines.values()))
    asks = ASK.replace(b"Host: localhost", b"Host: my-agent.localhost")
    for number in range(4):
        visit = house.visit()
        visit.says(asks)
        door.stream.reply(SWITCH, end=False)
        assert line.exchanges == 1
        if number == 0:
            door.stream.sink.on_data(b"", True)
        elif number == 1:
            door.stream.sink.on_reset(Reason.SESSION_LOST)
        elif number == 2:
            visit.says(server_text(b"unmasked"))
        visit.connection.connection_lost(None)
        assert line.exchanges == 0
    assert len(house.lines) == 4
