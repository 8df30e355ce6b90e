"""A stream's bytes and an upstream socket: TCP streams, and WebSockets after their 101."""

from __future__ import annotations

import asyncio
from typing import cast

from wellhead.net.splice import Splice
from wellhead.net.upstream_exchange import Exchange
from wellhead.net.upstream_owner import Owner
from wellhead.wire.streams import Buffer, Reason, Stream


class RawConnection(Splice):
    """One conversation with the upstream, as long as it lasts."""

    __slots__ = ("_exchange", "_pending", "_pool", "since")

    def __init__(self, pool: Owner, stream: Stream, exchange: Exchange | None) -> None:
        super().__init__()
        self._pool = pool
        self._exchange = exchange
        self._pending: list[Buffer] = []  # until connected
        self.since = 0.0
        self._stream = stream
        stream.sink = self

    @property
    def carried(self) -> int:
        return self.from_stream + self.from_socket

    @property
    def awaits_reply(self) -> bool:
        return False

    def adopt(self, transport: asyncio.Transport, *, paused: bool, held_up: bool) -> None:
        """Go on with a connection on which a handshake has just succeeded."""
        self._transport = transport
        self._paused = paused
        self._held_up = held_up

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
        if not self._paused:
            self.resume_writing()
        if self._stream_end:
            self._end_ours(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._pool.forget(self)
        if self._stream is None:
            return
        if not self._socket_end:
            self._fail(Reason.UPSTREAM_FAILED)
        elif self._stream_end:
            self._over(None)
        else:
            # A reset now would overtake the bytes that are still on their way to the visitor: it waits
            # until the visitor sends again, as it would on one TCP connection.
            self.resume_writing()

    # For the pool

    def on_dial_failed(self, reason: Reason) -> None:
        self._fail(reason)

    def on_sweep(self, now: float) -> None:
        """An open conversation has no deadline of ours."""
        self._check_reset()

    def on_pool_closed(self) -> None:
        self._fail(Reason.UPSTREAM_FAILED)

    # Ends

    def _unconnected(self, data: Buffer, end: bool) -> None:
        """Bytes before the connection is there, or after it is gone."""
        if self._socket_end:
            if end and not data:
                self._over(None)
            else:
                self._fail(Reason.UPSTREAM_FAILED)
            return
        if data:
            self._owed += len(data)
            self._pending.append(data)
        self._stream_end = self._stream_end or end

    def _over(self, reason: int | None) -> None:
        self._stream = None
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.bytes_in += self.from_stream
            exchange.bytes_out += self.from_socket
            self._pool.tell(exchange, reason_word(reason))

    def _cut(self) -> None:
        self._pending = []
        if self._transport is None:
            self._pool.cancel_dial(self)
        super()._cut()


def reason_word(reason: int | None) -> str:
    """For an exchange's record: ``upstream_failed``; empty for None."""
    if reason is None:
        return ""
    try:
        return Reason(reason).name.lower()
    except ValueError:
        return f"reason_{reason}"
