"""The zygote is there when it is needed, and what fails in it is told."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from wellhead.errors import HostError
from wellhead.host.runtime.birth import Birth
from wellhead.host.runtime.nursery import Nursery
from wellhead.host.runtime.root import RootPlan

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's"),
    pytest.mark.timeout(60),
]

PLAN = RootPlan(
    layers=["/nowhere"], shared=[], disk="/nowhere", first_id=0, shm_bytes=0, hostname="test", files={}
)
NOBODY = Birth(
    root=PLAN, groups=["/nowhere/cgroup.procs"], delegated="", files_max=64, no_new_privs=True, user="root",
    home="/root", env={},
)  # fmt: skip


@pytest.fixture
async def nursery(tmp_path: Path) -> AsyncIterator[Nursery]:
    made = Nursery(tmp_path)
    await made.start()
    yield made
    made.close()


@pytest.fixture
def listening() -> socket.socket:
    return socket.socket(socket.AF_UNIX)


def _zygotes(state: Path) -> list[int]:
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = line.read_bytes().split(b"\0")
        except OSError:
            continue
        if os.fsencode(state) in words:
            found.append(int(line.parent.name))
    return found


async def test_what_fails_in_a_birth_is_told(nursery: Nursery, listening: socket.socket) -> None:
    with listening, pytest.raises(HostError, match="FileNotFoundError.*/nowhere/cgroup.procs"):
        await nursery.bear(NOBODY, listening)


async def test_a_zygote_that_died_is_started_again(
    nursery: Nursery, listening: socket.socket, tmp_path: Path
) -> None:
    (first,) = _zygotes(tmp_path)
    os.kill(first, signal.SIGKILL)
    await asyncio.to_thread(os.waitid, os.P_PID, first, os.WEXITED | os.WNOWAIT)
    with listening, pytest.raises(HostError, match="FileNotFoundError"):
        await nursery.bear(NOBODY, listening)
    (second,) = _zygotes(tmp_path)
    assert second != first


async def test_a_file_system_that_cannot_be_renumbered_is_told() -> None:
    nursery = Nursery(Path("/proc"), first_id=1 << 24)
    await nursery.start()
    nursery.close()
    assert nursery.why_not_numbered


async def test_a_zygote_ends_with_its_host(nursery: Nursery, tmp_path: Path) -> None:
    assert len(_zygotes(tmp_path)) == 1
    nursery.close()
    assert _zygotes(tmp_path) == []


async def test_the_zygote_gets_little_of_the_hosts_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WELLHEAD_SECRET_OF_THE_HOST", "1")
    nursery = Nursery(tmp_path)
    await nursery.start()
    try:
        (pid,) = _zygotes(tmp_path)
        assert b"SECRET" not in await asyncio.to_thread(Path(f"/proc/{pid}/environ").read_bytes)
    finally:
        nursery.close()
