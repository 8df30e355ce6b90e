"""Bytes both ways between a stream and an upstream socket: TCP streams, and WebSockets after their 101.

Each half ends on its own: an end from the visitor becomes a FIN to the upstream and the other way
round, a reset becomes an RST.
"""

from __future__ import annotations

import asyncio
from typing import cast

from wellhead.net.sockets import reset_on_close
from wellhead.net.upstream_exchange import Exchange
from wellhead.net.upstream_owner import Owner
from wellhead.wire.streams import Buffer, HeadKind, Reason, Stream


class RawConnection(asyncio.Protocol):
    """The sink of one stream and the protocol of one upstream connection, for life."""

    __slots__ = (
        "_exchange", "_held_up", "_owed", "_paused", "_pending", "_pool", "_stream", "_their_end",
        "_transport", "_visitor_end", "since",
    )  # fmt: skip

    def __init__(self, pool: Owner, stream: Stream, exchange: Exchange | None) -> None:
        self._pool = pool
        self._stream: Stream | None = stream
        self._exchange = exchange
        self._transport: asyncio.Transport | None = None
        self._pending: list[Buffer] = []  # until connected
        self._owed = 0  # bytes taken from the stream and not yet acknowledged to it
        self._paused = False  # the upstream does not read
        self._held_up = False  # the stream does not take more: we do not read
        self._visitor_end = False
        self._their_end = False
        self.since = 0.0
        stream.sink = self

    def adopt(self, transport: asyncio.Transport, *, paused: bool, held_up: bool) -> None:
        """Go on with a connection on which a handshake has just succeeded."""
        self._transport = transport
        self._paused = paused
        self._held_up = held_up

    # The stream's sink

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        self._fail(Reason.PROTOCOL)

    def on_data(self, data: Buffer, end: bool) -> None:
        count = len(data)
        if self._exchange is not None:
            self._exchange.bytes_in += count
        transport = self._transport
        if transport is None:
            self._unconnected(data, end)
            return
        if count:
            transport.write(data)
            self._acknowledge(count)
        if end:
            self._visitor_end = True
            self._end_ours(transport)

    def on_reset(self, reason: int) -> None:
        self._over(reason)
        self._abort()

    def on_writable(self) -> None:
        if self._held_up and self._transport is not None:
            self._held_up = False
            self._transport.resume_reading()

    # The transport's protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # not every TLS transport has the class
        if self._stream is None:
            transport.abort()
            return
        self._transport = transport
        for piece in self._pending:
            transport.write(piece)
        self._pending = []
        owed, self._owed = self._owed, 0
        self._acknowledge(owed)
        if self._visitor_end:
            self._end_ours(transport)

    def data_received(self, data: bytes) -> None:
        stream = self._stream
        if stream is None:
            return
        if self._exchange is not None:
            self._exchange.bytes_out += len(data)
        if not stream.send(data) and self._transport is not None:
            self._held_up = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._their_end = True
        if self._stream is not None:
            self._stream.send(b"", True)
        if self._visitor_end:
            self._over(None)
            return False
        # TLS has no half-close: both ways end at once.
        return self._transport is not None and self._transport.can_write_eof()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._stream is not None and self._owed:
            owed, self._owed = self._owed, 0
            self._stream.consumed(owed)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._pool.forget(self)
        if self._stream is None:
            return
        if not self._their_end:
            self._fail(Reason.UPSTREAM_FAILED)
        elif self._visitor_end:
            self._over(None)
        else:
            # A reset now would overtake the bytes that are still on their way to the visitor: it waits
            # until the visitor sends again, as it would on one TCP connection.
            self.resume_writing()

    # For the pool

    def on_dial_failed(self) -> None:
        self._fail(Reason.UPSTREAM_UNREACHABLE)

    def on_sweep(self, now: float) -> None:
        """Nothing: an open conversation has no deadline of ours."""

    def on_pool_closed(self) -> None:
        self._fail(Reason.UPSTREAM_FAILED)

    # Ends

    def _unconnected(self, data: Buffer, end: bool) -> None:
        """Bytes before the connection is there, or after it is gone."""
        if self._their_end:
            if end and not data:
                self._over(None)
            else:
                self._fail(Reason.UPSTREAM_FAILED)
            return
        if data:
            self._owed += len(data)
            self._pending.append(data)
        self._visitor_end = self._visitor_end or end

    def _acknowledge(self, count: int) -> None:
        if self._paused:
            self._owed += count
        elif count and self._stream is not None:
            self._stream.consumed(count)

    def _end_ours(self, transport: asyncio.Transport) -> None:
        if self._their_end or not transport.can_write_eof():
            transport.close()  # after what is still to be written
            if self._their_end:
                self._over(None)
        else:
            transport.write_eof()

    def _fail(self, reason: Reason) -> None:
        stream = self._stream
        self._over(reason)
        if stream is not None:
            stream.reset(reason)
        self._abort()

    def _over(self, reason: int | None) -> None:
        self._stream = None
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self._pool.tell(exchange, reason_word(reason))

    def _abort(self) -> None:
        self._pending = []
        transport = self._transport
        if transport is None:
            self._pool.cancel_dial(self)
            return
        reset_on_close(transport)
        transport.abort()


def reason_word(reason: int | None) -> str:
    """For an exchange's record: ``upstream_failed``; empty for None."""
    if reason is None:
        return ""
    try:
        return Reason(reason).name.lower()
    except ValueError:
        return f"reason_{reason}"
