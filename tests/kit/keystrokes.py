"""Somebody who types into a WebSocket, in a process of its own, and writes down how long each echo took.

``python -m tests.kit.keystrokes URL ADDRESS CA COUNT PID...``: seconds, a line each. What this process and
those of the ids had no processor for is taken off.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import time

from websockets.asyncio.client import connect

from tests.kit.programs import kept_waiting

PAUSE_SECONDS = 0.05
PATIENCE_SECONDS = 10.0


async def _type(url: str, address: str, authority: str, count: int, *pids: str) -> None:
    trust = ssl.create_default_context(cafile=authority)
    async with connect(url, host=address, ssl=trust, proxy=None, compression=None) as client:
        for number in range(count):
            began, starved = time.monotonic(), _starved(pids)
            await client.send(b"%d" % number)
            assert await asyncio.wait_for(client.recv(), PATIENCE_SECONDS) == b"%d" % number
            print(time.monotonic() - began - (_starved(pids) - starved))
            await asyncio.sleep(PAUSE_SECONDS)


def _starved(pids: tuple[str, ...]) -> float:
    return sum(map(kept_waiting, ("self", *pids)))


if __name__ == "__main__":
    url, address, authority, count, *pids = sys.argv[1:]
    asyncio.run(_type(url, address, authority, int(count), *pids))
