"""The pages of ``docs/start`` are done as they are written: every command, in order.

Their ports are free and their names lead to this machine: each page has a network namespace with nothing
but loopback, and a hosts file. What installs the package is done by ``test_wheel``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kit.machine import NEEDED, Machine, namespaces

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


pytestmark = NEEDED


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


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[int]:
    with namespaces(tmp_path) as holder:
        yield holder


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
            ready = next((line for pattern, line in STAY.items() if re.match(pattern, step)), None)
            if ready is not None:
                running.enter_context(machine.start(step)).line(ready)
                continue
            done = machine.run(step)
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
