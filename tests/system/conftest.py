"""One server and one agent for all tests that do them no harm; whoever harms starts its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.kit.app_house import AppHouse
from tests.kit.browser import browsing
from tests.kit.carriers import DRIVERS, Driver, Place, carried
from tests.kit.fronts import PLAIN, TLS, Front
from tests.kit.harbour import Harbour, harbouring
from tests.kit.hosted import NEEDED
from tests.kit.programs import Agent, Edge, Program, quiet_port
from tests.kit.sandbox_apps import DOMAINS, LOCALLY, AppServer

TUNNEL, PORT = "tunnel", "port"


@dataclass(frozen=True)
class House(Front):
    """A running server with an agent; each test puts its own upstream at ``port``."""

    agent: Agent = field(kw_only=True)

    @property
    def programs(self) -> tuple[Program, ...]:
        return (self.edge, self.agent)


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
        if house is None or any(each.process.poll() is not None for each in house.programs):
            self.close()
            port = quiet_port()
            edge = self._stack.enter_context(Edge(self._homes(), settings=self._settings))
            agent = self._stack.enter_context(edge.agent(port))
            house = self._house = House(edge, agent.hostname, port, agent=agent)
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


@pytest.fixture(scope="session")
def harbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harbour]:
    with harbouring(tmp_path_factory.mktemp("harbour") / ".wellhead") as harbour:
        yield harbour


@pytest.fixture(params=[TUNNEL, pytest.param(PORT, marks=NEEDED)])
def front(request: pytest.FixtureRequest) -> Front:
    """A public name: a test that takes it makes the same claims of a tunnel's and of a sandbox's port's."""
    if request.param == TUNNEL:
        landlord: Landlord = request.getfixturevalue("landlord")
        return landlord.house()
    harbour: Harbour = request.getfixturevalue("harbour")
    return harbour.front()


@pytest.fixture(autouse=True)
def _nothing_broke(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test may end a shared program or make it show a traceback, whatever the test itself asks."""
    yield
    for house in request.node.funcargs.values():
        if isinstance(house, Front):
            for program in house.programs:
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


@pytest.fixture(scope="module")
def app_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AppServer]:
    """The applications of the module's ``APPS``, each in a sandbox of its own."""
    home = tmp_path_factory.mktemp("apps") / ".wellhead"
    with contextlib.closing(AppServer(home, request.module.APPS)) as server:
        yield server


@pytest.fixture(scope="module", params=DOMAINS)
def app_house(
    app_server: AppServer, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AppHouse]:
    """The same at one domain after another, and a browser that finds it there."""
    server = app_server.at(request.param)
    with browsing(server.edge, tmp_path_factory.mktemp("browser"), server.domain, LOCALLY) as browser:
        yield AppHouse(server, browser)
