"""Programs that nobody here wrote, as visitors: they know a tunnel's name and trust its server."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.kit.programs import Agent, Edge, Program, environment

KIT = Path(__file__).parent
# Names below .localhost are known to few resolvers: the visitor gets an /etc/hosts of its own.
_WITH_HOSTS = 'mount --bind "$0" /etc/hosts && exec "$@"'
_OF_ITS_OWN = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]


@functools.cache
def may_unshare() -> bool:
    """Whether this machine lets us give a program an ``/etc/hosts`` of its own."""
    command = [*_OF_ITS_OWN, "sh", "-c", _WITH_HOSTS, "/etc/hosts", "true"]
    return shutil.which("unshare") is not None and not subprocess.run(command, capture_output=True).returncode


class Outsider:
    """Commands run as visitors of one tunnel, in a directory that is their home."""

    def __init__(self, edge: Edge, agent: Agent, directory: Path) -> None:
        self.edge = edge
        self.directory = directory
        self._hosts = directory / "hosts"
        self._hosts.write_text(f"127.0.0.1 localhost {agent.hostname}\n")

    def run(
        self, *command: str | Path, cwd: Path | None = None, seconds: float = 100, fine: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> str:  # fmt: skip
        """Run to the end, with ``env`` on top of its environment; returns what it printed, errors included.

        Raises:
            AssertionError: it failed, which is let pass unless ``fine``.
        """
        done = subprocess.run(
            [*self.prefix, *map(str, command)],
            env={**self.env, **(env or {})}, cwd=cwd or self.directory, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="backslashreplace",
            timeout=seconds, check=False,
        )  # fmt: skip
        if fine and done.returncode:
            raise AssertionError(f"{command[:4]} ended with {done.returncode}:\n{done.stdout[-4000:]}")
        return done.stdout

    @property
    def prefix(self) -> Sequence[str]:
        """Before a command that is to know the tunnel's name."""
        if not may_unshare():
            pytest.skip("needs a mount namespace of its own, for /etc/hosts")
        return [*_OF_ITS_OWN, "sh", "-c", _WITH_HOSTS, str(self._hosts)]

    @property
    def env(self) -> Mapping[str, str]:
        """Its environment: every library of TLS that reads one trusts the server's authority."""
        trusted = str(self.edge.ca)
        names = (
            "SSL_CERT_FILE",
            "REQUESTS_CA_BUNDLE",
            "CURL_CA_BUNDLE",
            "GIT_SSL_CAINFO",
            "NODE_EXTRA_CA_CERTS",
        )
        return environment(self.directory, HOME=str(self.directory), **dict.fromkeys(names, trusted))


@contextlib.contextmanager
def wsgi_server(name: str, directory: Path, port: int = 0, tls: Edge | None = None) -> Iterator[int]:
    """One of the applications of ``wsgi_server.py``; gives the port. ``tls``: whose authority it has."""
    flags = [] if tls is None else [str(tls.data)]
    command = [sys.executable, str(KIT / "wsgi_server.py"), name, str(directory), str(port), *flags]
    with Program(command) as server:
        yield int(server.line(r"^port (\d+)$")[1])


def published(name: str, directory: Path) -> Path:
    """What ``requirements/suites.txt`` has of that name, unpacked into a directory."""
    found = list((Path(sys.prefix) / "suites").glob(f"{name}-*"))
    if not found:
        sentence = f"needs {name} of requirements/suites.txt, which `make test` fetches"
        (pytest.fail if os.environ.get("CI", "").lower() not in ("", "0", "false") else pytest.skip)(sentence)
    (archive,) = found
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(directory)
        return directory
    with tarfile.open(archive) as source:
        source.extractall(directory, filter="data")
    return directory / archive.name.removesuffix(".tar.gz")
