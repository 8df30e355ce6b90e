"""Published packages as test clients, each in an environment of its own, which is kept for the next run."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

REQUIREMENTS = Path(__file__).parents[2] / "requirements"
INSTALL_SECONDS = 150.0


@cache
def interpreter(name: str, version: str) -> Path:
    """The interpreter that has a version of a package and what it needs, and no more.

    ``requirements/{name}-{version}.txt`` pins it; it is made the first time that anybody asks.

    Raises:
        AssertionError: it cannot be installed.
    """
    with made(name, version) as (directory, fresh):
        python = directory / "bin" / "python"
        if fresh:
            checked([sys.executable, "-m", "venv", "--without-pip", str(directory)])
            pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
            checked([*pip, "--ignore-requires-python", "-r", str(REQUIREMENTS / f"{name}-{version}.txt")])
        return python


@contextlib.contextmanager
def made(name: str, version: str, part: str = "") -> Iterator[tuple[Path, bool]]:
    """A directory for ``part`` of a package, and whether it is to be filled: nobody else does meanwhile."""
    pins = (REQUIREMENTS / f"{name}.txt", REQUIREMENTS / f"{name}-{version}.txt")
    with cached(f"{name}-{version}{part}", *pins) as found:
        yield found


@contextlib.contextmanager
def cached(name: str, *pins: Path) -> Iterator[tuple[Path, bool]]:
    """A directory that is kept for as long as ``pins`` say the same, and whether it is to be filled."""
    wanted = hashlib.sha256(sys.version.encode())
    for file in pins:
        wanted.update(file.read_bytes())
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wellhead-tests"
    kept.mkdir(parents=True, exist_ok=True)
    directory = kept / f"{name}-{wanted.hexdigest()[:16]}"
    whole = directory / "made"
    with open(kept / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fresh = not whole.exists()
        if fresh:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
        yield directory, fresh
        whole.touch()


def checked(command: list[str]) -> None:
    """
    Raises:
        AssertionError: the command failed.
    """
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
