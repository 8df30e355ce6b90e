"""What load tests stand on: upstreams that say who they are, and what an edge tells of itself."""

from __future__ import annotations

import contextlib
import re
import sys
import urllib.request
from collections.abc import Iterator, Sequence

from tests.kit.programs import Edge, Program, environment, wellhead

ELSEWHERE = ("nice", "-n", "19")
"""Before the command of what would run on a machine of its own: here it may not take the edge's processor."""
_SAMPLE = re.compile(r"^(\w+(?:\{[^}]*\})?) (\S+)$", re.M)


class LoadServer(Program):
    """``tests.kit.load_server`` under some names, each on a port of its own; ``port`` is the first one's."""

    def __init__(self, *names: str, prefix: Sequence[str] = ()) -> None:
        super().__init__([*prefix, sys.executable, "-m", "tests.kit.load_server", *names])
        self.ports: dict[str, int] = {}
        try:
            at = 0
            for name in names:
                self.ports[name] = int(self.line(r"^port (\d+)$", after=at)[1])
                at += 1
            self.port = self.ports[names[0]]
        except BaseException:
            self.kill()
            raise


@contextlib.contextmanager
def started(edge: Edge, server: LoadServer) -> Iterator[dict[str, str]]:
    """An agent for each of the server's names, all in one process: hostnames by name."""
    config = edge.home / "wellhead.toml"
    config.write_text(
        "".join(f"[tunnels.{name}]\nforward_to = {port}\n" for name, port in server.ports.items())
    )
    with Program(wellhead("start", "--config", str(config)), environment(edge.home)) as agents:
        for name in server.ports:
            agents.line(rf"^{name}\b.*\bconnected\b")
        yield {name: f"{name}.localhost" for name in server.ports}


def scrape(edge: Edge) -> dict[str, float]:
    """The samples of ``/metrics`` by name and labels, as they are printed."""
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=edge.trust())
    )
    with opener.open(f"https://{edge.address}:{edge.https}/metrics", timeout=20) as reply:
        text = reply.read().decode()
    return {name: float(number) for name, number in _SAMPLE.findall(text)}
