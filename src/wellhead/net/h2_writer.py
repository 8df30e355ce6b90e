"""The writing half of a connection on which we are the HTTP/2 client."""

from __future__ import annotations

import asyncio

from wellhead.net.writing import write_joined
from wellhead.wire.h2 import H2Connection


class H2Writer(asyncio.Protocol):
    """Joins what is made in one turn of the loop; as much is taken as the transport has room for.

    Who derives from it gives ``h2`` and, once there is one, ``_transport``; sets ``_receiving`` during a read
    and flushes behind it where ``_scheduled``; and sets ``_paused`` while nothing is to be written.
    """

    __slots__ = ("_high_water", "_loop", "_paused", "_receiving", "_scheduled", "_transport", "h2")

    h2: H2Connection

    def __init__(self, loop: asyncio.AbstractEventLoop, high_water: int) -> None:
        self._loop = loop
        self._high_water = high_water  # bytes in the transport above which nothing more is taken
        self._transport: asyncio.Transport | None = None
        self._paused = False  # the peer does not read, or the connection is closing
        self._scheduled = False
        self._receiving = False

    def _wake(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            if not self._receiving:  # else data_received flushes when the read is used up
                self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        transport = self._transport
        if transport is None or self._paused:
            return
        try:
            pieces = self.h2.take(self._high_water)
        except Exception:  # what was taken out is lost: the peer shall not read on without it
            self._torn(transport)
            raise
        if pieces:
            write_joined(transport, pieces)
            self._wrote()
        if self.h2.pending and not self._paused:
            self._wake()

    def _wrote(self) -> None:
        """Something was written just now."""

    def _torn(self, transport: asyncio.Transport) -> None:
        """What was to be written is lost."""
        transport.abort()
