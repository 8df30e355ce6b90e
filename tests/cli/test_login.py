"""``wellhead login`` and ``wellhead profile``: who a user's commands speak with."""

from __future__ import annotations

import getpass
import io
import json
import stat
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Type
from tests.kit.programs import Edge, quiet_port
from wellhead.cli.exit import ExitCode
from wellhead.model.access import Secret
from wellhead.profile import Access, Profile

FAR = "https://far.example"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WELLHEAD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    return tmp_path / "home"


def url(edge: Edge) -> str:
    return f"https://localhost:{edge.https}"


def test_a_key_from_stdin_is_checked_and_kept(
    edge: Edge, home: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"  {edge.key}\r\nmore\n"))
    text = typed("login", url(edge), "--ca-file", str(edge.ca))
    assert url(edge) in text and f"…{edge.key[-4:]}, checked" in text and edge.key not in text
    profile = Profile.load()
    assert profile.known() == {url(edge): Access(Secret(edge.key), ca_file=edge.ca)}
    assert stat.S_IMODE(profile.path.stat().st_mode) == 0o600
    assert typed("tunnels", "list") == "no tunnels\n"


def test_a_terminal_is_asked_for_both_and_the_key_stays_unseen(
    edge: Edge, home: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(f"{url(edge)}\n"))
    monkeypatch.setattr(getpass, "getpass", lambda prompt, stream: edge.key)
    monkeypatch.setenv("WELLHEAD_CA_FILE", str(edge.ca))
    assert typed("login", "--quiet") == ""
    assert Profile.load().known() == {url(edge): Access(Secret(edge.key), ca_file=edge.ca)}


def test_the_second_login_at_a_server_keeps_its_authority(edge: Edge, home: Path, typed: Type) -> None:
    Profile(home, url(edge), Secret("wh_old"), ca_file=edge.ca, names={"8000": "one"}).save()
    typed("login", "--api-key", edge.key)
    profile = Profile.load()
    assert profile.known() == {url(edge): Access(Secret(edge.key), ca_file=edge.ca)}
    assert profile.names == {"8000": "one"}


def test_a_login_elsewhere_leaves_the_first_server_known(edge: Edge, home: Path, typed: Type) -> None:
    Profile(home, FAR, Secret("wh_far")).save()
    typed("login", url(edge), "--api-key", edge.key, "--ca-file", str(edge.ca))
    profile = Profile.load()
    assert profile.url == url(edge) and list(profile.known()) == [url(edge), FAR]


def test_what_does_not_work_is_not_kept(edge: Edge, home: Path, typed: Type) -> None:
    there, ca = url(edge), ["--ca-file", str(edge.ca)]
    for arguments, code, says in (
        ([there, *ca, "--api-key", "wh_wrong"], ExitCode.REFUSED, "a valid API key is needed"),
        ([there, *ca, "--api-key", "two words"], ExitCode.USAGE, "holds a character"),
        ([there, *ca], ExitCode.USAGE, "no API key was given"),
        ([there, "--api-key", edge.key], ExitCode.UNTRUSTED, "cannot trust"),
        ([f"https://localhost:{quiet_port()}", "--api-key", "k"], ExitCode.UNREACHABLE, "refused"),
        (["ftp://x", "--api-key", "k"], ExitCode.USAGE, "is not a server's URL"),
        (["--api-key", "k"], ExitCode.USAGE, "no server is known"),
    ):
        text = typed("login", *arguments, code=code)
        assert text.startswith("error: ") and says in text and "wh_" not in text
    assert not home.exists()


def test_no_profile_is_said_with_the_way_to_one(home: Path, typed: Type) -> None:
    text = typed("profile", "show")
    assert "knows no server" in text and "wellhead login" in text
    assert json.loads(typed("profile", "show", "--json"))["servers"] == []
    assert typed("profile", "show", "--quiet") == ""


def test_known_servers_are_shown_without_their_keys(home: Path, typed: Type) -> None:
    near = Access(api_key_file=home / "server" / "admin-key", ca_file=home / "ca.pem")
    Profile(home).choosing("https://localhost:8443", near).choosing(
        FAR, Access(Secret("wh_0123456789"))
    ).save()
    _, _, first, second = typed("profile", "show").splitlines()
    assert first.split() == ["*", FAR, "…6789"]
    assert second.split() == ["https://localhost:8443", "in", str(near.api_key_file), str(near.ca_file)]
    assert typed("profile", "show", "-q").splitlines() == [FAR, "https://localhost:8443"]
    shown = json.loads(typed("profile", "show", "--json"))
    assert [(server["url"], server["chosen"]) for server in shown["servers"]] == [
        (FAR, True),
        ("https://localhost:8443", False),
    ]
    assert "wh_0" not in json.dumps(shown) and shown["servers"][0]["key_last4"] == "6789"


def test_one_of_several_servers_is_chosen_and_forgotten(home: Path, typed: Type) -> None:
    Profile(home).choosing("https://near.example", Access()).choosing(FAR, Access(Secret("wh_x"))).save()
    assert "is the chosen server now" in typed("profile", "use", "https://NEAR.example/")
    assert Profile.load().url == "https://near.example"
    assert "give --yes" in typed("profile", "forget", FAR, code=ExitCode.USAGE)
    assert Profile.load().access_to(FAR) == Access(Secret("wh_x"))
    typed("profile", "use", FAR)
    text = typed("profile", "forget", FAR, "--yes")
    assert "is forgotten" in text and "wellhead profile use https://near.example" in text
    assert "wh_x" not in Profile.load().path.read_text()
    assert "no server" in typed("profile", "use", FAR, code=ExitCode.SETTINGS)
