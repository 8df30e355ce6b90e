"""One server and one agent for all tests that do them no harm; whoever harms starts its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.kit.programs import Agent, Edge, quiet_port

PLAIN, TLS = "plain", "tls"


@dataclass(frozen=True)
class House:
    """A running server with an agent; each test puts its own upstream at ``port``."""

    edge: Edge
    agent: Agent
    port: int

    @property
    def hostname(self) -> str:
        return self.agent.hostname

    def sni(self, leg: str) -> str | None:
        return self.hostname if leg == TLS else None

    def host(self, leg: str) -> str:
        """The authority that a visitor of that leg would put into ``Host``."""
        return f"{self.hostname}:{self.edge.https if leg == TLS else self.edge.http}"


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    port = quiet_port()
    with Edge(tmp_path_factory.mktemp("house")) as edge, edge.agent(port) as agent:
        yield House(edge, agent, port)


@pytest.fixture(autouse=True)
def _nothing_broke(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test may end a shared program or make it show a traceback, whatever the test itself asks."""
    yield
    for house in request.node.funcargs.values():
        if isinstance(house, House):
            for program in (house.edge, house.agent):
                code = program.process.poll()
                assert code is None, f"ended with {code}:\n{program.text[-6000:]}"
                fresh = program.lines[program.checked :]
                program.checked += len(fresh)
                assert not any("Traceback" in line for line in fresh), "\n".join(fresh[-80:])


@pytest.fixture(params=[PLAIN, TLS])
def leg(request: pytest.FixtureRequest) -> str:
    """The visitor's leg: a test that takes it runs over both."""
    name: str = request.param
    return name
