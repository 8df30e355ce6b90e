"""A transport without a socket: what is written is kept, what it is asked to do is noted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any


class FakeTransport(asyncio.Transport):
    """``written`` holds everything written, in ``writes`` calls.

    ``unsent`` is what ``get_write_buffer_size`` claims. A ``clogged`` one adds to it what is written, and
    tells ``protocol`` to pause and to go on as its limits say.
    """

    def __init__(self, peer: str = "192.0.2.7", *, tls: bool = False) -> None:
        super().__init__({"peername": (peer, 50000)})
        self.written = b""
        self.writes = 0
        self.unsent = 0
        self.clogged = False
        self.protocol: asyncio.Protocol | None = None
        self._high = 64 * 1024
        self._paused = False
        self.reading = True
        self.ended = False
        self.closed = False
        self.aborted = False
        self._tls = tls

    def write(self, data: Any) -> None:
        self.writelines((data,))

    def writelines(self, pieces: Iterable[Any]) -> None:
        assert not self.closed and not self.ended
        self.writes += 1
        data = b"".join(pieces)
        self.written += data
        if self.clogged:
            self.unsent += len(data)
            if self.protocol is not None and self.unsent > self._high and not self._paused:
                self._paused = True
                self.protocol.pause_writing()

    def unclog(self) -> None:
        """The peer takes all that was written."""
        self.clogged, self.unsent = False, 0
        if self.protocol is not None and self._paused:
            self._paused = False
            self.protocol.resume_writing()

    def take(self) -> bytes:
        """What was written since the last time."""
        written, self.written = self.written, b""
        return written

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 64 * 1024 if high is None else high

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def can_write_eof(self) -> bool:
        return not self._tls

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def is_reading(self) -> bool:
        return self.reading

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True
