"""Twenty agents of both official SDKs under requests and WebSockets: nothing stalls, nothing is left behind.

A minute or a few in `make test`; ``--load-seconds 600`` for ten.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from tests.kit.carrier_app import pattern
from tests.kit.carriers import APP, DRIVERS, Place, Upstream, identity
from tests.kit.loads import scrape
from tests.kit.programs import Edge, eventually
from tests.kit.sdks import NEW, SdkAgent, sdk
from tests.kit.visitors import request, visiting
from tests.kit.zones import NEEDED, zoned

pytestmark = [*NEEDED, pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(1200)]

EACH = 5  # agents of each kind
STALL_SECONDS = 15.0  # nothing that is asked may take so long
PAUSE_SECONDS = 0.1
POOL = 32
OPENED = 'wellhead_sessions_opened_total{carrier="h2"}'
AT_REST = {"slots": 0, "streams": 0, "waiting": 0, "pending": 0, "bridges": 0}
GROWTH_BYTES = 4 << 20  # of the edge's memory in half a minute in which it is at rest
REST_SECONDS = 30.0
REST_WITHIN = 8  # such stretches: a heap that 40 at a time use finds its size in the first minutes


@dataclass
class Load:
    """What visitors did so far."""

    until: float
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    async def run(self, what: str, act: Callable[[], Awaitable[object]]) -> None:
        """Again and again until it is over."""
        while time.monotonic() < self.until:
            try:
                async with asyncio.timeout(STALL_SECONDS):
                    await act()
                self.done[what.partition(" ")[0]] += 1
            except (OSError, AssertionError, TimeoutError, ConnectionClosed) as error:
                self.failed.append(f"{what}: {error!r}"[:300])
            await asyncio.sleep(PAUSE_SECONDS * self.chance.random())

    async def last(self, places: list[Place]) -> None:
        """Until its time is over."""
        async with asyncio.TaskGroup() as tasks:
            for place in places:
                tasks.create_task(self.run(f"request {place.hostname}", partial(ask, place, self)))
                tasks.create_task(self.run(f"conversation {place.hostname}", partial(talk, place, self)))


async def grown(load: Load, places: list[Place], edge: Edge) -> float:
    """Go on for REST_SECONDS: by how many bytes the edge's memory grew, as a line through what it was."""
    load.until = time.monotonic() + REST_SECONDS
    memory: list[int] = []
    loading = asyncio.create_task(load.last(places))
    while not loading.done():
        memory.append(edge.memory()[0])
        await asyncio.wait((loading,), timeout=0.5)
    await loading
    slope, _ = statistics.linear_regression(range(len(memory)), memory)
    return slope * len(memory)


@pytest.fixture
def places(tmp_path: Path) -> Iterator[list[Place]]:
    """The agents: five of each SDK for a URL and five with the app inside, in a process of five each."""
    with ExitStack() as stack:
        edge = stack.enter_context(zoned(tmp_path / ".wellhead", access_log="off"))
        url = stack.enter_context(Upstream()).url
        found = []
        for driver in DRIVERS:
            if driver.sdk is None:
                continue
            names = [f"{driver.name.replace('.', '-')}-{number}" for number in range(EACH)]
            if driver.sdk == NEW:
                for name in names:
                    identity(edge, name)
            app = ("--app", str(APP)) if driver.inside else ("--forward-to", url)
            agent = stack.enter_context(SdkAgent(sdk(driver.sdk), edge, tmp_path, *names, *app))
            found += [Place(driver, edge, agent, f"{name}.localhost") for name in names]
        eventually(lambda: scrape(edge)["wellhead_sessions"] == len(found), 30)
        yield found


async def test_twenty_agents_of_official_sdks_under_load(
    places: list[Place], pytestconfig: pytest.Config
) -> None:
    seconds = float(pytestconfig.getoption("load_seconds") or 30.0)
    seed = pytestconfig.getoption("seed") or random.SystemRandom().randrange(10**9)
    print(f"--seed {seed} --load-seconds {seconds:g}")
    edge = places[0].edge
    await warm(places)
    before = await asyncio.to_thread(at_rest, edge, len(places))
    load = Load(time.monotonic() + seconds, random.Random(seed))
    await load.last(places)
    growth = [await grown(load, places, edge)]
    while growth[-1] >= GROWTH_BYTES and len(growth) < REST_WITHIN:
        growth.append(await grown(load, places, edge))
    print(dict(load.done), f"{len(load.failed)} failed")
    assert not load.failed, f"--seed {seed}: {len(load.failed)}, " + "\n".join(load.failed[:10])
    assert min(load.done.values()) > seconds * len(places) / 4
    print("edge grew by", [f"{each / 2**20:+.1f} MiB" for each in growth])
    assert growth[-1] < GROWTH_BYTES  # a leak of 10 KiB a visit would never let it rest
    await warm(places)  # each window still takes what fills it
    after = await asyncio.to_thread(at_rest, edge, len(places))
    assert after[OPENED] == before[OPENED]  # no connection had to be made anew
    assert abs(after["wellhead_tasks"] - before["wellhead_tasks"]) <= 2
    assert "Traceback" not in edge.text, edge.text[-6000:]


async def warm(places: list[Place]) -> None:
    """Through every agent at once: a message and a body that each nearly fill its windows."""

    async def through(place: Place) -> None:
        async with place.conversing() as client, asyncio.timeout(2 * STALL_SECONDS):
            await client.send("x" * 60_000)
            assert await client.recv() == "x" * 60_000
            reply = await place.ask("/echo", method="POST", body=pattern(60_000))
            assert reply.status == 200

    await asyncio.gather(*(through(place) for place in places))


def at_rest(edge: Edge, agents: int) -> dict[str, float]:
    """What the edge tells when every visitor has left and every slot is parked again."""
    numbers: dict[str, float] = {}

    def rested() -> bool:
        nonlocal numbers
        numbers = scrape(edge)
        carrier = {name: numbers.get(f'wellhead_h2_carrier{{what="{name}"}}') for name in AT_REST}
        # A stream that is no parked intake would be one that was forgotten.
        assert carrier == AT_REST | {"slots": agents * POOL, "streams": agents * POOL}, carrier
        # Beside ours, connections that SDKs keep with the control plane.
        assert numbers["wellhead_visitors"] <= 1 + agents, numbers["wellhead_visitors"]
        assert numbers["wellhead_held_bytes"] == 0
        return True

    eventually(rested, 20)
    return numbers


async def ask(place: Place, load: Load) -> None:
    """A few requests on one connection."""
    async with visiting(place.edge, place.hostname) as visitor:
        for _ in range(load.chance.randrange(1, 6)):
            size = load.chance.choice([0, 100, 1000, 50_000])
            if load.chance.random() < 0.5:
                reply = await visitor.get(f"/bytes/{size}", place.host)
                assert (reply.status, reply.body) == (200, pattern(size))
            else:
                body = pattern(size)
                await visitor.send(request("/echo", place.host, method="POST", body=body))
                reply = await visitor.reply()
                assert reply.status == 200 and f'"length": {size}'.encode() in reply.body, reply.status


async def talk(place: Place, load: Load) -> None:
    """A conversation of some messages, which either end ends, in either way."""
    sizes = [load.chance.choice([1, 200, 10_000, 40_000, 60_000]) for _ in range(load.chance.randrange(1, 8))]
    async with place.conversing() as client:
        for number, size in enumerate(sizes):
            if size <= 40_000 and load.chance.random() < 0.5:
                message: str | bytes = pattern(size)
            else:
                message = "x" * size
            await client.send(message)
            if number < len(sizes) - 1 or load.chance.random() < 0.8:
                assert await client.recv() == message
        if load.chance.random() < 0.2:
            client.transport.abort()
