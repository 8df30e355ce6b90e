"""An ASGI application on a port, in the test's own loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import WSProtocolType


@asynccontextmanager
async def served(
    app: ASGIApp, tls: ssl.SSLContext | None = None, *, port: int = 0, websockets: bool = False
) -> AsyncIterator[int]:
    """The app on 127.0.0.1; gives the port."""
    ws: WSProtocolType = "wsproto" if websockets else "none"
    config = uvicorn.Config(app, port=port, lifespan="off", ws=ws, log_config=None)
    config.load()
    config.ssl = tls
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    running = asyncio.create_task(server.main_loop())
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await running
        await server.shutdown()
