"""The end of a stream on which all is said, and whose peer may still talk."""

from __future__ import annotations

import asyncio

from wellhead.net.farewell import LINGER_BYTES, LINGER_SECONDS
from wellhead.wire.streams import Buffer, HeadKind, Reason, Stream


class Unheard:
    """The sink of such a stream: what the peer still sends is thrown away, within a ``Farewell``'s bounds.

    They count from when all that we said has left the stream's queue, out of which a reset would take it.
    Then the peer has 256 KiB and one second (two at most) for its end; after that the stream is reset.
    """

    __slots__ = ("_clock", "_drained", "_left", "_loop", "_stream")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._left = LINGER_BYTES
        self._drained = not stream.queued
        self._loop = asyncio.get_running_loop()
        self._clock = self._loop.call_later(LINGER_SECONDS, self._late)

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        self._give_up(Reason.PROTOCOL)

    def on_data(self, data: Buffer, end: bool) -> None:
        self._stream.consumed(len(data))
        if end:
            self._clock.cancel()
        elif not self._stream.queued:
            self._left -= len(data)
            if self._left < 0:
                self._give_up(Reason.OVERLOADED)

    def on_reset(self, reason: int) -> None:
        self._clock.cancel()

    def on_writable(self) -> None:
        """Nothing waits for room."""

    def _late(self) -> None:
        if self._drained and not self._stream.queued:
            self._give_up(Reason.TIMEOUT)
        else:
            self._drained = not self._stream.queued
            self._clock = self._loop.call_later(LINGER_SECONDS, self._late)

    def _give_up(self, reason: Reason) -> None:
        self._clock.cancel()
        self._stream.reset(reason)
