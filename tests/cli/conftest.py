"""A running server, and commands typed at it in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.kit.programs import Edge
from wellhead.cli.exit import ExitCode
from wellhead.cli.main import run
from wellhead.client import Client
from wellhead.model.access import Secret


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
