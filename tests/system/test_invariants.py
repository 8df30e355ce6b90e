"""Everything at once, broken at random: what must never happen does not."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import time
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.clients import (
    Operator,
    squat,
    trouble,
    try_old_secrets,
    visit_http1,
    visit_http2,
    visit_websocket,
    watch,
)
from tests.chaos.history import Fault, Rotated, Sampled, Visited
from tests.chaos.invariants import check, summary
from tests.chaos.scene import Scene, staged
from tests.kit.visitors import Truncated, ask
from wellhead.client import AsyncClient

pytestmark = [
    pytest.mark.system,
    pytest.mark.alone,
    pytest.mark.slow,
    pytest.mark.timeout(0),  # it has a bound of its own
    # Visitors are cut in the midst of their handshakes, where asyncio leaves a socket to the collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

NAMES = ("alder", "birch", "cedar")
HEAL_SECONDS = 40.0
ENOUGH_VISITS = 50  # answered ones, in a minute on a machine that does much else


async def test_whatever_breaks_no_promise_does(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    seed, seconds = (request.config.getoption(name) for name in ("seed", "chaos_seconds"))
    seed = random.SystemRandom().randrange(10**9) if seed is None else seed
    print(f"--seed {seed} --chaos-seconds {seconds:g}")
    async with asyncio.timeout(seconds + 5 * HEAL_SECONDS), staged(tmp_path, seed, NAMES) as scene:
        async with scene.client() as client:
            await run(scene, client, seconds)
        await at_rest(scene)
        scene.read_logs()
        print(summary(scene.history))
        found = check(scene.history)
        assert not found, f"--seed {seed}\n" + "\n\n".join(map(str, found[:5]))
        for program in scene.programs():
            assert "Traceback" not in program.text, program.text[-6000:]
        answered = [visit for visit in scene.history.of(Visited) if visit.status in (200, 101)]
        assert len(answered) >= ENOUGH_VISITS
        for kind in (Fault, Rotated, Sampled):
            assert any(scene.history.of(kind)), f"no {kind.__name__}: the run proves nothing"


async def run(scene: Scene, client: AsyncClient, seconds: float) -> None:
    """From a scene where every name answers to one where every name answers again."""
    operators = [Operator(scene, post, client) for post in scene.posts]
    await asyncio.gather(*(operator.settle() for operator in operators))
    await healed(scene)
    clients = [
        *(operator.run() for operator in operators),
        *(visit_http1(scene, f"http1 {number}") for number in range(3)),
        *(visit_http2(scene, f"http2 {number}") for number in range(2)),
        *(visit_websocket(scene, f"websocket {number}") for number in range(2)),
        squat(scene, client),
        try_old_secrets(scene),
        trouble(scene, "trouble"),
        watch(scene),
    ]
    await for_seconds(seconds, scene, clients)
    await asyncio.gather(*(operator.settle() for operator in operators))
    await healed(scene)


async def for_seconds(seconds: float, scene: Scene, clients: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Let all of them run, and finish what they do: what one broke it mends.

    Raises:
        Exception: what one of them failed with.
    """
    running = [asyncio.create_task(each) for each in clients]
    try:
        await asyncio.wait(running, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        scene.over = True
        async with asyncio.timeout(HEAL_SECONDS):
            await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def healed(scene: Scene) -> None:
    """Until every name answers, by its present tunnel."""
    until = time.monotonic() + HEAL_SECONDS
    for post in scene.posts:
        while True:
            await asyncio.to_thread(post.supervise)
            with contextlib.suppress(OSError, Truncated, TimeoutError):
                reply = await ask(scene.edge, f"{post.name}.localhost", "/healed")
                if (reply.status, reply.get("x-tunnel")) == (200, post.tunnel):
                    break
            assert time.monotonic() < until, f"{post.name} is not back: {scene.edge.text[-3000:]}"
            await asyncio.sleep(0.1)


async def at_rest(scene: Scene) -> None:
    """Until the edge holds what it should: the agents' sessions, and no visitor but who asks."""
    agents = sum(len(post.crews) for post in scene.posts)
    until = time.monotonic() + HEAL_SECONDS
    gc.collect()
    while True:
        for post in scene.posts:
            await asyncio.to_thread(post.supervise)
        values = await scene.sample() or {}
        held = {name: values.get(f"wellhead_{name}[]") for name in ("sessions", "visitors")}
        if held == {"sessions": agents, "visitors": 1}:
            return
        if held["visitors"] != 1:
            gc.collect()  # not in every turn: the agents' relays stand still meanwhile
        assert time.monotonic() < until, f"{held}\n{scene.edge.text[-3000:]}"
        await asyncio.sleep(0.2)
