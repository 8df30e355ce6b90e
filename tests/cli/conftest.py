"""A running server, and commands typed at it in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import HTTPServer
from pathlib import Path

import httpx
import pytest

from tests.kit.certs import authority
from tests.kit.programs import Agent, Edge
from tests.kit.sandbox_server import KEY, SandboxServer, Served, sandbox_server
from tests.kit.small_apps import Hello, running
from wellhead.cli.exit import ExitCode
from wellhead.cli.main import run
from wellhead.client import Client
from wellhead.client.sandboxes import Sandbox
from wellhead.model.access import Secret
from wellhead.net.tls import ALPN_HTTP


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with Edge(tmp_path_factory.mktemp("edge") / "home") as edge:
        yield edge


@pytest.fixture
def server(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """The same server by another way; the commands find it by the profile that it left."""
    monkeypatch.setenv("WELLHEAD_HOME", str(edge.home))
    with Client(f"https://localhost:{edge.https}", Secret(edge.key), ca_file=edge.ca) as client:
        yield client


Type = Callable[..., str]


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Type:
    """Run a command line; gives its stdout, or its stderr where it is to end with another ``code`` than 0."""

    def typed(*arguments: str, code: int = ExitCode.OK) -> str:
        capsys.readouterr()
        ended = run(list(arguments))
        told = capsys.readouterr()
        assert ended == code, told.err
        return told.out if code == ExitCode.OK else told.err

    return typed


@pytest.fixture
def notes(capsys: pytest.CaptureFixture[str]) -> Type:
    """Run a command line that ends well; gives its stderr."""

    def notes(*arguments: str) -> str:
        capsys.readouterr()
        assert run(list(arguments)) == ExitCode.OK
        return capsys.readouterr().err

    return notes


@pytest.fixture(scope="module")
def served_sandboxes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with sandbox_server(tmp_path_factory.mktemp("sandboxes")) as served:
        yield served


@pytest.fixture
def sandboxes(served_sandboxes: Served) -> SandboxServer:
    return served_sandboxes.server


@pytest.fixture
def variables(served_sandboxes: Served, tmp_path: Path) -> dict[str, str]:
    return {
        "WELLHEAD_HOME": str(tmp_path / "home"),
        "WELLHEAD_URL": f"https://localhost:{served_sandboxes.port}",
        "WELLHEAD_API_KEY": KEY.reveal(),
        "WELLHEAD_CA_FILE": str(served_sandboxes.ca_file),
    }


@pytest.fixture
def client(
    served_sandboxes: Served, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Client]:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with Client(
        f"https://localhost:{served_sandboxes.port}", KEY, ca_file=served_sandboxes.ca_file
    ) as client:
        yield client


@pytest.fixture
def sandbox(client: Client) -> Iterator[Sandbox]:
    with client.sandboxes.create() as sandbox:
        yield sandbox


def visit(edge: Edge, agent: Agent, path: str = "/", method: str = "GET", **headers: str) -> httpx.Response:
    """Over the plain port, by its number: not every resolver knows names under localhost."""
    host = {"Host": f"{agent.hostname}:{edge.http}"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    url = f"http://127.0.0.1:{edge.http}{path}"
    return httpx.request(method, url, headers=host | named, timeout=20)


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """An app with TLS whose certificate is of an authority of its own; its port and that authority."""
    ca = authority(tmp_path)
    with HTTPServer(("127.0.0.1", 0), Hello) as server:
        server.socket = ca.leaf_context("localhost", [ALPN_HTTP]).wrap_socket(server.socket, server_side=True)
        with running(server):
            yield server.server_port, ca.ca_file
