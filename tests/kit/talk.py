"""A protocol that a test talks through, and a TLS server of them."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import cast


class Talk(asyncio.Protocol):
    """Sends its greeting when connected; keeps what it hears and what happened to it."""

    def __init__(self, greeting: bytes = b"", *, echo: bool = False) -> None:
        self.greeting = greeting
        self.echo = echo
        self.heard = bytearray()
        self.happened: list[str] = []
        self.lost: BaseException | None = None
        self._changed = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None, "not connected"
        return self._transport

    @property
    def connected(self) -> bool:
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self.greeting:
            self.transport.write(self.greeting)
        self._note("made")

    def data_received(self, data: bytes) -> None:
        self.heard += data
        if self.echo:
            self.transport.write(data)
        self._changed.set()

    def eof_received(self) -> bool:
        self._note("eof")
        return False

    def pause_writing(self) -> None:
        self._note("pause")

    def resume_writing(self) -> None:
        self._note("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = exc
        self._note("lost")

    def _note(self, event: str) -> None:
        self.happened.append(event)
        self._changed.set()

    async def hear(self, count: int) -> bytes:
        """What was heard, once it is ``count`` bytes or more."""
        async with asyncio.timeout(5):
            while len(self.heard) < count:
                await self._change()
        return bytes(self.heard)

    async def until(self, event: str) -> None:
        async with asyncio.timeout(5):
            while event not in self.happened:
                await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


@contextlib.asynccontextmanager
async def tls_server(context: ssl.SSLContext) -> AsyncIterator[tuple[int, list[Talk]]]:
    """A server that says ``welcome`` and echoes: its port, and its end of every connection."""
    talks: list[Talk] = []

    def made() -> Talk:
        talks.append(Talk(b"welcome", echo=True))
        return talks[-1]

    server = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], talks
    finally:
        server.close()
        for talk in talks:
            if talk.connected:
                talk.transport.abort()
                await talk.until("lost")
