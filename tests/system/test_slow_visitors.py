"""slowhttptest, which finds servers that slow visitors exhaust: each is cut, and others are served."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit import bulk_server
from tests.kit.outsiders import Outsider
from tests.kit.programs import Agent, Edge, Program
from tests.kit.stopwatch import Stopwatch
from tests.kit.visitors import visiting

pytestmark = [
    pytest.mark.system,
    pytest.mark.alone,
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.needs("slowhttptest", "unshare"),
]

LIMIT = 2.0  # seconds that a head, a body or a reader may be slow
MANY = 60  # slow visitors
SERVED = 0.25  # seconds within which others are served, at the median
SLOW = {
    "head": (["-H"], "/bytes/10", "slow-request"),
    "body": (["-B", "-t", "PUT", "-s", "8192"], "/hash", "slow-request"),
    # A few bytes a second: the reader is not quite still, but takes nothing of what waits for it.
    "reader": (["-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "32"], "/bytes/2000000000", "slow-reader"),
}


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Edge, Agent]]:
    settings = {"head_seconds": LIMIT, "body_grace_seconds": LIMIT, "write_idle_seconds": LIMIT}
    with (
        Program([sys.executable, str(Path(bulk_server.__file__))]) as server,
        Edge(tmp_path_factory.mktemp("hasty"), settings=settings) as edge,
        edge.agent(int(server.line(r"^port (\d+)$")[1])) as agent,
    ):
        yield edge, agent


async def served(edge: Edge, agent: Agent, until: asyncio.Task[str]) -> list[float]:
    """Seconds that each exchange of another visitor takes until a task is done."""
    took = []
    async with visiting(edge, agent.hostname) as visitor:
        while not until.done():
            began = time.monotonic()
            reply = await visitor.get("/bytes/1000", f"{agent.hostname}:{edge.https}")
            assert (reply.status, len(reply.body)) == (200, 1000)
            took.append(time.monotonic() - began)
            await asyncio.wait([until], timeout=0.05)
    return took


def closing(edge: Edge) -> int:
    """Connections of the port without TLS that the kernel holds bytes for, though we have closed them."""
    local, fin_wait_1 = f"0100007F:{edge.http:04X}", "04"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1] == local and row[3] == fin_wait_1 for row in rows)


def cut(edge: Edge, marked: int, reason: str) -> int:
    """Access lines since a mark that give a reason."""
    return sum(f" reason={reason}" in line for line in edge.lines[marked:])


@pytest.mark.parametrize("part", SLOW)
async def test_the_slow_are_cut_in_time_and_others_are_served(
    hasty: tuple[Edge, Agent], tmp_path: Path, part: str
) -> None:
    edge, agent = hasty
    flags, target, reason = SLOW[part]
    marked = edge.mark()
    command = [
        *("slowhttptest", *flags, "-u", f"{agent.plain_url}{target}", "-c", str(MANY), "-r", "120"),
        *("-i", "1", "-l", "8", "-p", "3", "-g", "-o", "slow"),
    ]
    visitor = Outsider(edge, agent, tmp_path)
    slow = asyncio.create_task(asyncio.to_thread(visitor.run, *command, fine=False))
    others = asyncio.create_task(served(edge, agent, slow))
    watch = Stopwatch(edge)
    while cut(edge, marked, reason) < MANY:
        assert watch.seconds() <= LIMIT + 4
        await asyncio.sleep(0.05)
    if part == "reader":  # which reads on from what it has: it is we who hold nothing for it any more
        assert not slow.done() and closing(edge) == 0
    else:
        assert "No open connections left" in await slow
    assert statistics.median(await others) <= SERVED
