"""A base layer of packages fetched anew, with debootstrap: nothing in it is the machine's."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from wellhead.errors import HostError, HostInvalid
from wellhead.host.template_machine import USER, USER_ID, make_directory, write_home, write_user
from wellhead.host.template_venv import run

PROGRAM = "debootstrap"
PACKAGES = ("ca-certificates", "curl", "git", "less", "procps", "python3", "python3-venv", "sudo")
SUITE = "bookworm"
SECONDS = 1800.0

_is_suite = re.compile(r"[a-z][a-z0-9.-]*").fullmatch
_is_mirror = re.compile(r"(?:https?|file)://[^\s@]+").fullmatch


def command(target: Path, suite: str, mirror: str) -> list[str]:
    """What is run; without a mirror it asks the one that it knows.

    Raises:
        HostInvalid: no name of a suite, or a mirror that is no URL or carries credentials.
    """
    if not _is_suite(suite):
        raise HostInvalid(f"{suite!r} is not the name of a suite")
    if mirror and not _is_mirror(mirror):
        raise HostInvalid("a mirror is a URL of http, https or file, without credentials")
    chosen = ["--variant=minbase", f"--include={','.join(PACKAGES)}"]
    return [PROGRAM, *chosen, suite, str(target), *([mirror] if mirror else [])]


def write_root(layer: Path, suite: str, mirror: str, *, with_user: bool, say: Callable[[str], None]) -> None:
    """Write a root with nothing of the machine in it, and with ``wrenn-user`` where that is asked for.

    Raises:
        HostInvalid: as ``command``.
        HostError: debootstrap is not installed, or fails.
    """
    arguments = command(layer, suite or SUITE, mirror)
    if shutil.which(PROGRAM) is None:
        raise HostError("there is no debootstrap on this machine; install the package debootstrap")
    say(f"fetching {suite or SUITE} from {mirror or 'the mirror of debootstrap'}")
    run(arguments, seconds=SECONDS)
    finish_root(layer, with_user=with_user)


def finish_root(layer: Path, *, with_user: bool) -> None:
    """Take out what came of the machine and what is not needed, and add the user."""
    for name in ("dev", "var/cache/apt/archives", "var/lib/apt/lists", "var/log"):
        shutil.rmtree(layer / name, ignore_errors=True)
        make_directory(layer / name)
    for name in ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial"):
        make_directory(layer / name, 0o700)
    for name, text in (
        ("hostname", "sandbox\n"),
        ("hosts", "127.0.0.1 localhost sandbox\n::1 localhost\n"),
        ("machine-id", ""),
        ("resolv.conf", ""),
    ):
        (layer / "etc" / name).unlink(missing_ok=True)
        (layer / "etc" / name).write_text(text)
        (layer / "etc" / name).chmod(0o644)
    write_home(layer, "root", 0)
    if with_user:
        _append(layer / "etc/passwd", f"{USER}:x:{USER_ID}:{USER_ID}::/home/{USER}:/bin/bash\n")
        _append(layer / "etc/shadow", f"{USER}:*:19000:0:99999:7:::\n")
        _append(layer / "etc/group", f"{USER}:x:{USER_ID}:\n")
        _append(layer / "etc/gshadow", f"{USER}:!::\n")
        write_user(layer)


def _append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)
