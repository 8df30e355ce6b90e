"""The control plane's process, as the server sees it."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.kit.programs import eventually
from wellhead import serve_process
from wellhead.edge.follower import Follower
from wellhead.errors import LocalStateError
from wellhead.model.names import Public
from wellhead.net.backoff import Backoff
from wellhead.serve_process import UNSHOWN_KEY_FILE, ControlProcess, Terms
from wellhead.settings import ServerSettings

PUBLIC = Public("localhost", "localhost", 8443)


def terms(tmp_path: Path) -> Terms:
    data = tmp_path / "server"
    data.mkdir(mode=0o700, exist_ok=True)
    return Terms.of(ServerSettings(data_dir=data), PUBLIC, str(tmp_path / "control.sock"))


@asynccontextmanager
async def begun(given: Terms) -> AsyncIterator[tuple[ControlProcess, Follower]]:
    follower = Follower()
    process = ControlProcess(given, follower)
    try:
        await process.start()
        yield process, follower
    finally:
        await process.close()
        follower.close()


async def until_back(process: ControlProcess, follower: Follower, pid: int) -> None:
    """Wait for another process than ``pid`` to have told all."""

    def back() -> bool:
        child = process._child
        return follower.directory.is_current() and child is not None and child.process.pid != pid

    assert await asyncio.to_thread(eventually, back, 20)


def test_terms_are_read_as_they_were_written_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ServerSettings(
        data_dir=tmp_path, zone="2001:db8::7", http=None, reserved_names=("acme",), head_seconds=1.5
    )
    given = Terms.of(settings, PUBLIC, "/run/control.sock")
    monkeypatch.setenv("WELLHEAD_HEAD_SECONDS", "99")
    assert Terms.model_validate_json(given.model_dump_json()) == given


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_it_logs_what_the_server_logs(tmp_path: Path, level: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(getattr(logging, level.upper()), "wellhead"):
        assert terms(tmp_path).log_level == level


async def test_what_keeps_it_from_serving_is_told(tmp_path: Path) -> None:
    given = terms(tmp_path)
    (given.settings.data_dir / "wellhead.db").write_bytes(b"this is no database " * 100)
    async with begun(given) as (process, follower):
        with pytest.raises(LocalStateError, match="cannot open the database"):
            async with asyncio.timeout(20):
                await process.whole()
        assert not follower.directory.is_current()


async def test_a_program_of_another_version_does_not_serve_beside_this_one(tmp_path: Path) -> None:
    async with begun(terms(tmp_path).model_copy(update={"version": "0.0.1"})) as (process, _):
        with pytest.raises(LocalStateError, match=r"was installed over 0\.0\.1: restart the server"):
            async with asyncio.timeout(20):
                await process.whole()


async def test_one_that_cannot_even_begin_is_told_with_how_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve_process, "MODULE", "wellhead.no_such_module")
    async with begun(terms(tmp_path)) as (process, _):
        with pytest.raises(LocalStateError, match="did not start: exit status 1"):
            async with asyncio.timeout(20):
                await process.whole()


async def test_what_lies_in_the_working_directory_is_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sqlite3.py").write_text("raise ImportError('not this one')\n")
    monkeypatch.chdir(tmp_path)
    async with begun(terms(tmp_path)) as (process, follower):
        async with asyncio.timeout(20):
            assert (await process.whole()).made_key
        assert follower.directory.is_current()


async def test_a_first_key_that_was_not_shown_before_a_crash_is_told_of_again(tmp_path: Path) -> None:
    given = terms(tmp_path)
    for start in range(3):
        async with begun(given) as (process, _), asyncio.timeout(20):
            assert (await process.whole()).made_key is (start < 2)
        if start == 1:
            (given.settings.data_dir / UNSHOWN_KEY_FILE).unlink()  # as the server does that has shown it


async def test_one_that_cannot_be_begun_again_for_now_is_begun_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Descriptors, processes or memory may be short for a while; so may the program, during an upgrade."""
    begin, fails = serve_process._begin, 2

    def short(feed: socket.socket, given: Terms) -> subprocess.Popen[bytes]:
        nonlocal fails
        if given.resumed and fails:
            fails -= 1
            raise OSError(errno.EAGAIN, "resource temporarily unavailable")
        return begin(feed, given)

    monkeypatch.setattr(serve_process, "_begin", short)
    async with begun(terms(tmp_path)) as (process, follower):
        process._backoff = Backoff(lambda shortest, longest: 0.0)
        async with asyncio.timeout(20):
            await process.whole()
            assert process._child is not None
            first = process._child.process.pid
            os.kill(first, signal.SIGKILL)
            await until_back(process, follower, first)
        assert caplog.text.count("control plane cannot be begun") == 2 and process.restarts == 3
