from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit import certs
from tests.kit.asgi import served
from tests.kit.control import built
from wellhead.control.store import Store
from wellhead.model.access import Secret
from wellhead.model.names import Public
from wellhead.net.authority import LocalAuthority
from wellhead.settings import ServerSettings


@pytest.fixture
def authority(tmp_path: Path) -> LocalAuthority:
    return certs.authority(tmp_path)


@pytest.fixture
async def control(tmp_path: Path, authority: LocalAuthority) -> AsyncIterator[tuple[int, Secret]]:
    """A control plane over TLS, certified for localhost and 127.0.0.1: its port and admin key."""
    store = await Store.open(tmp_path / "wellhead.db")
    key = await store.bootstrap()
    assert key is not None
    app = built(store, Public("localhost", "localhost", 8443), ServerSettings())
    async with served(app, authority.address_context()) as port:
        yield port, key
    await store.close()
