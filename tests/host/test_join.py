"""From a token to a host, and what is kept of it."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from tests.host.test_app import ROOM
from tests.kit.certs import authority
from tests.kit.host_server import HOST, host_server
from wellhead.errors import LocalStateError, SettingsError, Unauthorized
from wellhead.host.join import JoinOptions, join
from wellhead.host.membership import Membership, alone
from wellhead.model.access import Secret


async def _joined(directory: Path) -> None:
    state = directory / "host"
    async with host_server(authority(directory)) as server:
        options = JoinOptions(state, Secret("token"), server.url, server.ca_file, "my-machine")
        server.join_answer = (401, {"error": {"code": "unauthorized", "message": "this token was used"}})
        with pytest.raises(Unauthorized, match="this token was used"):
            await join(options, "process", ROOM)
        assert Membership.load(state) is None
        server.join_answer = (201, {"host_id": HOST, "key": "wh_key", "edge": "edge.example:8443"})
        joined = await join(options, "process", ROOM, ["minimal"])
        told = server.joins[-1]
        assert (told["token"], told["name"], told["runtime"]) == ("token", "my-machine", "process")
        assert told["machine_name"]
        assert (told["vcpus"], told["memory_mb"], told["templates"]) == (8, 4096, ["minimal"])
        assert server.keys == {None}
        kept = Membership.load(state)
        assert kept == joined and kept.key.reveal() == "wh_key" and kept.ca_file == server.ca_file
        assert kept.edge_address == ("edge.example", 8443)
        assert "wh_key" not in repr(kept)
        assert stat.S_IMODE((state / "host.json").stat().st_mode) == 0o600
        with pytest.raises(SettingsError, match=f"this machine is host {HOST} of {server.url} already"):
            await join(options, "process", ROOM)


def test_a_host_is_kept_before_it_is_trusted_and_joins_once(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    asyncio.run(_joined(tmp_path))


def test_one_program_at_a_time_has_a_hosts_directory(tmp_path: Path) -> None:
    with alone(tmp_path / "host"):
        with (
            pytest.raises(LocalStateError, match="is in use by another host program"),
            alone(tmp_path / "host"),
        ):
            pass
    with alone(tmp_path / "host"):
        pass


@pytest.mark.parametrize(
    ("text", "says"),
    [("{", "is damaged"), ("{}", "is damaged"), ('"x"', "is damaged")],
)
def test_a_damaged_file_is_said_by_name(tmp_path: Path, text: str, says: str) -> None:
    tmp_path.chmod(0o700)
    path = tmp_path / "host.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(LocalStateError, match=f"host.json {says}"):
        Membership.load(tmp_path)


def test_a_machine_that_is_no_host_is_told_how_to_become_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="this machine is no host") as raised:
        Membership.need(tmp_path / "host")
    assert "host join" in raised.value.__notes__[0]
