"""A network that swallows everything without a word: X5, seen from both ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kit.namespaces import Side, cable, cut, mend
from tests.kit.programs import Agent, Edge, Program
from tests.kit.stopwatch import Stopwatch

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.needs("ip", "curl"),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

IDLE_SECONDS = 15.0
BUSY_SECONDS = 5.0
PORT = 8443
DOMAIN = "tunnels.test"


def test_a_silent_network_is_noticed_and_service_resumes_after_it(tmp_path: Path) -> None:
    with cable() as ends:
        near, far = ends
        edge_home, agent_home = tmp_path / "edge", tmp_path / "agent"
        with (
            Edge(
                edge_home, "--domain", DOMAIN, "--zone", near.address, prefix=near.prefix,
                https=f"{near.address}:{PORT}", http="off",
            ) as edge,
            Program([*far.prefix, sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "8000"]),
            Agent(
                agent_home, "8000", "--url", f"https://{near.address}:{PORT}", "--ca-file", str(edge.ca),
                prefix=far.prefix, extra={"WELLHEAD_API_KEY": edge.key},
            ) as agent,
        ):  # fmt: skip
            assert _visit(near, edge, agent)[0] == 200

            # Under traffic: a request after a silence is a probe, one right after the last word is none yet.
            for silence in (4, 0):
                time.sleep(silence)
                mark, heard = edge.mark(), agent.mark()
                cut(ends)
                status, took = _visit(near, edge, agent)
                assert status in (503, 504) and took <= BUSY_SECONDS
                edge.line(r"session closed", after=mark)
                assert _visit(near, edge, agent)[0] == 503
                agent.line(r"no connection", 2 * IDLE_SECONDS, after=heard)
                mark = edge.mark()
                mend(ends)
                watch = Stopwatch(edge, agent)
                edge.line(r"session opened", 30, after=mark)
                assert watch.seconds() <= 12  # the longest pause between two dials, and a dial
                assert _visit(near, edge, agent)[0] == 200

            # Idle: nobody asks, both ends notice by themselves.
            mark, heard = edge.mark(), agent.mark()
            cut(ends)
            watch = Stopwatch(edge, agent)
            edge.line(r"session closed", 2 * IDLE_SECONDS, after=mark)
            agent.line(r"no connection", 2 * IDLE_SECONDS, after=heard)
            assert watch.seconds() <= IDLE_SECONDS + 0.5
            mend(ends)


def _visit(near: Side, edge: Edge, agent: Agent) -> tuple[int, float]:
    """Status and seconds of one request made on the edge's side."""
    done = subprocess.run(
        [
            *near.prefix, "curl", "-sS", "-o", "/dev/null", "--max-time", "20", "--noproxy", "*",
            "--cacert", str(edge.ca), "--resolve", f"{agent.hostname}:{PORT}:{near.address}",
            "-w", '{"status": %{http_code}, "seconds": %{time_total}}', f"https://{agent.hostname}:{PORT}/",
        ],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout)
    return int(told["status"]), float(told["seconds"])
