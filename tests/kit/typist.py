"""Somebody who types, or runs commands, in a sandbox: ``python -m tests.kit.typist keys|commands SECONDS``.

On standard input, as JSON: ``url``, ``key``, ``ca_file``, ``sandbox``. It says ``ready`` when it begins, and
at the end the seconds that each took, a JSON list: from a key to its echo at a terminal, or from asking for
a command on a connection of its own to the first byte of its output.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from wellhead import AsyncWellhead
from wellhead.client.sandboxes import AsyncSandbox
from wellhead.net import loop

KEY_PAUSE = 0.02, 0.05  # seconds between an echo and the next key
COMMAND_PAUSE = 0.15, 0.25
TERMINAL = ["/bin/sh", "-c", "stty raw -echo; echo ready; exec cat"]

Act = Callable[[], Awaitable[object]]


async def _keys(stack: AsyncExitStack, sandbox: AsyncSandbox) -> Act:
    terminal = await stack.enter_async_context(await sandbox.terminal(TERMINAL))
    seen = b""
    while b"ready" not in seen:
        seen += await terminal.read()

    async def key() -> None:
        await terminal.send(b"x")
        await terminal.read()

    return key


async def _commands(stack: AsyncExitStack, sandbox: AsyncSandbox) -> Act:
    async def command() -> None:
        async with await sandbox.exec_stream(["/bin/echo", "x"]) as running:
            async for _ in running:
                return

    return command


async def main(what: str, seconds: float, told: dict[str, str]) -> None:
    prepare, pause = (_keys, KEY_PAUSE) if what == "keys" else (_commands, COMMAND_PAUSE)
    took: list[float] = []
    async with AsyncExitStack() as stack:
        server = AsyncWellhead(base_url=told["url"], api_key=told["key"], ca_file=Path(told["ca_file"]))
        client = await stack.enter_async_context(server)
        act = await prepare(stack, await client.sandboxes.get(told["sandbox"]))
        for _ in range(5):  # what is made once, and looked up
            await act()
        print("ready", flush=True)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(random.uniform(*pause))
            began = time.perf_counter()
            await act()
            took.append(time.perf_counter() - began)
    print(json.dumps(took), flush=True)


if __name__ == "__main__":
    loop.run(main(sys.argv[1], float(sys.argv[2]), json.loads(sys.stdin.readline())))
