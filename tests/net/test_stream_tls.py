"""A protocol on a stream that speaks TLS is told what a socket would tell it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable

import pytest

from tests.kit.certs import authority, client_hello, in_records, trusting
from tests.kit.talk import Talk
from tests.kit.tls_visitor import TlsVisitor, soon
from wellhead.errors import ClientHelloError
from wellhead.net import unheard
from wellhead.net.authority import LocalAuthority
from wellhead.net.farewell import LINGER_BYTES
from wellhead.net.stream_portal import StreamPortal, StreamPortalTerms
from wellhead.wire.pair import WINDOW, PairStream, join
from wellhead.wire.sni import NO_APPLICATION_PROTOCOL, UNRECOGNIZED_NAME, ClientHello, alert
from wellhead.wire.streams import HeadKind, Reason

NAME = "a.localhost"
PEER = ("192.0.2.7", 50123)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> LocalAuthority:
    return authority(tmp_path_factory.mktemp("ca"))


class HalfOpen(Talk):
    """Keeps its half when the other one ends."""

    def eof_received(self) -> bool:
        super().eof_received()
        return True


class Door:
    """A portal whose protocols are made by ``make``; what it refuses is kept."""

    def __init__(self, ca: LocalAuthority, terms: StreamPortalTerms | None = None) -> None:
        self.made: list[Talk] = []
        self.make: Callable[[], Talk] = Talk
        self.refused: list[tuple[str, str]] = []
        self.context = ca.leaf_context(NAME, ("h2", "http/1.1"))
        self.portal = StreamPortal(self._choose, terms, lambda why, ip: self.refused.append((why, ip)))

    def accept(self, stream: PairStream, data: bytes, end: bool) -> None:
        self.portal.accept(stream, PEER, data, end)

    @property
    def talk(self) -> Talk:
        return self.made[-1]

    def _choose(self, hello: ClientHello) -> tuple[ssl.SSLContext, Callable[[], asyncio.Protocol]]:
        if hello.server_name != NAME:
            raise ClientHelloError(UNRECOGNIZED_NAME, "unknown-sni")
        if hello.alpn and b"http/1.1" not in hello.alpn:
            raise ClientHelloError(NO_APPLICATION_PROTOCOL, "no-alpn")
        return self.context, self._protocol

    def _protocol(self) -> Talk:
        self.made.append(self.make())
        return self.talk


class Raw:
    """A visitor that says what a test wants it to, and keeps what it is told."""

    def __init__(self, door: Door, data: bytes, *, end: bool = False, ip: str = PEER[0]) -> None:
        self.heard = b""
        self.ended = False
        self.resets: list[int] = []
        self.stream, far = join(len(data), end)
        self.stream.sink = self
        door.portal.accept(far, (ip, PEER[1]), data, end)

    def on_head(self, kind: HeadKind, head: bytes, data: object, end: bool) -> None:
        raise AssertionError("a head on a TCP stream")

    def on_data(self, data: bytes | memoryview, end: bool) -> None:
        self.heard += data
        self.ended = end

    def on_reset(self, reason: int) -> None:
        self.resets.append(reason)

    def on_writable(self) -> None:
        """Nothing waits."""


async def visit(door: Door, ca: LocalAuthority) -> TlsVisitor:
    return await TlsVisitor(trusting(ca, ("http/1.1",)), NAME, door.accept).shaken()


@pytest.fixture
async def door(ca: LocalAuthority) -> AsyncIterator[Door]:
    made = Door(ca)
    yield made
    made.portal.close()


async def test_what_a_visitor_says_is_heard_and_answered(door: Door, ca: LocalAuthority) -> None:
    visitor = await visit(door, ca)
    await door.talk.until("made")
    assert door.talk.transport.get_extra_info("peername") == PEER
    visitor.send(b"how are you")
    assert door.talk.heard == b"how are you"
    door.talk.transport.writelines([b"well, ", b"thank you"])
    assert visitor.heard == b"well, thank you"
    assert visitor.tls.version() == "TLSv1.3" and visitor.tls.selected_alpn_protocol() == "http/1.1"


async def test_what_comes_with_the_end_of_the_handshake_is_heard(door: Door, ca: LocalAuthority) -> None:
    door.make = lambda: Talk(b"welcome")
    visitor = await visit(door, ca)
    await visitor.until(lambda v: v.heard == b"welcome")


async def test_megabytes_come_through_in_both_directions(door: Door, ca: LocalAuthority) -> None:
    door.make = lambda: Talk(echo=True)
    visitor = await visit(door, ca)
    data = bytes(range(256)) * 4096
    for at in range(0, len(data), 100_000):
        visitor.send(data[at : at + 100_000])
    await visitor.until(lambda v: len(v.heard) == len(data))
    assert bytes(door.talk.heard) == data == bytes(visitor.heard)


async def test_a_visitor_that_reads_nothing_makes_the_writer_pause_and_go_on(
    door: Door, ca: LocalAuthority
) -> None:
    visitor = await visit(door, ca)
    transport = door.talk.transport
    transport.set_write_buffer_limits(high=0)
    visitor.reads = False
    sent = 0
    while "pause" not in door.talk.happened:
        transport.write(bytes(50_000))
        sent += 50_000
    assert WINDOW < sent <= WINDOW + 150_000, "a window and what was on its way are all that is held"
    assert transport.get_write_buffer_size() == 50_000
    visitor.read_on()
    assert "resume" in door.talk.happened and not transport.get_write_buffer_size()
    await visitor.until(lambda v: len(v.heard) == sent)


async def test_a_protocol_that_does_not_read_holds_up_the_visitor(door: Door, ca: LocalAuthority) -> None:
    visitor = await visit(door, ca)
    transport = door.talk.transport
    transport.pause_reading()
    sent = 16_000
    while visitor.send(bytes(16_000)):
        sent += 16_000
        assert sent <= 2 * WINDOW
    assert not door.talk.heard
    transport.resume_reading()
    await soon(lambda: len(door.talk.heard) == sent)
    assert visitor.send(b"more")


async def test_bytes_that_come_between_two_pauses_keep_their_order(door: Door, ca: LocalAuthority) -> None:
    visitor = await visit(door, ca)
    transport = door.talk.transport
    for word in (b"one ", b"two ", b"three"):
        transport.pause_reading()
        visitor.send(word)
        transport.resume_reading()
    await soon(lambda: len(door.talk.heard) == 13)
    assert door.talk.heard == b"one two three"


async def test_after_a_visitors_goodbye_it_can_still_be_answered(door: Door, ca: LocalAuthority) -> None:
    door.make = HalfOpen
    visitor = await visit(door, ca)
    visitor.say_goodbye()
    assert door.talk.happened == ["made", "eof"]
    door.talk.transport.write(b"and yet")
    assert visitor.heard == b"and yet" and not visitor.ended
    door.talk.transport.close()
    await visitor.until(lambda v: v.said_goodbye and v.ended)
    await door.talk.until("lost")
    assert door.talk.lost is None


async def test_what_a_visitor_sends_after_its_goodbye_is_kept_nowhere(
    door: Door, ca: LocalAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[ssl.MemoryBIO] = []
    plain = ssl.MemoryBIO

    def memory() -> ssl.MemoryBIO:
        made.append(plain())
        return made[-1]

    monkeypatch.setattr(ssl, "MemoryBIO", memory)
    door.make = HalfOpen
    visitor = await visit(door, ca)
    visitor.say_goodbye()
    for _ in range(2 * WINDOW // 16_000):
        assert visitor.stream.send(bytes(16_000)), "it is not held up: nobody holds anything"
    door.talk.transport.write(b"and yet")
    assert visitor.heard == b"and yet"
    assert not any(each.pending for each in made) and door.talk.happened == ["made", "eof"]


async def test_a_bare_end_is_a_half_close_too(door: Door, ca: LocalAuthority) -> None:
    door.make = HalfOpen
    visitor = await visit(door, ca)
    visitor.stream.send(b"", True)
    assert door.talk.happened == ["made", "eof"]
    door.talk.transport.write(b"and yet")
    assert visitor.heard == b"and yet"


async def test_an_end_is_told_while_nobody_reads_only_afterwards(door: Door, ca: LocalAuthority) -> None:
    visitor = await visit(door, ca)
    door.talk.transport.pause_reading()
    visitor.send(b"last words")
    visitor.say_goodbye()
    assert door.talk.happened == ["made"]
    door.talk.transport.resume_reading()
    await door.talk.until("eof")
    assert door.talk.heard == b"last words"


async def test_a_protocol_that_ends_its_half_still_hears(door: Door, ca: LocalAuthority) -> None:
    visitor = await visit(door, ca)
    door.talk.transport.write(b"that is all")
    door.talk.transport.write_eof()
    assert visitor.heard == b"that is all" and visitor.said_goodbye and visitor.ended
    visitor.send(b"one more thing")
    assert door.talk.heard == b"one more thing"
    visitor.stream.send(b"", True)
    await door.talk.until("lost")


async def test_close_writes_what_waits_first(door: Door, ca: LocalAuthority) -> None:
    visitor = await visit(door, ca)
    visitor.reads = False
    door.talk.transport.writelines([bytes(WINDOW)])
    door.talk.transport.write(b"the end")
    door.talk.transport.close()
    assert not visitor.ended and "lost" not in door.talk.happened
    visitor.read_on()
    await visitor.until(lambda v: v.said_goodbye and v.ended)
    assert visitor.heard.endswith(b"the end")
    await door.talk.until("lost")


async def test_who_talks_on_after_a_close_is_not_heard_and_after_a_while_not_read(
    door: Door, ca: LocalAuthority
) -> None:
    visitor = await visit(door, ca)
    door.talk.transport.write(b"that is all")
    door.talk.transport.close()
    await door.talk.until("lost")
    for _ in range(LINGER_BYTES // 17_000):
        assert visitor.send(bytes(16_000))
    assert (visitor.reset,) == (None,), "not held up, and not cut"
    for _ in range(3):
        assert visitor.send(bytes(16_000))
    assert visitor.reset == Reason.OVERLOADED
    assert visitor.heard == b"that is all" and visitor.said_goodbye and not door.talk.heard


async def test_who_ends_in_time_after_a_close_is_not_reset(
    door: Door, ca: LocalAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unheard, "LINGER_SECONDS", 0.05)
    ends_before, ends_after, stays = [await visit(door, ca) for _ in range(3)]
    ends_before.stream.send(b"", True)
    for talk in door.made:
        talk.transport.close()
    for talk in door.made:
        await talk.until("lost")
    ends_after.stream.send(b"", True)
    await stays.until(lambda v: v.reset is not None)
    assert stays.reset == Reason.TIMEOUT
    assert ends_before.reset is None and ends_after.reset is None


async def test_who_talks_on_after_an_alert_is_not_read_for_ever(door: Door) -> None:
    visitor = Raw(door, client_hello("b.localhost"))
    visitor.stream.send(bytes(LINGER_BYTES + 1))
    assert visitor.heard == alert(UNRECOGNIZED_NAME) and visitor.resets == [Reason.OVERLOADED]


async def test_a_reset_of_the_visitor_is_a_lost_connection(door: Door, ca: LocalAuthority) -> None:
    visitor = await visit(door, ca)
    visitor.stream.reset(Reason.CANCELLED)
    await door.talk.until("lost")
    assert isinstance(door.talk.lost, ConnectionResetError)


async def test_an_abort_is_a_reset_for_the_visitor(door: Door, ca: LocalAuthority) -> None:
    visitor = await visit(door, ca)
    door.talk.transport.write(b"half a rep")
    door.talk.transport.abort()
    assert visitor.reset == Reason.CANCELLED
    await door.talk.until("lost")


async def test_an_abort_after_all_is_said_takes_nothing_back(door: Door, ca: LocalAuthority) -> None:
    visitor = await visit(door, ca)
    door.talk.transport.write_eof()
    door.talk.transport.abort()
    await door.talk.until("lost")
    assert visitor.reset is None and visitor.said_goodbye


async def test_garbage_in_place_of_a_record_is_answered_with_an_alert(door: Door, ca: LocalAuthority) -> None:
    visitor = await visit(door, ca)
    visitor.stream.send(b"\x17\x03\x03\x00\x40" + bytes(64))
    await door.talk.until("lost")
    assert isinstance(door.talk.lost, ssl.SSLError)
    assert isinstance(visitor.error, ssl.SSLError) and visitor.ended


async def test_a_protocol_that_fails_ends_its_own_stream_only(door: Door, ca: LocalAuthority) -> None:
    class Failing(Talk):
        def data_received(self, data: bytes) -> None:
            raise RuntimeError("a bug")

    door.make = Failing
    visitor = await visit(door, ca)
    visitor.send(b"x")
    assert visitor.reset is not None
    await door.talk.until("lost")


# The handshake


@pytest.mark.parametrize("size", [1, 7, 100])
async def test_a_hello_in_many_records_and_pieces_is_put_together(
    door: Door, ca: LocalAuthority, size: int
) -> None:
    hello = in_records(client_hello(NAME, ("h2", "http/1.1")), max(size, 20))
    visitor = Raw(door, hello[:size])
    for at in range(size, len(hello), size):
        visitor.stream.send(hello[at : at + size])
    await soon(lambda: visitor.heard)
    assert visitor.heard[0] == 22, "a ServerHello"
    assert not door.refused


@pytest.mark.parametrize(
    ("hello", "reason", "description"),
    [
        (client_hello("b.localhost"), "unknown-sni", UNRECOGNIZED_NAME),
        (client_hello(None), "unknown-sni", UNRECOGNIZED_NAME),
        (client_hello(NAME, ("smtp",)), "no-alpn", NO_APPLICATION_PROTOCOL),
        (b"GET / HTTP/1.1\r\n\r\n", "not-tls", 10),
    ],
)
async def test_who_wants_something_else_is_told_so_by_an_alert(
    door: Door, hello: bytes, reason: str, description: int
) -> None:
    visitor = Raw(door, hello)
    assert visitor.heard == alert(description) and visitor.ended
    assert door.refused == [(reason, PEER[0])] and not door.made


async def test_old_tls_is_refused_with_an_alert(door: Door) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    visitor = TlsVisitor(context, NAME, door.accept)
    await visitor.until(lambda v: v.ended)
    assert visitor.error is not None and door.refused == [("handshake", PEER[0])]
    assert visitor.raw[0] == 21, "an alert"


async def test_a_visitor_that_does_not_trust_us_is_forgotten(door: Door) -> None:
    visitor = TlsVisitor(ssl.create_default_context(), NAME, door.accept)
    await visitor.until(lambda v: v.error)
    visitor.stream.send(b"", True)
    await soon(lambda: not door.portal.arrivals)
    assert door.refused[0][0].startswith("handshake") and not door.made


async def test_a_hello_that_ends_too_early_is_refused(door: Door) -> None:
    visitor = Raw(door, client_hello(NAME)[:50], end=True)
    assert visitor.ended and door.refused == [("hello-truncated", PEER[0])]


@pytest.mark.parametrize(
    ("terms", "sent", "reason"),
    [
        (StreamPortalTerms(hello_seconds=0.01), 50, "hello-timeout"),
        (StreamPortalTerms(handshake_seconds=0.01), 5000, "handshake-timeout"),
    ],
)
async def test_a_handshake_that_stalls_is_given_up(
    ca: LocalAuthority, terms: StreamPortalTerms, sent: int, reason: str
) -> None:
    door = Door(ca, terms)
    visitor = Raw(door, client_hello(NAME)[:sent])
    await soon(lambda: visitor.ended)
    assert door.refused == [(reason, PEER[0])] and not door.portal.arrivals


async def test_more_unfinished_handshakes_than_allowed_are_refused(ca: LocalAuthority) -> None:
    door = Door(ca, StreamPortalTerms(max_handshakes=1))
    first, second = Raw(door, b"\x16"), Raw(door, b"\x16")
    assert second.resets == [Reason.OVERLOADED] and door.refused == [("handshakes", PEER[0])]
    door.portal.close()
    assert first.resets == [Reason.CANCELLED]


async def test_one_address_has_a_few_unfinished_handshakes_and_leaves_room_for_others(
    ca: LocalAuthority,
) -> None:
    door = Door(ca, StreamPortalTerms(max_handshakes_per_address=2))
    first, *_, third = (Raw(door, b"\x16", ip=f"2001:db8::{number}") for number in range(3))
    assert third.resets == [Reason.OVERLOADED]
    assert door.refused == [("address-handshakes", "2001:db8::2")], "a /64 is one customer"
    others = [Raw(door, b"\x16", ip=ip) for ip in ("192.0.2.7", *["127.0.0.1"] * 3, *[""] * 3)]
    first.stream.reset(Reason.CANCELLED)
    others.append(Raw(door, b"\x16", ip="2001:db8::9"))
    assert not any(other.resets for other in others)
    door.portal.close()


async def test_a_visitor_that_leaves_before_its_turn_costs_no_handshake(door: Door) -> None:
    visitor = Raw(door, client_hello(NAME))
    visitor.stream.reset(Reason.CANCELLED)
    assert not door.portal.arrivals
    await asyncio.sleep(0)
    assert not visitor.heard
