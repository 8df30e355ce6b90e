"""The control plane under load, alone and beside visitors: creates, lists of many tunnels, hellos.

The callers are a program of their own, ``python -m bench.control KIND PORT SECONDS ...``, so that their work
is not counted as the server's. Alone they call as fast as answers come. Beside visitors they call at a
steady rate, and once more as fast as answers come. The steady rate is half of that speed; of hellos it is no
more than when a thousand agents come back in five seconds, however many more the server could take.

Visitors are of two kinds. ``wrk`` in a closed loop leaves no CPU idle: its p99 is first of all the
scheduler's, and what it tells is how the server shares its loop. Visitors at a fixed rate leave room, and
beside them the callers have the lowest priority: they stand for other machines, so that what they cost the
visitors is the server's work for them, not their own. (Beside ``wrk`` they would get nothing.)
"""

from __future__ import annotations

import asyncio
import functools
import http.client
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench import product
from bench.ground import Ground
from bench.idle import Agent, client_context, hello_of
from bench.load import Door, answers, rush
from bench.paced import paced
from bench.plan import Figures, Options, Sample
from bench.processes import Child, Unavailable, cpu_seconds

TARGET = "wellhead"
VISITORS = 16  # connections of wrk beside the callers
PACE = 2000  # requests a second of the visitors at a fixed rate
CALLERS = {"creates": 4, "lists": 1, "hellos": 8}  # connections of each kind
STEADY = {"hellos": 200.0}  # a second, at most
_SETTINGS = (
    "api_requests_per_key_per_minute = 100000000\n"
    "api_requests_per_address_per_minute = 100000000\n"
    "api_failures_per_address_per_minute = 100000000\n"
    "tunnels_per_organization = 100000000\n"
)
_PATIENCE_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Stage:
    """A server of its own with so many tunnels, and an agent that answers for one of them."""

    ground: Ground
    edge: product.Edge
    door: Door
    secrets: Path


def measure(ground: Ground, options: Options, say: Callable[[str], None]) -> Iterator[Sample]:
    """Every kind in every round: alone for its rate, then beside visitors for theirs."""
    say(f"control: a server with {options.tunnels} tunnels")
    try:
        stage = _stage(ground, options.tunnels)
    except Unavailable as error:
        yield Sample(TARGET, "control", "server", 0, error=str(error))
        return
    for number in range(options.rounds):
        for kind in CALLERS:
            say(f"round {number + 1}/{options.rounds}  control {kind}")
            try:
                figures = _measure(stage, kind, options.seconds, f"r{number}")
            except (Unavailable, OSError, ValueError) as error:
                yield Sample(TARGET, "control", kind, number, error=str(error) or repr(error))
                continue
            yield Sample(TARGET, "control", kind, number, figures)


def _stage(ground: Ground, tunnels: int) -> Stage:
    edge = product.start_edge(ground, "wellhead-control", _SETTINGS)
    (ground.directory / "control-key").write_text(edge.key)
    agent = product.start_agent(ground, "wellhead-control-agent", edge)
    door = Door(edge.http)
    deadline = time.monotonic() + 20
    while not answers(door):
        agent.check(deadline)
        time.sleep(0.05)
    secrets = ground.directory / "control-secrets"
    filling = _callers(ground, edge, "creates", 0, secrets, "fill", tunnels)
    _result(filling)
    return Stage(ground, edge, door, secrets)


def _measure(stage: Stage, kind: str, seconds: int, mark: str) -> Figures:
    pids = stage.edge.process.pids()
    before = cpu_seconds(pids)
    alone = _result(_start(stage, kind, seconds, f"{mark}a"))
    spent = cpu_seconds(pids) - before
    rate = alone["count"] / alone["seconds"]
    steady = min(rate / 2, STEADY.get(kind, rate))

    def steadily(name: str) -> Child:
        return _start(stage, kind, seconds + 2, mark + name, steady)

    return {
        "rate": rate,
        "p50": alone["p50"],
        "p99": alone["p99"],
        "edge_cpu": spent / alone["count"] * 1000,
        **_seen(stage, seconds, "quiet"),
        **_seen(stage, seconds, "steady", steadily),
        **_seen(stage, seconds, "full", lambda name: _start(stage, kind, seconds + 2, mark + name)),
    }


def _seen(stage: Stage, seconds: int, when: str, start: Callable[[str], Child] | None = None) -> Figures:
    """What both kinds of visitors see, alone or beside callers: p99 in microseconds, and rates a second."""
    found: Figures = {}
    for visitors, visit in (("closed", _closed), ("fixed", _fixed)):
        callers = start(f"-{when}-{visitors}") if start is not None else None
        if callers is not None:
            if visitors == "fixed":
                callers.give_way()
            callers.wait_for("^begin$", 20)
        seen = visit(stage, seconds)
        if callers is not None:
            done = _result(callers)
            seen["calls"] = done["count"] / done["seconds"]
        found |= {f"{when}_{visitors}_{name}": figure for name, figure in seen.items()}
    return found


def _closed(stage: Stage, seconds: int) -> Figures:
    seen = rush(stage.door, VISITORS, seconds)
    return {"p99": seen.p99, "rate": seen.rate, "failed": seen.failed + seen.refused}


def _fixed(stage: Stage, seconds: int) -> Figures:
    seen = paced(stage.door, PACE, seconds)
    return {"p99": seen.p99, "rate": seen.rate, "late": seen.late}


def _start(stage: Stage, kind: str, seconds: int, mark: str, per_second: float = 0) -> Child:
    return _callers(stage.ground, stage.edge, kind, seconds, stage.secrets, mark, 0, per_second)


def _callers(
    ground: Ground,
    edge: product.Edge,
    kind: str,
    seconds: int,
    secrets: Path,
    mark: str,
    most: int,
    per_second: float = 0,
) -> Child:
    """``most`` calls where there are no seconds; ``per_second`` 0: as fast as answers come."""
    port = edge.https if kind == "hellos" else edge.http
    key = ground.directory / "control-key"
    numbers, files = (port, seconds), (key, secrets, edge.data / "ca.pem")
    facts = [str(fact) for fact in (*numbers, *files, mark, most, per_second)]
    return ground.python(f"control-{kind}-{mark}", "-m", "bench.control", kind, *facts)


def _result(callers: Child) -> dict[str, float]:
    found = json.loads(callers.wait_for(r"^\{.*\}$", _PATIENCE_SECONDS)[0])
    if "error" in found:
        raise Unavailable(str(found["error"]))
    callers.stop()
    return {key: float(value) for key, value in found.items()}


# The callers


@dataclass
class Calls:
    """What one kind of caller needs, and what came of it."""

    kind: str
    port: int
    until: float  # monotonic; infinity where a number of calls ends it
    key: str
    secrets: Path
    ca: Path
    mark: str
    left: int
    per_second: float

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        self.milliseconds: list[float] = []
        self.lock = threading.Lock()
        self.made = 0

    def next(self) -> int | None:
        """The number of the next call; None at the end."""
        with self.lock:
            if time.monotonic() >= self.until or self.left == self.made != 0:
                return None
            self.made += 1
            return self.made

    def wait(self, number: int) -> float:
        """Seconds until the call of this number is due."""
        if not self.per_second:
            return 0.0
        return max(0.0, self.began + number / self.per_second - time.monotonic())


def _over_rest(calls: Calls, call: Callable[[Calls, http.client.HTTPConnection, int], None]) -> None:
    """Threads with a connection each, one call after the other."""
    failures: list[str] = []

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", calls.port, timeout=60)
        try:
            while (number := calls.next()) is not None:
                time.sleep(calls.wait(number))
                began = time.perf_counter()
                call(calls, connection, number)
                calls.milliseconds.append((time.perf_counter() - began) * 1000)
        except (OSError, http.client.HTTPException, Unavailable) as error:
            failures.append(f"{calls.kind}: {error!r}")
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(CALLERS[calls.kind])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise Unavailable(failures[0])


def _ask(calls: Calls, connection: http.client.HTTPConnection, method: str, body: str | None) -> bytes:
    fields = {"X-API-Key": calls.key, "Content-Type": "application/json"}
    connection.request(method, "/api/v1/tunnels/", body, fields)
    answer = connection.getresponse()
    data = answer.read()
    if answer.status not in (200, 201):
        raise Unavailable(f"{answer.status}: {data[:120].decode(errors='replace')}")
    return data


def _create(calls: Calls, connection: http.client.HTTPConnection, number: int) -> None:
    name = f"{calls.mark}-{number:06d}"
    made = json.loads(_ask(calls, connection, "POST", json.dumps({"tunnel_name": name})))
    if calls.left and number <= 1000:  # of the first filling: for hellos
        with calls.lock, calls.secrets.open("a") as file:
            file.write(f"{name} {made['connect_secret']}\n")


def _list(calls: Calls, connection: http.client.HTTPConnection, number: int) -> None:
    if len(_ask(calls, connection, "GET", None)) < 1000:
        raise Unavailable("the list is too short to be one of many tunnels")


async def _greet(calls: Calls) -> None:
    """Connect with TLS, say hello, be welcomed, hang up; as many at a time as there are callers."""
    hellos = [hello_of(line) for line in calls.secrets.read_text().splitlines()]
    context = client_context(str(calls.ca))
    loop = asyncio.get_running_loop()

    async def work() -> None:
        while (number := calls.next()) is not None:
            await asyncio.sleep(calls.wait(number))
            began = time.perf_counter()
            agent = functools.partial(Agent, hellos[number % len(hellos)])
            transport, protocol = await loop.create_connection(
                agent, "127.0.0.1", calls.port, ssl=context, server_hostname="localhost"
            )
            async with asyncio.timeout(10):
                await protocol.welcome
            calls.milliseconds.append((time.perf_counter() - began) * 1000)
            transport.abort()

    await asyncio.gather(*(work() for _ in range(CALLERS[calls.kind])))


def _main(
    kind: str, port: str, seconds: str, key: str, secrets: str, ca: str, mark: str, most: str, pace: str
) -> None:
    began = time.monotonic()
    until = began + int(seconds) if int(seconds) else float("inf")
    paths = Path(secrets), Path(ca)
    calls = Calls(kind, int(port), until, Path(key).read_text(), *paths, mark, int(most), float(pace))
    print("begin", flush=True)
    try:
        if kind == "hellos":
            uvloop.run(_greet(calls))
        else:
            _over_rest(calls, _create if kind == "creates" else _list)
    except (Unavailable, OSError) as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    spent = time.monotonic() - began
    found = sorted(calls.milliseconds)
    facts = {
        "count": len(found),
        "seconds": spent,
        "p50": statistics.median(found),
        "p99": found[int(len(found) * 0.99)],
    }
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
