"""The pages of ``docs/start`` are done as they are written: every command, in order.

Their ports are free and their names lead to this machine: each page has a network namespace with nothing
but loopback, and a hosts file. What installs the package is done by ``test_wheel``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.kit.programs import Program, environment

PAGES = Path(__file__).parents[2] / "docs" / "start"
INSTALLS = [
    "python3 -m venv ~/wellhead",
    "~/wellhead/bin/pip install .",
    "export PATH=~/wellhead/bin:$PATH",
]
STAY = {  # what does not end by itself, and the line after which the reader goes on
    r"wellhead up(?!.*--check)": r"^ready ",
    r"wellhead http": r"^connected$",
    r"python3 -m http\.server": r"^Serving HTTP",
}


def _may_unshare() -> bool:
    command = ["unshare", "-n", "-m", "ip", "link", "set", "lo", "up"]
    return shutil.which("unshare") is not None and not subprocess.run(command, capture_output=True).returncode


pytestmark = [
    pytest.mark.system,
    pytest.mark.needs("ip", "curl", "unshare"),
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        os.geteuid() != 0 or not _may_unshare(), reason="needs root in a network namespace of its own"
    ),
]


def _steps(page: str) -> Iterator[tuple[str, str]]:
    """``(heading, command)`` for every line of code, and ``(heading, file)`` for a block of TOML."""
    heading, block = "", ""
    for line in (PAGES / page).read_text("utf-8").splitlines():
        if block or line.startswith("```toml"):
            block += line + "\n"
            if line == "```":
                yield heading, block
                block = ""
        elif line.startswith("## "):
            heading = line.removeprefix("## ")
        elif line.startswith("    "):
            yield heading, line.strip()


@dataclass
class Machine:
    """A user's machine: a home, a directory to be in, and what was exported."""

    directory: Path
    holder: int  # the process whose namespaces it lives in
    variables: dict[str, str] = field(default_factory=dict)

    def command(self, line: str) -> tuple[list[str], dict[str, str]]:
        programs = str(Path(sys.executable).parent)
        env = environment(self.directory / ".wellhead", HOME=str(self.directory), **self.variables)
        env["PATH"] = f"{programs}:{env['PATH']}"
        inside = ["nsenter", "-t", str(self.holder), "-n", "-m", f"--wd={self.directory}"]
        return [*inside, "bash", "-ec", f"exec {line}"], env


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[int]:
    """A process in namespaces of its own, with loopback up and our names in its hosts file."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost tunnels.example.com my-app.tunnels.example.com\n")
    script = f"ip link set lo up; mount --bind {hosts} /etc/hosts; echo up; exec sleep 300"
    with Program(["unshare", "-n", "-m", "sh", "-ec", script]) as program:
        program.line("^up$", 20)
        yield program.pid


def _follow(page: str, machines: dict[str, Machine], default: Machine) -> list[str]:
    """Do a page; gives what the commands that ended have printed."""
    told: list[str] = []
    secret = ""
    with ExitStack() as running:
        for heading, step in _steps(page):
            machine = machines.get(heading, default)
            if step.startswith("```"):
                (machine.directory / "wellhead.toml").write_text("\n".join(step.splitlines()[1:-1]))
                continue
            if step in INSTALLS:
                continue
            if step.startswith("export "):
                name, _, text = step.removeprefix("export ").partition("=")
                machine.variables[name] = secret if text == "whs_…" else text
                continue
            command, env = machine.command(step)
            ready = next((line for pattern, line in STAY.items() if re.match(pattern, step)), None)
            if ready is not None:
                running.enter_context(Program(command, env)).line(ready)
                continue
            done = subprocess.run(
                command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=40
            )
            assert done.returncode == 0, f"{step}\n{done.stdout}{done.stderr}"
            told.append(done.stdout)
            if found := re.search(r"\bwhs_\w+", done.stdout + done.stderr):
                secret = found[0]
    return told


def _machine(tmp_path: Path, name: str, holder: int) -> Machine:
    directory = tmp_path / name
    directory.mkdir()
    (directory / "a-file-of-the-app").touch()
    return Machine(directory, holder)


def test_a_tunnel_in_a_minute(tmp_path: Path, holder: int) -> None:
    told = _follow("tunnel.md", {}, _machine(tmp_path, "user", holder))
    assert sum("a-file-of-the-app" in text for text in told) == 2
    assert any("my-app" in text and "active" in text for text in told)


def test_a_server_of_your_own(tmp_path: Path, holder: int) -> None:
    server, agent = _machine(tmp_path, "server", holder), _machine(tmp_path, "agent", holder)
    (agent.directory / "ca.pem").symlink_to(server.directory / ".wellhead" / "server" / "ca.pem")
    told = _follow("server.md", {"On the server": server}, agent)
    assert sum("a-file-of-the-app" in text for text in told) == 2
    assert any(text.startswith("# Written by `wellhead service install`") for text in told)


def test_what_installs_the_package_is_on_the_first_page_as_it_is_tested() -> None:
    commands = [step for _, step in _steps("tunnel.md")]
    assert commands[: len(INSTALLS)] == INSTALLS
