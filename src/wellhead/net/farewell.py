"""How a connection ends that was refused before it spoke a protocol."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

LINGER_BYTES: Final = 256 * 1024
LINGER_SECONDS: Final = 1.0


class Farewell:
    """Says a connection's last words so that they arrive.

    Closing a socket with unread bytes sends a reset, and a reset overtakes what was written before it. So:
    write, FIN, read what still comes until the peer's FIN, at most 256 KiB and one second, close.
    """

    __slots__ = ("_clock", "_left", "_loop", "_others", "_sock")

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, others: set[Farewell]) -> None:
        self._loop = loop
        self._sock = sock
        self._others = others
        self._left = LINGER_BYTES
        self._clock: asyncio.TimerHandle | None = None

    def say(self, last_words: bytes, *, linger: bool) -> None:
        """Write them and FIN; without ``linger`` close at once. While it reads on, it is among ``others``."""
        try:
            if last_words:
                self._sock.send(last_words)  # a few bytes on a connection that has sent none: they fit
            self._sock.shutdown(socket.SHUT_WR)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        except OSError:
            self._sock.close()
            return
        if self._read() and linger:
            self._others.add(self)
            self._clock = self._loop.call_later(LINGER_SECONDS, self.close)
            self._loop.add_reader(self._sock.fileno(), self._readable)
        else:
            self._sock.close()

    def _readable(self) -> None:
        if not self._read():
            self.close()

    def _read(self) -> bool:
        """Throw away what is there; tells whether more may come."""
        try:
            while self._left > 0:
                count = len(self._sock.recv(min(self._left, 64 * 1024)))
                if not count:
                    return False
                self._left -= count
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Read no more."""
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
            self._loop.remove_reader(self._sock.fileno())
        self._others.discard(self)
        self._sock.close()
