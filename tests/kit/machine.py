"""A user's machine for the commands of a page: names, ports and addresses as the page has them. For root.

It is a network namespace with nothing but loopback, and a mount namespace with a hosts file and a `/run`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.kit.programs import Program, environment

NAMES = "127.0.0.1 localhost tunnels.example.com my-app.tunnels.example.com\n"


def may_unshare() -> bool:
    command = ["unshare", "-n", "-m", "ip", "link", "set", "lo", "up"]
    return shutil.which("unshare") is not None and not subprocess.run(command, capture_output=True).returncode


NEEDED = [
    pytest.mark.system,
    pytest.mark.needs("ip", "curl", "unshare"),
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        os.geteuid() != 0 or not may_unshare(), reason="needs root in a network namespace of its own"
    ),
]


@contextmanager
def namespaces(directory: Path, *addresses: str) -> Iterator[int]:
    """The id of a process whose namespaces they are; ``addresses`` are this machine's beside loopback's."""
    hosts = directory / "hosts"
    hosts.write_text(NAMES)
    more = "".join(f"ip addr add {address}/32 dev lo; " for address in addresses)
    mounts = f"mount --bind {hosts} /etc/hosts; mount -t tmpfs none /run"
    with Program(
        ["unshare", "-n", "-m", "sh", "-ec", f"ip link set lo up; {more}{mounts}; echo up; exec sleep 300"]
    ) as program:
        program.line("^up$", 20)
        yield program.pid


@dataclass
class Machine:
    """A home, a directory to be in, and what was exported."""

    directory: Path
    holder: int  # the process whose namespaces it lives in
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.directory / ".wellhead"

    def command(self, line: str) -> tuple[list[str], dict[str, str]]:
        """What runs a line of a page there, and its environment."""
        programs = str(Path(sys.executable).parent)
        env = environment(self.home, HOME=str(self.directory), **self.variables)
        env["PATH"] = f"{programs}:{env['PATH']}"
        inside = ["nsenter", "-t", str(self.holder), "-n", "-m", f"--wd={self.directory}"]
        return [*inside, "bash", "-ec", line], env

    def run(self, line: str, seconds: float = 40) -> subprocess.CompletedProcess[str]:
        """Do a line that ends by itself."""
        command, env = self.command(line)
        return subprocess.run(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def out(self, line: str, seconds: float = 40) -> str:
        """What a line prints that must not fail."""
        done = self.run(line, seconds)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, line: str) -> Program:
        """Begin a line that stays until it is ended."""
        command, env = self.command(re.sub(r"^((?:[A-Z_]+=\S+ )*)", r"\1exec ", line))
        return Program(command, env)
