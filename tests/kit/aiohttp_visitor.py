"""aiohttp at both ends: a client that is a visitor, and an application behind the agent."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import aiohttp
from aiohappyeyeballs import AddrInfoType
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from tests.kit.programs import Edge


class _Loopback(AbstractResolver):
    """Every name is this machine: not every resolver knows names under .localhost."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)
        ]

    async def close(self) -> None:
        """Nothing is open."""


@contextlib.asynccontextmanager
async def session(edge: Edge) -> AsyncIterator[aiohttp.ClientSession]:
    """A client that knows every tunnel's name and trusts its server."""
    sockets: list[socket.socket] = []

    def made(address: AddrInfoType) -> socket.socket:
        family, kind, number, *_ = address
        sockets.append(socket.socket(family, kind, number))
        return sockets[-1]

    connector = aiohttp.TCPConnector(
        resolver=_Loopback(), ssl=edge.trust(), limit=0, socket_factory=made
    )  # fmt: skip
    async with aiohttp.ClientSession(connector=connector) as client:
        yield client
    async with asyncio.timeout(5):  # TLS ends when the other side has said so too, after the session
        while any(sock.fileno() >= 0 for sock in sockets):  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def application(app: web.Application, port: int) -> AsyncIterator[None]:
    """An application of aiohttp on a port, in the test's own loop."""
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield
    finally:
        await runner.cleanup()
