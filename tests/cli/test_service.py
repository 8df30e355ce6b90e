from __future__ import annotations

import getpass
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.programs import run
from wellhead.cli.exit import ExitCode
from wellhead.cli.service import InstallOptions, Manager, run_install, run_remove
from wellhead.cli.service_unit import Service, unit
from wellhead.errors import InputError, LocalStateError, SettingsError


def _keys(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            found.setdefault(key, []).append(value)
    return found


def test_a_unit_runs_our_own_interpreter_with_the_home_and_the_file() -> None:
    keys = _keys(unit(Service("start", Path("/home/u/.wellhead"), Path("/home/u/wellhead.toml"))))
    assert keys["ExecStart"] == [f"{sys.executable} -m wellhead start --config /home/u/wellhead.toml"]
    assert "WELLHEAD_HOME=/home/u/.wellhead" in keys["Environment"]
    assert keys["WantedBy"] == ["default.target"] and "User" not in keys
    assert keys["ExecReload"] == ["/bin/kill -HUP $MAINPID"]


def test_a_unit_of_the_machine_runs_as_a_user_and_may_take_low_ports() -> None:
    keys = _keys(unit(Service("up", Path("/srv/w"), user="wellhead")))
    assert keys["User"] == ["wellhead"] and keys["WantedBy"] == ["multi-user.target"]
    assert keys["AmbientCapabilities"] == ["CAP_NET_BIND_SERVICE"]
    assert "--config" not in keys["ExecStart"][0]
    assert keys["OOMPolicy"] == ["continue"], "a lost control plane is begun again, and traffic goes on"


def test_a_path_with_odd_characters_survives_systemds_reading() -> None:
    keys = _keys(unit(Service("up", Path('/srv/a b/100%/$x/"q"\\'))))
    assert keys["Environment"][0] == '"WELLHEAD_HOME=/srv/a b/100%%/$$x/\\"q\\"\\\\"'
    with pytest.raises(InputError, match="control character"):
        unit(Service("up", Path("/srv/a\nUser=root")))


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("program", ["up", "start"])
@pytest.mark.parametrize("user", [None, "root"])
def test_systemd_itself_finds_nothing_wrong_with_a_unit(
    program: str, user: str | None, tmp_path: Path
) -> None:
    service = Service(program, tmp_path / "a home 100%", tmp_path / "wellhead.toml", user)
    path = tmp_path / service.name
    path.write_text(unit(service))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(path)],
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert path.name not in done.stderr, done.stderr


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manager:
    """A systemd that writes down what it is asked."""
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\ncd {tmp_path}\necho "$*" >> asked\n[ ! -e broken ] || {{ echo no bus >&2; exit 1; }}\n'
    )
    program.chmod(0o755)
    (tmp_path / "alive").mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv("WELLHEAD_HOME", str(tmp_path / "home"))
    return Manager(False, tmp_path / "units", tmp_path / "alive")


def _options(program: str = "up", **given: object) -> InstallOptions:
    known: dict[str, object] = {"system": False, "config": None, "run_as": None, "dry_run": False}
    return InstallOptions(program=program, **(known | given))  # type: ignore[arg-type] # a test's shorthand


def test_an_install_writes_the_unit_starts_it_and_says_each_step(
    manager: Manager, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_install(_options(), manager)
    path = tmp_path / "units" / "wellhead-up.service"
    assert path.read_text() == unit(Service("up", tmp_path / "home"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert (tmp_path / "asked").read_text().splitlines() == [
        "--user daemon-reload",
        "--user enable --now wellhead-up.service",
    ]
    told = capsys.readouterr().out
    assert f"wrote        {path}" in told and "ran          systemctl --user daemon-reload" in told
    assert f"loginctl enable-linger {getpass.getuser()}" in told


def test_a_remove_takes_back_what_an_install_did(
    manager: Manager, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_install(_options(), manager)
    run_remove("up", system=False, dry_run=False, manager=manager)
    assert not list((tmp_path / "units").iterdir())
    assert (tmp_path / "asked").read_text().splitlines()[2:] == [
        "--user disable --now wellhead-up.service",
        "--user daemon-reload",
    ]
    with pytest.raises(SettingsError, match="not installed"):
        run_remove("up", system=False, dry_run=False, manager=manager)


def test_a_dry_run_touches_nothing(
    manager: Manager, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_install(_options(dry_run=True), manager)
    assert capsys.readouterr().out == unit(Service("up", tmp_path / "home"))
    run_remove("up", system=True, dry_run=True)
    assert capsys.readouterr().out.startswith("systemctl disable --now wellhead-up.service\nrm /etc/systemd")
    assert not (tmp_path / "units").exists() and not (tmp_path / "asked").exists()


def test_a_file_that_would_not_start_is_refused_before_anything_is_written(
    manager: Manager, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("[tunnels.my-app]\n")
    for program in ("start", "up"):
        with pytest.raises(SettingsError, match="bad.toml"):
            run_install(_options(program, config=bad), manager)
    assert not (tmp_path / "units").exists()


def test_what_systemd_refuses_is_told_in_its_words(manager: Manager, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    with pytest.raises(LocalStateError, match="systemctl --user daemon-reload: no bus"):
        run_install(_options(), manager)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (_options("http"), "'http' is no service"),
        (_options(run_as="nobody"), "--run-as is for --system"),
        (_options(system=True, run_as="no-such-user"), "no user no-such-user"),
    ],
)
def test_a_wrong_wish_is_named(
    options: InstallOptions, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WELLHEAD_HOME")
    with pytest.raises(InputError, match=complaint):
        run_install(options)


def test_a_machine_without_systemd_gets_a_clear_line(manager: Manager, tmp_path: Path) -> None:
    without = Manager(False, tmp_path / "units", tmp_path / "nothing")
    with pytest.raises(SettingsError, match="not run by systemd"):
        run_install(_options(), without)
    with pytest.raises(SettingsError, match="not run by systemd"):
        run_remove("up", system=False, dry_run=False, manager=without)
    assert not (tmp_path / "units").exists()


def test_the_command_prints_a_unit(tmp_path: Path) -> None:
    ended = run(
        "service", "install", "up", "--system", "--run-as", "root", "--dry-run", home=tmp_path / "home"
    )
    assert ended.returncode == ExitCode.OK, ended.stderr
    assert "[Service]" in ended.stdout and f"WELLHEAD_HOME={tmp_path / 'home'}" in ended.stdout
    assert run("service", "install", "web", home=tmp_path).returncode == ExitCode.USAGE
