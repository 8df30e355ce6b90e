"""A tenant at a hundred times another's load: the other hardly notices."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import pytest

from tests.kit.loads import ELSEWHERE, LoadServer
from tests.kit.openloop import crowding
from tests.kit.programs import Agent, Edge
from tests.kit.steady import moved, p99, steady

QUIET, NOISY = "quiet", "noisy"
EVERY_SECONDS = 0.1
TIMES = 100
pytestmark = [pytest.mark.system, pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(120)]


def test_a_noisy_neighbour_moves_the_p99_of_another_at_most_twofold(tmp_path: Path) -> None:
    with (
        LoadServer(QUIET) as server,
        LoadServer(NOISY, prefix=ELSEWHERE) as noisy,
        Edge(tmp_path, settings={"access_log": "off"}) as edge,
        edge.agent(server.port) as agent,
        Agent(tmp_path, str(noisy.port), prefix=ELSEWHERE) as neighbour,
        steady(edge, agent.hostname, QUIET, every=EVERY_SECONDS) as other,
        crowding(edge, neighbour.hostname, NOISY, "/echo", connections=50) as crowd,
    ):
        other.ready()
        ratios = []
        for _ in range(3):  # a machine that is busy with something else shows it in one of them
            quiet: list[float] = []
            loud: list[float] = []
            for rate, waits in ((0.0, quiet), (float("inf"), loud)) * 3:
                crowd.rate(rate)
                began = time.monotonic()
                time.sleep(2.5)
                waits += other.waits(began, time.monotonic())
            noise = [answer for answer in crowd.answers if answer.status == 200]
            print(f"p99 {p99(quiet) * 1000:.1f} ms, beside {len(noise)} {p99(loud) * 1000:.1f} ms")
            ratios.append(moved(quiet, loud))
            if ratios[0] <= 2:
                break
        assert statistics.median(ratios) <= 2, ratios
        assert len(noise) >= TIMES * len(loud) * len(ratios) * 0.9
