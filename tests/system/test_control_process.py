"""The control plane is a process of its own: what becomes of the traffic without it, and how it returns."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.kit.programs import Agent, Edge, eventually, quiet_port
from tests.kit.stopwatch import Stopwatch
from tests.kit.upstreams import serving
from tests.kit.visitors import ask
from tests.system.test_records import api_of, ok, posted, traffic

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


@contextlib.contextmanager
def away(edge: Edge) -> Iterator[None]:
    """Kill the control plane, and keep its successors from the database until the block ends."""
    with open(edge.data / "wellhead.db.lock", "rb") as held:
        edge.control().kill()
        fcntl.flock(held, fcntl.LOCK_EX)
        edge.line("control plane ended .*SIGKILL", 10)
        yield


async def back(api: httpx.AsyncClient) -> float:
    """How long it takes until the REST API answers; until then it says 503, and when to ask again."""
    began = time.monotonic()
    async with asyncio.timeout(30):
        while (answer := await api.get("/tunnels/")).status_code != 200:
            assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0, answer.text
            await asyncio.sleep(0.05)
    return time.monotonic() - began


async def tunnel(api: httpx.AsyncClient, name: str) -> dict[str, Any]:
    found: dict[str, Any] = (await api.get("/tunnels/", params={"name": name})).json()["tunnels"][0]
    return found


@contextlib.asynccontextmanager
async def serving_edge(tmp_path: Path) -> AsyncIterator[tuple[Edge, Agent, httpx.AsyncClient, int]]:
    """An edge with the tunnel my-agent, whose upstream answers."""
    port = quiet_port()
    with Edge(tmp_path) as edge, edge.agent(port, "--name", "my-agent") as agent:
        async with api_of(edge) as api, serving(ok, port=port):
            yield edge, agent, api, port


async def test_without_the_control_plane_known_tunnels_serve_and_known_agents_come_back(
    tmp_path: Path,
) -> None:
    """X18: and who is not known is told to ask again, for nobody can say that it does not exist."""
    async with serving_edge(tmp_path) as (edge, agent, api, port), traffic(edge, agent) as visitor:
        made = await posted(api, "/tunnels/", tunnel_name="known")
        secret = {
            "WELLHEAD_URL": f"https://localhost:{edge.https}",
            "WELLHEAD_CA_FILE": str(edge.ca),
            "WELLHEAD_TUNNEL_SECRET": made["connect_secret"],
        }
        elsewhere = tmp_path / "elsewhere"
        with Agent(elsewhere, str(port), "--name", "known", wait=False, extra=secret) as known:
            await asyncio.to_thread(edge.line, "session opened .*tunnel=known", 15)
            with away(edge):
                watch = Stopwatch(edge)
                answer = await api.get("/tunnels/")
                assert watch.seconds() < 0.5, "nobody waits for what is not there"
                assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
                assert set(answer.json()) >= {"detail"}
                assert (await ask(edge, "unknown.localhost")).status == 503
                assert b"wellhead_control_up 0.0" in (await ask(edge, "localhost", "/metrics")).body

                before = edge.mark()
                known.kill()
                with Agent(elsewhere, str(port), "--name", "known", wait=False, extra=secret):
                    await asyncio.to_thread(edge.line, "session opened .*tunnel=known", 15, after=before)
                    assert (await ask(edge, "known.localhost")).status == 200
                wrong = secret | {"WELLHEAD_TUNNEL_SECRET": "whs_wrong"}
                with Agent(
                    tmp_path / "wrong", str(port), "--name", "known", wait=False, extra=wrong
                ) as later:
                    await asyncio.to_thread(edge.line, "session refused .*records-away", 15, after=before)
                    assert later.process.poll() is None, "it is to try again"
            await back(api)
            assert (await ask(edge, "unknown.localhost")).status == 404
            assert b"wellhead_control_up 1.0" in (await ask(edge, "localhost", "/metrics")).body
        assert visitor.statuses == {200} and visitor.waits


async def test_a_killed_control_plane_is_back_in_seconds_with_all_that_was_acknowledged(
    tmp_path: Path,
) -> None:
    async with serving_edge(tmp_path) as (edge, agent, api, port), traffic(edge, agent) as visitor:
        with edge.agent(port, "--name", "leaves") as leaves:
            opened = (await tunnel(api, "my-agent"))["last_connected_at"]
            acknowledged = {"my-agent", "leaves"}
            for number in range(3):
                name = f"made-{number}"
                acknowledged.add((await posted(api, "/tunnels/", tunnel_name=name))["tunnel"]["tunnel_name"])
                edge.control().kill()
                if number == 1:
                    leaves.stop(signal.SIGINT)
                assert await back(api) < 15
        names = {found["tunnel_name"] for found in (await api.get("/tunnels/")).json()["tunnels"]}
        assert names == acknowledged
        stayed = await tunnel(api, "my-agent")
        assert stayed["currently_connected"] and stayed["last_disconnected_at"] is None
        assert stayed["last_connected_at"] == opened
        left = await tunnel(api, "leaves")
        assert not left["currently_connected"] and left["last_disconnected_at"] > left["last_connected_at"]
        assert visitor.statuses == {200} and len(visitor.waits) > 50
        assert edge.text.count("control plane ended") == 3 and "Traceback" not in edge.text


async def test_what_is_answered_has_taken_effect_where_the_traffic_is(tmp_path: Path) -> None:
    """Also by a control plane that took the place of another."""
    async with serving_edge(tmp_path) as (edge, agent, api, port):
        for again in range(2):
            for number in range(20):
                made = await posted(api, "/tunnels/", tunnel_name=f"made-{again}-{number}")
                host = f"made-{again}-{number}.localhost"
                assert (await ask(edge, host)).status == 503, "known, and without an agent"
                assert (await api.delete(f"/tunnels/{made['tunnel']['id']}")).status_code == 200
                assert (await ask(edge, host)).status == 404
            edge.control().kill()
            await back(api)
        assert (await ask(edge, agent.hostname)).status == 200
        assert "the edge is behind" not in edge.text


def test_a_killed_server_leaves_no_process_behind(tmp_path: Path) -> None:
    with Edge(tmp_path) as edge:
        control = edge.control()
        assert control.nice() == psutil.Process(edge.pid).nice() + 5
        edge.kill()
        assert eventually(lambda: not control.is_running() or control.status() == "zombie", 5)
    with Edge(tmp_path) as again:  # at once: what the last one held is free
        control = again.control()
        control.suspend()  # which sees nothing, and holds the database
        again.kill()
        assert eventually(lambda: not control.is_running() or control.status() == "zombie", 5)


def test_the_server_decides_when_its_control_plane_ends(tmp_path: Path) -> None:
    with Edge(tmp_path) as edge:
        control = edge.control()
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(control.pid, number)
        assert os.getsid(control.pid) != os.getsid(edge.pid), "Ctrl-C in a terminal is not for it"
        assert edge.control().pid == control.pid
        assert edge.stop(signal.SIGTERM) == 0
        assert not control.is_running()
        assert "control plane ended" not in edge.text and not (edge.data / "control.sock").exists()


async def test_a_control_plane_that_hangs_is_said_to_be_away_and_begun_again(tmp_path: Path) -> None:
    async with serving_edge(tmp_path) as (edge, agent, api, _), traffic(edge, agent) as visitor:
        control = edge.control()
        control.suspend()
        await asyncio.to_thread(edge.line, "control plane does not answer", 15)
        watch = Stopwatch(edge)
        assert (await api.get("/tunnels/")).status_code == 503
        assert (await ask(edge, "localhost", "/healthz")).status == 503
        assert watch.seconds() < 0.5, "nobody waits for what does not answer"
        control.resume()
        await asyncio.to_thread(edge.line, "control plane answers again", 15)
        assert (await ask(edge, "localhost", "/healthz")).status == 200
        control.suspend()
        await asyncio.to_thread(edge.line, "control plane ended .*killed", 40)
        await back(api)
        assert not control.is_running() and visitor.statuses == {200}


@pytest.mark.parametrize("hung", [False, True])
def test_a_server_that_is_stopped_before_its_control_plane_is_there_ends_in_time(
    tmp_path: Path, hung: bool
) -> None:
    with Edge(tmp_path, wait=False) as edge:
        control = eventually(edge.control, 10)
        assert isinstance(control, psutil.Process)
        if hung:
            control.suspend()
        edge.signal(signal.SIGTERM)
        assert edge.wait(20) == 0, edge.text
        assert hung or "ended badly" not in edge.text, edge.text
        assert not control.is_running() and "Traceback" not in edge.text
