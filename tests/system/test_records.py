"""The records and the traffic: who is shut out is out at once, and an ailing store stops no visitor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.kit.lag import lagging
from tests.kit.programs import Agent, Edge, quiet_port
from tests.kit.stopwatch import Stopwatch
from tests.kit.upstreams import Peer, serving
from tests.kit.visitors import ask, visiting

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


async def ok(peer: Peer) -> None:
    while await peer.request():
        await peer.reply()


@asynccontextmanager
async def api_of(edge: Edge) -> AsyncIterator[httpx.AsyncClient]:
    """A caller with the admin key."""
    async with httpx.AsyncClient(
        base_url=f"https://127.0.0.1:{edge.https}/api/v1",
        verify=edge.trust(),
        headers={"X-API-Key": edge.key, "Host": f"localhost:{edge.https}"},
        timeout=20,
        trust_env=False,
    ) as client:
        yield client


async def posted(api: httpx.AsyncClient, path: str, **body: object) -> dict[str, Any]:
    answer = await api.post(path, json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def gone(edge: Edge, hostname: str, seconds: float) -> float:
    """How long it takes until the tunnel has no agent."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while (await ask(edge, hostname)).status != 503:
            pass
    return time.monotonic() - began


async def once_connected(edge: Edge, api: httpx.AsyncClient, tunnel: str, connected: bool) -> dict[str, Any]:
    """A tunnel's record that tells this of its agents, as it has to within a second."""
    watch = Stopwatch(edge)
    while True:
        record: dict[str, Any] = (await api.get(f"/tunnels/{tunnel}")).json()
        if record["currently_connected"] is connected:
            return record
        assert watch.seconds() < 1.0, record
        await asyncio.sleep(0.02)


# Shut out


async def test_a_revoked_key_ends_what_lives_by_it_and_a_hard_rotation_all(tmp_path: Path) -> None:
    port = quiet_port()
    with Edge(tmp_path) as edge:
        async with api_of(edge) as api, serving(ok, port=port):
            tunnel = (await posted(api, "/tunnels/", tunnel_name="by-key"))["tunnel"]
            made = await posted(api, "/keys/", label="agent", scopes=[f"tunnel:{tunnel['id']}"])
            with edge.agent(port, "--name", "by-key", WELLHEAD_API_KEY=made["api_key"]) as agent:
                assert (await ask(edge, agent.hostname)).status == 200
                listed = await once_connected(edge, api, tunnel["id"], True)
                assert listed["last_connected_ip_addr"] == "127.0.0.1"
                assert listed["agent_version"].startswith("wellhead-python/")
                forged = {"X-Forwarded-For": "192.0.2.66"}
                gone_key = await api.delete(f"/keys/{made['record']['id']}", headers=forged)
                assert gone_key.status_code == 200
                assert await gone(edge, agent.hostname, 5) < 1.0
                assert (await asyncio.to_thread(agent.wait, 10)) != 0, "the agent is told, and stops"
                await once_connected(edge, api, tunnel["id"], False)
                entry = (await api.get("/audit", params={"action": "key.revoke"})).json()["entries"][0]
                assert entry["address"] == "127.0.0.1", "as the edge saw it, not as the caller says"

            with edge.agent(port, "--name", "by-secret") as agent:
                found = (await api.get("/tunnels/", params={"name": "by-secret"})).json()["tunnels"][0]
                opened = edge.mark()
                await api.post(f"/tunnels/{found['id']}/rotate-secret")
                for _ in range(5):
                    assert (await ask(edge, agent.hostname)).status == 200, "live sessions stay"
                assert "session closed" not in "\n".join(edge.lines[opened:])
                await api.post(f"/tunnels/{found['id']}/rotate-secret?hard=true")
                await asyncio.to_thread(edge.line, r"session closed .*tunnel=by-secret", 1.0, after=opened)


async def test_a_removed_tunnel_stops_within_a_second_though_its_agent_sleeps(tmp_path: Path) -> None:
    port = quiet_port()
    with Edge(tmp_path) as edge, edge.agent(port) as agent:
        async with api_of(edge) as api, serving(ok, port=port), visiting(edge, agent.hostname) as visitor:
            host = f"{agent.hostname}:{edge.https}"
            assert (await visitor.get("/", host)).status == 200
            found = (await api.get("/tunnels/", params={"name": agent.name})).json()["tunnels"][0]
            agent.signal(signal.SIGSTOP)
            watch = Stopwatch(edge)
            assert (await api.delete(f"/tunnels/{found['id']}")).status_code == 200
            assert (await visitor.get("/", host)).status == 404
            assert watch.seconds() < 1.0
            await asyncio.to_thread(edge.line, r"session closed .*tunnel=" + agent.name)
            assert watch.seconds() < 2.0


# The store ails


class Traffic:
    """A visitor that asks all the time; ``waits`` are the seconds that each answer took."""

    def __init__(self, edge: Edge, agent: Agent) -> None:
        self.edge, self.agent = edge, agent
        self.waits: list[float] = []
        self.statuses: set[int] = set()

    async def run(self) -> None:
        host = f"{self.agent.hostname}:{self.edge.https}"
        async with visiting(self.edge, self.agent.hostname) as visitor:
            while True:
                began = time.monotonic()
                self.statuses.add((await visitor.get("/", host)).status)
                self.waits.append(time.monotonic() - began)
                await asyncio.sleep(0.01)

    def p99(self) -> float:
        return sorted(self.waits)[int(len(self.waits) * 0.99)]


@asynccontextmanager
async def traffic(edge: Edge, agent: Agent) -> AsyncIterator[Traffic]:
    visitor = Traffic(edge, agent)
    task = asyncio.create_task(visitor.run())
    try:
        yield visitor
        assert not task.done(), task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_database_locked_for_ten_seconds_touches_no_visitor(tmp_path: Path) -> None:
    """X15: the API waits for at most 5 s and says 503; what was acknowledged is there."""
    port = quiet_port()
    with Edge(tmp_path) as edge, edge.agent(port, "--name", "my-agent") as agent:
        async with api_of(edge) as api, serving(ok, port=port), traffic(edge, agent) as visitor:
            acknowledged = {"my-agent"}

            async def create(number: int) -> tuple[int, float]:
                began = time.monotonic()
                answer = await api.post("/tunnels/", json={"tunnel_name": f"made-{number}"})
                if answer.status_code == 201:
                    acknowledged.add(f"made-{number}")
                else:
                    assert answer.headers["retry-after"] == "1"
                return answer.status_code, time.monotonic() - began

            with (
                closing(sqlite3.connect(edge.data / "wellhead.db", isolation_level=None)) as other,
                lagging(edge) as lag,
            ):
                other.execute("BEGIN EXCLUSIVE")
                locked = time.monotonic()
                said = await asyncio.gather(*map(create, range(20)))
                with edge.agent(port, "--name", "my-agent") as second:  # hellos ask no database
                    assert second.name == "my-agent"
                    assert (await api.get("/tunnels/")).status_code == 200, "readers do not wait"
                await asyncio.sleep(max(0.0, locked + 10 - time.monotonic()))
                other.execute("ROLLBACK")
            assert {status for status, _ in said} == {503}
            assert max(wait for _, wait in said) < 5.0
            assert (await create(99))[0] == 201
            names = {tunnel["tunnel_name"] for tunnel in (await api.get("/tunnels/")).json()["tunnels"]}
            assert names == acknowledged
            assert visitor.statuses == {200} and len(visitor.waits) > 100
            assert visitor.p99() < 0.25, visitor.p99()  # with two cores for every program of this test
            assert lag.p99() < 0.05, lag.p99()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[], Path]]:
    """A data directory on a disk of its own of 4 MiB; ``fill()`` takes what is left of it."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small disk")
    data = tmp_path / "server"
    data.mkdir(mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", str(data)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount here: {mounted.stderr.decode()}")

    def fill() -> Path:
        filler = data / "filler"
        with contextlib.suppress(OSError), open(filler, "ab", buffering=0) as file:
            for size in (4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)
        return filler

    try:
        yield fill
    finally:
        subprocess.run(["umount", "--lazy", str(data)], check=True)


async def test_a_full_disk_stops_changes_and_nothing_else(
    tmp_path: Path, small_disk: Callable[[], Path]
) -> None:
    """X19: serving goes on, the API says 503, and with room again all is well without a restart."""
    port = quiet_port()
    with Edge(tmp_path) as edge, edge.agent(port, "--name", "my-agent") as agent:
        async with api_of(edge) as api, serving(ok, port=port), traffic(edge, agent) as visitor:
            acknowledged = {"my-agent"}
            filler = small_disk()
            statuses = []
            for number in range(40):  # the log of the database has room within its file for a few
                answer = await api.post("/tunnels/", json={"tunnel_name": f"made-{number}"})
                statuses.append(answer.status_code)
                if answer.status_code == 201:
                    acknowledged.add(f"made-{number}")
            assert set(statuses) <= {201, 503} and statuses[-1] == 503, statuses
            assert (await api.get("/tunnels/")).status_code == 200
            with edge.agent(port, "--name", "my-agent") as second:
                assert second.name == "my-agent", "hellos go on"
            filler.unlink()
            assert (await posted(api, "/tunnels/", tunnel_name="after"))["tunnel"]["status"] == "active"
            names = {tunnel["tunnel_name"] for tunnel in (await api.get("/tunnels/")).json()["tunnels"]}
            assert names == acknowledged | {"after"}
            assert visitor.statuses == {200}
        with closing(sqlite3.connect(edge.data / "wellhead.db")) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert "Traceback" not in edge.text
