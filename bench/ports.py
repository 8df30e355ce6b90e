"""Terminals and commands beside the traffic of ports: what a keystroke waits for, and what the ports carry.

Every load in every shape of ``ports_stage.SHAPES``; each load of ports also alone, with nobody typing.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from bench import ports_rate
from bench.ground import Ground
from bench.plan import Figures, Options, Sample
from bench.ports_stage import JUPYTER, SHAPES, STREAMS, Shape, Stage, jupyter_state, start, streaming
from bench.processes import Child, Unavailable, cpu_seconds
from wellhead.client.sandboxes import Sandbox

GROUP = "ports"
OURS = "wellhead"
LOADS = {"nothing": 0, "1 port": 1, "4 ports": 4}
NOTEBOOK = "jupyter"
READY_SECONDS = 60.0
LENGTH = 3  # times the seconds of other measurements: p99 wants many keys

T = TypeVar("T")


@dataclass(slots=True)
class Scene:
    """A stage with its sandboxes; ``notebook`` is None where there is no template for it."""

    stage: Stage
    sandbox: Sandbox
    notebook: Sandbox | None
    count: int = 0  # programs started, for their names

    def program(self, ground: Ground, module: str, *argv: str) -> Child:
        """One of ``tests.kit`` that is told on its standard input what to do."""
        self.count += 1
        name = f"{self.stage.name}-{module}-{self.count}"
        return ground.python(name, "-m", f"tests.kit.{module}", *argv, stdin=True)


def measure(ground: Ground, options: Options, say: Callable[[str], None]) -> Iterator[Sample]:
    """Every load and shape in every round, one behind the other; then requests, and the crowd."""
    if os.geteuid() != 0:
        yield Sample(OURS, GROUP, "server", 0, error="isolated sandboxes need root")
        return
    with contextlib.ExitStack() as stack:
        scenes = []
        for shape in SHAPES:
            say(f"ports: {shape.name}")
            try:
                scenes.append(_scene(ground, shape, stack))
            except Unavailable as error:
                yield Sample(OURS, GROUP, shape.name, 0, error=str(error))
        for number in range(options.rounds):
            for scene in scenes:
                say(f"round {number + 1}/{options.rounds}  ports, {scene.stage.shape.name}")
                for load in (*LOADS, NOTEBOOK):
                    yield _sample(ground, scene, load, number, options.seconds)
        if scenes:
            yield from ports_rate.rates(ground, GROUP, scenes[0].stage, options, say)
            say(f"ports: {ports_rate.CROWD} sandboxes")
            near = [scene.stage for scene in scenes if not scene.stage.shape.link]
            try:
                yield Sample(OURS, GROUP, "crowd", 0, ports_rate.crowd(near))
            except Exception as error:
                yield Sample(OURS, GROUP, "crowd", 0, error=repr(error)[:300])


def _scene(ground: Ground, shape: Shape, stack: contextlib.ExitStack) -> Scene:
    try:
        with_notebook = bool(jupyter_state(ground))
    except Unavailable:
        with_notebook = False
    stage = start(ground, shape, jupyter=with_notebook)
    scene = Scene(stage, stack.enter_context(streaming(stage)), None)
    if with_notebook:
        made = stage.client.sandboxes.create(template="jupyter", vcpus=8, memory_mb=2048)
        scene.notebook = stack.enter_context(made)
    return scene


def _sample(ground: Ground, scene: Scene, load: str, number: int, seconds: int) -> Sample:
    cell = f"{load}, {scene.stage.shape.name}"
    try:
        return Sample(OURS, GROUP, cell, number, _beside(ground, scene, load, seconds))
    except Exception as error:  # a cell that fails is told, and the others go on
        return Sample(OURS, GROUP, cell, number, error=str(error)[:300] or repr(error))


def _beside(ground: Ground, scene: Scene, load: str, seconds: int) -> Figures:
    """Keys and commands beside a load, for ``LENGTH`` times ``seconds``; before it the load alone."""
    typed = LENGTH * seconds
    with contextlib.ExitStack() as stack:
        alone: dict[str, float] = {}
        visitors = _visitors(ground, scene, load)
        if visitors is not None:
            stack.callback(visitors.stop)
            visitors.wait_for("^ready", READY_SECONDS)
            alone, _ = _counted(visitors, lambda: time.sleep(seconds))
        meters = [scene.program(ground, "typist", what, str(typed)) for what in ("keys", "commands")]
        for meter in meters:
            stack.callback(meter.stop)
            meter.tell(scene.stage.told(scene.sandbox.id))
        for meter in meters:
            meter.wait_for("^ready", READY_SECONDS)
        pids = scene.stage.edge.process.pids(), scene.stage.host.pids()
        before = [cpu_seconds(each) for each in pids]

        def finish() -> list[list[float]]:
            ends = [meter.wait_for(r"^\[.*\]$", typed + READY_SECONDS) for meter in meters]
            return [json.loads(end[0]) for end in ends]

        counted, (keys, commands) = _counted(visitors, finish)
        edge, host = (cpu_seconds(each) - earlier for each, earlier in zip(pids, before, strict=True))
    return {
        "keys": len(keys), "key_p50": _at(keys, 0.5), "key_p99": _at(keys, 0.99), "key_max": max(keys) * 1e3,
        "exec_p50": _at(commands, 0.5), "exec_p99": _at(commands, 0.99),
        "edge_cpu": edge / typed, "host_cpu": host / typed,
    } | _carried(load, counted, alone)  # fmt: skip


def _carried(load: str, counted: dict[str, float], alone: dict[str, float]) -> Figures:
    """What the visitors had; MB/s of ports, with and without somebody who types."""
    if load == NOTEBOOK:
        polls = counted["polls"]
        wait = counted["waited"] / polls * 1e3 if polls else 0.0
        return {"messages": counted["messages"], "polls": polls, "poll_ms": wait}
    return {"rate": sum(counted.values()) / 1e6, "alone": sum(alone.values()) / 1e6} if counted else {}


def _visitors(ground: Ground, scene: Scene, load: str) -> Child | None:
    """Whoever visits the ports, on the way; None: nobody."""
    stage = scene.stage
    if load == NOTEBOOK:
        if scene.notebook is None:
            raise Unavailable("there is no template jupyter")
        authority = stage.authority(JUPYTER, scene.notebook.id)
        return scene.program(ground, "port_visitors", "--jupyter", authority)
    names = [stage.authority(port, scene.sandbox.id) for port in STREAMS[: LOADS[load]]]
    return scene.program(ground, "port_visitors", *names) if names else None


def _counted(visitors: Child | None, act: Callable[[], T]) -> tuple[dict[str, float], T]:
    """What the visitors had a second meanwhile, and what ``act`` gives."""
    before = len(_told(visitors))
    done = act()
    told = _told(visitors)[before + 1 :]  # the first one began before
    counted = {name: statistics.fmean(each[name] for each in told) for name in (told[0] if told else ())}
    return counted, done


def _told(visitors: Child | None) -> list[dict[str, float]]:
    if visitors is None:
        return []
    visitors.check(math.inf)
    lines = visitors.log.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]


def _at(seconds: list[float], share: float) -> float:
    """The quantile, in ms."""
    ordered = sorted(seconds)
    return (statistics.median(ordered) if share == 0.5 else ordered[int(len(ordered) * share)]) * 1e3
