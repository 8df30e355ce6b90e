"""The public port: accept, read the ClientHello without consuming it, choose, do TLS.

The hello says which hostname is wanted and which protocol, so certificate and protocol are chosen before TLS
starts, and whoever asks for a name that is not ours learns it by a TLS alert and costs no handshake.

::

    accept -> peek ──────────────> choose -> queue -> TLS handshake -> the protocol's connection_made
               │                       ├─ not ours to decrypt: connection_made, all bytes unread
               └─ incomplete: wait ┘   └─ no: alert, FIN, read to the end, close

Every connection on its way through has one owner here, the portal, and one clock, which starts at accept and
stands still in the queue: how long it waits for its turn is our doing, not the peer's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from wellhead.errors import ClientHelloError
from wellhead.model.names import address_group, is_loopback
from wellhead.net.acceptor import Acceptor
from wellhead.net.farewell import Farewell
from wellhead.net.loop import begin, file_limit
from wellhead.net.pace import Pace
from wellhead.net.plain import Entrance
from wellhead.net.socket_options import CARRIER_LOWAT_BYTES, tune
from wellhead.net.tls import accept_tls
from wellhead.wire.sni import (
    DECODE_ERROR,
    INTERNAL_ERROR,
    ClientHello,
    Need,
    alert,
    read_client_hello,
)

MAX_HELLO_BYTES: Final = 80 * 1024  # the longest hello and the headers of many small records
MAX_LOOKED_BYTES: Final = 384 * 1024  # read in all looks at one hello: a drip of tiny records costs no more
FEWEST_HANDSHAKES: Final = 16  # unfinished, however few descriptors there are
MAX_LINGERING: Final = 256  # connections
CROWD_SECONDS: Final = 1.0  # when room is short, a peer may take so long for its hello


@dataclass(frozen=True, slots=True)
class PortalTerms:
    """Limits of the public port."""

    hello_seconds: float = 5.0  # from accept to a complete ClientHello
    handshake_seconds: float = 10.0  # from accept to the end of the handshake, and as long in the queue
    shutdown_seconds: float = 30.0  # for what is queued when a transport is closed, and the peer's goodbye
    write_idle_seconds: float = 60.0  # how long a peer may read nothing
    max_handshakes: int = 500  # connections between accept and the end of the handshake; see Portal
    max_handshakes_per_address: int = 20
    loopback_exempt: bool = True  # from the limit per address
    visitors_descriptor: int = 0  # highest for connections without privilege; 0: 85 % of RLIMIT_NOFILE
    max_descriptor: int = 0  # highest for any; 0: 95 % of RLIMIT_NOFILE


@dataclass(frozen=True, slots=True)
class Way:
    """How a connection goes on: its TLS context, and the protocol that gets the transport after TLS.

    ``context`` is called when the connection's turn comes: it may be dear. ``privileged`` connections
    (agents') may use the descriptors that visitors may not, and are given up after 15 s without
    acknowledgement: their readers never wait, as visitors' may.
    """

    context: Callable[[], ssl.SSLContext]
    protocol_factory: Callable[[], asyncio.BaseProtocol]
    privileged: bool = False


@dataclass(frozen=True, slots=True)
class RawWay:
    """How a connection goes on whose TLS ends elsewhere: the protocol gets every byte of it, the hello first.

    ``protocol`` is called once, and may still raise ClientHelloError.
    """

    protocol: Callable[[], asyncio.Protocol]


Choose = Callable[[ClientHello, str], Way | RawWay]


class Portal:
    """Listening sockets whose connections speak TLS.

    ``choose(hello, ip)`` gives the way or raises ClientHelloError, whose alert the peer is sent.
    ``on_refused(reason, ip)`` is told a constant word for each connection that does not get through:
    ``descriptors``, ``crowded``, ``address-handshakes``, ``hello-timeout``, ``hello-truncated``,
    ``hello-fragments``, ``handshake-queue`` (its turn came too late), ``handshake-timeout``, ``handshake``,
    ``internal`` and the reasons of ClientHelloErrors.
    A peer that merely goes away before its hello is ``hello-closed``.

    Unfinished handshakes take a tenth of RLIMIT_NOFILE at most: where descriptors are scarce, silent peers
    make room for agents. Handshakes take turns by ``pace`` with the loop's other work, agents' and visitors'
    alternately, the oldest of each first.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        choose: Choose,
        terms: PortalTerms | None = None,
        on_refused: Callable[[str, str], None] = lambda reason, ip: None,
        pace: Pace | None = None,
    ) -> None:
        self.terms = terms = terms or PortalTerms()
        self._pace = pace if pace is not None else Pace()
        self._choose = choose
        self._on_refused = on_refused
        self._loop = asyncio.get_running_loop()
        self._arrivals: dict[_Arrival, None] = {}  # oldest first
        self._by_address: dict[str, int] = {}
        self._lingering: set[Farewell] = set()
        self._crowd_timer: asyncio.TimerHandle | None = None
        self._entrance = Entrance()
        self.visitors_descriptor = terms.visitors_descriptor or file_limit() * 85 // 100
        self._most = min(terms.max_handshakes, max(FEWEST_HANDSHAKES, file_limit() * 10 // 100))
        for sock in sockets:
            # Connections inherit these options. One that is passed on as it is keeps them: its visitor may be
            # slow to read, which is for the agent's upstream to decide.
            tune(sock, user_timeout_seconds=0)
        self._acceptor = Acceptor(
            sockets,
            self._accepted,
            max_descriptor=terms.max_descriptor or file_limit() * 95 // 100,
            on_refused=lambda reason: on_refused(reason, ""),
        )
        # Peeked into by one connection after the other: what is kept is copied out.
        self._peeked = memoryview(bytearray(MAX_HELLO_BYTES))

    def __len__(self) -> int:
        """Connections between accept and the end of their handshake."""
        return len(self._arrivals)

    def start(self) -> None:
        self._acceptor.start()

    def stop(self) -> None:
        """Accept nothing more; what is on its way through goes on."""
        self._acceptor.close()

    async def aclose(self) -> None:
        """Stop, and end whatever is not through yet. Idempotent."""
        self.stop()
        if self._crowd_timer is not None:
            self._crowd_timer.cancel()
            self._crowd_timer = None
        tasks = [arrival.task for arrival in self._arrivals if arrival.task is not None]
        for arrival in list(self._arrivals):
            arrival.drop()
        for farewell in list(self._lingering):
            farewell.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Arrivals

    def _accepted(self, sock: socket.socket, ip: str) -> None:
        terms = self.terms
        group = address_group(ip)
        if not (terms.loopback_exempt and is_loopback(ip)):
            if self._by_address.get(group, 0) >= terms.max_handshakes_per_address:
                self._on_refused("address-handshakes", ip)
                sock.close()
                return
        arrival = _Arrival(self, sock, ip, group)
        self._arrivals[arrival] = None
        self._by_address[group] = self._by_address.get(group, 0) + 1
        arrival.peek()
        if len(self._arrivals) > self._most:
            self._crowd()

    def _crowd(self) -> None:
        """Beyond the limit: whoever owes its hello longest makes room, else newcomers wait in the backlog."""
        if self._crowd_timer is not None:
            self._crowd_timer.cancel()
            self._crowd_timer = None
        while len(self._arrivals) > self._most:
            waiting = next((arrival for arrival in self._arrivals if arrival.owes_hello), None)
            age = 0.0 if waiting is None else self._loop.time() - waiting.since
            if waiting is None or age < CROWD_SECONDS:
                self._acceptor.hold()
                if waiting is not None:
                    self._crowd_timer = self._loop.call_later(CROWD_SECONDS - age, self._crowd)
                return
            waiting.refuse("crowded", INTERNAL_ERROR)

    def _forget(self, arrival: _Arrival) -> None:
        if arrival not in self._arrivals:
            return
        del self._arrivals[arrival]
        left = self._by_address[arrival.group] - 1
        if left:
            self._by_address[arrival.group] = left
        else:
            del self._by_address[arrival.group]
        if len(self._arrivals) <= self._most:
            self._acceptor.release()

    def _farewell(self, sock: socket.socket, last_words: bytes) -> None:
        farewell = Farewell(self._loop, sock, self._lingering)
        farewell.say(last_words, linger=len(self._lingering) < MAX_LINGERING)


class _Arrival:
    """One connection from accept to the end of its handshake."""

    __slots__ = (
        "_clock",
        "_looked",
        "_low_water",
        "_portal",
        "_seen",
        "_sock",
        "_watching",
        "group",
        "ip",
        "owes_hello",
        "since",
        "task",
    )

    def __init__(self, portal: Portal, sock: socket.socket, ip: str, group: str) -> None:
        self._portal = portal
        self._sock = sock
        self.ip = ip
        self.group = group
        self.since = portal._loop.time()
        self.owes_hello = True
        self.task: asyncio.Task[None] | None = None
        self._clock: asyncio.TimerHandle | None = None
        self._watching = False
        self._low_water = 1  # bytes that have to be there for the loop to call us
        self._seen = 0  # bytes of the hello that were there at the last look
        self._looked = 0  # bytes read in all looks

    def peek(self) -> None:
        """Look at what has arrived; most hellos are whole at the first look."""
        view = self._portal._peeked
        try:
            count = self._sock.recv_into(view, 0, socket.MSG_PEEK)
        except BlockingIOError:
            self._wait(1)
            return
        except OSError:
            self.drop("hello-closed")
            return
        if count == 0:
            self.drop("hello-closed")
            return
        if count == self._seen:
            # Woken below the low-water mark: the peer has ended its half, and no more will come.
            self.refuse("hello-truncated", DECODE_ERROR)
            return
        self._seen = count
        self._looked += count
        hello = bytes(view[:count])
        try:
            found = read_client_hello(hello)
            if isinstance(found, Need):
                if count + found.count > MAX_HELLO_BYTES or self._looked > MAX_LOOKED_BYTES:
                    self.refuse("hello-fragments", DECODE_ERROR)
                else:
                    self._wait(count + found.count)
                return
            way = self._portal._choose(found, self.ip)
            if isinstance(way, RawWay):
                self._pass_on(way)
                return
        except ClientHelloError as error:
            self.refuse(error.reason, error.alert)
            return
        except Exception:
            self.refuse("internal", INTERNAL_ERROR)
            raise
        if not way.privileged and self._is_beyond():
            self.refuse("descriptors", INTERNAL_ERROR)
            return
        self._queue(way, hello)

    def _is_beyond(self) -> bool:
        """Whether its descriptor is none that visitors may use."""
        return self._sock.fileno() > self._portal.visitors_descriptor

    def _pass_on(self, way: RawWay) -> None:
        """Let the protocol have the socket as it is."""
        if self._is_beyond():
            raise ClientHelloError(INTERNAL_ERROR, "descriptors")
        protocol = way.protocol()
        self._leave_loop()
        self._portal._forget(self)
        self._set_low_water(1)
        self._portal._entrance.enter(self._sock, lambda: protocol, protocol.connection_lost)

    def _wait(self, low_water: int) -> None:
        """Wake when so many bytes are there: level-triggered, a peeked byte would wake us for ever."""
        portal = self._portal
        self._set_low_water(low_water)
        if not self._watching:
            self._watching = True
            portal._loop.add_reader(self._sock.fileno(), self.peek)
            self._clock = portal._loop.call_later(portal.terms.hello_seconds, self._late)

    def _set_low_water(self, count: int) -> None:
        if count != self._low_water:
            self._low_water = count
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)

    def _late(self) -> None:
        self.refuse("hello-timeout", DECODE_ERROR)

    def _queue(self, way: Way, hello: bytes) -> None:
        self._leave_loop()
        self.owes_hello = False
        asked = self._portal._loop.time()
        line = "agents" if way.privileged else "visitors"
        self._portal._pace.put(lambda: self._enter(way, hello, asked), line)

    def _enter(self, way: Way, hello: bytes, asked: float) -> None:
        """Begin the handshake, unless there is none to do any more."""
        portal = self._portal
        if self not in portal._arrivals:
            return
        if portal._loop.time() - asked > portal.terms.handshake_seconds:
            self.refuse("handshake-queue", INTERNAL_ERROR)
            return
        if _is_gone(self._sock):
            self.drop("handshake")
            return
        self._set_low_water(1)
        if way.privileged:
            tune(self._sock, notsent_lowat_bytes=CARRIER_LOWAT_BYTES)
        else:
            tune(self._sock, user_timeout_seconds=portal.terms.write_idle_seconds + 5)
        left = portal.terms.handshake_seconds - (asked - self.since)
        # The dear part is the first step: our half of the handshake, whose other half is in the socket.
        self.task = begin(portal._loop, self._shake(way, hello, max(left, 0.1)))
        self.task.add_done_callback(self._shaken)

    async def _shake(self, way: Way, hello: bytes, seconds: float) -> None:
        portal = self._portal
        sock = self._sock
        try:
            context = way.context()
        except Exception:
            portal._on_refused("internal", self.ip)
            portal._farewell(sock, alert(INTERNAL_ERROR))
            raise
        # A failed handshake leaves nothing to write its alert on, so the connection is held twice.
        second = -1  # a bare descriptor: a socket object costs more, and most handshakes succeed
        with contextlib.suppress(OSError):
            second = os.dup(sock.fileno())
        try:
            await accept_tls(
                sock,
                context,
                way.protocol_factory,
                handshake_seconds=seconds,
                shutdown_seconds=portal.terms.shutdown_seconds,
            )
        except OSError as error:
            late = isinstance(error, ConnectionAbortedError | TimeoutError)
            portal._on_refused("handshake-timeout" if late else "handshake", self.ip)
            if second >= 0 and isinstance(error, ssl.SSLError):
                last_words, kept, second = _what_openssl_says(context, hello), second, -1
                portal._farewell(socket.socket(fileno=kept), last_words)
        finally:
            if second >= 0:
                os.close(second)

    def _shaken(self, task: asyncio.Task[None]) -> None:
        self._portal._forget(self)
        if task.cancelled():
            self._sock.close()  # cancelled before its first step, it closes nothing itself
        elif error := task.exception():
            self._portal._loop.call_exception_handler(
                {"message": "a connection could not be let in", "exception": error, "task": task}
            )

    def refuse(self, reason: str, description: int) -> None:
        """End it with a TLS alert."""
        self._leave_loop()
        self._portal._forget(self)
        self._portal._on_refused(reason, self.ip)
        self._portal._farewell(self._sock, alert(description))

    def drop(self, reason: str | None = None) -> None:
        """End it without a word."""
        if self.task is not None:
            self.task.cancel()
            return
        self._leave_loop()
        self._portal._forget(self)
        if reason is not None:
            self._portal._on_refused(reason, self.ip)
        self._sock.close()

    def _leave_loop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        if self._watching:
            self._watching = False
            self._portal._loop.remove_reader(self._sock.fileno())


def _is_gone(sock: socket.socket) -> bool:
    """Whether the peer has ended the connection; behind unread bytes, ``recv`` does not say."""
    gone = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR
    poll = select.poll()
    poll.register(sock, gone)
    return bool(poll.poll(0))


def _what_openssl_says(context: ssl.SSLContext, hello: bytes) -> bytes:
    """The alert for a ClientHello that OpenSSL does not accept, or nothing.

    TLS transports throw it away with the connection, so the hello is played to OpenSSL once more.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(hello)
    try:
        context.wrap_bio(incoming, outgoing, server_side=True).do_handshake()
    except ssl.SSLWantReadError:
        return b""  # it was good: the failure came later
    except ssl.SSLError:
        return outgoing.read()
    return b""
