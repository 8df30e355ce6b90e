"""Python environments in a template's layer: made on the machine, for a place that is only in sandboxes.

Packages come from the machine's registry, as its pip is set; what is written names the place in the sandbox.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Container, Sequence
from pathlib import Path

from wellhead.errors import HostError, HostInvalid

PYTHON = "/usr/bin/python3"  # of the machine and, for ``/usr`` is shared, of the sandbox
BUILD_SECONDS = 900.0  # for pip to fetch and install
_TOLD = 2000  # characters of what a failed program said last

Say = Callable[[str], None]


def make_venv(real: Path, shown: str, packages: Sequence[str], say: Say, python: str = PYTHON) -> None:
    """An environment at ``real`` that will be at ``shown``, with pip and packages (pip's requirements).

    Raises:
        HostInvalid: a requirement that pip would take for an option.
        HostError: there is no such Python, or pip fails.
    """
    if options := [each for each in packages if each.startswith("-") or not each.strip()]:
        raise HostInvalid(f"{options[0]!r} is not the name of a package")
    if not os.access(python, os.X_OK):
        raise HostError(f"there is no {python} on this machine; install the package python3")
    say(f"environment of {python} for {shown}")
    run([python, "-I", "-m", "venv", "--without-pip", str(real)])
    say("packages: " + " ".join(["pip", *packages]))
    options = ["--quiet", "--no-compile", "--disable-pip-version-check", "--no-input"]
    run([*_pip(python), "--python", str(real / "bin/python"), "install", *options, "pip", *packages])
    say("compiling")
    # Packages bring templates of programs that do not compile, and need not.
    run([python, "-I", "-m", "compileall", "-qq", "-s", str(real), "-p", shown, str(real / "lib")], (0, 1))
    move(real, str(real), shown)


def move(place: Path, old: str, new: str) -> None:
    """Put a path in place of another in every text of an environment: scripts, settings, kernel specs."""
    before, after = old.encode(), new.encode()
    for directory, _, names in os.walk(place):
        for name in names:
            path = Path(directory, name)
            if path.is_symlink() or path.suffix in (".pyc", ".so"):
                continue
            data = path.read_bytes()
            if before in data and b"\0" not in data:
                mode = path.stat().st_mode
                path.write_bytes(data.replace(before, after))
                path.chmod(mode)


def run(command: Sequence[str], codes: Container[int] = (0,), seconds: float = BUILD_SECONDS) -> None:
    """Run a program; ``codes``: what it may end with.

    Raises:
        HostError: it cannot be started, takes too long, or fails; with what it said last.
    """
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=seconds, text=True, errors="replace", umask=0o022,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise HostError(f"{command[0]} did not end within {seconds:g} s") from error
    except OSError as error:
        raise HostError(f"cannot run {command[0]}: {error.strerror or error}") from error
    if done.returncode not in codes:
        said = done.stdout.strip()[-_TOLD:]
        raise HostError(f"{' '.join(command[:4])} ... ended with {done.returncode}: {said}")


def _pip(python: str) -> list[str]:
    """A pip that can install for another Python: our own, or that of the machine's."""
    for each in (sys.executable, python):
        if subprocess.run([each, "-m", "pip", "--version"], capture_output=True).returncode == 0:
            return [each, "-m", "pip"]
    raise HostError(f"neither {sys.executable} nor {python} has pip; install the package python3-pip")
