from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.kit.certs import authority, client_hello, in_records, padded, trusting
from tests.kit.talk import Talk
from wellhead.errors import ClientHelloError, TrustError
from wellhead.net import portal
from wellhead.net.authority import LocalAuthority
from wellhead.net.dialling import dial_tls
from wellhead.net.pace import Job, Pace
from wellhead.net.portal import Portal, PortalTerms, RawWay, Way
from wellhead.net.socket_options import NOTSENT_LOWAT_BYTES
from wellhead.net.sockets import listen
from wellhead.wire.sni import ClientHello

BOTH_LOOPS = True

DECODE_ERROR, PROTOCOL_VERSION, UNEXPECTED_MESSAGE, INTERNAL_ERROR = 50, 70, 10, 80
UNRECOGNIZED_NAME, NO_APPLICATION_PROTOCOL, HANDSHAKE_FAILURE = 112, 120, 40


class House:
    """A portal on loopback whose visitors meet an echo that greets them with their hostname."""

    def __init__(self, ca: LocalAuthority, terms: PortalTerms, pace: Pace | None = None) -> None:
        self.ca = ca
        self.refused: Counter[str] = Counter()
        self.hellos: list[ClientHello] = []
        self.talks: list[Talk] = []
        self.contexts = 0  # made so far
        self.full = False  # for connections that are passed on
        self.factory: Callable[[], asyncio.Protocol] | None = None
        listeners = listen("127.0.0.1", 0)
        self.port: int = listeners[0].getsockname()[1]
        self.portal = Portal(listeners, self._choose, terms, self._on_refused, pace)
        self._changed = asyncio.Event()
        self.portal.start()

    def _choose(self, hello: ClientHello, ip: str) -> Way | RawWay:
        assert ip in ("127.0.0.1", "::1")
        self.hellos.append(hello)
        name = hello.server_name
        if name == "raw.localhost":
            return RawWay(self._raw)
        if name == "bug.localhost":
            raise ValueError("a bug")
        if name == "gone.localhost":
            raise ClientHelloError(UNRECOGNIZED_NAME, "unknown-sni")
        if hello.alpn and b"http/1.1" not in hello.alpn and b"wellhead/1" not in hello.alpn:
            raise ClientHelloError(NO_APPLICATION_PROTOCOL, "no-alpn")

        def context() -> ssl.SSLContext:
            self.contexts += 1
            if name == "late.localhost":
                raise ValueError("another bug")
            return self.ca.address_context() if name is None else self.ca.leaf_context(name)

        return Way(context, self.factory or self._talk, privileged=b"wellhead/1" in hello.alpn)

    def _raw(self) -> Talk:
        if self.full:
            raise ClientHelloError(INTERNAL_ERROR, "full")
        self.talks.append(Talk())
        return self.talks[-1]

    def _talk(self) -> Talk:
        name = self.hellos[-1].server_name or "nobody"
        self.talks.append(Talk(name.encode() + b"\n", echo=True))
        return self.talks[-1]

    def _on_refused(self, reason: str, ip: str) -> None:
        assert ip in ("127.0.0.1", "::1") or reason == "descriptors"
        self.refused[reason] += 1
        self._changed.set()

    async def until_refused(self, reason: str, count: int = 1) -> None:
        async with asyncio.timeout(5):
            while self.refused[reason] < count:
                self._changed.clear()
                await self._changed.wait()

    async def visit(
        self, name: str = "a.localhost", host: str = "localhost", alpn: Sequence[str] = ()
    ) -> Talk:
        _, talk = await dial_tls(
            host, self.port, server_hostname=name, context=trusting(self.ca, alpn), protocol_factory=Talk,
            timeout_seconds=5,
        )  # fmt: skip
        return talk


@contextlib.asynccontextmanager
async def house(
    tmp_path: Path, terms: PortalTerms | None = None, pace: Pace | None = None
) -> AsyncIterator[House]:
    found = House(authority(tmp_path), terms or PortalTerms(), pace)
    try:
        yield found
    finally:
        await found.portal.aclose()
        assert len(found.portal) == 0
        for talk in found.talks:
            if talk.connected:
                talk.transport.abort()
                await talk.until("lost")


class Held(Pace):
    """A queue in which everybody waits until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[Job] | None = []
        self._more = asyncio.Event()

    def put(self, job: Job, line: str = "") -> None:
        if self._held is None:
            super().put(job)
        else:
            self._held.append(job)
            self._more.set()

    async def until_held(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self._held or ()) < count:
                self._more.clear()
                await self._more.wait()

    def open(self) -> None:
        held, self._held = self._held or [], None
        for job in held:
            super().put(job)


class Raw:
    """A visitor that writes its bytes by hand."""

    def __init__(self, port: int, receive_buffer: int = 0) -> None:
        self.sock = socket.socket()
        self.sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self.sock.connect(("127.0.0.1", port))
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(5):
            await self._loop.sock_sendall(self.sock, data)

    async def rest(self) -> bytes:
        """All that comes until the end, which must be an orderly one."""
        got = bytearray()
        async with asyncio.timeout(5):
            while piece := await self._loop.sock_recv(self.sock, 65536):
                got += piece
        return bytes(got)

    def close(self) -> None:
        self.sock.close()


@contextlib.contextmanager
def raw(house: House) -> Iterator[Raw]:
    visitor = Raw(house.port)
    try:
        yield visitor
    finally:
        visitor.close()


def alert(description: int) -> bytes:
    return bytes([21, 3, 3, 0, 2, 2, description])


@pytest.mark.parametrize("name", ["a.localhost", "b.c.example"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_visitor_is_served_with_the_certificate_of_the_name_it_asks_for(
    tmp_path: Path, name: str, host: str
) -> None:
    async with house(tmp_path) as place:
        talk = await place.visit(name, host)
        assert await talk.hear(1) == name.encode() + b"\n"
        assert place.talks[0].transport.get_extra_info("peername")[0] == host
        assert len(place.portal) == 0
        talk.transport.abort()
        await talk.until("lost")


async def test_a_visitor_without_a_name_gets_the_certificate_for_addresses(tmp_path: Path) -> None:
    async with house(tmp_path) as place:
        talk = await place.visit("127.0.0.1", "127.0.0.1")
        assert await talk.hear(1) == b"nobody\n"
        talk.transport.abort()
        with pytest.raises(TrustError):
            await place.visit("192.0.2.1", "127.0.0.1")


@pytest.mark.parametrize(
    ("hello", "description", "reason"),
    [
        (client_hello("gone.localhost"), UNRECOGNIZED_NAME, "unknown-sni"),
        (client_hello("a.localhost", ["h2"]), NO_APPLICATION_PROTOCOL, "no-alpn"),
        (b"GET / HTTP/1.1\r\nHost: a.localhost\r\n\r\n", UNEXPECTED_MESSAGE, "not-tls"),
        (b"\x16\x03\x01\x00\x36\x01\x00\x00\x32\x03\x03" + bytes(48), DECODE_ERROR, "malformed-hello"),
    ],
)
async def test_a_hello_that_is_not_served_is_told_so_by_its_alert_and_an_orderly_end(
    tmp_path: Path, hello: bytes, description: int, reason: str
) -> None:
    async with house(tmp_path) as place:
        with raw(place) as visitor:
            await visitor.send(hello)
            assert await visitor.rest() == alert(description)
        assert place.refused == {reason: 1}
        assert place.talks == []


async def test_the_alert_arrives_though_much_more_was_sent_than_read(tmp_path: Path) -> None:
    """A reset, which a plain close would send here, overtakes the alert."""
    async with house(tmp_path) as place:
        with raw(place) as visitor:
            await visitor.send(client_hello("gone.localhost") + bytes(100_000))
            await asyncio.sleep(0.02)
            await visitor.send(bytes(50_000))
            assert await visitor.rest() == alert(UNRECOGNIZED_NAME)


async def test_a_peer_that_never_stops_sending_is_not_read_for_ever(tmp_path: Path) -> None:
    async with house(tmp_path) as place:
        with raw(place) as visitor:
            with pytest.raises(OSError):
                async with asyncio.timeout(5):
                    while True:
                        await visitor.send(b"x" * 65536)


async def test_what_openssl_refuses_is_told_by_openssls_alert(tmp_path: Path) -> None:
    hello = bytearray(client_hello(only=ssl.TLSVersion.TLSv1_2))
    hello[9:11] = b"\x03\x01"  # TLS 1.0 in the handshake's version field
    none_shared = bytearray(client_hello(only=ssl.TLSVersion.TLSv1_2))
    ciphers = 9 + 2 + 32 + 1 + none_shared[43]
    length = int.from_bytes(none_shared[ciphers : ciphers + 2], "big")
    none_shared[ciphers + 2 : ciphers + 2 + length] = b"\x00\x2f" * (length // 2)
    async with house(tmp_path) as place:
        with raw(place) as old, raw(place) as weak:
            await old.send(bytes(hello))
            await weak.send(bytes(none_shared))
            # OpenSSL writes the record's version that the client wrote.
            assert (await old.rest())[-2:] == bytes([2, PROTOCOL_VERSION])
            assert (await weak.rest())[-2:] == bytes([2, HANDSHAKE_FAILURE])
        assert place.refused == {"handshake": 2}


@pytest.mark.parametrize("size", [1, 7, 100, 4096])
async def test_a_hello_in_many_records_is_served(tmp_path: Path, size: int) -> None:
    async with house(tmp_path) as place:
        with raw(place) as visitor:
            await visitor.send(in_records(client_hello(), size))
            async with asyncio.timeout(5):
                reply = await asyncio.get_running_loop().sock_recv(visitor.sock, 3)
        assert reply[:1] == b"\x16"
        assert place.hellos == [ClientHello("a.localhost", ())]


async def test_a_hello_in_many_segments_is_served(tmp_path: Path) -> None:
    hello = client_hello(alpn=["http/1.1"])
    async with house(tmp_path) as place:
        with raw(place) as visitor:
            visitor.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(0, len(hello), 9):
                await visitor.send(hello[at : at + 9])
                await asyncio.sleep(0)
            async with asyncio.timeout(5):
                reply = await asyncio.get_running_loop().sock_recv(visitor.sock, 3)
        assert reply[:1] == b"\x16"
        assert place.hellos == [ClientHello("a.localhost", (b"http/1.1",))]


HELLO = client_hello("raw.localhost")


@pytest.mark.parametrize(
    ("hello", "piece"),
    [
        (HELLO, 100_000),
        (HELLO, 9),
        (in_records(HELLO, 1), 100_000),
        (in_records(HELLO, 40), 13),
        (in_records(padded(HELLO, 16384), 16384), 1400),
        (in_records(padded(HELLO, 65536), 16384), 30_000),
        (in_records(padded(HELLO, 65536), 1000), 30_000),
    ],
)
async def test_a_connection_that_is_passed_on_keeps_every_byte(
    tmp_path: Path, hello: bytes, piece: int
) -> None:
    said = hello + b"and what follows"
    async with house(tmp_path) as place:
        with raw(place) as visitor:
            visitor.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(0, len(said), piece):
                await visitor.send(said[at : at + piece])
                await asyncio.sleep(0)
            async with asyncio.timeout(5):
                while not place.talks:  # noqa: ASYNC110  # a choice tells nobody here
                    await asyncio.sleep(0.001)
            assert await place.talks[0].hear(len(said)) == said
            assert len(place.portal) == 0 and place.contexts == 0
            sock = place.talks[0].transport.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0  # it may read slowly
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == NOTSENT_LOWAT_BYTES
            place.talks[0].transport.write(b"not TLS at all")
            place.talks[0].transport.write_eof()
            assert await visitor.rest() == b"not TLS at all"


async def test_whoever_takes_a_connection_as_it_is_may_still_refuse_it(tmp_path: Path) -> None:
    async with house(tmp_path) as place:
        place.full = True
        with raw(place) as visitor:
            await visitor.send(HELLO)
            assert await visitor.rest() == alert(INTERNAL_ERROR)
        assert place.refused == {"full": 1} and place.talks == []


async def test_beyond_the_visitors_descriptors_nothing_is_passed_on(tmp_path: Path) -> None:
    async with house(tmp_path, PortalTerms(visitors_descriptor=3)) as place:
        with raw(place) as visitor:
            await visitor.send(HELLO)
            assert await visitor.rest() == alert(INTERNAL_ERROR)
        assert place.refused == {"descriptors": 1} and place.talks == []


async def test_a_hello_of_sixty_kilobytes_is_served(tmp_path: Path) -> None:
    whole = in_records(padded(client_hello(alpn=["http/1.1"]), 60_000), 16384)
    async with house(tmp_path) as place:
        with raw(place) as visitor:
            for start in range(0, len(whole), 10_000):
                await visitor.send(whole[start : start + 10_000])
                await asyncio.sleep(0.01)
            async with asyncio.timeout(5):
                reply = await asyncio.get_running_loop().sock_recv(visitor.sock, 3)
        assert reply[:1] == b"\x16"
        assert place.hellos[0].server_name == "a.localhost"


async def test_a_hello_that_does_not_come_is_given_up_without_spinning(tmp_path: Path) -> None:
    async with house(tmp_path, PortalTerms(hello_seconds=0.5)) as place:
        with raw(place) as silent, raw(place) as partial:
            await partial.send(client_hello()[:100])
            before, cpu = time.monotonic(), time.process_time()
            assert await silent.rest() == alert(DECODE_ERROR)
            assert await partial.rest() == alert(DECODE_ERROR)
            assert 0.3 < time.monotonic() - before < 2
            assert time.process_time() - cpu < 0.25
        assert place.refused == {"hello-timeout": 2}


async def test_a_peer_that_ends_in_the_midst_of_its_hello_is_not_waited_for(tmp_path: Path) -> None:
    async with house(tmp_path) as place:
        with raw(place) as visitor:
            await visitor.send(client_hello()[:100])
            visitor.sock.shutdown(socket.SHUT_WR)
            assert await visitor.rest() == alert(DECODE_ERROR)
        assert place.refused == {"hello-truncated": 1}


async def test_a_peer_that_says_nothing_and_leaves_costs_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as place:
        with raw(place) as visitor:
            await visitor.send(b"")
        await place.until_refused("hello-closed")
        assert len(place.portal) == 0


async def test_a_drip_of_tiny_records_is_given_up(tmp_path: Path) -> None:
    hello = bytearray(client_hello())
    hello += bytes(60_000)
    hello[6:9] = (len(hello) - 9).to_bytes(3, "big")
    tiny = in_records(bytes(hello), 6)
    async with house(tmp_path, PortalTerms(hello_seconds=4)) as place:
        with raw(place) as visitor, contextlib.suppress(OSError):
            visitor.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(0, len(tiny), 1100):
                await visitor.send(tiny[at : at + 1100])
                if place.refused:
                    break
                await asyncio.sleep(0.001)
            await visitor.rest()
        assert place.refused == {"hello-fragments": 1}


async def test_a_handshake_that_stalls_is_ended(tmp_path: Path) -> None:
    async with house(tmp_path, PortalTerms(handshake_seconds=0.3)) as place:
        with raw(place) as visitor:
            await visitor.send(client_hello())
            await visitor.rest()
        await place.until_refused("handshake-timeout")
        assert place.talks == []


async def test_no_turn_of_the_loop_begins_two_handshakes_unless_it_is_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portal, "Pace", functools.partial(Pace, clock=lambda: 0.0))  # no turn is
    async with house(tmp_path) as place:
        visits = [asyncio.create_task(place.visit()) for _ in range(40)]
        begun = [0]
        while not all(visit.done() for visit in visits):
            begun.append(place.contexts)
            await asyncio.sleep(0)
        for visit in visits:
            (await visit).transport.abort()
        assert place.contexts == 40
        assert max(after - before for before, after in itertools.pairwise(begun)) == 1


async def test_a_flood_of_handshakes_does_not_keep_a_visitor_out(tmp_path: Path) -> None:
    """Each of the flood stands still after its hello, and a new one takes its place."""
    hello = client_hello()

    async def flood(place: House) -> None:
        while True:
            with raw(place) as visitor:
                await visitor.send(hello)
                await asyncio.get_running_loop().sock_recv(visitor.sock, 1)

    async with house(tmp_path, PortalTerms(max_handshakes=64)) as place:
        floods = [asyncio.create_task(flood(place)) for _ in range(100)]
        for _ in range(10):
            talk = await place.visit()
            assert await talk.hear(1) == b"a.localhost\n"
            talk.transport.abort()
        for task in floods:
            task.cancel()
        await asyncio.gather(*floods, return_exceptions=True)
        assert place.contexts > 100  # it was one


async def test_nothing_dear_is_done_before_a_connections_turn(tmp_path: Path) -> None:
    pace = Held()
    async with house(tmp_path, pace=pace) as place:
        with raw(place) as unknown:
            visit = asyncio.create_task(place.visit())
            await pace.until_held(1)
            await unknown.send(client_hello("gone.localhost"))
            assert await unknown.rest() == alert(UNRECOGNIZED_NAME)  # this needs no turn
        assert place.contexts == 0
        pace.open()
        (await visit).transport.abort()
        assert place.contexts == 1


async def test_who_waits_in_the_queue_is_not_taken_for_slow(tmp_path: Path) -> None:
    pace = Held()
    async with house(tmp_path, PortalTerms(handshake_seconds=0.6), pace) as place:
        with raw(place) as visitor:
            await visitor.send(client_hello())
            await pace.until_held(1)
            await asyncio.sleep(0.4)
            pace.open()
            opened = time.monotonic()
            await visitor.rest()
            assert time.monotonic() - opened > 0.5
        assert place.refused == {"handshake-timeout": 1}


async def test_who_waits_longer_than_a_handshake_may_take_is_told_and_counted(tmp_path: Path) -> None:
    pace = Held()
    async with house(tmp_path, PortalTerms(handshake_seconds=0.1), pace) as place:
        with raw(place) as visitor:
            await visitor.send(client_hello())
            await pace.until_held(1)
            await asyncio.sleep(0.2)
            pace.open()
            assert await visitor.rest() == alert(INTERNAL_ERROR)
        assert place.refused == {"handshake-queue": 1}
        assert place.contexts == 0


@pytest.mark.parametrize("reset", [False, True])
async def test_who_leaves_the_queue_costs_no_handshake(tmp_path: Path, reset: bool) -> None:
    pace = Held()
    async with house(tmp_path, pace=pace) as place:
        with raw(place) as visitor:
            await visitor.send(client_hello())
            await pace.until_held(1)
            if reset:
                visitor.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        pace.open()
        await place.until_refused("handshake")
        assert place.contexts == 0


async def test_who_waits_in_the_queue_does_not_make_room_for_others(tmp_path: Path) -> None:
    pace = Held()
    async with house(tmp_path, PortalTerms(max_handshakes=2), pace) as place:
        visits = [asyncio.create_task(place.visit()) for _ in range(3)]
        await pace.until_held(3)
        pace.open()
        for visit in visits:
            (await visit).transport.abort()
        assert place.refused == {}


async def test_silent_peers_make_room_for_those_who_speak(tmp_path: Path) -> None:
    async with house(tmp_path, PortalTerms(max_handshakes=3)) as place:
        with raw(place), raw(place), raw(place), raw(place):
            talk = await place.visit()
            await talk.hear(1)
            talk.transport.abort()
            await talk.until("lost")
        assert place.refused["crowded"] in (1, 2)


async def test_a_crowd_of_honest_visitors_all_get_in(tmp_path: Path) -> None:
    async with house(tmp_path, PortalTerms(max_handshakes=4)) as place:
        talks = await asyncio.gather(*[place.visit() for _ in range(40)])
        for talk in talks:
            assert await talk.hear(1) == b"a.localhost\n"
            talk.transport.abort()
            await talk.until("lost")
        assert place.refused == {}


async def test_one_address_may_have_so_many_handshakes_and_loopback_any(tmp_path: Path) -> None:
    strict = PortalTerms(max_handshakes_per_address=2, loopback_exempt=False, hello_seconds=0.4)
    async with house(tmp_path, strict) as place:
        with raw(place) as first, raw(place) as second, raw(place) as third:
            await place.until_refused("address-handshakes")
            assert await third.rest() == b""
            assert await first.rest() == await second.rest() == alert(DECODE_ERROR)
        with raw(place) as later:
            await later.send(client_hello("gone.localhost"))
            assert await later.rest() == alert(UNRECOGNIZED_NAME)
    async with house(tmp_path, PortalTerms(max_handshakes_per_address=1)) as place:
        with raw(place), raw(place):
            (await place.visit()).transport.abort()
        assert place.refused["address-handshakes"] == 0


async def test_the_last_descriptors_are_kept_for_agents(tmp_path: Path) -> None:
    async with house(tmp_path, PortalTerms(visitors_descriptor=1)) as place:
        with raw(place) as visitor, raw(place) as agent:
            await visitor.send(client_hello(alpn=["http/1.1"]))
            assert await visitor.rest() == alert(INTERNAL_ERROR)
            await agent.send(client_hello(alpn=["wellhead/1"]))
            async with asyncio.timeout(5):
                assert await asyncio.get_running_loop().sock_recv(agent.sock, 1) == b"\x16"
        assert place.refused["descriptors"] == 1


async def test_an_agent_is_given_up_sooner_than_a_visitor_who_may_read_slowly(tmp_path: Path) -> None:
    async with house(tmp_path, PortalTerms(write_idle_seconds=60)) as place:
        for protocol, milliseconds in (("http/1.1", 65_000), ("wellhead/1", 15_000)):
            talk = await place.visit(alpn=[protocol])
            await talk.hear(1)  # a client's handshake ends before the server's
            sock = place.talks[-1].transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == milliseconds
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
            talk.transport.abort()
            await talk.until("lost")


@pytest.mark.parametrize("name", ["bug.localhost", "late.localhost"])
async def test_a_bug_in_choosing_costs_one_connection_only(tmp_path: Path, name: str) -> None:
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
    async with house(tmp_path) as place:
        with raw(place) as visitor:
            await visitor.send(client_hello(name))
            assert await visitor.rest() == alert(INTERNAL_ERROR)
        (await place.visit()).transport.abort()
        assert place.refused == {"internal": 1}
    assert len(reports) == 1


async def test_stopping_refuses_newcomers_and_lets_a_handshake_end(tmp_path: Path) -> None:
    async with house(tmp_path) as place:
        hello = client_hello()
        with raw(place) as visitor:
            await visitor.send(hello[:50])
            await asyncio.sleep(0.02)
            place.portal.stop()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", place.port))
            await visitor.send(hello[50:])
            async with asyncio.timeout(5):
                assert await asyncio.get_running_loop().sock_recv(visitor.sock, 1) == b"\x16"


async def test_closing_ends_arrivals_in_every_state_and_leaves_no_task(tmp_path: Path) -> None:
    async with house(tmp_path) as place:
        with raw(place) as silent, raw(place) as partial, raw(place) as shaking, raw(place) as lingering:
            await partial.send(client_hello()[:60])
            await shaking.send(client_hello())
            await lingering.send(client_hello("gone.localhost"))
            await place.until_refused("unknown-sni")
            async with asyncio.timeout(5):
                await asyncio.get_running_loop().sock_recv(shaking.sock, 1)
                while len(place.portal) < 3:  # noqa: ASYNC110  # an arrival tells nobody
                    await asyncio.sleep(0.01)
            await place.portal.aclose()
            await place.portal.aclose()
            for visitor in (silent, partial, shaking, lingering):
                with contextlib.suppress(ConnectionResetError):
                    await visitor.rest()
        assert len(asyncio.all_tasks()) == 1
