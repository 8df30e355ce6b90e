"""Whole HTTP/2 connections: against h2, which is the oracle, against each other, and over time."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kit.h2talk import GET, HUGE, OK, POST, ByHand, Ear, End, exchange, frame, frames
from wellhead.errors import H2Error, SessionLost, StateError
from wellhead.wire.h2 import Fields, H2Role
from wellhead.wire.h2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    WINDOW_UPDATE,
    ErrorCode,
    goaway_frame,
    ping_frame,
    settings_frame,
    window_frame,
)

CALM = ErrorCode.ENHANCE_YOUR_CALM
FILL = bytes(n * 31 % 251 for n in range(200_000))


# A conversation with the oracle


@dataclass(frozen=True)
class Message:
    """One request, or its reply: a head, a body in pieces, perhaps trailers."""

    more: Fields
    pieces: list[int]
    trailers: bool

    @property
    def body(self) -> bytes:
        return FILL[: sum(self.pieces)]

    @property
    def fields(self) -> Fields:
        return [(b"x-trailer", b"value")] if self.trailers else []


messages = st.builds(
    Message,
    st.lists(
        st.tuples(
            st.sampled_from([b"x-one", b"x-two", b"server", b"accept"]),
            st.text("abc xyz;=", max_size=40).map(lambda text: text.strip().encode()),
        ),
        max_size=5,
    ),
    st.lists(st.sampled_from([0, 1, 100, 5000, 16385]), max_size=3),
    st.booleans(),
)
WINDOWS = st.sampled_from([300, 1000, 16384, 65535, 200_000])
talks = st.lists(st.tuples(messages, messages), min_size=1, max_size=5)
slow = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass
class Oracle:
    """h2 at the other end; windows may be tiny, so what it sends waits for credit."""

    client: bool
    window: int
    connection: h2.connection.H2Connection = field(init=False)
    waiting: dict[int, tuple[bytearray, Fields]] = field(default_factory=dict)
    heads: dict[int, Fields] = field(default_factory=dict)
    trailers: dict[int, Fields] = field(default_factory=dict)
    bodies: dict[int, bytearray] = field(default_factory=dict)
    ended: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        config = h2.config.H2Configuration(client_side=self.client, header_encoding=None)
        self.connection = h2.connection.H2Connection(config)
        self.connection.local_settings = h2.settings.Settings(
            self.client, {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: self.window}
        )
        self.connection.initiate_connection()

    def send(self, stream_id: int, head: Fields, message: Message) -> None:
        self.connection.send_headers(stream_id, head + message.more)
        self.waiting[stream_id] = (bytearray(message.body), message.fields)
        self.push()

    def push(self) -> None:
        for stream_id, (body, trailers) in list(self.waiting.items()):
            while body:
                room = min(
                    self.connection.local_flow_control_window(stream_id),
                    self.connection.max_outbound_frame_size,
                    len(body),
                )
                if room <= 0:
                    break
                pad = 3 if room > 10 else None
                room -= 4 if pad else 0
                self.connection.send_data(stream_id, bytes(body[:room]), pad_length=pad)
                del body[:room]
            if not body:
                del self.waiting[stream_id]
                if trailers:
                    self.connection.send_headers(stream_id, trailers, end_stream=True)
                else:
                    self.connection.end_stream(stream_id)

    def receive(self, data: bytes) -> list[int]:
        """Take in bytes; returns the streams that are complete now."""
        done = []
        for event in self.connection.receive_data(data):
            if isinstance(event, h2.events.RequestReceived | h2.events.ResponseReceived):
                self.heads[event.stream_id] = [(bytes(n), bytes(v)) for n, v in event.headers]
                self.bodies[event.stream_id] = bytearray()
            elif isinstance(event, h2.events.DataReceived):
                self.bodies[event.stream_id] += event.data
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.TrailersReceived):
                self.trailers[event.stream_id] = [(bytes(n), bytes(v)) for n, v in event.headers]
            elif isinstance(event, h2.events.StreamEnded):
                done.append(event.stream_id)
            else:
                assert not isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated)
        self.push()
        return done


def ours_sends(ear: Ear, head: Fields | None, message: Message) -> None:
    assert ear.stream is not None
    if head is not None:
        ear.stream.headers(head + message.more)
    at = 0
    for size in message.pieces:
        ear.stream.data(FILL[at : at + size])
        at += size
    if message.trailers:
        ear.stream.headers(message.fields, end=True)
    else:
        ear.stream.data(b"", end=True)


def check(head: Fields, ear: Ear, body: bytes, sent: Message, first: Fields) -> None:
    assert head == first + sent.more
    assert body == sent.body
    assert ear.ended and not ear.resets


@slow
@given(talks, WINDOWS, WINDOWS, st.sampled_from([0, 1, 7, 1000]), st.sampled_from([1, 500, 20_000, HUGE]))
def test_a_client_that_others_wrote_and_our_server_understand_each_other(
    talk: list[tuple[Message, Message]], their_window: int, our_window: int, chop: int, room: int
) -> None:
    if chop == 1:
        talk = talk[:1]
    oracle = Oracle(client=True, window=their_window)
    server = End(H2Role.SERVER, window=our_window)
    # The oracle knows our window before it sends, as a client that waits for SETTINGS does.
    oracle.receive(server.take())
    ids = [2 * index + 1 for index in range(len(talk))]
    for stream_id, (request, _) in zip(ids, talk, strict=True):
        oracle.send(stream_id, POST, request)
    answered: set[int] = set()
    for _ in range(100_000):
        data = oracle.connection.data_to_send() or b""
        step = chop or len(data) or 1
        for at in range(0, len(data), step):
            server.connection.receive(data[at : at + step])
        for stream_id, ear in server.ears.items():
            if ear.ended and stream_id not in answered:
                answered.add(stream_id)
                ours_sends(ear, OK, talk[stream_id // 2][1])
        back = server.take(room)
        oracle.ended += oracle.receive(back)
        if not data and not back:
            break
    assert sorted(oracle.ended) == ids
    for stream_id, (request, reply) in zip(ids, talk, strict=True):
        ear = server.ears[stream_id]
        check(server.heads[stream_id][0], ear, bytes(ear.body), request, POST)
        assert ear.heads == ([request.fields] if request.trailers else [])
        check(oracle.heads[stream_id], ear, bytes(oracle.bodies[stream_id]), reply, OK)
        assert oracle.trailers.get(stream_id, []) == reply.fields
    assert server.connection.idle and server.connection.held == 0


@slow
@given(talks, WINDOWS, WINDOWS, st.sampled_from([0, 1, 7, 1000]), st.sampled_from([1, 500, 20_000, HUGE]))
def test_our_client_and_a_server_that_others_wrote_understand_each_other(
    talk: list[tuple[Message, Message]], their_window: int, our_window: int, chop: int, room: int
) -> None:
    if chop == 1:
        talk = talk[:1]
    oracle = Oracle(client=False, window=their_window)
    client = End(H2Role.CLIENT, window=our_window)
    client.connection.receive(oracle.connection.data_to_send() or b"")  # h2 forgives no more than its window
    ears = {
        2 * index + 1: client.open(POST + request.more, end=False) for index, (request, _) in enumerate(talk)
    }
    for ear, (request, _) in zip(ears.values(), talk, strict=True):
        ours_sends(ear, None, request)
    for _ in range(100_000):
        there = client.take(room)
        for stream_id in oracle.receive(there):
            oracle.send(stream_id, OK, talk[stream_id // 2][1])
        data = oracle.connection.data_to_send() or b""
        step = chop or len(data) or 1
        for at in range(0, len(data), step):
            client.connection.receive(data[at : at + step])
        if not data and not there:
            break
    for (stream_id, ear), (request, reply) in zip(ears.items(), talk, strict=True):
        assert oracle.heads[stream_id] == POST + request.more
        assert oracle.bodies[stream_id] == request.body
        assert oracle.trailers.get(stream_id, []) == request.fields
        check(ear.heads[0], ear, bytes(ear.body), reply, OK)
        assert ear.heads[1:] == ([reply.fields] if reply.trailers else [])
    assert client.connection.idle and client.connection.held == 0


def test_both_ends_of_ours_understand_each_other_byte_by_byte() -> None:
    client, server = End(H2Role.CLIENT), End(H2Role.SERVER)
    ear = client.open(POST, end=False)
    assert ear.stream is not None
    ear.stream.data(b"question", end=True)
    exchange(client, server, chop=1)
    ours_sends(server.ears[1], OK, Message([], [7], trailers=True))
    exchange(client, server, chop=1)
    assert (ear.heads, bytes(ear.body)) == ([OK, [(b"x-trailer", b"value")]], FILL[:7])
    assert bytes(server.ears[1].body) == b"question"
    assert client.connection.idle and server.connection.idle


# The greeting


def test_a_server_announces_its_limits_and_extended_connect_first_of_all() -> None:
    server = End(H2Role.SERVER, max_streams=7, window=1234, max_list=5678)
    server.connection.receive(PREFACE + settings_frame({}) + ping_frame(b"12345678"))
    first, second, *rest = frames(server.take())
    assert first[:3] == (SETTINGS, 0, 0)
    assert frame(*first) == settings_frame({4: 1234, 6: 5678, 3: 7, 8: 1})
    assert (second.kind, second.stream_id) == (WINDOW_UPDATE, 0)
    assert [one.kind for one in rest] == [PING, SETTINGS]


def test_a_client_refuses_pushes_and_sends_its_preface_first() -> None:
    client = End(H2Role.CLIENT)
    client.open()
    data = client.take()
    assert data.startswith(PREFACE)
    assert (2).to_bytes(2, "big") + bytes(4) in frames(data)[0].payload
    assert [one.kind for one in frames(data)] == [SETTINGS, WINDOW_UPDATE, HEADERS]


def test_a_peer_that_says_nothing_is_cut_in_time_and_one_that_speaks_is_not() -> None:
    silent = End(H2Role.SERVER, preface_seconds=5)
    silent.take()
    silent.connection.receive(PREFACE[:-1])
    silent.tick(4.75)
    with pytest.raises(H2Error) as caught:
        silent.tick(0.25)
    assert (caught.value.error_code, caught.value.reason) == (ErrorCode.PROTOCOL_ERROR, "preface")
    ByHand().server.tick(1000)


def test_settings_have_to_be_acknowledged_in_time() -> None:
    server = End(H2Role.SERVER, settings_seconds=10)
    server.connection.receive(PREFACE + settings_frame({}))
    server.tick(9.75)
    with pytest.raises(H2Error) as caught:
        server.tick(0.25)
    assert caught.value.error_code == ErrorCode.SETTINGS_TIMEOUT


def test_extended_connect_is_known_once_the_server_says_so() -> None:
    client, server = End(H2Role.CLIENT), End(H2Role.SERVER)
    assert (client.connection.greeted, client.connection.peer_connects) == (False, False)
    exchange(client, server)
    assert (client.connection.greeted, client.connection.peer_connects) == (True, True)


@pytest.mark.parametrize("cut", [5, 9, 12])
def test_a_head_that_does_not_come_to_its_end_is_cut_in_time(cut: int) -> None:
    hand = ByHand(head_seconds=10)
    hand.send(frame(HEADERS, END_STREAM, 1, b"\x82\x84\x87")[:cut])
    hand.server.tick(10)
    assert hand.fails_within(0.25) == (CALM, "slow-head")


def test_heads_that_come_to_their_end_may_follow_one_another_for_ever() -> None:
    hand = ByHand(head_seconds=10, max_streams=1000)
    for number in range(100):
        head = hand.head(2 * number + 1)
        hand.send(head[:9])
        hand.server.tick(0.25)
        hand.send(head[9:])


# Opening


def test_a_request_head_may_be_sent_in_two_parts() -> None:
    client, server = End(H2Role.CLIENT), End(H2Role.SERVER)
    more = [(b"x-repeats", b"1")]
    for path in (b"/1", b"/2"):
        head = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", path)]
        ear = Ear()
        ear.stream = client.connection.open(head, True, ear, more)
        exchange(client, server)
        assert server.heads[ear.stream.id] == (head + more, True)


@pytest.mark.parametrize("early", [False, True])
def test_a_stream_that_is_over_holds_nobody(early: bool) -> None:
    """Sinks know their streams: where those forget their sinks, no collection is needed to free them."""
    client, server = End(H2Role.CLIENT), End(H2Role.SERVER)
    asker = client.open(POST, end=False)
    exchange(client, server)
    answerer = server.ears.pop(1)
    question, answer = asker.stream, answerer.stream
    assert question is not None and answer is not None
    if not early:
        question.data(b"question", True)
        exchange(client, server)
    answer.headers(OK)
    answer.data(b"answer", True)
    exchange(client, server)
    if early:
        question.data(b"question", True)
        exchange(client, server)
    assert bytes(answerer.body + asker.body) == b"questionanswer"
    freed = [weakref.ref(asker), weakref.ref(answerer)]
    gc.disable()
    try:
        del asker, answerer
        assert [one() for one in freed] == [None, None]
    finally:
        gc.enable()


def test_no_more_streams_are_opened_than_the_peer_allows() -> None:
    client, server = End(H2Role.CLIENT), End(H2Role.SERVER, max_streams=2)
    exchange(client, server)
    allowed = []
    for _ in range(2):
        client.open()
        allowed.append(client.connection.may_open)
    assert allowed == [True, False]
    with pytest.raises(StateError, match="2 streams are live, the peer allows 2"):
        client.open()


def test_a_stream_above_the_limit_is_refused_and_the_others_go_on() -> None:
    hand = ByHand(max_streams=2)
    hand.send(hand.head(1) + hand.head(3) + hand.head(5))
    assert hand.resets() == [(5, ErrorCode.REFUSED_STREAM)]
    assert list(hand.server.heads) == [1, 3]
    assert hand.server.notes == ["streams"]
    hand.server.stream(1).headers(OK, end=True)
    hand.send(hand.head(7))
    assert list(hand.server.heads) == [1, 3, 7]


def test_streams_above_the_limit_without_end_are_a_glitch_each() -> None:
    hand = ByHand(max_streams=1, max_glitches=100)
    hand.send(hand.head(1))
    for number in range(100):
        hand.send(hand.head(3 + 2 * number))
        hand.got()
    assert hand.fails(hand.head(303)) == (CALM, "glitches")


def test_ids_that_come_to_an_end_drain_the_connection_long_before() -> None:
    hand = ByHand(last_id=2**30)
    hand.send(hand.head(2**30 - 1))
    assert not hand.got()
    hand.send(hand.head(2**30 + 1))
    assert [(one.kind, one.payload[:4]) for one in hand.got()][:1] == [(GOAWAY, b"\x7f\xff\xff\xff")]
    assert hand.server.heads.keys() == {2**30 - 1, 2**30 + 1}
    client = End(H2Role.CLIENT, last_id=3)
    client.open()
    client.open()
    assert not client.connection.may_open
    with pytest.raises(SessionLost):
        client.open()


# Leaving


def test_a_drain_warns_first_and_names_the_last_stream_a_round_trip_later() -> None:
    client, server = End(H2Role.CLIENT), End(H2Role.SERVER)
    first = client.open()
    exchange(client, server)
    server.connection.drain()
    late = client.open()  # under way while the warning is
    warning = server.take()
    server.connection.receive(client.take())
    client.connection.receive(warning)
    assert client.goaways == [(2**31 - 1, ErrorCode.NO_ERROR)]
    assert not client.connection.may_open
    exchange(client, server)
    assert client.goaways[1:] == [(3, ErrorCode.NO_ERROR)]
    assert not server.connection.drained
    for stream_id in (1, 3):
        server.stream(stream_id).headers(OK, end=True)
    exchange(client, server)
    assert first.ended and late.ended
    assert server.connection.drained


def test_a_warning_stops_a_client_unless_its_terms_say_that_the_peer_goes_on_serving() -> None:
    for opens in (False, True):
        client, server = End(H2Role.CLIENT, opens_after_warning=opens), End(H2Role.SERVER)
        exchange(client, server)
        server.connection.drain()
        client.connection.receive(server.take())
        assert client.goaways == [(2**31 - 1, 0)]
        assert client.connection.may_open is opens
        server.connection.receive(client.take())  # the answer to its ping: the last id is named now
        client.connection.receive(server.take())
        assert not client.connection.may_open


def test_what_a_goaway_says_beside_its_code_can_be_read() -> None:
    client, server = End(H2Role.CLIENT), End(H2Role.SERVER)
    exchange(client, server)
    said = b'{"reason":"superseded"}'
    client.connection.receive(frame(GOAWAY, 0, 0, b"\0\0\0\0" + (0x1201).to_bytes(4, "big") + said))
    assert (client.goaways, client.connection.goaway_debug) == ([(0, 0x1201)], said)


def test_a_client_that_announces_its_leaving_goes_on_opening_streams() -> None:
    client, server = End(H2Role.CLIENT), End(H2Role.SERVER)
    exchange(client, server)
    client.connection.announce_leaving()
    client.open()
    exchange(client, server)
    assert server.goaways == [(0, 0)]
    assert server.heads.keys() == {1}


def test_a_drain_does_not_wait_for_a_peer_that_answers_no_ping() -> None:
    hand = ByHand(drain_seconds=2)
    hand.send(hand.head(1))
    hand.server.connection.drain()
    hand.server.connection.drain()
    assert [one.kind for one in hand.got()] == [GOAWAY, PING]
    hand.server.tick(1.75)
    assert not hand.got()
    hand.server.tick(0.25)
    (last,) = hand.got()
    assert last.payload == b"\0\0\0\1" + bytes(4)
    hand.send(hand.head(3))  # was told that it would not be served
    assert 3 not in hand.server.heads and not hand.got()
    hand.server.stream(1).headers(OK, end=True)
    hand.got()
    assert hand.server.connection.drained


def test_streams_that_the_peer_will_not_serve_may_be_repeated_elsewhere() -> None:
    client = End(H2Role.CLIENT)
    client.connection.receive(settings_frame({}))
    served, unserved = client.open(), client.open()
    client.connection.receive(goaway_frame(1, ErrorCode.NO_ERROR))
    assert (served.resets, unserved.resets) == ([], [ErrorCode.REFUSED_STREAM])
    assert client.goaways == [(1, 0)]
    client.connection.receive(ByHand().head(1, OK))
    assert served.ended


def test_a_connection_that_is_lost_tells_every_stream_once() -> None:
    hand = ByHand()
    hand.send(hand.head(1) + hand.head(3, POST, end=False) + hand.data(3, b"x"))
    hand.server.connection.lost()
    hand.server.connection.lost()
    assert [ear.resets for ear in hand.server.ears.values()] == [[ErrorCode.LOST]] * 2
    assert hand.server.connection.held == 0 and hand.server.connection.idle
    client = End(H2Role.CLIENT)
    client.connection.lost()
    with pytest.raises(SessionLost):
        client.open()


def test_one_sink_that_fails_does_not_keep_the_others_from_hearing_of_the_loss() -> None:
    hand = ByHand()
    hand.send(hand.head(1) + hand.head(3))

    def fail(code: int) -> None:
        raise ZeroDivisionError

    hand.server.ears[1].on_reset = fail  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        hand.server.connection.lost()
    assert hand.server.ears[3].resets == [ErrorCode.LOST]


def test_a_sink_may_give_the_connection_up_from_inside_a_call() -> None:
    hand = ByHand()
    hand.send(hand.head(1, POST, end=False))
    hand.server.ears[1].on_data = lambda data, end: hand.server.connection.lost()  # type: ignore[method-assign]
    hand.send(hand.data(1, b"x") + hand.head(3))
    assert 3 not in hand.server.heads
    hand.server.tick(100)
    assert hand.server.connection.idle


def test_a_client_that_leaves_finishes_what_it_asked_for() -> None:
    client, server = End(H2Role.CLIENT), End(H2Role.SERVER)
    ear = client.open()
    exchange(client, server)
    client.connection.drain()
    exchange(client, server)
    assert server.goaways == [(0, ErrorCode.NO_ERROR)]
    server.stream(1).headers(OK, end=True)
    exchange(client, server)
    assert ear.ended and client.connection.drained and server.connection.drained


def test_after_an_error_only_goaway_goes_out_and_streams_hear_of_it_from_lost() -> None:
    hand = ByHand()
    hand.send(hand.head(1))
    stream = hand.server.stream(1)
    with pytest.raises(H2Error):
        hand.send(frame(DATA, 0, 0, b"x"))
    stream.headers(OK)
    assert stream.data(b"x" * 100_000, True)
    assert [one.kind for one in hand.got()] == [GOAWAY]
    hand.send(frame(PING, 0, 0, b"12345678"))
    assert not hand.got()
    hand.server.connection.lost()
    assert hand.server.ears[1].resets == [ErrorCode.LOST]


def test_a_ping_measures_the_round_trip() -> None:
    client, server = End(H2Role.CLIENT), End(H2Role.SERVER)
    exchange(client, server)
    client.connection.ping(client.clock.now)
    assert client.connection.unanswered_since == client.clock.now
    client.clock.now += 0.5
    exchange(client, server)
    assert client.connection.rtt == 0.5
    assert client.connection.unanswered_since is None


# Abuse, on both sides of each limit


def test_rapid_resets_end_the_connection_and_those_below_the_rate_do_not() -> None:
    hand = ByHand(early_reset_share=1.0)
    for number in range(200 + 500):
        if number >= 200:
            hand.server.clock.now += 1 / 49.9
        stream_id = 2 * number + 1
        hand.send(hand.head(stream_id) + frame(RST_STREAM, 0, stream_id, b"\0\0\0\x08"))
        hand.server.stream(stream_id).stopped()
    pair = b"".join(hand.head(id) + frame(RST_STREAM, 0, id, b"\0\0\0\x08") for id in (9001, 9003))
    assert hand.fails(pair) == (CALM, "rapid-reset")


def test_resets_of_refused_streams_are_resets_all_the_same() -> None:
    hand = ByHand(max_streams=1, running_share=1.0, reset_burst=20, early_reset_share=1.0)
    pairs = [hand.head(id) + frame(RST_STREAM, 0, id, b"\0\0\0\x08") for id in range(1, 43, 2)]
    hand.send(b"".join(pairs[:-1]))
    assert hand.server.notes.count("streams") == 19
    assert hand.fails(pairs[-1]) == (CALM, "rapid-reset")


def test_a_crowd_of_heads_is_taken_in_a_few_at_a_time_in_its_order() -> None:
    hand = ByHand(heads_at_once=3)
    server, behind = hand.server.connection, []
    crowd = [hand.head(id, POST, False) + hand.data(id, b"%d" % id, True) for id in range(1, 17, 2)]
    hand.send(b"".join(crowd)[:-4])
    behind.append(server.behind)
    assert list(hand.server.ears) == [1, 3, 5]
    assert hand.server.ears[5].body == b"5", "only heads wait"
    hand.send(b"".join(crowd)[-4:])
    behind.append(server.behind)
    assert list(hand.server.ears) == [1, 3, 5, 7, 9, 11]
    hand.send(b"")
    assert [*behind, server.behind] == [True, True, False]
    assert [bytes(ear.body) for ear in hand.server.ears.values()] == [b"%d" % id for id in range(1, 17, 2)]


def test_work_that_was_reset_counts_as_running_until_it_stops() -> None:
    hand = ByHand(max_streams=10, linger_seconds=1)
    for number in range(15):
        stream_id = 2 * number + 1
        hand.send(hand.head(stream_id) + frame(RST_STREAM, 0, stream_id, b"\0\0\0\x08"))
    assert len(hand.server.heads) == 15
    hand.send(hand.head(31))
    assert hand.resets() == [(31, ErrorCode.REFUSED_STREAM)]
    hand.server.stream(1).stopped()
    hand.send(hand.head(33))
    assert 33 in hand.server.heads
    hand.send(hand.head(35))
    assert hand.resets() == [(35, ErrorCode.REFUSED_STREAM)]
    hand.server.tick(1)
    hand.send(hand.head(37))
    assert 37 in hand.server.heads


def test_a_browser_that_leaves_a_page_of_images_and_asks_for_another_three_times_over_is_not_cut() -> None:
    hand = ByHand(early_reset_share=1.0)
    first = [2 * number + 1 for number in range(100)]
    hand.send(b"".join(map(hand.head, first)))
    hand.send(b"".join(frame(RST_STREAM, 0, id, b"\0\0\0\x08") for id in first))
    wanted, at = 100, 201
    for _ in range(3):  # what is refused is asked for again
        again = [at + 2 * number for number in range(wanted)]
        at += 2 * wanted
        hand.send(b"".join(map(hand.head, again)))
        assert {code for _, code in hand.resets()} == {ErrorCode.REFUSED_STREAM}
        wanted = len([id for id in again if id not in hand.server.heads])
    hand.server.tick(1)
    hand.send(b"".join(hand.head(at + 2 * number) for number in range(wanted)))
    assert not hand.resets() and hand.server.connection.streams == 100


def test_violations_that_make_us_reset_end_the_connection_when_there_are_too_many() -> None:
    hand = ByHand(violation_burst=100)
    for number in range(100):
        stream_id = 2 * number + 1
        hand.send(hand.head(stream_id) + window_frame(stream_id, 0))
        hand.server.tick(0)
        hand.server.stream(stream_id).stopped()
        assert hand.resets() == [(stream_id, ErrorCode.PROTOCOL_ERROR)]
    assert hand.fails(hand.head(201) + window_frame(201, 0)) == (CALM, "made-you-reset")


def test_requests_that_the_program_finds_malformed_count_as_violations_too() -> None:
    hand = ByHand(violation_burst=3)
    for stream_id in (1, 3, 5, 7):
        hand.send(hand.head(stream_id))
        hand.server.stream(stream_id).reset(ErrorCode.PROTOCOL_ERROR)
    assert hand.fails_within(0.25) == (CALM, "made-you-reset")


def test_resets_that_are_our_own_affair_are_not_held_against_the_peer() -> None:
    hand = ByHand(violation_burst=3)
    for number in range(300):
        stream_id = 2 * number + 1
        hand.send(hand.head(stream_id))
        hand.server.stream(stream_id).reset(ErrorCode.INTERNAL_ERROR)
        hand.got()
    hand.server.tick(1)


@pytest.mark.parametrize(("pieces", "fine"), [(16, True), (17, False)])
def test_a_header_block_in_too_many_pieces_is_a_flood(pieces: int, fine: bool) -> None:
    hand = ByHand()
    block = hand.encoder.encode([*GET, (b"x", b"y" * 100)])
    data = frame(HEADERS, END_STREAM, 1, block[:1])
    for number in range(pieces - 1):
        data += frame(CONTINUATION, 0, 1, block[number + 1 : number + 2])
    data += frame(CONTINUATION, END_HEADERS, 1, block[pieces:])
    if fine:
        hand.send(data)
        assert 1 in hand.server.heads
    else:
        assert hand.fails(data) == (CALM, "continuation-flood")


def test_a_header_block_of_too_many_bytes_is_a_flood() -> None:
    hand = ByHand()
    start = frame(HEADERS, END_STREAM, 1, b"\0" * 16384)
    hand.send(start + frame(CONTINUATION, 0, 1, b"\0" * 16384))
    assert hand.fails(frame(CONTINUATION, 0, 1, b"\0")) == (CALM, "continuation-flood")


def test_a_header_list_above_the_limit_is_answered_431_and_one_below_is_heard() -> None:
    hand = ByHand(max_list=1000, max_list_decoded=2000)
    fits: Fields = [*GET, (b"x", b"y" * (1000 - 32 - 1 - sum(len(n) + len(v) + 32 for n, v in GET)))]
    hand.send(hand.head(1, fits))
    assert hand.server.heads[1] == (fits, True)
    larger = [*fits[:-1], (b"x", fits[-1][1] + b"y")]
    hand.send(hand.head(3, larger, end=False))
    assert 3 not in hand.server.heads
    head, reset = hand.got()
    assert (b":status", b"431") in list(hand.decoder.decode(head.payload, raw=True))
    assert (reset.kind, reset.number) == (RST_STREAM, ErrorCode.NO_ERROR)
    assert hand.server.notes == ["header-list"]
    hand.send(hand.head(5))
    assert 5 in hand.server.heads


def test_a_header_list_above_what_is_decoded_ends_the_connection() -> None:
    hand = ByHand(max_list=1000, max_list_decoded=2000)
    assert hand.fails(hand.head(1, [*GET, (b"x", b"y" * 2000)])) == (CALM, "hpack-bomb")


FLOODS = {
    "settings-flood": (settings_frame({}), 49),  # its greeting is one of fifty
    "ping-flood": (ping_frame(b"12345678"), 100),
    "priority-flood": (frame(2, 0, 5, bytes(5)), 200),
    "window-update-flood": (window_frame(0, 1), 7),
}


@pytest.mark.parametrize("word", FLOODS)
def test_a_flood_ends_the_connection_and_one_less_does_not(word: str) -> None:
    data, allowed = FLOODS[word]
    hand = ByHand()
    hand.send(hand.head(1))
    for _ in range(allowed):
        hand.send(data)
        hand.got()
    hand.server.tick(0)
    assert hand.fails(data) == (CALM, word)


@pytest.mark.parametrize("empty", [frame(DATA, 0, 1), frame(DATA, 8, 1, b"\3\0\0\0")])
def test_frames_that_bring_nothing_are_allowed_ten_in_a_row(empty: bytes) -> None:
    hand = ByHand()
    hand.send(hand.head(1, POST, end=False) + empty * 10 + hand.data(1, b"x") + empty * 10)
    assert hand.fails(empty) == (CALM, "empty-frames")


def test_answers_that_nobody_reads_are_bounded() -> None:
    hand = ByHand(pings_per_second=10_000, max_control_replies=1000)
    hand.send(ping_frame(b"12345678") * 1000)
    assert hand.fails(ping_frame(b"12345678")) == (CALM, "control-replies")
    reader = ByHand(pings_per_second=10_000, max_control_replies=1000)
    for _ in range(5):
        reader.send(ping_frame(b"12345678") * 1000)
        assert len(reader.got()) == 1000


def test_unknown_frames_in_masses_are_a_glitch() -> None:
    hand = ByHand()
    hand.send(frame(99) * 1000)
    with pytest.raises(H2Error, match="glitches"):
        hand.send(frame(99) * 2)


# Slow readers


def stalled(streams: int) -> ByHand:
    """Streams with more queued than the peer's window lets go."""
    hand = ByHand(settings={4: 100}, stall_seconds=60, stall_bytes=1024)
    for number in range(streams):
        stream_id = 2 * number + 1
        hand.send(hand.head(stream_id))
        hand.server.stream(stream_id).headers(OK)
        hand.server.stream(stream_id).data(FILL[:50_000], True)
    hand.got()
    return hand


def test_a_stream_without_credit_is_reset_and_the_others_go_on() -> None:
    hand = stalled(1)
    hand.send(hand.head(3))
    hand.server.tick(60)
    assert not hand.resets()
    hand.server.tick(2)
    assert hand.resets() == [(1, ErrorCode.CANCEL)]
    assert hand.server.ears[1].resets == [ErrorCode.CANCEL]
    assert hand.server.notes == ["stalled"]


def test_a_connection_of_which_every_stream_stalls_ends() -> None:
    assert stalled(3).fails_within(62) == (CALM, "stalled")


def test_a_trickle_of_credit_is_no_progress_and_a_kilobyte_a_minute_is() -> None:
    tiny, enough = stalled(1), stalled(1)
    for hand, credit in ((tiny, 100), (enough, 160)):
        for _ in range(8):
            hand.send(window_frame(1, credit))
            hand.got()
            hand.server.tick(7.25)
    enough.server.tick(5)
    assert tiny.fails_within(5) == (CALM, "stalled")


def test_what_is_held_by_all_streams_is_bounded_by_the_one_that_holds_most() -> None:
    hand = ByHand(greedy=False, max_held=100_000)
    for stream_id, count in ((1, 1), (3, 4), (5, 1)):
        hand.send(hand.head(stream_id, POST, end=False) + hand.data(stream_id, FILL[:16_000]) * count)
    assert not hand.server.notes
    hand.send(hand.data(1, FILL[:5000]))
    assert hand.server.notes == ["held"]
    assert [ear.resets for ear in hand.server.ears.values()] == [[], [CALM], []]
    assert hand.server.connection.held == 37_000


def test_a_stream_that_holds_everything_does_not_stop_the_others() -> None:
    hand = ByHand(greedy=False, window=65536, connection_window=65536)
    hand.send(hand.head(1, POST, end=False) + hand.head(3, POST, end=False))
    hand.send(b"".join([hand.data(1, FILL[:16384])] * 4))
    credits = [one for one in hand.got() if one.kind == WINDOW_UPDATE]
    assert {one.stream_id for one in credits} == {0}
    assert sum(one.number for one in credits) == 65536
    hand.send(hand.data(3, b"still heard"))
    assert hand.server.ears[3].body == b"still heard"


def test_more_than_the_connections_window_ends_the_connection() -> None:
    """What is credited at once is so when the credit is written: a peer that reads nothing gets none."""
    hand, reader = (ByHand(connection_window=100_000, window=2**20) for _ in range(2))
    for one in (hand, reader):
        one.send(one.head(1, POST, end=False))
        for _ in range(10):
            one.send(one.data(1, FILL[:10_000]))
            if one is reader:
                one.got()
    reader.send(reader.data(1, b"x"))
    assert hand.fails(hand.data(1, b"x")) == (ErrorCode.FLOW_CONTROL_ERROR, "window")


def test_a_window_that_a_setting_makes_too_large_ends_the_connection() -> None:
    hand = ByHand(settings={4: 100})
    hand.send(hand.head(1) + window_frame(1, 2**31 - 101))
    assert hand.fails(settings_frame({4: 101})) == (ErrorCode.FLOW_CONTROL_ERROR, "settings")


def test_what_is_remembered_of_streams_that_were_reset_is_bounded() -> None:
    hand = ByHand()
    for number in range(1500):
        hand.send(hand.head(2 * number + 1))
        hand.server.stream(2 * number + 1).reset(ErrorCode.INTERNAL_ERROR)
        hand.got()
    assert len(hand.server.connection._reset_ids) == 1000


def test_acknowledgements_stand_in_order_with_what_they_change() -> None:
    hand = ByHand()
    hand.send(hand.head(1))
    hand.server.stream(1).headers(OK)
    hand.server.stream(1).data(FILL[:1000])
    hand.send(settings_frame({4: 0}))
    assert [one.kind for one in hand.got()] == [HEADERS, DATA, SETTINGS]
    assert frames(SETTINGS_ACK)[0].flags == ACK
    assert hand.server.stream(1).data(b"x" * 10)
    assert not hand.got(HUGE)
