"""What is measured, and in which order: every cell of the tables, over all targets, round after round.

The targets of one cell follow each other within seconds, so that a noisy minute of the machine meets all of
them; each round begins with another target.
"""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bench.ground import Ground, Route
from bench.load import BROWSER_FIELDS, Rush, bulk, events, rush, rush_http2
from bench.processes import Unavailable, cpu_seconds, machine_cpu_seconds, memory, pinned

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for."""

    seconds: int
    rounds: int
    connections: tuple[int, ...]
    http2_connections: tuple[int, ...]
    http2_streams: tuple[int, ...]  # requests at a time on each
    bulk_bytes: int
    event_opens: int
    event_count: int
    idle_agents: int
    tunnels: int  # of the list of many


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement of one target: a group of tables, a name, and how."""

    group: str
    name: str
    measure: Callable[[Ground, Route], Figures]

    def fits(self, route: Route) -> bool:
        """Whether the target has a row in this table."""
        if self.group == "http2" and not route.door.http2:
            return False
        if self.group in ("carrier", "inprocess", "passthrough"):
            return self.group in route.groups
        return not route.groups or self.group in route.groups


@dataclass(frozen=True, slots=True)
class Sample:
    """What one target did in one cell of one round. ``error`` in place of figures where it failed."""

    target: str
    group: str
    cell: str
    round: int
    figures: Figures = field(default_factory=dict)
    error: str = ""


GROUPS = (
    "requests",
    "http2",
    "latency",
    "connections",
    "bulk",
    "passthrough",
    "carrier",
    "inprocess",
    "sse",
    "memory",
    "idle",
    "control",
    "sandbox",
    "ports",
)
"""What ``--only`` may name. ``memory`` and ``idle`` are measured once, the others in every round."""


def cells(options: Options, only: tuple[str, ...]) -> list[Cell]:
    """The cells of a round, in order."""
    seconds = options.seconds

    def requests(
        connections: int, fields: tuple[str, ...], *, varying: bool = False
    ) -> Callable[[Ground, Route], Figures]:
        return lambda ground, route: _rush(
            ground, route, lambda: rush(route.door, connections, seconds, fields, varying=varying)
        )

    def http2(connections: int, streams: int) -> Callable[[Ground, Route], Figures]:
        def measure(ground: Ground, route: Route) -> Figures:
            _warm_up(lambda: rush_http2(route.door, connections, streams, 1))
            return _rush(ground, route, lambda: rush_http2(route.door, connections, streams, seconds))

        return measure

    found = [
        Cell("requests", f"c={connections} headers={1 + len(fields)}", requests(connections, fields))
        for fields in ((), BROWSER_FIELDS)
        for connections in options.connections
    ]
    found += [
        Cell("requests", "c=64 headers=12 varying", requests(64, BROWSER_FIELDS[1:], varying=True)),
        *(
            Cell("http2", f"c={connections} streams={streams}", http2(connections, streams))
            for connections in options.http2_connections
            for streams in options.http2_streams
        ),
        Cell("latency", "c=1 on one CPU", lambda ground, route: _one_cpu(ground, route, seconds)),
        Cell("connections", "c=64", requests(64, ("Connection: close",))),
        Cell("bulk", "1 stream", lambda ground, route: _bulk(ground, route, 1, options.bulk_bytes)),
        Cell("bulk", "4 streams", lambda ground, route: _bulk(ground, route, 4, options.bulk_bytes)),
        Cell("passthrough", "1 flow", lambda ground, route: _bulk(ground, route, 1, options.bulk_bytes)),
        Cell("passthrough", "4 flows", lambda ground, route: _bulk(ground, route, 4, options.bulk_bytes)),
        Cell("passthrough", "connections", requests(16, ("Connection: close",))),
        *(Cell("carrier", f"c={connections}", requests(connections, ())) for connections in (1, 64, 256)),
        *(Cell("inprocess", f"c={connections}", requests(connections, ())) for connections in (1, 64)),
        Cell("sse", "events", lambda ground, route: _events(ground, route, options)),
    ]
    return [cell for cell in found if cell.group in only]


def run(
    ground: Ground, routes: list[Route], options: Options, only: tuple[str, ...], say: Callable[[str], None]
) -> Iterator[Sample]:
    """Every sample of every round, as it is made."""
    if "memory" in only:
        yield from _memory(routes, "idle")
    for number in range(options.rounds):
        for cell in cells(options, only):
            say(f"round {number + 1}/{options.rounds}  {cell.group} {cell.name}")
            for place in range(len(routes)):
                route = routes[(place + number) % len(routes)]
                if not cell.fits(route):
                    continue
                try:
                    yield Sample(route.name, cell.group, cell.name, number, cell.measure(ground, route))
                except (Unavailable, OSError, ValueError) as error:
                    yield Sample(route.name, cell.group, cell.name, number, error=str(error) or repr(error))
    if "memory" in only:
        yield from _memory(routes, "after load")


def _memory(routes: list[Route], when: str) -> Iterator[Sample]:
    for route in routes:
        if route.edge and not route.groups:
            edge, agent = memory(route.edge_pids()), memory(route.agent_pids())
            figures = {
                "edge_rss": edge.rss,
                "edge_pss": edge.pss,
                "agent_rss": agent.rss,
                "agent_pss": agent.pss,
            }
            yield Sample(route.name, "memory", when, 0, {key: value / 1024 for key, value in figures.items()})


@dataclass(slots=True)
class _Spent:
    """CPU seconds of the two programs during a block, and of programs that are none of ours."""

    edge: float = 0.0
    agent: float = 0.0
    foreign: float = 0.0  # share of one CPU


@contextlib.contextmanager
def _metered(ground: Ground, route: Route, client: Callable[[], float]) -> Iterator[_Spent]:
    """``client`` gives the CPU seconds that the visitors have used so far."""
    spent = _Spent()
    edge, agent = route.edge_pids(), route.agent_pids()
    upstream = [pid for child in ground.upstream_processes for pid in child.pids()]
    groups = (edge, agent, upstream)
    before = [cpu_seconds(pids) for pids in groups]
    client_before, machine, began = client(), machine_cpu_seconds(), time.perf_counter()
    yield spent
    seconds = time.perf_counter() - began
    used = [cpu_seconds(pids) - earlier for pids, earlier in zip(groups, before, strict=True)]
    spent.edge, spent.agent = used[0], used[1]
    ours = sum(used) + client() - client_before
    spent.foreign = max(0.0, (machine_cpu_seconds() - machine - ours) / seconds)


def _visitors_cpu() -> float:
    both = (resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF))
    return sum(used.ru_utime + used.ru_stime for used in both)


def _rush(ground: Ground, route: Route, go: Callable[[], Rush]) -> Figures:
    with _metered(ground, route, _visitors_cpu) as spent:
        done = go()
    return _rush_figures(done, spent)


def _warm_up(go: Callable[[], Rush]) -> None:
    """Have the upstream's connections dialled, and what the cell before left behind done with.

    Raises:
        Unavailable: there was no reply in five tries.
    """
    for _ in range(4):
        with contextlib.suppress(Unavailable):
            go()
            return
    go()


def _rush_figures(done: Rush, spent: _Spent) -> Figures:
    if not done.requests - done.refused:
        raise Unavailable(
            f"no request was answered: {done.failed} connections failed, {done.refused} refused"
        )
    return {
        "rate": done.rate,
        "p50": done.p50,
        "p99": done.p99,
        "edge_cpu": spent.edge * 1e6 / done.requests,
        "agent_cpu": spent.agent * 1e6 / done.requests,
        "failed": done.failed,
        "refused": done.refused,
        "foreign": spent.foreign,
    }


def _one_cpu(ground: Ground, route: Route, seconds: int) -> Figures:
    ours = [*route.edge_pids(), *route.agent_pids()]
    ours += [pid for child in ground.upstream_processes for pid in child.pids()]
    with pinned(ours), _metered(ground, route, _visitors_cpu) as spent:
        done = rush(route.door, 1, seconds)
    return _rush_figures(done, spent)


def _bulk(ground: Ground, route: Route, streams: int, size: int) -> Figures:
    with _metered(ground, route, _visitors_cpu) as spent:
        rate = bulk(route.door, streams, size)
    gigabytes = streams * size / 1e9
    return {
        "rate": rate,
        "edge_cpu": spent.edge / gigabytes,
        "agent_cpu": spent.agent / gigabytes,
        "foreign": spent.foreign,
    }


def _events(ground: Ground, route: Route, options: Options) -> Figures:
    with _metered(ground, route, _visitors_cpu) as spent:
        seen = events(route.door, options.event_opens, options.event_count)
    return {"first": seen.first, "p50": seen.p50, "worst": seen.worst, "foreign": spent.foreign}
