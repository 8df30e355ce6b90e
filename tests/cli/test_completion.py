from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.programs import quiet_port
from wellhead.cli.completion import known_servers, tunnel_names
from wellhead.client import Client
from wellhead.profile import Access, Profile


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("wellhead tun", {"tunnels"}),
        ("wellhead tunnels re", {"restore"}),
        ("wellhead tunnels list --st", {"--status"}),
        ("wellhead keys ", {"create", "list", "revoke"}),
    ],
)
def test_a_shell_completes_commands_and_options(line: str, offered: set[str]) -> None:
    assert completed(line) == offered


def completed(line: str) -> set[str]:
    asked = {"_WELLHEAD_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    program = Path(sys.executable).with_name("wellhead")
    ended = subprocess.run(
        [program], env=os.environ | asked, capture_output=True, text=True, timeout=30, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return set(ended.stdout.split())


def test_names_of_tunnels_are_offered(server: Client) -> None:
    for name in ("first-one", "first-two", "second"):
        server.tunnels.create(name)
    assert tunnel_names("first") == ["first-one", "first-two"]
    assert tunnel_names("nobody") == []
    assert completed("wellhead service install ") == {"up", "start"}
    assert completed("wellhead tunnels delete sec") == {"second"}
    assert completed("wellhead tunnels rotate-secret first-o") == {"first-one"}


def test_known_servers_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("WELLHEAD_HOME", str(home))
    assert known_servers("") == []
    Profile(home).choosing("https://near.example", Access()).choosing("https://far.example", Access()).save()
    assert known_servers("https://n") == ["https://near.example"]


def test_what_cannot_be_known_is_not_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("WELLHEAD_HOME", str(home))
    assert tunnel_names("") == []
    monkeypatch.setenv("WELLHEAD_URL", f"https://localhost:{quiet_port()}")
    monkeypatch.setenv("WELLHEAD_API_KEY", "wh_x")
    assert tunnel_names("") == []
    Profile(home).save()
    (home / "profile.toml").write_text("nonsense")
    assert tunnel_names("") == [] and known_servers("") == []
