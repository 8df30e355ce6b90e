"""TLS handshakes on streams whose first bytes are a ClientHello; the portal of an agent.

As at the public port the hello is read first: who asks for another name or another protocol than ours gets
an alert and costs no handshake. Handshakes take turns with the loop's other work.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from wellhead.errors import ClientHelloError
from wellhead.model.names import address_group, is_loopback
from wellhead.net.pace import Pace
from wellhead.net.portal import MAX_HELLO_BYTES
from wellhead.net.stream_tls import StreamTls
from wellhead.net.unheard import Unheard
from wellhead.net.upstream_deaf import DEAF
from wellhead.wire.sni import DECODE_ERROR, INTERNAL_ERROR, ClientHello, Need, alert, read_client_hello
from wellhead.wire.streams import Buffer, HeadKind, Reason, Stream

Choose = Callable[[ClientHello], tuple[ssl.SSLContext, Callable[[], asyncio.Protocol]]]


@dataclass(frozen=True, slots=True)
class StreamPortalTerms:
    """Limits of handshakes on streams."""

    hello_seconds: float = 5.0  # from the stream's beginning to a complete ClientHello
    handshake_seconds: float = 10.0  # from the hello to the end of the handshake
    max_handshakes: int = 500  # unfinished
    max_handshakes_per_address: int = 20  # of those, of visitors who are not on the edge's own machine


class StreamPortal:
    """``choose(hello)`` gives context and protocol or raises ClientHelloError, whose alert the peer is sent.

    ``on_refused(reason, ip)`` is told a constant word for each stream that does not get through.
    """

    def __init__(
        self,
        choose: Choose,
        terms: StreamPortalTerms | None = None,
        on_refused: Callable[[str, str], None] = lambda reason, ip: None,
    ) -> None:
        self.terms = terms or StreamPortalTerms()
        self.choose = choose
        self.on_refused = on_refused
        self.loop = asyncio.get_running_loop()
        self.pace = Pace()
        self.arrivals: set[_Arrival] = set()
        self._by_address: Counter[str] = Counter()  # see ``address_group``

    def accept(self, stream: Stream, peername: tuple[str, int], data: Buffer, end: bool) -> None:
        """Take a stream with the first bytes that came on it."""
        if (reason := self._crowded(peername[0])) is not None:
            self.on_refused(reason, peername[0])
            stream.reset(Reason.OVERLOADED)
            return
        arrival = _Arrival(self, stream, peername)
        self.arrivals.add(arrival)
        self._by_address[arrival.group] += 1
        arrival.on_data(data, end)

    def forget(self, arrival: _Arrival) -> None:
        """It is through, or over. Twice is as once."""
        if arrival in self.arrivals:
            self.arrivals.remove(arrival)
            self._by_address[arrival.group] -= 1
            if not self._by_address[arrival.group]:
                del self._by_address[arrival.group]

    def close(self) -> None:
        """Give up whatever is not through yet."""
        for arrival in list(self.arrivals):
            arrival.drop()

    def _crowded(self, ip: str) -> str | None:
        """The limit that one more handshake of an address would break."""
        if len(self.arrivals) >= self.terms.max_handshakes:
            return "handshakes"
        told = ip and not is_loopback(ip)  # by an edge that tells nothing nobody can be told from another
        if told and self._by_address[address_group(ip)] >= self.terms.max_handshakes_per_address:
            return "address-handshakes"
        return None


class _Arrival:
    """The sink of one stream until its handshake is done."""

    def __init__(self, portal: StreamPortal, stream: Stream, peername: tuple[str, int]) -> None:
        self._portal = portal
        self._stream = stream
        self._peername = peername
        self.group = address_group(peername[0])
        self._hello = b""
        self._way: tuple[ssl.SSLContext, Callable[[], asyncio.Protocol]] | None = None
        self._tls: ssl.SSLObject | None = None  # None: no hello yet, or it waits for its turn
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ended = False
        self._clock = portal.loop.call_later(portal.terms.hello_seconds, self._late, "hello-timeout")
        stream.sink = self

    # The stream's sink

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        self._leave("handshake")
        self._stream.reset(Reason.PROTOCOL)

    def on_data(self, data: Buffer, end: bool) -> None:
        self._ended = self._ended or end
        self._incoming.write(data)
        self._stream.consumed(len(data))
        if self._tls is not None:
            self._shake()
        elif self._way is None:
            self._read_hello(data)
        elif self._incoming.pending > MAX_HELLO_BYTES:  # nobody talks on before the other has answered
            self._refuse("hello-fragments", DECODE_ERROR)

    def on_reset(self, reason: int) -> None:
        self._leave("handshake-closed")

    def on_writable(self) -> None:
        """What a handshake says fits into any window."""

    # The handshake

    def _read_hello(self, data: Buffer) -> None:
        self._hello += data
        portal = self._portal
        try:
            found = read_client_hello(self._hello)
            if not isinstance(found, Need):
                self._way = portal.choose(found)
        except ClientHelloError as error:
            self._refuse(error.reason, error.alert)
            return
        if isinstance(found, Need):
            if self._ended:
                self._refuse("hello-truncated", DECODE_ERROR)
            elif len(self._hello) > MAX_HELLO_BYTES:
                self._refuse("hello-fragments", DECODE_ERROR)
            return
        self._hello = b""
        self._clock.cancel()
        self._clock = portal.loop.call_later(portal.terms.handshake_seconds, self._late, "handshake-timeout")
        portal.pace.put(self._begin)

    def _begin(self) -> None:
        if self in self._portal.arrivals and self._way is not None:
            context = self._way[0]
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
            self._shake()

    def _shake(self) -> None:
        assert self._tls is not None and self._way is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            if self._ended:
                self._refuse("handshake-closed")
            elif self._outgoing.pending:
                self._stream.send(self._outgoing.read())
            return
        except ssl.SSLError:
            self._refuse("handshake")
            return
        if self._outgoing.pending:
            self._stream.send(self._outgoing.read())
        self._leave()
        transport = StreamTls(self._stream, self._tls, self._incoming, self._outgoing, self._peername)
        transport.start(self._way[1](), ended=self._ended)

    # Ends

    def drop(self) -> None:
        """End it without a word."""
        self._leave()
        self._stream.reset(Reason.CANCELLED)

    def _late(self, reason: str) -> None:
        self._refuse(reason, INTERNAL_ERROR)

    def _refuse(self, reason: str, description: int | None = None) -> None:
        """End it with an alert: the one named, or what TLS itself has to say."""
        self._leave(reason)
        words = self._outgoing.read() if description is None else alert(description)
        self._stream.sink = DEAF if self._ended else Unheard(self._stream)
        self._stream.send(words, True)

    def _leave(self, reason: str = "") -> None:
        self._clock.cancel()
        self._portal.forget(self)
        if reason:
            self._portal.on_refused(reason, self._peername[0])
