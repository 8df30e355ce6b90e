from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from tests.kit.certs import authority
from tests.kit.programs import Edge, environment, run, wellhead
from wellhead.cli.exit import ExitCode
from wellhead.cli.trust import TrustOptions, run_trust
from wellhead.cli.trust_steps import NEEDS_ROOT, Machine, install_steps, read_authority, remove_steps
from wellhead.errors import InputError, LocalStateError, SettingsError


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    return authority(tmp_path).ca_file


def _database(home: Path, place: str = ".pki/nssdb") -> Path:
    directory = home / place
    directory.mkdir(parents=True)
    (directory / "cert9.db").touch()
    return directory


def _programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> Path:
    """Only these programs exist; each writes its arguments to a file, then runs its script."""
    log, directory = tmp_path / "ran", tmp_path / "bin"
    directory.mkdir()
    for name, script in scripts.items():
        program = directory / name.replace("_", "-")
        program.write_text(f'#!/bin/sh\necho "$(basename "$0") $*" >> {log}\n{script}\n')
        program.chmod(0o755)
    monkeypatch.setattr("wellhead.cli.trust_steps.search_path", lambda: str(directory))
    monkeypatch.setattr("wellhead.cli.trust.search_path", lambda: f"{directory}:/usr/bin:/bin")
    log.touch()
    return log


def test_root_on_debian_is_done_by_itself(tmp_path: Path, ca: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _programs(tmp_path, monkeypatch, update_ca_certificates="", certutil="")
    first, second = _database(tmp_path), _database(tmp_path, ".mozilla/firefox/x.default")
    machine = Machine(tmp_path, tmp_path / "anchors", root=True)
    steps = install_steps(read_authority(ca), machine)
    assert not any(step.by_hand for step in steps)
    assert [step.command[0] for step in steps] == [
        "install",
        "update-ca-certificates",
        "certutil",
        "certutil",
    ]
    assert f"sql:{first}" in steps[2].command and f"sql:{second}" in steps[3].command


def test_without_root_the_exact_commands_are_shown(
    tmp_path: Path, ca: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = _programs(tmp_path, monkeypatch, update_ca_certificates="")
    _database(tmp_path)
    machine = Machine(tmp_path, tmp_path / "anchors", root=False)
    run_trust(TrustOptions(ca_file=ca, remove=False, dry_run=False, yes=True), machine)
    told = capsys.readouterr().out
    assert f"sudo install -D -m 644 {ca} {tmp_path}/anchors/wellhead-" in told
    assert "sudo update-ca-certificates" in told and "apt install libnss3-tools" in told
    assert log.read_text() == ""


def test_a_system_of_another_kind_is_told_its_own_command(
    tmp_path: Path, ca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _programs(tmp_path, monkeypatch, trust="")
    (fedora,) = install_steps(read_authority(ca), Machine(tmp_path, root=True))
    assert fedora.command == ("trust", "anchor", str(ca)) and fedora.by_hand == NEEDS_ROOT
    shutil.rmtree(tmp_path / "bin")
    (unknown,) = install_steps(read_authority(ca), Machine(tmp_path, root=True))
    assert str(ca) in unknown.what and unknown.command == () and unknown.by_hand


def test_it_says_what_it_does_before_it_does_it(
    tmp_path: Path, ca: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = _programs(tmp_path, monkeypatch, update_ca_certificates="", certutil="")
    _database(tmp_path)
    machine = Machine(tmp_path, tmp_path / "anchors", root=True)
    run_trust(TrustOptions(ca_file=ca, remove=False, dry_run=True, yes=True), machine)
    said = capsys.readouterr().out
    assert log.read_text() == "" and not (tmp_path / "anchors").exists()
    run_trust(TrustOptions(ca_file=ca, remove=False, dry_run=False, yes=True), machine)
    assert capsys.readouterr().out.startswith(said)
    assert [line.split()[0] for line in log.read_text().splitlines()] == [
        "update-ca-certificates",
        "certutil",
    ]
    assert all(line.rstrip() in said for line in log.read_text().splitlines())
    (installed,) = (tmp_path / "anchors").iterdir()
    assert installed.read_bytes() == ca.read_bytes()
    run_trust(TrustOptions(ca_file=ca, remove=True, dry_run=False, yes=True), machine)
    assert not installed.exists()


def test_nobody_to_ask_means_nothing_is_done(
    tmp_path: Path, ca: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = _programs(tmp_path, monkeypatch, update_ca_certificates="")
    machine = Machine(tmp_path, tmp_path / "anchors", root=True)
    with pytest.raises((InputError, typer.Exit)):
        run_trust(TrustOptions(ca_file=ca, remove=False, dry_run=False, yes=False), machine)
    assert log.read_text() == "" and not (tmp_path / "anchors").exists()


def test_what_was_never_trusted_needs_no_removal(
    tmp_path: Path, ca: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _programs(tmp_path, monkeypatch, update_ca_certificates="", certutil="exit 255")
    _database(tmp_path)
    machine = Machine(tmp_path, tmp_path / "anchors", root=True)
    assert remove_steps(read_authority(ca), machine) == []
    run_trust(TrustOptions(ca_file=ca, remove=True, dry_run=False, yes=False), machine)
    assert "nothing to do" in capsys.readouterr().out


def test_a_command_that_fails_is_named_with_its_words(
    tmp_path: Path, ca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _programs(tmp_path, monkeypatch, update_ca_certificates="echo no space left >&2; exit 1")
    machine = Machine(tmp_path, tmp_path / "anchors", root=True)
    with pytest.raises(LocalStateError, match="update-ca-certificates said: no space left"):
        run_trust(TrustOptions(ca_file=ca, remove=False, dry_run=False, yes=True), machine)


def test_only_one_certificate_of_an_authority_is_taken(tmp_path: Path, ca: Path) -> None:
    assert read_authority(ca).file == ca
    (tmp_path / "two.pem").write_bytes(ca.read_bytes() * 2)
    (tmp_path / "none.pem").write_text("no certificate")
    for name, complaint in (("two", "must hold one"), ("none", "holds no CA"), ("absent", "no such file")):
        with pytest.raises(SettingsError, match=complaint):
            read_authority(tmp_path / f"{name}.pem")
    key = ca.with_name("ca.key")
    with pytest.raises(SettingsError, match="holds no CA"):
        read_authority(key)


def test_without_a_server_there_is_nothing_to_trust(tmp_path: Path) -> None:
    ended = run("trust", home=tmp_path / "home")
    assert ended.returncode == ExitCode.SETTINGS and "--ca-file" in ended.stderr


# In a mount namespace the system's store is ours to change.
_PRIVATE_STORE = (
    "mount --bind $1 /usr/local/share/ca-certificates && mount --bind $2 /etc/ssl/certs && shift 2 && exec $@"
)


def _may_mount() -> bool:
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return shutil.which("unshare") is not None and not subprocess.run(command, capture_output=True).returncode


@pytest.mark.system
@pytest.mark.needs("update-ca-certificates", "certutil", "curl")
@pytest.mark.skipif(os.geteuid() != 0 or not _may_mount(), reason="needs root in a mount namespace")
def test_curl_a_browser_and_our_own_commands_trust_it_and_then_no_longer(tmp_path: Path) -> None:
    home, user = tmp_path / "home", tmp_path / "user"
    database = f"sql:{user / '.pki' / 'nssdb'}"
    (user / ".pki" / "nssdb").mkdir(parents=True)
    subprocess.run(["certutil", "-N", "--empty-password", "-d", database], check=True, timeout=20)
    for store in ("anchors", "certs"):
        (tmp_path / store).mkdir()
    script = tmp_path / "script"
    with Edge(home) as edge:
        url = f"https://localhost:{edge.https}"
        trust = " ".join(wellhead("trust", "--yes", "--ca-file", str(edge.ca)))
        ours = " ".join(wellhead("doctor", "--url", url, "--api-key", edge.key))
        rest = " ".join(wellhead("tunnels", "list", "--url", url, "--api-key", edge.key))
        list_ca = f"certutil -L -d {database} | grep -c wellhead-"
        script.write_text(
            f"set -x\n{trust}\ncurl -sS {url}/healthz && echo curl trusts\n{list_ca}\n"
            f"{ours} && echo we trust\n"
            f"{rest} && echo rest trusts\n"
            f"{trust} --remove\ncurl -sS {url}/healthz || echo curl no longer\n{list_ca}\n"
        )
        where = [str(tmp_path / "anchors"), str(tmp_path / "certs")]
        ended = subprocess.run(
            ["unshare", "-m", "sh", "-c", _PRIVATE_STORE, "sh", *where, "sh", str(script)],
            env=environment(tmp_path / "nobody", HOME=str(user)),
            capture_output=True,
            text=True,
            timeout=50,
        )
    told = ended.stdout
    for line in ("curl trusts", "we trust", "rest trusts", "curl no longer"):
        assert f"{line}\n" in told, told + ended.stderr
    assert [line for line in told.splitlines() if line in ("0", "1")] == ["1", "0"]
