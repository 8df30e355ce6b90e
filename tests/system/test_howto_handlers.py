"""The how-to pages of applications in the agent's process: their programs, by their commands."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.cli.conftest import visit
from tests.kit.programs import Agent, Edge
from tests.system.test_howto import HOWTO, commands, programs, shell

pytestmark = pytest.mark.system


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    with Edge(tmp_path / ".wellhead") as edge:
        yield edge


def _socket(edge: Edge, agent: Agent, path: str) -> ClientConnection:
    address = ("127.0.0.1", edge.http)
    return connect(f"ws://{agent.hostname}:{edge.http}{path}", address=address, proxy=None)


def _hello(edge: Edge, agent: Agent) -> None:
    assert visit(edge, agent, "/count").text == "0\n1\n2\n"
    assert visit(edge, agent, "/x", "POST").json() == {"received": 0, "from": "127.0.0.1"}
    assert visit(edge, agent, "/x").status_code == 404


def _chat(edge: Edge, agent: Agent) -> None:
    assert visit(edge, agent, "/tokens").text == "data: one\n\ndata: two\n\ndata: three\n\n"
    with _socket(edge, agent, "/room") as ws:
        ws.send("hello")
        assert ws.recv(20) == "HELLO"


def _classic(edge: Edge, agent: Agent) -> None:
    assert visit(edge, agent, "/a").text == f"GET /a for my-agent.localhost:{edge.http}\n"


def _live(edge: Edge, agent: Agent) -> None:
    assert "new WebSocket" in visit(edge, agent).text
    with _socket(edge, agent, "/live") as ws:
        ws.send("a word")
        assert ws.recv(20) == "my-agent heard a word"
    agent.line("^closed with 1000$")


def _files(edge: Edge, agent: Agent) -> None:
    page = visit(edge, agent).text
    assert ">chat.py</a>" in page and ".wellhead" not in page


def test_handlers(edge: Edge, tmp_path: Path) -> None:
    *applications, script = programs("handlers.md")
    for name, text in zip(_names("handlers.md"), applications, strict=True):
        (tmp_path / name).write_text(text)
    (tmp_path / "script.py").write_text(script)
    lines = commands("handlers.md", edge).splitlines()[1:]
    asked: list[Callable[[Edge, Agent], Any]] = [_hello, _chat, _classic, _live, _files]
    for line, ask in zip(lines, asked, strict=True):
        _, command, what, *flags = shlex.split(line)
        with Agent(edge.home, what, *flags, command=command, cwd=tmp_path) as agent:
            ask(edge, agent)
            assert agent.stop() == 0
        assert "Traceback" not in agent.text
    assert (
        shell(f"{sys.executable} script.py", edge, tmp_path) == f"https://my-agent.localhost:{edge.https}\n"
    )


def test_webhooks(edge: Edge, tmp_path: Path) -> None:
    (program,) = programs("test-webhooks.md")
    (name,) = _names("test-webhooks.md")
    (tmp_path / name).write_text(program)
    line = commands("test-webhooks.md", edge).splitlines()[1]
    plain = "-p no:cacheprovider -p wellhead.testing"
    script = f"export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1; {line} {plain}"
    assert "2 passed" in shell(script, edge, tmp_path)


def _names(page: str) -> list[str]:
    """The files that a page's programs are to be written to."""
    return re.findall(r"^`(\w+\.py)`:$", (HOWTO / page).read_text("utf-8"), re.MULTILINE)
