"""A visitor that asks steadily through a tunnel, in a process of its own, and writes down how long it waited.

What it or the edge had no processor for is taken off, for a machine that is busy with something else.
Every answer has to be its own: the target it asked for, and the upstream's name.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO

from tests.kit.load_server import IDENTITY
from tests.kit.programs import Edge, kept_waiting

WARY = 0.010  # seconds: below it a p99 says more about this machine's scheduler than about the edge


class Steady:
    """``answers``: when each was there (``time.monotonic``), and the seconds it took."""

    def __init__(self) -> None:
        self.answers: list[tuple[float, float]] = []
        self.wrong: list[str] = []
        self._begun = threading.Event()

    def ready(self) -> None:
        """Wait for the first answers."""
        assert self._begun.wait(20), self.wrong

    def waits(self, since: float, until: float) -> list[float]:
        """What requests waited that were asked and answered between the two moments."""
        return [wait for at, wait in list(self.answers) if since <= at - wait and at <= until]

    def read(self, lines: IO[str]) -> None:
        for line in lines:
            try:
                at, wait = map(float, line.split())
            except ValueError:
                self.wrong.append(line)
                continue
            self.answers.append((at, wait))
            if len(self.answers) == 20:
                self._begun.set()


def p99(waits: list[float]) -> float:
    """Of seconds; there has to be something to judge by."""
    assert len(waits) >= 50, f"only {len(waits)} answers"
    return sorted(waits)[int(len(waits) * 0.99)]


def moved(quiet: list[float], loud: list[float]) -> float:
    """How many times as long the p99 is that came with a load, as the one without."""
    return p99(loud) / max(p99(quiet), WARY)


@contextlib.contextmanager
def steady(edge: Edge, hostname: str, name: str, *, every: float = 0.005) -> Iterator[Steady]:
    """Asks while the block runs; afterwards no answer may have been wrong."""
    seen = Steady()
    command = ["--every", str(every), str(edge.https), str(edge.ca), hostname, name, str(edge.pid)]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.kit.steady", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        bufsize=1,
    ) as asking:
        assert asking.stdin is not None and asking.stdout is not None
        reading = threading.Thread(target=seen.read, args=(asking.stdout,))
        reading.start()
        try:
            yield seen
        finally:
            asking.stdin.close()  # it ends with its input
            reading.join(15)
            asking.kill()
    assert not seen.wrong, "".join(seen.wrong[:20])


def _ask(options: argparse.Namespace) -> None:
    context = ssl.create_default_context(cafile=options.ca)
    connection: http.client.HTTPConnection | None = None
    number = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        number += 1
        target = f"/echo/{options.name}/{number}"
        began, starved = time.monotonic(), kept_waiting() + kept_waiting(options.edge)
        try:
            connection = connection or _connect(context, options)
            connection.request("GET", target)
            reply = connection.getresponse()
            body = reply.read().decode("latin-1")
        except (OSError, http.client.HTTPException) as error:
            print("failed:", repr(error), flush=True)
            connection = None
            time.sleep(0.1)
            continue
        now = time.monotonic()
        starved = kept_waiting() + kept_waiting(options.edge) - starved
        said = reply.status, reply.headers[IDENTITY], body
        if said == (200, options.name, target):
            print(now, max(0.0, now - began - starved), flush=True)
        else:
            print("wrong:", *said, "for", target, flush=True)
        time.sleep(options.every)


def _connect(context: ssl.SSLContext, options: argparse.Namespace) -> http.client.HTTPConnection:
    """Connected to loopback, whatever the hostname means to this machine."""
    connection = http.client.HTTPConnection(options.hostname, options.port, timeout=20)
    plain = socket.create_connection(("127.0.0.1", options.port), timeout=20)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sock = context.wrap_socket(plain, server_hostname=options.hostname)
    return connection


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=float)
    parser.add_argument("port", type=int)
    for each in ("ca", "hostname", "name", "edge"):
        parser.add_argument(each)
    _ask(parser.parse_args())
