"""The benchmark's command line: ``python -m bench --help``."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench import carrier, control, inprocess, passthrough, ports, report, sandbox, tables
from bench.ground import ROOT, Ground, Route, program, raise_file_limit, start_upstream
from bench.idle import CROWDS, kib_per_agent
from bench.load import answers, rush
from bench.plan import GROUPS, Options, Sample, run
from bench.processes import Unavailable
from bench.targets import TARGETS as EVERYWHERE

ALONE = {each.GROUP: each.TARGETS for each in (passthrough, carrier, inprocess)}
"""Groups whose targets have rows in no other table."""
TARGETS = EVERYWHERE | passthrough.TARGETS | carrier.TARGETS | inprocess.TARGETS


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    raise_file_limit()
    try:
        with ExitStack() as stack:
            done = _measure(arguments, stack)
    except Unavailable as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    text = report.as_markdown(done)
    print(text)
    _keep(done, text)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench",
        description="Measure Wellhead and other tunnels in one run, on loopback, over the same upstream.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="one round of one second with fewer cells (about 3 minutes)"
    )
    parser.add_argument(
        "--targets", type=_names(TARGETS), default=tuple(TARGETS), help=f"of {','.join(TARGETS)}"
    )
    parser.add_argument("--only", type=_names(GROUPS), default=GROUPS, help=f"of {','.join(GROUPS)}")
    parser.add_argument("--seconds", type=_positive, help="length of one measurement (default 2)")
    parser.add_argument("--rounds", type=_positive, help="how often everything is measured (default 5)")
    parser.add_argument("--idle-agents", type=_positive, help="agents opened by the idle cell (default 500)")
    return parser.parse_args(argv)


def _names(known: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    allowed = tuple(known)

    def parse(text: str) -> tuple[str, ...]:
        asked = tuple(name for name in text.split(",") if name)
        if unknown := [name for name in asked if name not in allowed]:
            raise argparse.ArgumentTypeError(f"unknown {unknown[0]!r}; known are {','.join(allowed)}")
        return asked

    return parse


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up, not {text!r}")
    return int(text)


def _options(arguments: argparse.Namespace) -> Options:
    quick = arguments.quick
    return Options(
        seconds=arguments.seconds or (1 if quick else 2),
        rounds=arguments.rounds or (1 if quick else 5),
        connections=(1, 64) if quick else (1, 16, 64, 256),
        http2_connections=(1, 64) if quick else (1, 16, 64),
        http2_streams=(1, 100) if quick else (1, 10, 100),
        bulk_bytes=(32 if quick else 128) << 20,
        event_opens=5 if quick else 20,
        event_count=10 if quick else 40,
        idle_agents=arguments.idle_agents or (200 if quick else 500),
        tunnels=1000 if quick else 10_000,
    )


def _measure(arguments: argparse.Namespace, stack: ExitStack) -> tables.Run:
    for name in ("nginx", "wrk"):
        program(name)
    if "http2" in arguments.only:
        program("h2load")
    options, machine = _options(arguments), report.machine()
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wellhead-bench-")))
    ground = Ground(directory, stack, options.bulk_bytes)
    start_upstream(ground)
    routes: list[Route] = []
    skipped: dict[str, str] = {}
    for name in arguments.targets:
        group = next((group for group, targets in ALONE.items() if name in targets), "")
        if (group and group not in arguments.only) or (
            not group and set(arguments.only) <= {*ALONE, sandbox.GROUP, ports.GROUP}
        ):
            continue
        try:
            routes.append(_ready(TARGETS[name](ground)))
            _say(f"started {name}")
        except Unavailable as error:
            skipped[name] = str(error)
            _say(f"skipped {name}: {error}")
    samples = list(run(ground, routes, options, arguments.only, _say))
    if "idle" in arguments.only:
        samples += [_idle(ground, name, options.idle_agents) for name in arguments.targets if name in CROWDS]
    if "control" in arguments.only and control.TARGET in arguments.targets:
        samples += control.measure(ground, options, _say)
    if sandbox.GROUP in arguments.only:
        samples += sandbox.measure(ground, options, _say)
    if ports.GROUP in arguments.only:
        samples += ports.measure(ground, options, _say)
    return tables.Run(machine, options, routes, skipped, samples)


def _ready(route: Route) -> Route:
    """The route, once it gives the right answer; warmed up.

    Raises:
        Unavailable: it answers something else, or not within ten seconds.
    """
    deadline = time.monotonic() + 10
    while not answers(route.door):
        if time.monotonic() > deadline:
            raise Unavailable("the upstream's body did not come through within 10 s")
        time.sleep(0.05)
    rush(route.door, 16, 1)
    return route


def _idle(ground: Ground, name: str, agents: int) -> Sample:
    _say(f"idle agents of {name}")
    try:
        opened, kib = kib_per_agent(ground, name, agents)
    except (Unavailable, OSError) as error:
        return Sample(name, "idle", "agents", 0, error=str(error))
    return Sample(name, "idle", "agents", 0, {"agents": opened, "kib": kib})


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _keep(done: tables.Run, text: str) -> None:
    folder = ROOT / "bench" / "results"
    folder.mkdir(exist_ok=True)
    stem = time.strftime("%Y%m%d-%H%M%S")
    (folder / f"{stem}.json").write_text(report.as_json(done))
    (folder / f"{stem}.md").write_text(text)
    _say(f"kept as bench/results/{stem}.json and .md")


if __name__ == "__main__":
    sys.exit(main())
