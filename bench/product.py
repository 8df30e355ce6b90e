"""Wellhead as a target: ``wellhead up`` and ``wellhead http``, as a user starts them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.ground import Ground, Route
from bench.load import HOSTNAME, Door, answers
from bench.processes import Child

TUNNEL = HOSTNAME.partition(".")[0]
LIMITS = "8,000 exchanges at once (1,000), not the agent's 4,096 upstream connections; access log off"
_CONFIG = 'access_log = "off"\nconnections_per_tunnel = 8000\n'
_READY = re.compile(r"^ready https=(?P<https>\S+) http=(?P<http>\S+) api=")


@dataclass(frozen=True, slots=True)
class Edge:
    """A running ``wellhead up`` with a data directory and a home of its own."""

    process: Child
    https: int
    http: int
    data: Path
    env: Mapping[str, str | None]

    @property
    def key(self) -> str:
        return (self.data / "admin-key").read_text().strip()


def start_edge(
    ground: Ground,
    name: str,
    settings: str = "",
    *,
    https: str = "127.0.0.1:0",
    flags: Sequence[str] = (),
    patience_seconds: float = 20,
) -> Edge:
    """A fresh edge that accepts; ``settings`` are further lines of its file."""
    home = ground.directory / name
    home.mkdir(0o700)
    config = home / "bench.toml"
    config.write_text(_CONFIG + settings)
    data = home / "server"
    # Settings of the user's own server must not reach this one.
    env: dict[str, str | None] = {key: None for key in os.environ if key.startswith("WELLHEAD_")}
    env |= {"WELLHEAD_HOME": str(home), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "400"}
    argv = ["-m", "wellhead", "up", f"--data-dir={data}", f"--https={https}", "--http=127.0.0.1:0"]
    process = ground.python(f"{name}-edge", *argv, f"--config={config}", *flags, env=env)
    ready = process.wait_for(_READY.pattern, patience_seconds)
    return Edge(process, _port(ready["https"]), _port(ready["http"]), data, env)


def _port(address: str) -> int:
    return int(re.split(r"[:/]", address.rstrip("/"))[-1])


def plain_visitors(ground: Ground) -> Route:
    """Visitors in plain HTTP/1.1, as nginx and the other peers are asked."""
    edge, agent = ground.once("wellhead", _start_pair)
    return Route("wellhead", "plain", "TLS", LIMITS, Door(edge.http), (edge.process,), (agent,))


def tls_visitors(ground: Ground) -> Route:
    """The same two programs, asked over TLS."""
    edge, agent = ground.once("wellhead", _start_pair)
    door = Door(edge.https, tls=True, http2=True)
    return Route("wellhead-tls", "TLS", "TLS", LIMITS, door, (edge.process,), (agent,))


def start_agent(ground: Ground, name: str, edge: Edge) -> Child:
    """An agent of this edge for the upstream; it may not be connected yet."""
    argv = ["-m", "wellhead", "http", str(ground.upstream), "--name", TUNNEL]
    return ground.python(name, *argv, env=edge.env)


def _start_pair(ground: Ground) -> tuple[Edge, Child]:
    edge = start_edge(ground, "wellhead")
    agent = start_agent(ground, "wellhead-agent", edge)
    until_it_answers(agent, Door(edge.http))
    return edge, agent


def until_it_answers(agent: Child, door: Door) -> None:
    """Wait until the upstream's body comes through.

    Raises:
        Unavailable: it does not.
    """
    deadline = time.monotonic() + 20
    while not answers(door):
        agent.check(deadline)
        time.sleep(0.05)
