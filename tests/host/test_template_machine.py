from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from wellhead.errors import HostError
from wellhead.host.template_machine import shared_directories, write_skeleton

PASSWD = """\
root:x:0:0:The Admin,Room 1:/root:/bin/zsh
daemon:x:1:1::/usr/sbin:/usr/sbin/nologin
postgres:x:101:104:PostgreSQL:/var/lib/postgresql:/bin/bash
nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin
alice:x:1000:1000:Alice Example:/home/alice:/bin/bash
malformed
"""
GROUP = "root:x:0:\nshadow:x:42:\nsudo:x:27:alice\nalice:x:1000:\n"
SECRET = "hunter2"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine with secrets wherever they are found on one."""
    machine = tmp_path / "machine"
    texts = {
        "etc/passwd": PASSWD,
        "etc/group": GROUP,
        "etc/shadow": f"root:$y${SECRET}:1:::::\n",
        "etc/ssh/ssh_host_ed25519_key": SECRET,
        "etc/pip.conf": f"index-url = https://u:{SECRET}@registry/simple",
        "etc/npmrc": f"_authToken={SECRET}",
        "etc/gitconfig": SECRET,
        "etc/environment": f"TOKEN={SECRET}",
        "etc/profile.d/company.sh": f"export TOKEN={SECRET}",
        "etc/apt/apt.conf.d/proxy": f'Acquire::http::Proxy "http://u:{SECRET}@proxy";',
        "etc/apt/auth.conf.d/registry": f"password {SECRET}",
        "etc/apt/sources.list": "deb http://mirror/debian bookworm main\n",
        "etc/apt/sources.list.d/private.list": f"deb https://u:{SECRET}@private/debian bookworm main\n",
        "etc/ssl/certs/ca.pem": "-----BEGIN CERTIFICATE-----\n",
        "etc/ssl/certs/own.pem": f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n",
        "etc/ssl/private/key.pem": SECRET,
        "etc/perl/closed": SECRET,
        "etc/ld.so.cache": "cache",
        "etc/services": "http 80/tcp\n",
        "root/.ssh/id_ed25519": SECRET,
        "root/.config/pip/pip.conf": SECRET,
        "home/alice/.netrc": SECRET,
        "usr/bin/sudo": "",
        "usr/lib/os-release": "ID=debian\n",
        "var/lib/dpkg/status": "",
        "var/cache/debconf/passwords.dat": SECRET,
    }
    for name, text in texts.items():
        path = machine / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (machine / "etc/perl/closed").chmod(0o600)
    (machine / "etc/os-release").symlink_to("../usr/lib/os-release")
    (machine / "bin").symlink_to("usr/bin")
    (machine / "lib").mkdir()
    return machine


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    (tmp_path / "layer").mkdir()
    return tmp_path / "layer"


def _texts(layer: Path) -> dict[str, str]:
    files = (path for path in layer.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(layer)): path.read_text() for path in files}


@pytest.mark.parametrize("with_user", [False, True])
def test_no_secret_of_the_machine_gets_into_a_layer(machine: Path, layer: Path, with_user: bool) -> None:
    write_skeleton(layer, with_user=with_user, machine=machine)
    assert [name for name, text in _texts(layer).items() if SECRET in text] == []


def test_what_programs_need_of_etc_is_there(machine: Path, layer: Path) -> None:
    write_skeleton(layer, with_user=False, machine=machine)
    for name in ("ld.so.cache", "services", "ssl/certs/ca.pem", "apt/sources.list"):
        assert (layer / "etc" / name).read_bytes() == (machine / "etc" / name).read_bytes()
    assert os.readlink(layer / "etc/os-release") == "../usr/lib/os-release"
    assert os.readlink(layer / "bin") == "usr/bin"
    assert (layer / "lib").is_dir() and not (layer / "lib").is_symlink()
    assert stat.S_IMODE((layer / "tmp").stat().st_mode) == 0o1777
    assert stat.S_IMODE((layer / "root").stat().st_mode) == 0o700


def test_what_everybody_may_read_does_not_hang_on_the_umask(machine: Path, layer: Path) -> None:
    before = os.umask(0o077)
    try:
        write_skeleton(layer, with_user=True, machine=machine)
    finally:
        os.umask(before)
    closed = {str(each.relative_to(layer)) for each in layer.rglob("*") if not each.lstat().st_mode & 0o004}
    assert closed == {
        "root", "etc/ssl/private", "etc/shadow", "etc/gshadow", "etc/sudoers", "etc/sudoers.d",
        "etc/sudoers.d/wrenn-user", "var/cache/apt/archives/partial", "var/lib/apt/lists/partial",
    }  # fmt: skip


def test_accounts_are_the_systems_own_and_no_password_opens_one(machine: Path, layer: Path) -> None:
    write_skeleton(layer, with_user=True, machine=machine)
    users = [line.split(":") for line in (layer / "etc/passwd").read_text().splitlines()]
    assert [(user[0], user[2], user[6]) for user in users] == [
        ("root", "0", "/bin/bash"), ("daemon", "1", "/usr/sbin/nologin"),
        ("postgres", "101", "/usr/sbin/nologin"), ("nobody", "65534", "/usr/sbin/nologin"),
        ("wrenn-user", "1000", "/bin/bash"),
    ]  # fmt: skip
    assert {user[4] for user in users} == {""}
    assert {line.split(":")[1] for line in (layer / "etc/shadow").read_text().splitlines()} == {"*"}
    assert stat.S_IMODE((layer / "etc/shadow").stat().st_mode) == 0o640
    assert "sudo:x:27:wrenn-user\n" in (layer / "etc/group").read_text()


def test_what_sudo_is_told_has_modes_that_it_takes(machine: Path, layer: Path) -> None:
    write_skeleton(layer, with_user=True, machine=machine)
    for name in ("sudoers", "sudoers.d/wrenn-user"):
        assert stat.S_IMODE((layer / "etc" / name).stat().st_mode) == 0o440
    assert "NOPASSWD:ALL" in (layer / "etc/sudoers.d/wrenn-user").read_text()


def test_without_sudo_on_the_machine_it_says_what_to_install(machine: Path, layer: Path) -> None:
    (machine / "usr/bin/sudo").unlink()
    with pytest.raises(HostError, match="install the package sudo"):
        write_skeleton(layer, with_user=True, machine=machine)
    write_skeleton(layer, with_user=False, machine=machine)


def test_what_is_no_link_into_usr_is_shared_beside_it(machine: Path) -> None:
    assert shared_directories(machine) == ["/usr", "/var/lib/dpkg", "/lib"]
