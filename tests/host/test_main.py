"""A host's program from its settings: which runtime, what a command may do beside it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.kit.certs import authority
from tests.kit.host_server import HOST, HostServer, host_server
from wellhead.errors import LocalStateError, SettingsError
from wellhead.host.app import Facts
from wellhead.host.join import JoinOptions
from wellhead.host.main import RunOptions, join_with, leave_with, serve, status
from wellhead.host.runtime.choice import runtime_name
from wellhead.model.access import Secret
from wellhead.settings.host import HostSettings

SETTINGS = HostSettings(host_runtime="process", host_memory_mb=1000, host_report_seconds=0.3)


def _with_server(directory: Path, work: Callable[[HostServer], Awaitable[None]]) -> None:
    async def play() -> None:
        async with host_server(authority(directory)) as server:
            await work(server)

    asyncio.run(play())


def test_isolation_is_chosen_where_it_can_be() -> None:
    root = os.geteuid() == 0
    assert runtime_name(HostSettings()) == (
        "namespace" if root and os.uname().sysname == "Linux" else "process"
    )
    assert runtime_name(HostSettings(host_runtime="process")) == "process"
    assert runtime_name(HostSettings(host_runtime="namespace")) == "namespace"


def test_a_machine_joins_runs_and_leaves(tmp_path: Path) -> None:
    state = tmp_path / "host"

    async def work(server: HostServer) -> None:
        await join_with(JoinOptions(state, Secret("token"), server.url, server.ca_file), SETTINGS)
        assert (server.joins[0]["runtime"], server.joins[0]["memory_mb"]) == ("process", 1000)
        server.membership().save(state)  # with the edge's own port
        stop, online = asyncio.Event(), asyncio.get_running_loop().create_future()
        running = asyncio.ensure_future(serve(RunOptions(SETTINGS, state, 0.1), stop, online.set_result))
        assert await asyncio.wait_for(online, 20) == Facts(HOST, "process", 0)
        assert {"minimal", "minimal-ubuntu"} <= set(server.reports[-1]["templates"])
        found = status(state)
        assert found is not None and found.runs
        with pytest.raises(LocalStateError, match="in use by another host program"):
            await leave_with(state, SETTINGS)
        stop.set()
        await running
        assert await leave_with(state, SETTINGS) == 0
        assert status(state) is None
        with pytest.raises(SettingsError, match="this machine is no host"):
            await leave_with(state, SETTINGS)

    _with_server(tmp_path, work)


def test_a_host_that_is_not_there_is_known_all_the_same(tmp_path: Path) -> None:
    async def work(server: HostServer) -> None:
        server.membership().save(tmp_path / "host")
        found = status(tmp_path / "host")
        assert found is not None and not found.runs and found.membership.host_id == HOST

    _with_server(tmp_path, work)
    assert status(tmp_path / "elsewhere") is None
