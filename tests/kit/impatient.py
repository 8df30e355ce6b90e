"""A visitor in a process of its own who asks ten times a second and counts how long each answer took.

What the test itself does beside it is then no part of a wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.kit.programs import Edge, Program, kept_waiting
from tests.kit.visitors import Reply, Truncated, Visitor

EVERY_SECONDS = 0.1
GIVE_UP_SECONDS = 20.0


class Impatient(Program):
    """Asks for ``name`` at a port of the edge, whether or not somebody listens there yet."""

    def __init__(self, edge: Edge, port: int, name: str) -> None:
        arguments = [str(port), str(edge.ca), f"{name}.localhost", str(edge.pid)]
        super().__init__([sys.executable, "-m", __name__, *arguments], cwd=Path(__file__).parents[2])

    def told(self) -> Told:
        """Let it end, and what it saw.

        Raises:
            AssertionError: it ended before, by a reply that it did not expect.
        """
        assert self.stop() == 0, self.text
        answered, seconds = self.line(r"^answered (\d+), waited (\S+)$").groups()
        return Told(int(answered), float(seconds))


@dataclass(frozen=True)
class Told:
    answered: int  # replies: 200, or 503 with Retry-After
    worst: float  # seconds that one waited; what it or the edge had no processor for is taken off


async def _ask(port: int, trust: ssl.SSLContext, hostname: str) -> Reply | None:
    """None where nobody listened or the connection was cut."""
    try:
        async with asyncio.timeout(GIVE_UP_SECONDS):
            streams = await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname=hostname)
            try:
                return await Visitor(*streams).get("/", f"{hostname}:{port}")
            finally:
                streams[1].transport.abort()
    except (ConnectionError, Truncated):
        return None


async def _ask_for_ever(port: int, authority: str, hostname: str, pid: int) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    trust = ssl.create_default_context(cafile=authority)
    answered, worst = 0, 0.0
    while not ended.is_set():
        began, starved = time.monotonic(), kept_waiting() + kept_waiting(pid)
        reply = await _ask(port, trust, hostname)
        starved = kept_waiting() + kept_waiting(pid) - starved
        worst = max(worst, time.monotonic() - began - starved)
        if reply is not None and reply.status != 200:
            assert (reply.status, reply.get("retry-after") is not None) == (503, True), reply
        answered += reply is not None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), EVERY_SECONDS)
    print(f"answered {answered}, waited {worst:.3f}")


if __name__ == "__main__":
    asyncio.run(_ask_for_ever(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))
