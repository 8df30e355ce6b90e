"""One end of a session on a fake transport, its peer a mux; the clock jumps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from tests.kit.muxpair import RecordingSink
from tests.kit.transport import FakeTransport
from wellhead.errors import FrameError, HelloError, SessionLost, WellheadError
from wellhead.net.session import HIGH_WATER, Liveness, Session
from wellhead.wire.frames import Kind
from wellhead.wire.mux import Mux, MuxStream, Role
from wellhead.wire.streams import Buffer, HeadKind, Reason, StreamKind

JUMPING_CLOCK = True
LIVENESS = Liveness(ping_seconds=10, pong_seconds=5, probe_after_seconds=2, probe_seconds=3)
REPLY = b"HTTP/1.1 200 OK\r\n\r\n"


class Pair:
    """``session`` under test; ``peer`` hears what it writes when the test carries it over."""

    def __init__(self, role: Role = Role.ACCEPTOR) -> None:
        self.answers = False  # whether a stream is replied to while its request is being read
        self.slept = 0.0  # seconds that only the boot clock counts
        self.lost: list[WellheadError | None] = []
        self.controls: list[tuple[int, bytes]] = []
        self.streams: list[MuxStream] = []
        self.goaways: list[tuple[int, int, str]] = []
        self.loop = asyncio.get_running_loop()
        self.transport = FakeTransport()
        self.session = Session(
            role,
            on_open=self._opened,
            on_control=self._control,
            on_lost=self._lost,
            liveness=LIVENESS,
            boot_clock=lambda: self.loop.time() + self.slept,
        )
        self.peer = Mux(Role.DIALLER if role is Role.ACCEPTOR else Role.ACCEPTOR, self._opened, lambda: None)
        self.peer.on_goaway = lambda *told: self.goaways.append(told)
        self.session.connection_made(self.transport)
        self.session.mux.start(256 * 1024)
        self.peer.start(256 * 1024)
        self.began = self.loop.time()

    def _opened(self, stream: MuxStream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
        stream.sink = RecordingSink(stream)
        self.streams.append(stream)
        if self.answers:
            stream.head(HeadKind.REPLY, REPLY, b"hi", True)

    def _control(self, session: Session, kind: int, payload: bytes) -> None:
        self.controls.append((kind, payload))
        raise HelloError("not now")

    def _lost(self, session: Session, error: WellheadError | None) -> None:
        assert session is self.session
        self.lost.append(error)

    def open(self, envelope: bytes = b"e", data: bytes = b"") -> MuxStream:
        return self.session.open(StreamKind.HTTP, envelope, RecordingSink(), data)

    def carry(self) -> None:
        """Let each hear what the other has written."""
        self.peer.receive(self.transport.take())
        if data := b"".join(self.peer.take(1 << 20)):
            self.session.data_received(data)

    async def after(self, seconds: float) -> bytes:
        """What the session writes by then, counted from the beginning."""
        await asyncio.sleep(self.began + seconds - self.loop.time())  # no time passes
        return self.transport.take()


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    made = Pair()
    yield made
    made.session.connection_lost(None)


def pings(written: bytes) -> int:
    """How many PING frames there are; nothing else may be."""
    assert len(written) % 16 == 0 and all(
        written[at + 3] == Kind.PING for at in range(0, len(written), 16)
    ), written
    return len(written) // 16


# Writing


async def test_a_lone_request_is_written_at_once(pair: Pair) -> None:
    pair.open()
    assert pair.transport.written


async def test_requests_of_one_turn_are_written_together(pair: Pair) -> None:
    for _ in range(10):
        pair.open()
    early = pair.transport.writes
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (early, pair.transport.writes) == (2, 3), "two at once, the others in company"
    pair.carry()
    assert len(pair.streams) == 10


async def test_replies_made_while_reading_leave_in_one_write(pair: Pair) -> None:
    for _ in range(5):
        pair.peer.open(StreamKind.HTTP, b"e", RecordingSink(), end=True)
    requests = b"".join(pair.peer.take(1 << 20))
    pair.answers = True
    pair.session.data_received(requests)
    assert pair.transport.writes == 1


async def test_a_large_body_is_taken_in_measures_that_the_transport_holds(pair: Pair) -> None:
    class Filling(FakeTransport):
        def writelines(self, pieces: Iterable[Any]) -> None:
            super().writelines(pieces)
            if len(self.written) >= HIGH_WATER:
                pair.session.pause_writing()

    pair.session._transport = pair.transport = Filling()
    pair.session.mux._peer_window = 1 << 22
    pair.open(data=b"x" * (1 << 21))
    total, measures = 0, 0
    while len(pair.transport.written):
        assert len(pair.transport.written) < 2 * HIGH_WATER + 64 * 1024
        total, measures = total + len(pair.transport.take()), measures + 1
        pair.session.resume_writing()
    assert total > 1 << 21 and measures > 3


async def test_a_full_transport_gets_nothing_until_it_has_room(pair: Pair) -> None:
    pair.session.pause_writing()
    pair.open()
    await asyncio.sleep(0)
    assert pair.transport.written == b""
    pair.session.resume_writing()
    pair.carry()
    assert len(pair.streams) == 1


async def test_a_writer_of_a_full_transport_is_stopped_and_started(pair: Pair) -> None:
    sink = RecordingSink()
    stream = pair.session.open(StreamKind.HTTP, b"e", sink)
    pair.session.pause_writing()
    assert not all(stream.send(b"x" * 32768) for _ in range(6))
    pair.session.resume_writing()
    for _ in range(4):  # measure by measure
        await asyncio.sleep(0)
    assert sink.writable == 1, "told"


async def _drained(pair: Pair, size: int, seconds: float) -> None:
    """The transport was full of so many bytes and got rid of them in so long."""
    pair.transport.unsent = size
    pair.session.pause_writing()
    await asyncio.sleep(seconds)
    pair.transport.unsent = 0
    pair.session.resume_writing()


async def test_no_more_waits_in_a_slow_transport_than_leaves_soon(pair: Pair) -> None:
    """What waits there cannot be overtaken: at 128 KiB a second that is 2.5 KiB, not a quarter of a MiB."""
    await _drained(pair, 64 * 1024, 0.5)
    pair.open(data=b"x" * 200_000)
    pair.transport.take()
    pair.session.pause_writing()
    pair.session.resume_writing()
    assert 2000 < len(pair.transport.take()) < 6000
    assert pair.transport._high == 2621


async def test_a_transport_that_has_become_fast_is_filled_again(pair: Pair) -> None:
    await _drained(pair, 64 * 1024, 0.5)
    await _drained(pair, 64 * 1024, 0.001)
    assert pair.transport._high == HIGH_WATER


async def test_a_slow_connection_waits_for_the_kernel_too(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _drained(pair, 64 * 1024, 0.5)
    waiting = [30_000]
    monkeypatch.setattr("wellhead.net.session.unsent", lambda transport: waiting[0])
    pair.open()
    await asyncio.sleep(0.02)
    assert pair.transport.written == b"", "thirty thousand bytes are before it"
    waiting[0] = 0
    await asyncio.sleep(0.02)
    pair.carry()
    assert len(pair.streams) == 1


async def test_a_connection_that_ends_while_the_kernel_is_waited_for_stays_ended(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _drained(pair, 64 * 1024, 0.5)
    monkeypatch.setattr("wellhead.net.session.unsent", lambda transport: 30_000)
    pair.open()
    pair.session.connection_lost(None)
    await asyncio.sleep(0.1)
    assert pair.transport.written == b""


# Liveness


async def test_an_idle_peer_is_asked_after_ten_seconds_and_given_up_five_later(pair: Pair) -> None:
    assert await pair.after(9.9) == b""
    assert pings(await pair.after(10.1)) == 1
    await pair.after(14.9)
    assert not pair.transport.closed
    await pair.after(15.1)
    assert pair.transport.aborted
    pair.session.connection_lost(None)
    assert isinstance(pair.lost[0], SessionLost)


async def test_a_peer_that_answers_is_asked_again_and_again(pair: Pair) -> None:
    for seconds in range(11, 100, 11):
        pair.peer.receive(await pair.after(seconds))
        pair.session.data_received(b"".join(pair.peer.take(1 << 20)))
    assert not pair.transport.closed


async def test_any_byte_is_a_sign_of_life(pair: Pair) -> None:
    await pair.after(10.1)
    pair.peer.ping(1.0)
    pair.session.data_received(b"".join(pair.peer.take(1 << 20)))
    await pair.after(16)
    assert not pair.transport.closed


async def test_a_silent_peer_that_is_written_to_is_asked_at_once_and_given_three_seconds(pair: Pair) -> None:
    await pair.after(4)
    pair.open()
    pair.carry()
    assert pair.peer.pending is False and not pair.transport.closed, "answered"
    await pair.after(7.5)
    pair.open()
    await pair.after(10.4)
    assert not pair.transport.closed
    await pair.after(10.6)
    assert pair.transport.aborted


async def test_a_peer_that_was_just_heard_is_not_asked_for_each_write(pair: Pair) -> None:
    await pair.after(1)
    for _ in range(10):
        pair.open()
    await asyncio.sleep(0)
    written = pair.transport.take()
    assert bytes((0, 0, 8, Kind.PING)) not in written


async def test_a_request_right_after_a_sign_of_life_is_given_up_in_five_seconds(pair: Pair) -> None:
    """Its writing is no probe yet, and no other need follow."""
    await pair.after(3)
    pair.peer.ping(1.0)
    pair.session.data_received(b"".join(pair.peer.take(1 << 20)))
    pair.open()
    await pair.after(4.9)
    pair.open()
    assert pings((await pair.after(5.1))[-16:]) == 1, "asked once the peer had been silent for two seconds"
    await pair.after(7.9)
    assert not pair.transport.closed
    await pair.after(8.1)
    assert pair.transport.aborted


async def test_a_request_that_takes_long_is_asked_about_once_and_goes_on(pair: Pair) -> None:
    pair.open()
    pair.carry()
    assert pings(await pair.after(1.9)) == 0
    for second in (2.1, 12.2, 22.3):
        written = await pair.after(second)
        assert pings(written) == 1, "then only as one that is idle"
        pair.peer.receive(written)
        pair.session.data_received(b"".join(pair.peer.take(1 << 20)))
        assert pings(await pair.after(second + 9.9)) == 0
    assert not pair.transport.closed


async def test_an_answer_to_a_ping_waits_for_no_answer(pair: Pair) -> None:
    """Else two ends with a quiet stream would ask each other for ever."""
    pair.open()
    pair.carry()
    pair.peer.receive(await pair.after(2.1))
    pair.peer.ping(1.0)
    pair.session.data_received(b"".join(pair.peer.take(1 << 20)))
    pair.transport.take()
    assert await pair.after(12) == b""


async def test_a_session_without_streams_is_not_asked_after_a_write(pair: Pair) -> None:
    stream = pair.open()
    pair.session.data_received(b"")
    stream.reset(Reason.CANCELLED)
    await asyncio.sleep(0)
    pair.transport.take()
    assert await pair.after(9.9) == b""


async def test_many_requests_have_one_timer(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[float] = []
    call_later = pair.loop.call_later

    def counted(delay: float, *call: Any) -> asyncio.TimerHandle:
        made.append(delay)
        return call_later(delay, *call)

    monkeypatch.setattr(pair.loop, "call_later", counted)
    for _ in range(100):
        pair.open()
        pair.carry()
        pair.peer.ping(1.0)
        pair.carry()
    assert len(made) == 1


async def test_a_probe_asks_now(pair: Pair) -> None:
    pair.session.probe()
    assert pings(pair.transport.take()) == 1
    await pair.after(3.1)
    assert pair.transport.aborted


async def test_a_slow_link_is_not_a_dead_peer(pair: Pair) -> None:
    """While the transport gets rid of bytes somebody takes them, however late the answer to a ping."""
    pair.session.pause_writing()
    await pair.after(4)
    pair.transport.unsent = 100_000
    pair.session.probe()
    for second in range(5, 60, 2):
        pair.transport.unsent = (100 - second) * 1000
        await pair.after(second)
    assert not pair.transport.closed
    await pair.after(65)
    assert pair.transport.aborted, "nothing moved any more"


async def test_what_is_written_in_the_meantime_is_no_sign_of_life(pair: Pair) -> None:
    pair.transport.unsent = 5000
    pair.session.probe()
    for second in (1, 2):
        await pair.after(second)
        before = len(pair.transport.written)
        pair.open(data=b"x" * 1000)
        await asyncio.sleep(0)
        pair.transport.unsent += len(pair.transport.written) - before
    await pair.after(3.1)
    assert pair.transport.aborted


async def test_bytes_that_a_kernel_took_are_no_sign_of_life(pair: Pair) -> None:
    pair.session.probe()
    for second in (1, 2):
        await pair.after(second)
        pair.open(data=b"x" * 1000)
    await pair.after(3.1)
    assert pair.transport.aborted


async def test_after_a_stop_the_peer_gets_a_fresh_chance(pair: Pair) -> None:
    await pair.after(10.1)
    pair.slept = 3600
    pair.transport.take()
    assert pings(await pair.after(15.5)) == 1, "the old deadline says nothing"
    assert not pair.transport.closed
    await pair.after(20)
    assert pair.transport.aborted


async def test_a_short_gap_is_no_stop(pair: Pair) -> None:
    pair.slept = 12
    assert await pair.after(9.9) == b""


async def test_the_timings_that_the_other_side_announced_count_at_once(pair: Pair) -> None:
    pair.session.set_liveness(Liveness(ping_seconds=1))
    assert pings(await pair.after(1.1)) == 1


# Draining and ends


async def test_draining_is_said_once_and_open_streams_go_on(pair: Pair) -> None:
    stream = pair.open()
    for _ in range(2):
        pair.session.drain(Reason.CANCELLED, 500, "leaving")
    pair.carry()
    assert pair.goaways == [(Reason.CANCELLED, 500, "leaving")]
    assert pair.session.draining and not pair.session.usable
    stream.send(b"more", True)
    pair.carry()
    assert isinstance(pair.streams[0].sink, RecordingSink)
    assert pair.streams[0].sink.data == b"more" and not pair.transport.closed


async def test_a_draining_peer_is_given_no_new_streams(pair: Pair) -> None:
    told: list[int] = []
    pair.session.on_peer_draining(lambda session, retry_after_ms: told.append(retry_after_ms))
    pair.peer.goaway(Reason.CANCELLED, 700, "bye")
    pair.carry()
    assert told == [700] and pair.session.peer_draining and not pair.session.usable


async def test_a_closed_session_writes_what_is_queued_and_takes_no_streams(pair: Pair) -> None:
    pair.session.pause_writing()
    pair.session.resume_writing()
    pair.open()
    pair.session.close()
    assert pair.transport.closed and not pair.session.usable
    pair.carry()
    assert len(pair.streams) == 1


async def test_nothing_is_written_after_a_close(pair: Pair) -> None:
    stream = pair.open()
    pair.session.close()
    stream.send(b"x" * 100)
    pair.session.resume_writing()
    await pair.after(12)  # a ping is due


async def test_a_peer_that_does_not_answer_a_close_is_given_up(pair: Pair) -> None:
    pair.session.close()
    await pair.after(16)
    assert pair.transport.aborted


async def test_a_broken_frame_is_answered_by_goaway_and_a_close(pair: Pair) -> None:
    pair.session.data_received(b"\0\0\0\x3f\0\0\0\0")
    pair.peer.receive(pair.transport.take())
    assert pair.goaways[0][0] == Reason.PROTOCOL and pair.transport.closed
    pair.session.data_received(b"more")
    pair.session.connection_lost(None)
    assert isinstance(pair.lost[0], FrameError)


async def test_an_error_of_the_hello_is_the_sessions_error() -> None:
    pair = Pair()
    pair.session.mux._started = False
    pair.peer.control(Kind.HELLO, b"{}")
    pair.carry()
    assert pair.controls == [(Kind.HELLO, b"{}")] and pair.transport.closed
    pair.session.connection_lost(None)
    assert isinstance(pair.lost[0], HelloError)


async def test_the_end_is_told_once_and_to_every_stream(pair: Pair) -> None:
    sinks = [RecordingSink(), RecordingSink()]
    for sink in sinks:
        pair.session.open(StreamKind.HTTP, b"e", sink)
    pair.session.connection_lost(ConnectionResetError(104, "reset"))
    assert [sink.resets for sink in sinks] == [[Reason.SESSION_LOST]] * 2
    assert len(pair.lost) == 1 and isinstance(pair.lost[0], SessionLost)
    assert pair.session.closed.done() and not pair.session.usable


async def test_a_sink_that_fails_keeps_nobody_from_hearing_of_the_end(pair: Pair) -> None:
    class Failing(RecordingSink):
        def on_reset(self, reason: int) -> None:
            raise ZeroDivisionError

    pair.session.open(StreamKind.HTTP, b"e", Failing())
    with pytest.raises(ZeroDivisionError):
        pair.session.connection_lost(None)
    assert pair.lost == [None] and pair.session.closed.done()


async def test_an_aborted_session_says_why_and_is_not_usable_meanwhile(pair: Pair) -> None:
    pair.session.abort(SessionLost("enough"))
    assert not pair.session.usable and pair.transport.aborted
    pair.session.connection_lost(None)
    assert str(pair.lost[0]) == "enough"


async def test_a_session_that_is_over_leaves_no_timer() -> None:
    pair = Pair()
    pair.session.connection_lost(None)
    pair.session.close()
    pair.session.abort()
    pair.session.drain()
    pair.session.probe()
    await pair.after(60)
    assert len(pair.lost) == 1


async def test_load_is_the_number_of_open_streams(pair: Pair) -> None:
    stream = pair.open()
    assert pair.session.load == 1
    stream.reset(Reason.CANCELLED)
    assert pair.session.load == 0
