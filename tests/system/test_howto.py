"""The commands and programs in how-to pages, run one after the other as a reader would."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.programs import Edge, Program, environment, quiet_port

HOWTO = Path(__file__).parents[2] / "docs" / "howto"
PATH = f"{Path(sys.executable).parent}:/usr/bin:/bin"

pytestmark = pytest.mark.system


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    with Edge(tmp_path / ".wellhead") as edge:
        yield edge


def commands(page: str, edge: Edge) -> str:
    """A page's indented lines as a script, for a server on other ports than the usual."""
    text = re.sub(r"^```.*?^```$", "", (HOWTO / page).read_text("utf-8"), flags=re.M | re.S)
    lines = re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE)
    assert lines
    return "\n".join(["set -eux", *lines]).replace(":8443", f":{edge.https}")


def shell(script: str, edge: Edge, directory: Path, seconds: float = 50) -> str:
    ended = subprocess.run(
        ["sh", "-c", script],
        env=environment(edge.home, PATH=PATH, HOME=str(directory)),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_keys(edge: Edge, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(edge.ca.read_bytes())
    script = commands("keys.md", edge)
    # On the other machine: its own home. The two commands after `profile forget` are the first one's again.
    there, here = f"export WELLHEAD_HOME={tmp_path}/there", f"export WELLHEAD_HOME={edge.home}"
    script = re.sub(r"^(wellhead login .*)$", rf"{there}\n\1", script, flags=re.MULTILINE)
    script = re.sub(r"^(wellhead profile forget .*)$", rf"\1\n{here}", script, flags=re.MULTILINE)
    out = shell(script, edge, tmp_path)
    assert "checked" in out and "is forgotten" in out and 'key "build server"' in out
    assert (tmp_path / "night-job.key").stat().st_mode & 0o777 == 0o600


def test_rotate(edge: Edge, tmp_path: Path) -> None:
    out = shell("wellhead tunnels create my-agent\n" + commands("rotate.md", edge), edge, tmp_path)
    secret = (tmp_path / "secret").read_text().strip()
    assert secret.startswith("whs_") and secret not in out and out.count("shown this once") == 3


def test_delete(edge: Edge, tmp_path: Path) -> None:
    out = shell("wellhead tunnels create my-agent\n" + commands("delete.md", edge), edge, tmp_path)
    assert "my-agent is active again" in out and "my-agent is gone" in out
    assert shell("wellhead tunnels list", edge, tmp_path) == "no tunnels\n"


def programs(page: str) -> list[str]:
    """The Python programs of a page."""
    return re.findall(r"^```python\n(.*?)^```$", (HOWTO / page).read_text("utf-8"), re.M | re.S)


def test_grpc(edge: Edge, tmp_path: Path) -> None:
    port = str(quiet_port())
    (tmp_path / "ca.pem").write_bytes(edge.ca.read_bytes())
    server, caller = (
        text.replace("50051", port).replace(":8443", f":{edge.https}") for text in programs("grpc.md")
    )
    (tmp_path / "greeter.py").write_text(server)
    (tmp_path / "caller.py").write_text(caller)
    env = environment(edge.home, PATH=PATH)
    command = commands("grpc.md", edge).removeprefix("set -eux\n").replace("50051", port)
    with (
        Program([sys.executable, "greeter.py"], env, tmp_path),
        Program(shlex.split(command), env, tmp_path) as agent,
    ):
        agent.line(r"(?i)\bconnected\b")
        assert shell(f"{sys.executable} caller.py", edge, tmp_path) == "hello world\n"


def test_python(edge: Edge, tmp_path: Path) -> None:
    told = programs("python.md")
    assert len(told) == 3
    outputs = []
    for program in told:
        (tmp_path / "program.py").write_text(program)
        outputs.append(shell(f"{sys.executable} program.py", edge, tmp_path))
    assert "my-notebook ACTIVE False" in outputs[0]
    assert "{'team': 'blue'}" in outputs[1]
    assert outputs[2] == 'tunnel name "my-notebook" is taken\n'


def test_passthrough(edge: Edge, tmp_path: Path) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```$", (HOWTO / "passthrough.md").read_text(), re.M | re.S)
    script = commands("passthrough.md", edge).replace(".tunnels.example.com", ".localhost")
    script = re.sub(r"^wellhead http .*\n", "", script, flags=re.MULTILINE)  # it stays; its tests are its own
    script = script.replace("~/.wellhead/server/ca.pem", str(edge.ca))
    before, listing, after = script.partition("wellhead certs list\n")
    (tmp_path / "sign.py").write_text(program)
    out = shell(f"{before}python sign.py\n{listing}{after}", edge, tmp_path)
    assert "my-agent.localhost  issued  local" in out and "renews its certificate" in out
    assert "Certificate Revocation List" in out
    verified = f"openssl verify -CAfile {edge.ca} chain.pem"
    assert "chain.pem: OK" in shell(verified, edge, tmp_path)
