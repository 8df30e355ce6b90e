"""TLS on a stream: what a protocol sees as a transport, without a socket behind it.

::

    stream  on_data ──> TLS record ──> data_received      credited once the protocol took it, and reads on
            send    <── TLS record <── write              kept here while the stream takes no more

Unlike a transport on a socket it has half-closes: a close_notify (or a bare end) of the peer leaves our
half open, and ``write_eof`` leaves the peer's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Iterable
from typing import Any

from wellhead.logs import Log
from wellhead.net.unheard import Unheard
from wellhead.net.upstream_deaf import DEAF
from wellhead.wire.streams import Buffer, HeadKind, Reason, Stream

_log = Log("wellhead.net")
RECORD = 16 * 1024  # bytes of plaintext in one record, at most
HIGH_WATER = 64 * 1024  # unless the protocol says otherwise


class StreamTls(asyncio.Transport):
    """The sink of one stream, whose handshake is done, and its protocol's transport.

    ``close`` writes what waits, says close_notify and ends our half; the protocol is told at once that the
    connection is lost, and what the peer still sends is thrown away, within bounds: see ``Unheard``.
    """

    def __init__(
        self,
        stream: Stream,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        peername: tuple[str, int],
    ) -> None:
        super().__init__({"peername": peername, "ssl_object": tls})
        self._stream = stream
        self._tls = tls
        self._incoming = incoming
        self._outgoing = outgoing
        self._loop = asyncio.get_running_loop()
        self._protocol: asyncio.Protocol | None = None  # None: not yet, or not any more
        # from the peer
        self._reading = True
        self._held: list[Buffer] = []  # records that came while nobody reads
        self._owed = 0  # bytes of records that were read and not yet credited
        self._end = False  # the peer's half is complete, in TLS or on the stream
        self._silent = False  # the stream brings no more: its half ended there, or it was reset
        self._parted = False  # it said close_notify: OpenSSL reads nothing more, and would keep it for ever
        self._eof = False  # the protocol was told so
        # to the peer
        self._blocked = False  # the stream takes no more
        self._pending: deque[Buffer] = deque()  # plain bytes
        self._size = 0  # of them
        self._high = HIGH_WATER
        self._low = HIGH_WATER // 4
        self._paused = False  # the protocol was told to stop
        self._ending = False  # after what waits comes close_notify
        self._ended = False  # and it is said
        self._closing = False

    def start(self, protocol: asyncio.Protocol, *, ended: bool) -> None:
        """Connect the protocol, and give it what came behind the handshake; ``ended``: that was all."""
        self._protocol = protocol
        self._stream.sink = self
        protocol.connection_made(self)
        self._end = self._silent = ended
        self._take(b"")

    # The stream's sink

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        self._cut(Reason.PROTOCOL)
        self._lose(ConnectionResetError("a message head on a stream of bytes"))

    def on_data(self, data: Buffer, end: bool) -> None:
        self._end = self._end or end
        self._silent = self._silent or end
        if self._reading and not self._held:
            self._take(data)
        elif data:
            self._held.append(data)

    def on_reset(self, reason: int) -> None:
        self._silent = True
        self._lose(ConnectionResetError(f"stream reset, reason {reason}"))

    def on_writable(self) -> None:
        self._blocked = False
        pending = self._pending
        while pending and not self._blocked and self._protocol is not None:
            data = pending.popleft()
            self._size -= len(data)
            self._encrypt(data)
        if self._paused and self._size <= self._low and self._protocol is not None:
            self._paused = False
            self._protocol.resume_writing()
        if self._ending and not self._pending:
            self._finish()

    # Reading

    def _take(self, data: Buffer) -> None:
        """Decrypt what came and hand it over in one piece."""
        self._owed += len(data)
        tls, incoming = self._tls, self._incoming
        plain: list[bytes] = []
        try:
            if not self._parted:
                incoming.write(data)
            while not self._parted and (incoming.pending or tls.pending()):
                if piece := tls.read(RECORD):
                    plain.append(piece)
                else:
                    self._end = self._parted = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # the same as b"", after our own close_notify
            self._end = self._parted = True
        except ssl.SSLError as error:
            self._fail(error)
            return
        if self._parted:
            incoming.read()
        if self._outgoing.pending:  # what TLS answers by itself, such as a new key
            self._send(self._outgoing.read())
        try:
            self._tell(plain)
        except Exception as error:  # of one visitor's protocol: the session that carries all of them goes on
            _log.error("protocol failed", error=error)
            self.abort()

    def _tell(self, plain: list[bytes]) -> None:
        protocol = self._protocol
        if protocol is not None and plain and not self._eof:
            protocol.data_received(plain[0] if len(plain) == 1 else b"".join(plain))
        if not self._reading or self._protocol is None:
            return
        owed, self._owed = self._owed, 0
        self._stream.consumed(owed)
        if self._end and not self._eof:
            self._eof = True
            if not self._protocol.eof_received():
                self.close()

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            self._loop.call_soon(self._go_on)

    def is_reading(self) -> bool:
        return self._reading

    def _go_on(self) -> None:
        if self._reading and self._protocol is not None:
            held, self._held = self._held, []
            self._take(held[0] if len(held) == 1 else b"".join(held))

    # Writing

    def write(self, data: Any) -> None:
        if not data or self._ending or self._protocol is None:
            return
        if self._blocked:
            self._pending.append(bytes(data) if isinstance(data, bytearray) else data)
            self._size += len(data)
            if self._size > self._high and not self._paused:
                self._paused = True
                self._protocol.pause_writing()
        else:
            self._encrypt(data)

    def writelines(self, pieces: Iterable[Any]) -> None:
        self.write(b"".join(pieces))

    def _encrypt(self, data: Buffer) -> None:
        tls, at, size = self._tls, 0, len(data)
        try:
            if size <= RECORD:
                tls.write(data)
            else:
                view = memoryview(data)
                while at < size:
                    at += tls.write(view[at : at + RECORD])
        except ssl.SSLError as error:
            self._fail(error)
            return
        self._send(self._outgoing.read())

    def _send(self, records: bytes) -> None:
        if not self._stream.send(records):
            self._blocked = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Our half is complete, behind what still waits."""
        self._ending = True
        if not self._pending:
            self._finish()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = HIGH_WATER if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        """Plain bytes that the stream has not taken."""
        return self._size

    # Ends

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = self._ending = True
            if not self._pending:
                self._finish()

    def abort(self) -> None:
        """Cut the stream, unless all is said: what it still holds for the peer then gets there."""
        if self._protocol is not None:
            if not self._ended:
                self._cut(Reason.CANCELLED)
            self._loop.call_soon(self._lose, None)

    def _cut(self, reason: Reason) -> None:
        self._silent = True
        self._stream.reset(reason)

    def _finish(self) -> None:
        """Everything is written: say so in TLS and on the stream."""
        if not self._ended and self._protocol is not None:
            self._ended = True
            self._goodbye()
        if self._closing:
            self._loop.call_soon(self._lose, None)

    def _goodbye(self) -> None:
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # it waits for the peer's goodbye, or has had it
        self._stream.send(self._outgoing.read(), True)

    def _fail(self, error: ssl.SSLError) -> None:
        """The peer broke the rules of TLS: it hears an alert, the protocol that the connection is lost."""
        if not self._ended:
            self._ended = True
            self._stream.send(self._outgoing.read(), True)
        self._loop.call_soon(self._lose, error)

    def _lose(self, error: Exception | None) -> None:
        protocol, self._protocol = self._protocol, None
        if protocol is None:
            return
        self._closing = self._ending = True
        self._pending.clear()
        self._size = 0
        self._stream.sink = DEAF if self._silent else Unheard(self._stream)
        self._stream.consumed(self._owed + sum(map(len, self._held)))
        self._held = []
        protocol.connection_lost(error)
