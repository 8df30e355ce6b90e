"""A guest that says what a test wrote, on a socket of its own."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from wellhead.wire.guest import GuestFrame, GuestFrames, frame, message


class Scripted:
    """One conversation, from the guest's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = GuestFrames()
        self._ready: list[tuple[GuestFrame, bytes]] = []

    async def heard(self) -> tuple[GuestFrame, Any]:
        """The next frame, a message as what it says; END once the host has closed."""
        while not self._ready:
            data = await self._reader.read(65536)
            if not data:
                return GuestFrame.END, None
            self._ready += self._frames.receive(data)
        kind, payload = self._ready.pop(0)
        return kind, json.loads(payload) if kind is GuestFrame.MESSAGE else payload

    def say(self, **members: object) -> None:
        self._writer.write(message(members))

    def write(self, kind: GuestFrame, payload: bytes = b"") -> None:
        self._writer.write(frame(kind, payload))

    def raw(self, data: bytes) -> None:
        self._writer.write(data)

    async def drain(self) -> None:
        await self._writer.drain()


Script = Callable[[Scripted], Awaitable[None]]


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[Path]:
    """The guest's socket; each connection is one run of ``script``, and closed behind it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(Scripted(reader, writer))
        except ConnectionError:
            pass  # the host has closed, as some tests want it to
        finally:
            writer.close()

    with tempfile.TemporaryDirectory(prefix="wh") as directory:
        path = Path(directory) / "guest.sock"
        server = await asyncio.start_unix_server(serve, path)
        try:
            yield path
        finally:
            server.close()
