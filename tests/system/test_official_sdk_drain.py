"""An edge that goes and comes back, by SIGTERM or at once, under official SDKs and our own agent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from tests.kit.carriers import DRIVERS, Place, carried
from tests.kit.programs import Edge, eventually
from tests.kit.visitors import Reply, Truncated
from tests.kit.zones import NEEDED

pytestmark = [*NEEDED, pytest.mark.alone]

SLOW_MS = 1500


@pytest.fixture
def places(tmp_path: Path) -> Iterator[dict[str, Place]]:
    with carried(tmp_path, *DRIVERS) as places:
        yield places


def again(edge: Edge) -> Edge:
    """The same server, started anew."""
    return Edge(
        edge.home, "--zone", edge.address, https=f"{edge.address}:{edge.https}", http=f"{edge.address}:0"
    )


def answers(place: Place) -> bool:
    try:
        return asyncio.run(place.ask()).status == 200
    except (OSError, Truncated, TimeoutError):
        return False


async def test_a_drain_lets_everybody_finish_and_agents_come_back_from_it_and_from_a_kill(
    places: dict[str, Place],
) -> None:
    edge = next(iter(places.values())).edge

    async def slow(place: Place) -> Reply:
        return await place.ask(f"/wait/{SLOW_MS}")

    async def conversation(place: Place, ready: asyncio.Event) -> int:
        async with place.conversing() as client:
            await client.send("hi")
            assert await client.recv() == "hi"
            ready.set()
            with pytest.raises(ConnectionClosed) as closed:
                async with asyncio.timeout(30):
                    while True:
                        await client.recv()
            return closed.value.rcvd.code if closed.value.rcvd is not None else 1006

    events = {name: asyncio.Event() for name in places}
    slows = {name: asyncio.create_task(slow(place)) for name, place in places.items()}
    talks = {name: asyncio.create_task(conversation(place, events[name])) for name, place in places.items()}
    async with asyncio.timeout(20):
        await asyncio.gather(*(event.wait() for event in events.values()))
    await asyncio.sleep(0.3)  # the slow requests are with the app
    assert await asyncio.to_thread(edge.stop) == 0
    statuses = {name: (await task).status for name, task in slows.items()}
    codes = {name: await task for name, task in talks.items()}
    assert set(statuses.values()) == {200}, statuses
    assert set(codes.values()) <= {1001, 1012, 4500}, codes
    with await asyncio.to_thread(again, edge) as second:
        await asyncio.to_thread(all_answer, places)
        second.kill()
        with await asyncio.to_thread(again, edge):
            await asyncio.to_thread(all_answer, places)


def all_answer(places: dict[str, Place]) -> None:
    """Wait until every agent is back."""
    began = time.monotonic()
    for place in places.values():
        eventually(lambda place=place: answers(place), 40)
    print(f"all back after {time.monotonic() - began:.1f} s")
