"""How long the edge's loop lets a request wait that it answers by itself, seen from a process of its own."""

from __future__ import annotations

import contextlib
import http.client
import select
import subprocess
import sys
import time
from collections.abc import Iterator

from tests.kit.programs import Edge

EVERY_SECONDS = 0.01


class Lag:
    """``waits`` are there at the end: seconds."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def p99(self) -> float:
        return sorted(self.waits)[int(len(self.waits) * 0.99)]


@contextlib.contextmanager
def lagging(edge: Edge) -> Iterator[Lag]:
    """Measures while the block runs."""
    lag = Lag()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.kit.lag", str(edge.http)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as asking:
        yield lag
        said, _ = asking.communicate(timeout=10)  # it ends with its input
        lag.waits = [float(line) for line in said.split()]


def _ask(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    while not _ended():
        began = time.perf_counter()
        connection.request("GET", "/", headers={"Host": "nobody-is-there.localhost"})
        connection.getresponse().read()
        print(time.perf_counter() - began)
        time.sleep(EVERY_SECONDS)


def _ended() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0])


if __name__ == "__main__":
    _ask(int(sys.argv[1]))
