"""What has to be done for programs of this machine to trust a CA, as commands that anybody can run.

The same commands are shown and run, so what was said is what happens.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from wellhead.errors import SettingsError

NEEDS_ROOT = "it needs root"


def search_path() -> str:
    """``PATH`` with the directories of administrators' programs, which are on few users' own."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA certificate in a PEM file."""

    file: Path
    subject: str
    mark: str  # the first digits of its fingerprint: by it we find again what we installed

    @property
    def nickname(self) -> str:
        return f"wellhead-{self.mark}"


def read_authority(path: Path) -> Authority:
    """
    Raises:
        SettingsError: no such file, no certificate, more than one, or not one of an authority.
    """
    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
        authority = certificates[0].extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    except (ValueError, x509.ExtensionNotFound) as error:
        raise SettingsError(f"{path} holds no CA certificate in PEM form") from error
    if not authority or len(certificates) != 1:
        raise SettingsError(f"{path} must hold one certificate, that of an authority, and nothing more")
    mark = certificates[0].fingerprint(hashes.SHA256()).hex()[:12]
    return Authority(path.absolute(), certificates[0].subject.rfc4514_string(), mark)


@dataclass(frozen=True, slots=True)
class Machine:
    """Where things are. ``root``: whether commands that change the system may be run by us.

    ``programs``: those that it has; None: those that can be found.
    """

    home: Path = field(default_factory=Path.home)
    anchors: Path = Path("/usr/local/share/ca-certificates")
    root: bool = field(default_factory=lambda: os.geteuid() == 0)
    programs: frozenset[str] | None = None

    def has(self, program: str) -> bool:
        if self.programs is not None:
            return program in self.programs
        return shutil.which(program, path=search_path()) is not None

    def succeeds(self, *command: str) -> bool:
        """Whether a command that only looks ends well."""
        ended = subprocess.run(
            command, env={**os.environ, "PATH": search_path()}, stdin=subprocess.DEVNULL, capture_output=True
        )
        return ended.returncode == 0


@dataclass(frozen=True, slots=True)
class Step:
    """One command. ``by_hand``: why we cannot run it ourselves; empty where we can."""

    what: str
    command: tuple[str, ...]  # empty where none is known
    by_hand: str = ""


def install_steps(authority: Authority, machine: Machine) -> list[Step]:
    """Everything that makes this machine trust the CA, in order."""
    return [*_system(authority, machine, remove=False), *_browsers(authority, machine, remove=False)]


def remove_steps(authority: Authority, machine: Machine) -> list[Step]:
    """Everything that takes ``install_steps`` back."""
    return [*_system(authority, machine, remove=True), *_browsers(authority, machine, remove=True)]


def _system(authority: Authority, machine: Machine, *, remove: bool) -> Iterator[Step]:
    """The store that curl, git, Python and most programs read."""
    if machine.has("update-ca-certificates"):
        target = machine.anchors / f"{authority.nickname}.crt"
        by_hand = "" if machine.root else NEEDS_ROOT
        if remove:
            if not target.exists():
                return
            yield Step("take the CA out of the system's store", ("rm", str(target)), by_hand)
            yield Step("rebuild the store without it", ("update-ca-certificates", "--fresh"), by_hand)
            return
        copy = ("install", "-D", "-m", "644", str(authority.file), str(target))
        yield Step("put the CA beside the system's own", copy, by_hand)
        yield Step("rebuild the store with it", ("update-ca-certificates",), by_hand)
    elif machine.has("trust"):
        verb = ("anchor", "--remove") if remove else ("anchor",)
        command = ("trust", *verb, str(authority.file))
        yield Step("change the system's store", command, NEEDS_ROOT)
    elif not remove:
        what = f"put {authority.file} where this system keeps its authorities"
        yield Step(what, (), "neither update-ca-certificates nor trust was found")


def _browsers(authority: Authority, machine: Machine, *, remove: bool) -> Iterator[Step]:
    """The databases of Chromium and Firefox, which do not read the system's store."""
    by_hand = "" if machine.has("certutil") else "certutil is missing: apt install libnss3-tools"
    for directory in databases(machine.home):
        where = ("certutil", "-d", f"sql:{directory}")
        named = ("-n", authority.nickname)
        if not remove:
            add = (*where, "-A", "-t", "C,,", *named, "-i", str(authority.file))
            yield Step(f"let the browser of {directory} trust the CA", add, by_hand)
        elif by_hand or machine.succeeds(*where, "-L", *named):
            what = f"take the CA out of the browser's database in {directory}"
            yield Step(what, (*where, "-D", *named), by_hand)


def databases(home: Path) -> list[Path]:
    """The NSS databases of a user's browsers: Chromium's one, and one of each Firefox profile."""
    places = [home / ".pki" / "nssdb"]
    for firefox in (".mozilla/firefox", "snap/firefox/common/.mozilla/firefox"):
        places += sorted((home / firefox).glob("*"))
    return [place for place in places if (place / "cert9.db").is_file()]
