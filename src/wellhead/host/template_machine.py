"""The layer that, over the machine's own programs, makes a root of a sandbox's own.

Programs and libraries are the machine's (``SHARED``); everything else is made here. Of ``/etc`` only what
``COPIED`` names is taken, and of that only what every user of the machine may read: no password hashes, host
keys, credentials of package registries or settings of its users.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wellhead.errors import HostError

SHARED = ("usr", "var/lib/dpkg")  # what dpkg knows is of the programs that are there
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")  # links into /usr, or shared like it
COPIED = (
    "adduser.conf", "alternatives", "apt/keyrings", "apt/trusted.gpg.d", "ca-certificates",
    "ca-certificates.conf", "debconf.conf", "debian_version", "deluser.conf", "dpkg/origins", "fonts",
    "gai.conf", "host.conf", "inputrc", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "libaudit.conf",
    "locale.alias", "localtime", "login.defs", "lsb-release", "magic", "magic.mime", "mime.types",
    "os-release", "perl", "protocols", "rpc", "services", "shells", "ssl/certs", "ssl/openssl.cnf",
    "terminfo", "timezone",
)  # fmt: skip
COPIED_PATTERNS = ("python3*",)
COPIED_MAX = 4 * 1024 * 1024  # bytes of one file; nothing of the kind is longer

USER = "wrenn-user"
USER_ID = 1000
_SYSTEM_IDS = range(1000)
_NOBODY = 65534

_PLACES = {  # what a root has beside what the runtime mounts, and its mode
    "boot": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "media": 0o755, "mnt": 0o755, "opt": 0o755,
    "proc": 0o755, "root": 0o700, "run": 0o755, "run/lock": 0o1777, "srv": 0o755, "sys": 0o755,
    "tmp": 0o1777, "usr": 0o755, "var": 0o755, "var/backups": 0o755, "var/cache": 0o755,
    "var/cache/apt/archives/partial": 0o700, "var/cache/debconf": 0o755, "var/lib": 0o755,
    "var/lib/apt/lists/partial": 0o700, "var/lib/dpkg": 0o755, "var/local": 0o755, "var/log": 0o755,
    "var/log/apt": 0o755, "var/mail": 0o755, "var/opt": 0o755, "var/spool": 0o755, "var/tmp": 0o1777,
    "etc/apt/apt.conf.d": 0o755, "etc/apt/preferences.d": 0o755, "etc/apt/sources.list.d": 0o755,
    "etc/default": 0o755, "etc/dpkg/dpkg.cfg.d": 0o755, "etc/init.d": 0o755, "etc/opt": 0o755,
    "etc/pam.d": 0o755, "etc/profile.d": 0o755, "etc/skel": 0o755, "etc/ssl": 0o755,
    "etc/ssl/private": 0o700,
}  # fmt: skip

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BASHRC = """\
[ -z "$PS1" ] && return
HISTCONTROL=ignoreboth
shopt -s checkwinsize
PS1='\\u@\\h:\\w\\$ '
alias ls='ls --color=auto'
"""
_PROFILE = '[ -n "$BASH" ] && [ -f ~/.bashrc ] && . ~/.bashrc\n'
_TEXTS = {
    "etc/apt/apt.conf.d/90sandbox": 'APT::Sandbox::User "root";\nAPT::Install-Recommends "false";\n',
    "etc/bash.bashrc": _BASHRC,
    "etc/environment": f'PATH="{_PATH}"\n',
    "etc/fstab": "",
    "etc/hostname": "sandbox\n",
    "etc/hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "etc/machine-id": "",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
    "etc/profile": f'export PATH="{_PATH}"\n[ -z "$BASH" ] || . /etc/bash.bashrc\n',
    "etc/resolv.conf": "",
    "etc/skel/.bashrc": _BASHRC,
    "etc/skel/.profile": _PROFILE,
}
_PAM_COMMON = {
    "common-auth": "auth [success=1 default=ignore] pam_unix.so nullok\n"
    "auth requisite pam_deny.so\nauth required pam_permit.so\n",
    "common-account": "account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so\n"
    "account requisite pam_deny.so\naccount required pam_permit.so\n",
    "common-password": "password [success=1 default=ignore] pam_unix.so obscure yescrypt\n"
    "password requisite pam_deny.so\npassword required pam_permit.so\n",
    "common-session": "session required pam_unix.so\n",
    "common-session-noninteractive": "session required pam_unix.so\n",
}
_PAM_SERVICE = "".join(f"@include common-{each}\n" for each in ("auth", "account", "password", "session"))
_PAM_SERVICES = ("chfn", "chsh", "other", "passwd", "sudo", "sudo-i")
_PAM_ROOT_SERVICES = ("chpasswd", "newusers", "runuser", "runuser-l", "su", "su-l")
_SUDOERS = f"""\
Defaults env_reset
Defaults secure_path="{_PATH}"
root ALL=(ALL:ALL) ALL
@includedir /etc/sudoers.d
"""

_has_credentials = re.compile(r"://[^/\s]*@").search


@dataclass(frozen=True, slots=True)
class Account:
    """A line of ``/etc/passwd`` or ``/etc/group``, without what is personal in it."""

    name: str
    number: int
    group: int
    home: str = "/"


def shared_directories(machine: Path = Path("/")) -> list[str]:
    """The machine's directories that a sandbox sees at the same place, as absolute paths."""
    own = [name for name in MERGED if (machine / name).is_dir() and not (machine / name).is_symlink()]
    return [f"/{name}" for name in (*SHARED, *own) if (machine / name).is_dir()]


def write_skeleton(layer: Path, *, with_user: bool, machine: Path = Path("/")) -> None:
    """Write the layer; ``with_user``: with ``wrenn-user``, who may do all by ``sudo`` without a password.

    Raises:
        HostError: the machine lacks what the layer needs, or it cannot be written.
    """
    if with_user and not (machine / "usr/bin/sudo").exists():
        raise HostError("there is no /usr/bin/sudo on this machine; install the package sudo")
    try:
        _make_places(layer, machine)
        for path in _copied(machine / "etc"):
            _copy(path, layer / "etc" / path.relative_to(machine / "etc"))
        _copy_apt_sources(machine / "etc/apt", layer / "etc/apt")
        for name, text in _TEXTS.items():
            _write(layer / name, text)
        _write_pam(layer / "etc/pam.d")
        _write_accounts(layer / "etc", machine / "etc", with_user)
        write_home(layer, "root", 0)
        if with_user:
            write_user(layer)
    except OSError as error:
        raise HostError(f"cannot write the layer {layer}: {error}") from error


def write_user(layer: Path) -> None:
    """The home of ``wrenn-user`` and what it may do by ``sudo``; its account is there already."""
    write_home(layer, f"home/{USER}", USER_ID)
    _write(layer / "etc/sudoers", _SUDOERS, 0o440)
    make_directory(layer / "etc/sudoers.d", 0o750)
    _write(layer / "etc/sudoers.d" / USER, f"{USER} ALL=(ALL:ALL) NOPASSWD:ALL\n", 0o440)


def write_home(layer: Path, place: str, owner: int) -> None:
    home = layer / place
    make_directory(home, 0o700 if owner == 0 else 0o755)
    for name in (".bashrc", ".profile"):
        _write(home / name, _BASHRC if name == ".bashrc" else _PROFILE)
        _own(home / name, owner, owner)
    _own(home, owner, owner)


def make_directory(path: Path, mode: int | None = None) -> None:
    """Make it and its missing parents: for everybody, whatever our umask is, or with a mode of its own."""
    if not path.exists():
        make_directory(path.parent)
        path.mkdir()
        path.chmod(mode or 0o755)
    elif mode is not None:
        path.chmod(mode)


def _make_places(layer: Path, machine: Path) -> None:
    for place, mode in _PLACES.items():
        make_directory(layer / place, mode)
    for name in MERGED:
        if (machine / name).is_symlink():
            (layer / name).symlink_to(os.readlink(machine / name))
        elif (machine / name).is_dir():
            make_directory(layer / name)
    (layer / "var/run").symlink_to("../run")
    (layer / "var/lock").symlink_to("../run/lock")
    (layer / "etc/mtab").symlink_to("../proc/self/mounts")


def _copied(etc: Path) -> Iterator[Path]:
    for name in COPIED:
        if os.path.lexists(etc / name):
            yield etc / name
    for pattern in COPIED_PATTERNS:
        yield from sorted(etc.glob(pattern))


def _copy(source: Path, target: Path) -> None:
    """A file, a link as it is, or a directory with all that is in it, but for what not everybody may read."""
    facts = source.lstat()
    if stat.S_ISLNK(facts.st_mode):
        make_directory(target.parent)
        target.symlink_to(os.readlink(source))
    elif not facts.st_mode & stat.S_IROTH:
        return
    elif stat.S_ISDIR(facts.st_mode):
        make_directory(target)
        for each in sorted(source.iterdir()):
            _copy(each, target / each.name)
    elif stat.S_ISREG(facts.st_mode) and facts.st_size <= COPIED_MAX:
        data = source.read_bytes()
        if b"PRIVATE KEY-----" not in data:
            make_directory(target.parent)
            target.write_bytes(data)
            target.chmod(0o755 if facts.st_mode & stat.S_IXOTH else 0o644)


def _copy_apt_sources(etc: Path, target: Path) -> None:
    """Where packages come from; a file in which a registry's credentials stand is left out."""
    lists = [etc / "sources.list", *sorted(etc.glob("sources.list.d/*"))]
    for path in lists:
        if path.suffix in (".list", ".sources") and path.is_file():
            if not _has_credentials(path.read_text("utf-8", "replace")):
                _copy(path, target / path.relative_to(etc))


def _write_pam(target: Path) -> None:
    for name, text in _PAM_COMMON.items():
        _write(target / name, text)
    for name in _PAM_SERVICES:
        _write(target / name, _PAM_SERVICE)
    for name in _PAM_ROOT_SERVICES:
        _write(target / name, "auth sufficient pam_rootok.so\n" + _PAM_SERVICE)


def _write_accounts(target: Path, etc: Path, with_user: bool) -> None:
    """The machine's system accounts, whose numbers its files and packages name; no password opens one."""
    users = {each.name: each for each in _accounts(etc / "passwd")}
    users["root"] = Account("root", 0, 0, "/root")
    groups = {each.name: each.number for each in _accounts(etc / "group")}
    groups["root"] = 0
    if with_user:
        users[USER] = Account(USER, USER_ID, USER_ID, f"/home/{USER}")
        groups[USER] = USER_ID
    passwd, shadow = [], []
    for user in users.values():
        shell = "/bin/bash" if user.name in ("root", USER) else "/usr/sbin/nologin"
        passwd.append(f"{user.name}:x:{user.number}:{user.group}::{user.home}:{shell}\n")
        shadow.append(f"{user.name}:*:19000:0:99999:7:::\n")
    members = {"sudo": USER} if with_user else {}
    _write(target / "passwd", "".join(passwd))
    _write(target / "group", "".join(f"{name}:x:{n}:{members.get(name, '')}\n" for name, n in groups.items()))
    for name, text in (
        ("shadow", "".join(shadow)),
        ("gshadow", "".join(f"{name}:*::{members.get(name, '')}\n" for name in groups)),
    ):
        _write(target / name, text, 0o640)
        _own(target / name, 0, groups.get("shadow", 0))


def _accounts(path: Path) -> Iterator[Account]:
    """Those of the system in a ``passwd`` or ``group`` file."""
    for line in path.read_text("utf-8", "replace").splitlines():
        fields = line.split(":")
        if len(fields) < 4 or not fields[2].isdecimal():
            continue
        number = int(fields[2])
        if number in _SYSTEM_IDS or number == _NOBODY:
            group = int(fields[3]) if fields[3].isdecimal() else number
            yield Account(fields[0], number, group, fields[5] if len(fields) > 5 else "/")


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.write_text(text, "utf-8")
    path.chmod(mode)


def _own(path: Path, user: int, group: int) -> None:
    if os.geteuid() == 0:
        os.chown(path, user, group)
