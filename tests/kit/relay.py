"""A relay between two ends of TCP connections, which a test can make silent or cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Relay:
    """Carries every connection on ``port`` to ``target``, a port of loopback.

    While it is ``silent`` it takes connections and bytes and passes nothing on, in either direction: both
    ends think that the other is slow.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self._open = asyncio.Event()
        self._open.set()
        self._legs: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def silence(self) -> None:
        self._open.clear()

    def speak(self) -> None:
        """What waited goes on."""
        self._open.set()

    def cut(self) -> None:
        """Reset every connection there is."""
        for writer in list(self._legs):
            writer.transport.abort()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.cut()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until both halves have ended."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        legs = {writer}
        self._legs.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._open.wait()
                there, far = await asyncio.open_connection("127.0.0.1", self.target)
                legs.add(far)
                self._legs.add(far)
                await asyncio.gather(self._pump(reader, far), self._pump(there, writer))
        finally:
            self._tasks.discard(task)
            self._legs -= legs
            for leg in legs:
                leg.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._open.wait()
            writer.write(data)
            await writer.drain()
        await self._open.wait()
        if writer.can_write_eof():
            writer.write_eof()


@contextlib.asynccontextmanager
async def relaying(target: int, port: int = 0) -> AsyncIterator[Relay]:
    """A relay that stands until the block ends."""
    relay = Relay(target)
    server = await asyncio.start_server(relay.carry, "127.0.0.1", port)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        relay.close()
        await asyncio.sleep(0.01)  # the transports say goodbye
