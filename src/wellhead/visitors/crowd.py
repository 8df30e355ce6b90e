"""The connections of visitors that one program serves: their ids, their clocks, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import Iterator

from wellhead.logs import Log
from wellhead.visitors.house import Swept, VisitorTerms

SWEEP_SECONDS = 0.25
DRAIN_STEP_SECONDS = 0.05  # between two WebSockets that are asked to come again, where there is time for it
CLOSE_SECONDS = 1.0  # for cut connections to be gone
_log = Log("wellhead.visitors")


class Crowd:
    """What a house does for its connections whatever it serves: a part of every ``House``.

    It sweeps their clocks four times a second, so that no request pays for a timer of its own.
    """

    def __init__(self, terms: VisitorTerms) -> None:
        self.terms = terms
        self.draining = False
        self._drain_spread = 0.0  # seconds over which WebSockets are asked to come again
        self.loop = asyncio.get_running_loop()
        self.clock = self.loop.time
        self._connections: set[Swept] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._ids = secrets.token_hex(6).encode()
        self._next_id = 0
        self._timer = self.loop.call_later(SWEEP_SECONDS, self._sweep)

    def __len__(self) -> int:
        return len(self._connections)

    def __iter__(self) -> Iterator[Swept]:
        return iter(self._connections)

    def request_id(self) -> bytes:
        """Unique for this process and not guessable across restarts."""
        self._next_id += 1
        return b"%b%08x" % (self._ids, self._next_id)

    def add(self, connection: Swept) -> None:
        self._connections.add(connection)
        self._idle.clear()

    def release(self, connection: Swept) -> None:
        """The connection is over. Twice is as once."""
        if connection in self._connections:
            self._connections.remove(connection)
            self.left(connection)
            if not self._connections:
                self._idle.set()

    def left(self, connection: Swept) -> None:
        """A connection is over, told once: for who counts them."""

    async def drain(self, seconds: float) -> None:
        """Let open exchanges finish, at most this long, then cut what is left."""
        self.draining = True
        self._drain_spread = min(
            self.terms.websocket_drain_seconds, seconds / 2, (len(self._connections) - 1) * DRAIN_STEP_SECONDS
        )
        for connection in list(self._connections):
            connection.drain()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            for connection in list(self._connections):
                connection.abort("drained")

    def drain_delay(self) -> float:
        """How long a WebSocket waits before it is asked to come again, in seconds: each its own time."""
        return random.random() * self._drain_spread

    async def close(self) -> None:
        """Cut every connection, and see them end: each running exchange still has its line to write."""
        self._timer.cancel()
        for connection in list(self._connections):
            connection.abort("closed")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._idle.wait()

    def swept(self) -> None:
        """All connections were looked at."""

    def _sweep(self) -> None:
        self._timer = self.loop.call_later(SWEEP_SECONDS, self._sweep)
        now = self.loop.time()
        for connection in list(self._connections):
            try:
                connection.tick(now)
            except Exception as error:  # the clocks of all others go on
                _log.error("visitor's connection failed", error=error)
                connection.abort("internal")
        self.swept()
