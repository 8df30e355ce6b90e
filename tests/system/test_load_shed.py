"""More visitors than can be served: as many as before are, the others hear so at once, and then it is over.

``--load-seconds 60`` for the long form.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import pytest

from tests.kit.load_server import WORKERS
from tests.kit.loads import LoadServer, scrape
from tests.kit.openloop import Crowd, crowding
from tests.kit.programs import Edge, eventually
from tests.kit.steady import steady

NAME, OTHER = "crowded", "beside"
WORK_MS = 40
CAPACITY = WORKERS * 1000 / WORK_MS  # requests a second
pytestmark = [pytest.mark.system, pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(180)]


def reasons(edge: Edge) -> Counter[str]:
    """How often requests were refused, by reason."""
    counts = {
        name.split('"')[1]: int(count)
        for name, count in scrape(edge).items()
        if name.startswith("wellhead_refused_total")
    }
    return Counter(counts)


@pytest.fixture(scope="module")
def server() -> Iterator[LoadServer]:
    with LoadServer(NAME) as server:
        yield server


def asked(crowd: Crowd, rate: float, seconds: float) -> tuple[float, list[float]]:
    """Answers a second at a rate, from its second half on, and what those waited who were put off."""
    crowd.rate(rate)
    time.sleep(seconds / 2)
    began = time.monotonic()
    time.sleep(seconds / 2)
    answers = crowd.between(began, until := time.monotonic())
    served = sum(answer.status == 200 for answer in answers)
    return served / (until - began), [answer.wait for answer in answers if answer.status == 503]


def test_three_times_what_a_tunnel_can_do(
    tmp_path: Path, server: LoadServer, pytestconfig: pytest.Config
) -> None:
    seconds = pytestconfig.getoption("load_seconds") or 6.0
    settings = {"connections_per_tunnel": 3 * WORKERS}
    with (
        Edge(tmp_path, settings=settings) as edge,
        edge.agent(server.port) as agent,
        LoadServer(OTHER) as others,
        edge.agent(others.port) as beside,
        steady(edge, beside.hostname, OTHER) as other,
        crowding(edge, agent.hostname, NAME, f"/work/{WORK_MS}", connections=400) as crowd,
    ):
        other.ready()
        peak, _ = asked(crowd, CAPACITY, 4)
        goodput, put_off = asked(crowd, 3 * CAPACITY, seconds)
        crowd.rate(CAPACITY / 2)
        over = time.monotonic()
        time.sleep(6)
        late = [answer.at - over for answer in crowd.between(over, over + 6) if answer.status != 200]
        calm = crowd.between(over + 5, over + 6)
        counts = reasons(edge)
    print(
        f"peak {peak:.0f}/s, at three times as much {goodput:.0f}/s, p50 {statistics.median(put_off):.4f} s"
    )
    assert goodput >= 0.8 * peak
    assert len(put_off) > seconds * CAPACITY / 4
    assert statistics.median(put_off) <= 0.05
    assert max(late, default=0.0) <= 5 and len(calm) >= CAPACITY / 4
    assert statistics.median(answer.wait for answer in calm) < 4 * WORK_MS / 1000
    assert counts["tunnel-connections"] > 0 and set(counts) <= {"tunnel-connections", "visitor-left"}


def test_an_edge_that_is_late_puts_a_part_off_until_it_is_in_time(tmp_path: Path, server: LoadServer) -> None:
    over = threading.Event()

    def starve(edge: Edge) -> None:
        """Let it run an eighth of the time."""
        while not over.is_set():
            edge.signal(SIGSTOP)
            time.sleep(0.35)
            edge.signal(SIGCONT)
            time.sleep(0.05)

    settings = {"max_loop_lag_seconds": 0.1, "access_log": tmp_path / "access.log"}
    with (
        Edge(tmp_path, settings=settings) as edge,
        edge.agent(server.port) as agent,
        crowding(edge, agent.hostname, NAME, "/echo", connections=200) as crowd,
    ):
        crowd.rate(100)
        eventually(lambda: len(crowd.answers) > 50, 10)
        starving = threading.Thread(target=starve, args=(edge,))
        starving.start()
        try:
            eventually(lambda: sum(answer.status == 503 for answer in crowd.answers) > 50, 20)
        finally:
            over.set()
            starving.join()
        ended = time.monotonic()
        assert any(answer.status == 200 for answer in crowd.between(ended - 1, ended)), "never all"
        time.sleep(6)
        assert {answer.status for answer in crowd.between(ended + 5, ended + 6)} == {200}
        assert reasons(edge)["loop-lag"] > 50
        assert scrape(edge)["wellhead_put_off_share"] == 0
    assert "reason=loop-lag" in (tmp_path / "access.log").read_text()
