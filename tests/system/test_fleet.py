"""A thousand agents lose one edge in the same moment."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import statistics
import time
from functools import partial
from pathlib import Path

import pytest

from tests.kit.fleet import everybody, fleet
from tests.kit.impatient import Impatient
from tests.kit.programs import Edge, kept_waiting, quiet_port
from tests.kit.visitors import ask

pytestmark = [pytest.mark.system, pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(240)]

AGENTS = 1000
BACK_SECONDS = 5.0  # p99, counted from when the edge listens again
FIRST_SECOND = 0.30  # the most of all dials that may come within it, but for what chance adds to so many
RESTART_SECONDS = 2.0  # from the end of an edge to the start of the next, as `wellhead service` has it done
DIALS = 3  # the most of one agent, once the edge listens
HANG_SECONDS = 1.0  # a visitor, once the edge is there
MEMORY = 1.5  # times the resident memory that it had with the same agents


async def test_a_thousand_agents_are_back_soon_and_not_all_at_once_after_their_edge_was_killed(
    tmp_path: Path,
) -> None:
    """X1."""
    https, http = quiet_port(), quiet_port()
    start = partial(
        Edge, tmp_path, https=f"127.0.0.1:{https}", http=f"127.0.0.1:{http}",
        settings={"access_log": "off"}, wait=False,
    )  # fmt: skip
    with start() as edge, contextlib.ExitStack() as stack:
        edge.ready()
        async with fleet(edge, AGENTS) as members:
            before = edge.memory()[0]
            edge.signal(signal.SIGKILL)
            await asyncio.to_thread(edge.wait)
            await asyncio.sleep(RESTART_SECONDS)
            again = stack.enter_context(start())
            visitor = stack.enter_context(Impatient(again, https, members[0].name))
            await listens(https)
            since, waited = time.monotonic(), busy(again)
            await asyncio.to_thread(again.ready)
            await everybody(members, since=since, seconds=60)
            waited = busy(again) - waited
            visited = await asyncio.to_thread(visitor.told)
            peak = again.memory()[1]
            reply = await ask(again, f"{members[-1].name}.localhost")
            assert (reply.status, reply.body) == (200, members[-1].name.encode())
        late = sorted(member.online[-1] - since for member in members)
        dials = [[at - since for at in member.dials if at > since] for member in members]
        early = [at for each in dials for at in each if at < 1.0]
        figures = (
            f"p99 {late[int(0.99 * AGENTS)]:.2f} s, median {statistics.median(late):.2f} s, "
            f"last {late[-1]:.2f} s; {len(early) / sum(map(len, dials)):.0%} of {sum(map(len, dials))} dials "
            f"in the first second, at most {max(map(len, dials))} of one agent; "
            f"memory {before / 2**20:.0f} MiB, peak {peak / 2**20:.0f} MiB; "
            f"{waited:.2f} s without the edge; {visited}"
        )
        print(figures)
        assert late[int(0.99 * AGENTS)] <= BACK_SECONDS + waited, figures
        # On a slow machine some dialled before the edge listened: the share is the crowd's.
        crowd = max(AGENTS, sum(map(len, dials)))
        assert len(early) <= FIRST_SECOND * crowd + 3 * math.sqrt(0.25 * crowd), figures
        assert max(map(len, dials)) <= DIALS, figures
        assert peak <= MEMORY * before, figures
        assert visited.answered and visited.worst <= HANG_SECONDS, figures
        assert "Traceback" not in again.text


def busy(edge: Edge) -> float:
    """Seconds, so far, that were not the edge's.

    It or the agents were ready to run and had no processor, or the agents ran: a thousand share one thread
    here, and none elsewhere.
    """
    return edge.kept_waiting() + kept_waiting() + time.process_time()


async def listens(port: int) -> None:
    """Until somebody accepts connections there."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.transport.abort()
                return
            await asyncio.sleep(0.01)
