from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from starlette.types import ASGIApp

from tests.kit import certs
from wellhead.control.app import build
from wellhead.control.store import Store
from wellhead.model.access import Secret
from wellhead.model.names import Public
from wellhead.net.authority import LocalAuthority
from wellhead.settings import ServerSettings


@pytest.fixture
def authority(tmp_path: Path) -> LocalAuthority:
    return certs.authority(tmp_path)


@asynccontextmanager
async def served(app: ASGIApp, tls: ssl.SSLContext | None) -> AsyncIterator[int]:
    """An ASGI app on 127.0.0.1; gives the port."""
    config = uvicorn.Config(app, port=0, lifespan="off", ws="none", log_config=None, loop="asyncio")
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
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await server.shutdown()


@pytest.fixture
async def control(tmp_path: Path, authority: LocalAuthority) -> AsyncIterator[tuple[int, Secret]]:
    """A control plane over TLS, certified for localhost and 127.0.0.1: its port and admin key."""
    store = await Store.open(tmp_path / "wellhead.db")
    key = await store.bootstrap()
    assert key is not None
    app = build(store, Public("localhost", "localhost", 8443), ServerSettings())
    async with served(app, authority.address_context()) as port:
        yield port, key
    await store.close()
