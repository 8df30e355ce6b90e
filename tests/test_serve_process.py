"""The control plane's process, as the server sees it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from wellhead import serve_process
from wellhead.edge.follower import Follower
from wellhead.errors import LocalStateError
from wellhead.model.names import Public
from wellhead.serve_process import ControlProcess, Terms
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
