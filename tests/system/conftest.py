"""One server and one agent for all tests that do them no harm; whoever harms starts its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.kit.carriers import DRIVERS, Driver, Place, carried
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


class Landlord:
    """Keeps one house for all tests, and builds another where a test left it in ruins.

    So a test that ends a shared program fails alone, and not every other test after it.
    """

    def __init__(self, homes: Callable[[], Path], settings: Mapping[str, object] | None = None) -> None:
        self._homes = homes
        self._settings = settings
        self._stack = contextlib.ExitStack()
        self._house: House | None = None

    def house(self) -> House:
        house = self._house
        if house is None or any(each.process.poll() is not None for each in (house.edge, house.agent)):
            self.close()
            port = quiet_port()
            edge = self._stack.enter_context(Edge(self._homes(), settings=self._settings))
            house = self._house = House(edge, self._stack.enter_context(edge.agent(port)), port)
        return house

    def close(self) -> None:
        self._stack.close()
        self._house = None


@pytest.fixture(scope="session")
def landlord(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Landlord]:
    landlord = Landlord(lambda: tmp_path_factory.mktemp("house"))
    yield landlord
    landlord.close()


@pytest.fixture
def house(landlord: Landlord) -> House:
    return landlord.house()


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


@pytest.fixture(scope="module")
def places(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Place]]:
    """The carriers' app by each driver, on one edge; the module's ``CARRIED`` says how, if anything."""
    wanted: dict[str, Any] = getattr(request.module, "CARRIED", {})
    with carried(tmp_path_factory.mktemp("carried"), *DRIVERS, **wanted) as places:
        yield places


@pytest.fixture(params=DRIVERS, ids=lambda driver: driver.name)
def place(request: pytest.FixtureRequest, places: dict[str, Place]) -> Place:
    driver: Driver = request.param
    return places[driver.name]
