from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from tests.kit.control import built, caller, memory_authority
from tests.kit.fake_hosts import FakeHost, FakeHosts, join
from wellhead.control.fleet import Fleet
from wellhead.control.issuing import Issuer
from wellhead.control.local_issuer import LocalIssuer
from wellhead.control.store import Store
from wellhead.model.access import Secret
from wellhead.model.names import Public
from wellhead.model.records import OrganizationId
from wellhead.settings import ServerSettings

PUBLIC = Public("example.org", "zone.example.org", 8443, 8080)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "wellhead.db"


class Clock:
    """The wall clock, which a test may put ahead, and the monotonic one."""

    def __init__(self) -> None:
        self.ahead = timedelta()
        self._passed = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def monotonic(self) -> float:
        return time.monotonic() + self._passed.total_seconds()

    def pass_by(self, passed: timedelta) -> None:
        """Let time pass: both clocks go on."""
        self.ahead += passed
        self._passed += passed


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(file: Path, clock: Clock) -> AsyncIterator[Store]:
    store = await Store.open(file, clock, clock.monotonic)
    yield store
    await store.close()


@pytest.fixture
async def admin(store: Store) -> Secret:
    """The key of the first organization."""
    key = await store.bootstrap()
    assert key is not None
    return key


@pytest.fixture
def organization(store: Store, admin: Secret) -> OrganizationId:
    record = store.directory.key(admin)
    assert record is not None
    return record.organization_id


@pytest.fixture
def issuer(clock: Clock) -> Issuer:
    """Who signs for the app; a test may put another in its place."""
    return LocalIssuer(memory_authority(), timedelta(days=90), clock)


@pytest.fixture
def settings() -> ServerSettings:
    return ServerSettings(reserved_names=("acme-corp",))


@pytest.fixture
def hosts() -> FakeHosts:
    """Those that the control plane can ask, once they have joined."""
    return FakeHosts()


@pytest.fixture
def fleet(store: Store, hosts: FakeHosts, settings: ServerSettings) -> Fleet:
    return Fleet(store, hosts.call, settings, PUBLIC)


@pytest.fixture
def app(store: Store, settings: ServerSettings, issuer: Issuer, fleet: Fleet) -> FastAPI:
    return built(store, PUBLIC, settings, issuer=issuer, fleet=fleet)


@pytest.fixture
async def stranger(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A caller without a key."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
        yield client


@pytest.fixture
async def api(app: FastAPI, admin: Secret) -> AsyncIterator[httpx.AsyncClient]:
    """A caller with the admin key, at ``/api/v1``."""
    async with caller(app, admin) as client:
        yield client


@pytest.fixture
async def host(fleet: Fleet, hosts: FakeHosts, api: httpx.AsyncClient) -> FakeHost:
    """One of the first organization's, online."""
    return await join(fleet, hosts, api)
