"""Terminals and commands stay as fast as they were while ports of the same host carry all they can.

Other programs on the machine take their turns too: a figure is measured again a few times before it counts as
missed, and what it is compared with is measured in the same round.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kit import endless_app
from tests.kit.hosted import NEEDED, START_SECONDS
from tests.kit.lane_host import Told
from tests.kit.port_visitors import MESSAGES, POLLS
from tests.kit.programs import Edge, Program, environment, eventually, quiet_port
from tests.kit.slow_link import RATE
from tests.kit.typist import TERMINAL
from wellhead import AsyncWellhead, Wellhead
from wellhead.client.sandboxes import AsyncSandbox, Sandbox
from wellhead.client.terminals import AsyncTerminal
from wellhead.host.template_build import Recipe, build
from wellhead.host.templates import Templates
from wellhead.model.sandboxes import Lane
from wellhead.settings.host import HostSettings

pytestmark = [*NEEDED, pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(400)]

PORTS = (7001, 7002, 7003, 7004)
NOTEBOOK = 8888
KEYS, COMMANDS = 50, 10  # of a measurement
PAUSE_SECONDS = 0.02
ECHO = ["/bin/echo", "x"]
ALONE_SECONDS = 1.0  # in which nobody types beside the ports; by then windows have grown
NEAR_MS = 5.0
EGRESS = HostSettings().host_egress_bytes_per_second / 1e6
LAN_MS = 100.0
ROUNDS = 8
APART, ONE = tuple(Lane), (Lane.INTERACTIVE,)
SETTINGS = {"host_runtime": "namespace", "host_egress": "none", "host_memory_mb": 16384}


@dataclass(frozen=True, slots=True)
class Waits:
    """Milliseconds from a key to its echo, or from a command to the first byte of its output."""

    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Beside:
    """What somebody waits for while nothing else happens, and beside what ports carry.

    ``alone`` and ``carried``: a second of each thing that ports carry, beside nobody and beside somebody.
    """

    idle: Waits
    busy: Waits
    idle_command: Waits
    busy_command: Waits
    alone: dict[str, float]
    carried: dict[str, float]

    @property
    def slower(self) -> float:
        return self.busy.p50 / self.idle.p50

    @property
    def slower_command(self) -> float:
        return self.busy_command.p50 / self.idle_command.p50

    @property
    def near(self) -> bool:
        """Whether neither a key nor a command waits longer than is promised without a slow link."""
        keys = self.busy.p99 <= max(NEAR_MS, 2 * self.idle.p99)
        return keys and self.busy_command.p99 <= max(NEAR_MS, 2 * self.idle_command.p99)


@dataclass(frozen=True, slots=True)
class Place:
    """A sandbox in which ``PORTS`` stream, on a host of its own, perhaps with one in which Jupyter runs."""

    edge: Edge
    sandbox: Sandbox
    notebook: Sandbox | None = None

    def beside_streams(self, count: int) -> Beside:
        """Of so many ports."""
        return asyncio.run(self._measure([self._name(port, self.sandbox) for port in PORTS[:count]]))

    def beside_a_notebook(self) -> Beside:
        assert self.notebook is not None
        return asyncio.run(self._measure(["--jupyter", self._name(NOTEBOOK, self.notebook)]))

    def _name(self, port: int, sandbox: Sandbox) -> str:
        return f"{port}-{sandbox.id}.localhost:{self.edge.https}"

    async def _measure(self, visited: list[str]) -> Beside:
        url = f"https://localhost:{self.edge.https}"
        async with AsyncWellhead(base_url=url, api_key=self.edge.key, ca_file=self.edge.ca) as client:
            sandbox = await client.sandboxes.get(self.sandbox.id)
            async with await sandbox.terminal(TERMINAL) as terminal:
                seen = b""
                while b"ready" not in seen:
                    seen += await terminal.read()
                await _run(sandbox, 2)  # what is made once, and looked up
                idle = await _type(terminal), await _run(sandbox, COMMANDS)
                with self._visitors(visited) as visitors:
                    await asyncio.sleep(ALONE_SECONDS)
                    mark = visitors.mark()
                    busy = await _type(terminal), await _run(sandbox, COMMANDS)
                    return Beside(
                        idle[0], busy[0], idle[1], busy[1],
                        _rates(visitors.lines[:mark]), _rates(visitors.lines[mark:]),
                    )  # fmt: skip

    @contextlib.contextmanager
    def _visitors(self, visited: list[str]) -> Iterator[Program]:
        command = [sys.executable, "-m", "tests.kit.port_visitors", *visited]
        with Program(command, environment(self.edge.home)) as visitors:
            visitors.line("^ready$")
            yield visitors


async def _type(terminal: AsyncTerminal) -> Waits:
    async def key() -> None:
        await terminal.send(b"x")
        assert await terminal.read() == b"x"

    return await _waits(key, KEYS)


async def _run(sandbox: AsyncSandbox, count: int) -> Waits:
    async def command() -> None:
        async with await sandbox.exec_stream(ECHO) as running:
            async for _ in running:
                return

    return await _waits(command, count)


async def _waits(act: Callable[[], Awaitable[None]], count: int) -> Waits:
    took = []
    for _ in range(count):
        await asyncio.sleep(PAUSE_SECONDS)
        began = time.perf_counter()
        await act()
        took.append((time.perf_counter() - began) * 1e3)
    took.sort()
    return Waits(statistics.median(took), took[int(count * 0.99)])


def _rates(lines: list[str]) -> dict[str, float]:
    """A second of each thing, and of all bytes of ports as ``MB``."""
    told = [json.loads(line) for line in lines if line.startswith("{")]
    rates = {name: statistics.median(each[name] for each in told) for name in told[0]}
    return {"MB": sum(rates.values()) / 1e6, **rates}


class Places:
    """Makes hosts of one server, each with one sandbox, and no other is put there."""

    def __init__(self, edge: Edge, stack: contextlib.ExitStack) -> None:
        self._edge = edge
        self._stack = stack
        self._url = f"https://localhost:{edge.https}"
        self._client = stack.enter_context(Wellhead(base_url=self._url, api_key=edge.key, ca_file=edge.ca))

    def add(self, name: str, lanes: tuple[Lane, ...], *link: str, notebook: bool = False) -> Place:
        """``link``: what ``tests.kit.slow_link`` is told; nothing: the host dials the edge itself."""
        edge, home = self._edge, self._edge.home / name
        home.mkdir()
        dialled = edge.https
        if link:
            dialled = quiet_port()
            command = [sys.executable, "-m", "tests.kit.slow_link", str(dialled), str(edge.https), *link]
            self._stack.enter_context(Program(command, environment(home))).line("^ready$")
        if notebook:
            build(Templates(home / "host", "namespace"), Recipe("jupyter"))
        made = self._client.hosts.create(name)
        told = Told(
            state=home / "host", url=self._url, ca_file=edge.ca, token=made.token.reveal(),
            edge=f"localhost:{dialled}", lanes=lanes, settings=SETTINGS,
        )  # fmt: skip
        file = home / "told.json"
        file.write_text(told.model_dump_json())
        command = [sys.executable, "-m", "tests.kit.lane_host", str(file)]
        host = self._stack.enter_context(Program(command, environment(home)))
        self._stack.callback(host.stop)
        host.line("^online$", START_SECONDS)
        sandbox = self._client.sandboxes.create(template="minimal", vcpus=4, memory_mb=256)
        lab = self._client.sandboxes.create(template="jupyter", vcpus=4, memory_mb=2048) if notebook else None
        self._client.hosts.drain(made.host.id)
        sandbox.files.write("/app.py", Path(endless_app.__file__).read_bytes())
        sandbox.processes.start(f"exec python3 /app.py {' '.join(map(str, PORTS))}")
        eventually(lambda: {each.port for each in sandbox.ports()} >= set(PORTS), 20)
        return Place(edge, sandbox, lab)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    home = tmp_path_factory.mktemp("lanes")
    with Edge(home, settings={"sandbox_visibility": "public"}) as edge, contextlib.ExitStack() as stack:
        yield Places(edge, stack)


def _holds(claim: Callable[[], tuple[bool, object]]) -> None:
    """In one of ``ROUNDS`` rounds."""
    seen = []
    for _ in range(ROUNDS):
        held, figures = claim()
        print(figures)
        if held:
            return
        seen.append(figures)
    raise AssertionError("\n".join(map(str, seen)))


def test_beside_four_ports_that_stream_a_keystroke_is_hardly_slower_on_a_slow_link(places: Places) -> None:
    # One queue for everybody: what is before a key in it is a third of the link's own round trip.
    place = places.add("shared", APART, "--shared")

    def claim() -> tuple[bool, object]:
        seen = place.beside_streams(4)
        full = seen.carried["MB"] >= 0.7 * max(seen.alone["MB"], RATE / 2e6)
        quick = seen.slower <= 1.5 and seen.slower_command <= 1.5
        return full and quick and seen.busy.p99 <= LAN_MS, seen

    _holds(claim)


def test_lanes_apart_a_slow_link_that_is_shared_fairly_delays_no_key_and_one_session_does(
    places: Places,
) -> None:
    apart, one = places.add("apart", APART, "--each"), places.add("one", ONE, "--each")

    def claim() -> tuple[bool, object]:
        seen = apart.beside_streams(4), one.beside_streams(4)
        return seen[0].slower <= 1.2 and seen[1].slower >= 1.2 * seen[0].slower, seen

    _holds(claim)


@pytest.fixture(scope="module")
def near(places: Places) -> Place:
    """A host that dials the edge itself, with a notebook."""
    return places.add("near", APART, notebook=True)


@pytest.mark.parametrize("count", [1, 4])
def test_on_loopback_neither_key_nor_command_waits_for_ports_that_stream(near: Place, count: int) -> None:
    def claim() -> tuple[bool, object]:
        seen = near.beside_streams(count)
        alone = min(seen.alone["MB"], EGRESS)  # at first a sandbox may send more than it may for long
        return seen.near and seen.carried["MB"] >= 0.7 * alone, seen

    _holds(claim)


def test_on_loopback_neither_key_nor_command_waits_for_a_busy_notebook(near: Place) -> None:
    def claim() -> tuple[bool, object]:
        seen = near.beside_a_notebook()
        served = seen.carried["messages"] >= 0.7 * MESSAGES and seen.carried["polls"] >= 0.7 * POLLS
        return seen.near and served, seen

    _holds(claim)
