from __future__ import annotations

import signal
import socket
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.programs import Edge, run
from wellhead.cli.exit import ExitCode
from wellhead.cli.main import run as run_here
from wellhead.model.access import Secret
from wellhead.profile import Access, Profile

FREE = ("--https", "127.0.0.1:0", "--http", "off")


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["--https", "99999"], ExitCode.SETTINGS, '"99999" has no host, expected HOST:PORT'),
        (["--https", "127.0.0.1:99999"], ExitCode.SETTINGS, "expected a number from 0 to 65535"),
        (["--https", "abc"], ExitCode.SETTINGS, '"abc" has no port'),
        (["--https", "http://127.0.0.1:1"], ExitCode.SETTINGS, "is not an address"),
        (["--https", "ftp://x"], ExitCode.SETTINGS, '"ftp://x"'),
        (["--https", ""], ExitCode.SETTINGS, "https (from the command line)"),
        (["--http", "on"], ExitCode.SETTINGS, '"on" has no port'),
        (["--domain", "127.0.0.1"], ExitCode.SETTINGS, "names cannot stand under it"),
        (["--domain", "a b"], ExitCode.SETTINGS, "is not a hostname"),
        (["--zone", "x:1"], ExitCode.SETTINGS, "has a port"),
        (["--config", "/nowhere.toml"], ExitCode.SETTINGS, "cannot read /nowhere.toml: no such file"),
        (["--htps", "x"], ExitCode.USAGE, "no such option: --htps"),
        (["--https"], ExitCode.USAGE, "option '--https' requires an argument"),
        (["more"], ExitCode.USAGE, "unexpected extra argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_option_is_one_line_and_a_code(
    arguments: list[str], code: ExitCode, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_here(["up", "--check", *arguments]) == code
    told = capsys.readouterr()
    assert complaint in told.err and told.err.startswith("error: ") and "Traceback" not in told.err
    assert told.out == ""


@pytest.mark.parametrize(
    ("toml", "complaint"),
    [
        ('htps = "x"', 'unknown key "htps" in'),
        ("https = ", "is not TOML"),
        ("max_fields = 0", "max_fields (from"),
        ("[edge]\nx = 1", 'unknown key "edge"'),
    ],
)
def test_a_wrong_file_is_named_with_its_fault(
    toml: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "wellhead.toml"
    config.write_text(toml)
    assert run_here(["up", "--check", "--config", str(config)]) == ExitCode.SETTINGS
    told = capsys.readouterr().err
    assert complaint in told and str(config) in told


def test_a_wrong_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WELLHEAD_HTPS", "x")
    monkeypatch.setenv("WELLHEAD_MAX_FIELDS", "many")
    assert run_here(["up", "--check"]) == ExitCode.SETTINGS
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2 and "did you mean WELLHEAD_HTTPS?" in told[0] and "WELLHEAD_MAX_FIELDS" in told[1]


def test_the_command_line_goes_before_the_environment_and_that_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "wellhead.toml"
    config.write_text('domain = "file.example"\nzone = "file.example"\nhttp = "127.0.0.1:1"\n')
    monkeypatch.setenv("WELLHEAD_DOMAIN", "variable.example")
    monkeypatch.setenv("WELLHEAD_ZONE", "variable.example")
    assert run_here(["up", "--check", "--config", str(config), "--domain", "flag.example"]) == ExitCode.OK
    told = capsys.readouterr().out
    assert " domain=flag.example zone=variable.example " in told and told.endswith(" http=127.0.0.1:1\n")


def test_a_taken_port_is_named_with_a_remedy(tmp_path: Path, taken: int) -> None:
    ended = run("up", "--https", f"127.0.0.1:{taken}", "--http", "off", home=tmp_path / "home")
    assert ended.returncode == ExitCode.SETTINGS
    first, second = ended.stderr.splitlines()
    assert first.startswith("error: ") and f"127.0.0.1:{taken}: address already in use" in first
    assert second.startswith("hint: another program has this port")


def test_a_data_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = run("up", *FREE, "--data-dir", str(tmp_path / "file"), home=tmp_path / "home")
    assert ended.returncode == ExitCode.SETTINGS
    assert ended.stderr == f"error: {tmp_path / 'file'} is not a directory\n"


def test_a_data_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    ended = run("up", *FREE, "--data-dir", str(tmp_path / "open"), home=tmp_path / "home")
    assert ended.returncode == ExitCode.SETTINGS and "others may write into it" in ended.stderr


def test_a_first_start_shows_its_key_once_and_leaves_a_profile(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with Edge(home, wait=False) as server:
        ready = server.line(
            r"^ready https=https://127\.0\.0\.1:(\d+) http=http://127\.0\.0\.1:\d+ api=(\S+)$"
        )
        assert server.stop(signal.SIGTERM) == ExitCode.OK
    key = (home / "server" / "admin-key").read_text().strip()
    assert server.text.count(key) == 1
    assert [line for line in server.out if line.startswith("ready")] == [ready[0]]
    assert ready[2] == f"https://localhost:{ready[1]}/api/v1"
    assert stat.S_IMODE((home / "server").stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "server" / "admin-key").stat().st_mode) == 0o600
    assert tomllib.loads((home / "profile.toml").read_text()) == {
        "url": f"https://localhost:{ready[1]}",
        "api_key_file": str(home / "server" / "admin-key"),
        "ca_file": str(home / "server" / "ca.pem"),
    }


def test_a_second_start_finds_everything_as_it_was(tmp_path: Path) -> None:
    home = tmp_path / "home"
    kept = ("admin-key", "ca.pem", "ca.key")
    with Edge(home) as first:
        assert first.stop(signal.SIGINT) == ExitCode.OK
    before = {name: (home / "server" / name).read_bytes() for name in kept}
    with Edge(home) as second:
        assert "admin key" not in second.text
        assert second.stop() == ExitCode.OK
    assert {name: (home / "server" / name).read_bytes() for name in kept} == before


def test_one_data_directory_is_for_one_server(tmp_path: Path) -> None:
    with Edge(tmp_path / "home"):
        ended = run("up", *FREE, home=tmp_path / "home")
    assert ended.returncode == ExitCode.SETTINGS and "in use" in ended.stderr


def test_a_server_that_the_user_chose_stays_chosen_and_this_one_is_known(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    chosen = Access(Secret("wh_mine"))
    Profile(home).choosing("https://tunnels.example.com", chosen).save()
    for _ in range(2):  # on another port each time
        with Edge(home) as edge:
            here = f"https://localhost:{edge.https}"
            edge.line(rf"tunnels.example.com stays chosen; wellhead profile use {here} chooses this server")
            known = Profile.load(home).known()
            assert list(known) == ["https://tunnels.example.com", here]
            assert known["https://tunnels.example.com"] == chosen
            assert known[here] == Access(api_key_file=edge.data / "admin-key", ca_file=edge.ca)


def test_the_open_file_limit_is_raised_to_the_hard_one(tmp_path: Path) -> None:
    prefix = ["sh", "-c", 'ulimit -Sn 256 && exec "$@"', "sh"]
    with Edge(tmp_path / "home", prefix=prefix) as server:
        limits = Path(f"/proc/{server.pid}/limits").read_text()
    soft, hard = next(line.split()[3:5] for line in limits.splitlines() if line.startswith("Max open files"))
    assert soft == hard != "256"
