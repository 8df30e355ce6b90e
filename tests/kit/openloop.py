"""Visitors that come at a rate, however long the others wait, in a process of their own.

``python -m tests.kit.openloop PORT CA HOSTNAME NAME TARGET CONNECTIONS``: each line of input is a rate,
requests a second; 0 for a pause; ``inf``: on each connection one after the other. Each answer is a line: when
it was there, seconds since it was asked, status.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from tests.kit.load_server import IDENTITY
from tests.kit.loads import ELSEWHERE
from tests.kit.programs import Edge

_LENGTH = re.compile(r"\r\ncontent-length: (\d+)\r\n")


class Answer(NamedTuple):
    at: float  # time.monotonic()
    wait: float  # seconds
    status: int


class Crowd:
    """The process. ``answers`` as they come; ``wrong`` are answers of somebody else's, and failures."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.answers: list[Answer] = []
        self.wrong: list[str] = []
        self._process = process
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def rate(self, per_second: float) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{per_second}\n")
        self._process.stdin.flush()

    def between(self, since: float, until: float) -> list[Answer]:
        """Answers that were there between the two moments."""
        return [answer for answer in list(self.answers) if since <= answer.at <= until]

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._reading.join(15)
        self._process.kill()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                at, wait, status = line.split()
                self.answers.append(Answer(float(at), float(wait), int(status)))
            except ValueError:
                self.wrong.append(line)


@contextlib.contextmanager
def crowding(edge: Edge, hostname: str, name: str, target: str, *, connections: int) -> Iterator[Crowd]:
    """A crowd that waits to be told its rate. At the end no answer may have been wrong."""
    words = [str(edge.https), str(edge.ca), hostname, name, target, str(connections)]
    with subprocess.Popen(
        [*ELSEWHERE, sys.executable, "-m", "tests.kit.openloop", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        bufsize=1,
    ) as process:
        crowd = Crowd(process)
        try:
            yield crowd
        finally:
            crowd.end()
    assert not crowd.wrong, "".join(crowd.wrong[:20])


class _Visitors:
    """Connections of which each is one visitor's while he waits; no more than ``connections``."""

    def __init__(self, context: ssl.SSLContext, options: list[str]) -> None:
        port, _, self._hostname, self._name, self._target, connections = options
        self._context = context
        self._port = int(port)
        self._room = asyncio.Semaphore(int(connections))
        self._connections = int(connections)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._running: set[asyncio.Task[None]] = set()
        self._number = 0
        self.per_second = 0.0

    async def come(self) -> None:
        """Ask at the rate, for ever; a late turn of this loop makes up for what it missed."""
        due = time.monotonic()
        while True:
            await asyncio.sleep(0.005)
            now = time.monotonic()
            if not self.per_second:
                due = now
            elif self.per_second == math.inf:
                while len(self._running) < self._connections:
                    self._begin()
            else:
                while due <= now:
                    self._begin()
                    due += 1 / self.per_second

    def _begin(self) -> None:
        task = asyncio.create_task(self._visit())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _visit(self) -> None:
        async with self._room:
            while True:
                self._number += 1
                try:
                    print(*await self._ask(f"{self._target}/{self._number}"), flush=True)
                except (OSError, asyncio.IncompleteReadError, ssl.SSLError) as error:
                    print("failed:", repr(error), flush=True)
                if self.per_second != math.inf:
                    return

    async def _ask(self, target: str) -> tuple[object, ...]:
        """What to print of one request."""
        reader, writer = self._idle.pop() if self._idle else await self._connect()
        began = time.monotonic()
        writer.write(f"GET {target} HTTP/1.1\r\nHost: {self._hostname}:{self._port}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = _LENGTH.search(head)
        body = await reader.readexactly(int(length[1])) if length else b""
        now = time.monotonic()
        if "\r\nconnection: close\r\n" in head:
            writer.transport.abort()
        else:
            self._idle.append((reader, writer))
        status = head[9:12]
        if status == "503" and "\r\nretry-after: " in head:
            return now, now - began, 503
        named = f"\r\n{IDENTITY.lower()}: {self._name}\r\n" in head
        if status == "200" and named and body.decode() == target:
            return now, now - began, 200
        return "wrong:", repr(head), repr(body[:80]), "for", target

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=self._context, server_hostname=self._hostname
        )


async def _main(options: list[str]) -> None:
    loop = asyncio.get_running_loop()
    visitors = _Visitors(ssl.create_default_context(cafile=options[1]), options)
    coming = asyncio.create_task(visitors.come())
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        visitors.per_second = float(line)
    coming.cancel()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
