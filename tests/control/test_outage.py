"""A store that hangs or is killed: what is asked from memory goes on, what was acknowledged stays."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from tests.control.conftest import PUBLIC
from tests.kit.control import built
from wellhead.control.store import Store
from wellhead.control.store.database import Database
from wellhead.errors import SecretRejected
from wellhead.model.access import Secret
from wellhead.model.records import OrganizationId, TlsMode, TunnelId
from wellhead.settings import ServerSettings

ROUNDS = 10  # kills; each is a start of a process


class Hanging(Database):
    """A database whose disk may stop answering."""

    answers = asyncio.Event()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        await self.answers.wait()
        async with super().reading() as session:
            yield session

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncSession]:
        await self.answers.wait()
        async with super().writing() as session:
            yield session


async def test_a_hung_store_keeps_no_hello_and_no_visitor_waiting(file: Path) -> None:
    database = await Hanging.open(file)
    assert isinstance(database, Hanging)
    database.answers = asyncio.Event()
    database.answers.set()
    store = Store(database)
    admin = await store.bootstrap()
    record = store.directory.key(admin) if admin is not None else None
    assert admin is not None and record is not None
    row, secret = await store.create_tunnel(record.organization_id, "my-agent", TlsMode.EDGE)
    database.answers.clear()

    async with asyncio.timeout(0.5):
        assert store.directory.tunnel("my-agent") is not None
        assert (await store.directory.admit("my-agent", secret, "192.0.2.7", "test")).tunnel.id == row.id
        assert (await store.directory.admit("my-agent", admin, "192.0.2.7", "test")).tunnel.id == row.id
        store.directory.session_opened(TunnelId(row.id), "s_1", "192.0.2.7", "test")
    app = built(store, PUBLIC, ServerSettings(api_reply_seconds=0.3))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://control/api/v1",
        headers={"X-API-Key": admin.reveal()},
    ) as api:
        began = time.monotonic()
        late = await asyncio.gather(
            api.get("/tunnels/"), api.post("/tunnels/", json={"tunnel_name": "late"}), api.get("/audit")
        )
        assert time.monotonic() - began < 2
        assert {(answer.status_code, answer.headers["retry-after"]) for answer in late} == {(503, "1")}
        assert (await api.get("/tunnels/", headers={"X-API-Key": "wh_x"})).status_code == 401
        database.answers.set()
        async with asyncio.timeout(5):
            # What had been begun was made; nobody has its secret, and a rotation gives one.
            while store.directory.tunnel("late") is None:
                await api.get("/tunnels/nobody")
        found = (await api.get("/tunnels/", params={"name": "late"})).json()["tunnels"][0]
        assert (await api.post(f"/tunnels/{found['id']}/rotate-secret")).status_code == 200
    await store.close()


# Killed. The child acknowledges on stdout what the store has acknowledged to it.

CHILD = """
import asyncio, sys
from pathlib import Path
from wellhead.control.store import Store
from wellhead.model.records import OrganizationId, TlsMode

async def main(path, organization, start):
    store = await Store.open(Path(path))
    print("ready", flush=True)
    for number in range(int(start), int(start) + 100_000):
        row, secret = await store.create_tunnel(OrganizationId(organization), f"agent-{number}", TlsMode.EDGE)
        print("created", row.name, row.id, secret.reveal(), flush=True)
        for _ in range(2):
            secret = await store.rotate_secret(OrganizationId(organization), row.id)
            print("rotated", row.name, row.id, secret.reveal(), flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def _killed(
    file: Path, organization: OrganizationId, start: int, after_seconds: float
) -> list[list[str]]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CHILD, str(file), organization, str(start)), stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    async with asyncio.timeout(30):
        assert (await child.stdout.readline()) == b"ready\n"
        await asyncio.sleep(after_seconds)
        os.kill(child.pid, signal.SIGKILL)
        rest = (await child.stdout.read()).decode()
        await child.wait()
    whole = rest[: rest.rfind("\n") + 1]  # a line cut by the kill was acknowledged to nobody
    return [line.split() for line in whole.splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_a_kill_within_a_create_or_a_rotation_loses_no_secret_that_was_given(file: Path) -> None:
    """X30: a secret was given and is good, or it is dead; the file is whole."""
    store = await Store.open(file)
    organization, _ = await store.create_organization("ours")
    await store.close()
    made = 0
    for kill in range(int(os.environ.get("KILLS", ROUNDS))):
        lines = await _killed(file, organization, made, random.Random(kill).uniform(0, 0.12))
        with closing(sqlite3.connect(file)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        store = await Store.open(file)
        given: dict[str, list[Secret]] = {}
        for _, name, _, text in lines:
            given.setdefault(name, []).append(Secret(text))
        names = [row.name for row in await store.tunnels(organization)][made:]
        # At most the last create was durable and not yet acknowledged.
        assert names[: len(given)] == list(given) and len(names) - len(given) in (0, 1)
        for position, (name, secrets) in enumerate(given.items()):
            good = [await _is_good(store, name, secret) for secret in secrets]
            assert not any(good[:-1]), "what was replaced is dead"
            cut_short = position == len(given) - 1 and len(names) == len(given) and len(secrets) < 3
            assert good[-1] or cut_short, "only a rotation that was under way may have replaced the last"
        made += len(names)
        await store.close()


async def _is_good(store: Store, name: str, secret: Secret) -> bool:
    try:
        await store.directory.admit(name, secret, "", "")
    except SecretRejected:
        return False
    return True
