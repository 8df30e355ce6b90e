"""What load tests stand on: upstreams that say who they are, and what an edge tells of itself."""

from __future__ import annotations

import re
import sys
import urllib.request
from collections.abc import Sequence

from tests.kit.programs import Edge, Program

ELSEWHERE = ("nice", "-n", "19")
"""Before the command of what would run on a machine of its own: here it may not take the edge's processor."""
_SAMPLE = re.compile(r"^(\w+(?:\{[^}]*\})?) (\S+)$", re.M)


class LoadServer(Program):
    """``tests.kit.load_server`` under a name, on a ``port`` of its own."""

    def __init__(self, name: str, *, prefix: Sequence[str] = ()) -> None:
        super().__init__([*prefix, sys.executable, "-m", "tests.kit.load_server", name])
        try:
            self.port = int(self.line(r"^port (\d+)$")[1])
        except BaseException:
            self.kill()
            raise


def scrape(edge: Edge) -> dict[str, float]:
    """The samples of ``/metrics`` by name and labels, as they are printed."""
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=edge.trust())
    )
    with opener.open(f"https://127.0.0.1:{edge.https}/metrics", timeout=20) as reply:
        text = reply.read().decode()
    return {name: float(number) for name, number in _SAMPLE.findall(text)}
