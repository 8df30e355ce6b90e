"""Terminals stay as fast as they were while ports of the same host stream as fast as they can.

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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kit import endless_app
from tests.kit.hosted import NEEDED, START_SECONDS
from tests.kit.lane_host import Told
from tests.kit.programs import Edge, Program, environment, eventually, quiet_port
from tests.kit.slow_link import RATE
from tests.kit.typist import TERMINAL
from wellhead import AsyncWellhead, Wellhead
from wellhead.client.sandboxes import Sandbox
from wellhead.client.terminals import AsyncTerminal
from wellhead.model.sandboxes import Lane
from wellhead.settings.host import HostSettings

pytestmark = [*NEEDED, pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(240)]

PORTS = (7001, 7002, 7003, 7004)
KEYS = 50  # of a measurement
PAUSE_SECONDS = 0.02
ALONE_SECONDS = 1.0  # in which nobody types beside the ports; by then windows have grown
NEAR_MS = 5.0
EGRESS = HostSettings().host_egress_bytes_per_second / 1e6
LAN_MS = 100.0
ROUNDS = 6
APART, ONE = tuple(Lane), (Lane.INTERACTIVE,)
SETTINGS = {"host_runtime": "namespace", "host_egress": "none", "host_memory_mb": 16384}


@dataclass(frozen=True, slots=True)
class Keys:
    """Milliseconds from a key to its echo."""

    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Beside:
    """Keys while nothing else happens and while four ports stream, and what those carried, MB/s."""

    idle: Keys
    busy: Keys
    alone: float
    rate: float

    @property
    def slower(self) -> float:
        return self.busy.p50 / self.idle.p50


@dataclass(frozen=True, slots=True)
class Place:
    """A sandbox in which ``PORTS`` stream, on a host of its own."""

    edge: Edge
    sandbox: Sandbox

    def measure(self) -> Beside:
        return asyncio.run(self._measure())

    async def _measure(self) -> Beside:
        url = f"https://localhost:{self.edge.https}"
        async with AsyncWellhead(base_url=url, api_key=self.edge.key, ca_file=self.edge.ca) as client:
            sandbox = await client.sandboxes.get(self.sandbox.id)
            async with await sandbox.terminal(TERMINAL) as terminal:
                seen = b""
                while b"ready" not in seen:
                    seen += await terminal.read()
                idle = await _type(terminal)
                with self._streaming() as visitors:
                    await asyncio.sleep(ALONE_SECONDS)
                    mark = visitors.mark()
                    busy = await _type(terminal)
                    return Beside(idle, busy, _rate(visitors.lines[:mark]), _rate(visitors.lines[mark:]))

    @contextlib.contextmanager
    def _streaming(self) -> Iterator[Program]:
        names = [f"{port}-{self.sandbox.id}.localhost:{self.edge.https}" for port in PORTS]
        command = [sys.executable, "-m", "tests.kit.port_visitors", *names]
        with Program(command, environment(self.edge.home)) as visitors:
            visitors.line("^ready$")
            yield visitors


async def _type(terminal: AsyncTerminal) -> Keys:
    took = []
    for _ in range(KEYS):
        await asyncio.sleep(PAUSE_SECONDS)
        began = time.perf_counter()
        await terminal.send(b"x")
        assert await terminal.read() == b"x"
        took.append((time.perf_counter() - began) * 1e3)
    took.sort()
    return Keys(statistics.median(took), took[int(KEYS * 0.99)])


def _rate(lines: list[str]) -> float:
    rates: list[float] = [sum(json.loads(line).values()) for line in lines if line.startswith("{")]
    return statistics.median(rates) / 1e6


class Places:
    """Makes hosts of one server, each with one sandbox, and no other is put there."""

    def __init__(self, edge: Edge, stack: contextlib.ExitStack) -> None:
        self._edge = edge
        self._stack = stack
        self._url = f"https://localhost:{edge.https}"
        self._client = stack.enter_context(Wellhead(base_url=self._url, api_key=edge.key, ca_file=edge.ca))

    def add(self, name: str, lanes: tuple[Lane, ...], *link: str) -> Place:
        """``link``: what ``tests.kit.slow_link`` is told; nothing: the host dials the edge itself."""
        edge, home = self._edge, self._edge.home / name
        home.mkdir()
        dialled = edge.https
        if link:
            dialled = quiet_port()
            command = [sys.executable, "-m", "tests.kit.slow_link", str(dialled), str(edge.https), *link]
            self._stack.enter_context(Program(command, environment(home))).line("^ready$")
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
        self._client.hosts.drain(made.host.id)
        sandbox.files.write("/app.py", Path(endless_app.__file__).read_bytes())
        sandbox.processes.start(f"exec python3 /app.py {' '.join(map(str, PORTS))}")
        eventually(lambda: {each.port for each in sandbox.ports()} >= set(PORTS), 20)
        return Place(edge, sandbox)


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
        seen = place.measure()
        full = seen.rate >= 0.7 * max(seen.alone, RATE / 2e6)
        return full and seen.slower <= 1.5 and seen.busy.p99 <= LAN_MS, seen

    _holds(claim)


def test_lanes_apart_a_slow_link_that_is_shared_fairly_delays_no_key_and_one_session_does(
    places: Places,
) -> None:
    apart, one = places.add("apart", APART, "--each"), places.add("one", ONE, "--each")

    def claim() -> tuple[bool, object]:
        seen = apart.measure(), one.measure()
        return seen[0].slower <= 1.2 and seen[1].slower >= 1.2 * seen[0].slower, seen

    _holds(claim)


def test_on_loopback_a_key_beside_four_ports_comes_back_within_milliseconds(places: Places) -> None:
    place = places.add("near", APART)

    def claim() -> tuple[bool, object]:
        seen = place.measure()
        alone = min(seen.alone, EGRESS)  # at first a sandbox may send more than it may for long
        return seen.busy.p99 <= max(NEAR_MS, 2 * seen.idle.p99) and seen.rate >= 0.7 * alone, seen

    _holds(claim)
