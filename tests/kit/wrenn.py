"""The official sandbox SDKs as they were published, and the live tests that come in their source archives."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.kit.programs import Edge, environment
from tests.kit.published import checked, interpreter, made

OLD, NEW = "0.1.2", "0.3.0"
"""The older speaks the JSON dialect of terminals, the newer binary frames."""
BASES = {OLD: "/legacy/api", NEW: "/api"}
SUITE_SECONDS = 600.0
NAMED = Path(__file__).parent / "named"


@dataclass(frozen=True)
class Suite:
    """What a run of the SDK's own tests came to."""

    passed: int
    failed: tuple[str, ...]  # ids
    text: str


@dataclass(frozen=True)
class Wrenn:
    """One version of the SDK."""

    version: str
    python: Path
    source: Path  # its unpacked source archive

    def variables(self, edge: Edge, home: Path, *, tls: bool) -> dict[str, str]:
        """What a program of it is told of a server.

        Its synchronous WebSockets write in one thread while another reads the same TLS object: on Python
        3.11 a fifth of its quick terminals break by themselves, so those are asked for without TLS.
        """
        server = f"https://localhost:{edge.https}" if tls else f"http://localhost:{edge.http}"
        return environment(
            edge.home,
            HOME=str(home),
            PYTHONPATH=str(NAMED),
            SSL_CERT_FILE=str(edge.ca),
            WRENN_BASE_URL=server + BASES[self.version],
            WRENN_API_KEY=edge.key,
        )

    def run(self, script: str, edge: Edge, home: Path, *, tls: bool = False) -> str:
        """What a short program prints.

        Raises:
            AssertionError: it failed.
        """
        done = subprocess.run(
            [str(self.python), "-c", script],
            env=self.variables(edge, home, tls=tls),
            cwd=home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def suite(self, file: str, edge: Edge, home: Path, deselected: Sequence[str] = ()) -> Suite:
        """Run one file of its own tests; ``deselected``: ``Class::name`` or ``Class`` in it."""
        without = [f"--deselect=tests/{file}::{name}" for name in deselected]
        tests = [str(self.python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", "-rfE"]
        done = subprocess.run(
            [*tests, "--override-ini", "asyncio_mode=auto", f"tests/{file}", *without],
            env=self.variables(edge, home, tls=False),
            cwd=self.source,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SUITE_SECONDS,
            check=False,
        )
        passed = re.search(r"(\d+) passed", done.stdout)
        failed = tuple(re.findall(r"(?m)^(?:FAILED|ERROR) (\S+)", done.stdout))
        return Suite(int(passed[1]) if passed else 0, failed, done.stdout + done.stderr)


@cache
def wrenn(version: str) -> Wrenn:
    """The SDK of a version, with the source archive that holds its tests.

    Raises:
        AssertionError: it cannot be installed or downloaded.
    """
    python = interpreter("wrenn", version)
    with made("wrenn", version, "-source") as (directory, fresh):
        if fresh:
            download = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--no-binary",
                ":all:",
            ]
            checked([*download, "--ignore-requires-python", "-d", str(directory), f"wrenn=={version}"])
            with tarfile.open(directory / f"wrenn-{version}.tar.gz") as archive:
                archive.extractall(directory, filter="data")
    source = directory / f"wrenn-{version}"
    assert os.path.isdir(source / "tests"), f"no tests in the source of wrenn {version}"
    return Wrenn(version, python, source)
