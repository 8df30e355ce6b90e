"""Two clients of Socket.IO as visitors: ``python tests/kit/socketio_client.py URL TRANSPORT...``.

They ask for what they say, and hear what one of them says to all. Each prints the transport it settled on.
"""

from __future__ import annotations

import asyncio
import os
import sys

import socketio  # type: ignore[import-untyped]

PATIENCE = 20  # seconds


async def main(url: str, *transports: str) -> None:
    heard: asyncio.Queue[object] = asyncio.Queue()
    clients = [socketio.AsyncClient(reconnection=False) for _ in range(2)]
    for client in clients:
        client.on("said", heard.put)
        await client.connect(url, transports=list(transports), wait_timeout=PATIENCE)
        print("settled on", client.transport())
    for data in ("grüße", {"nested": [1, 2.5, None]}, os.urandom(100), os.urandom(200_000)):
        assert await clients[0].call("ask", data, timeout=PATIENCE) == data
    await clients[0].emit("say", "to all")
    async with asyncio.timeout(PATIENCE):
        assert [await heard.get(), await heard.get()] == ["to all", "to all"]
    print("all said")
    sys.stdout.flush()
    os._exit(0)  # a polite disconnect waits for the last poll, half a minute


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
