"""Every example runs as it is, and does what its first line says."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.hosted import hosted
from tests.kit.programs import Edge, Program, environment
from tests.kit.small_apps import NoContent, served
from wellhead.model import access
from wellhead.model.access import Secret

FOLDER = Path(__file__).parents[2] / "examples"
APPLICATIONS = {"chat", "voice_bridge"}  # whole programs: tests of their own
EXAMPLES = sorted(path for path in FOLDER.glob("*.py") if path.stem not in APPLICATIONS)
MAX_LINES = 25
FORWARDERS = [path for path in EXAMPLES if path.stem in ("forward_url", "watch_requests")]

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def upstream() -> Iterator[int]:
    with served(NoContent) as port:
        yield port


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", FORWARDERS, ids=lambda path: path.stem)
def test_an_example_carries_a_visitor_to_the_upstream(path: Path, tmp_path: Path, upstream: int) -> None:
    with Edge(tmp_path / "home") as edge:
        command = [sys.executable, str(path), str(upstream)]
        with Program(command, environment(tmp_path / "home")) as program:
            hostname = program.line(r"https://(\S+):\d+ -> ")[1]
            visit = urllib.request.Request(f"http://127.0.0.1:{edge.http}/")
            visit.add_header("Host", f"{hostname}:{edge.http}")
            with urllib.request.urlopen(visit, timeout=20) as reply:
                assert reply.status == 204
            program.stop(signal.SIGINT)
        assert "Traceback" not in program.text


def test_the_example_of_a_port_shows_it_to_everybody(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "sandbox_port.py")]
    with (
        hosted(tmp_path / "home", runtime="process") as edge,
        Program(command, environment(edge.home)) as program,
    ):
        hostname = program.line(r"https://(8000-cl-\S+):\d+ -> port 8000 of cl-")[1]
        visit = urllib.request.Request(f"http://127.0.0.1:{edge.http}/")
        visit.add_header("Host", f"{hostname}:{edge.http}")
        with urllib.request.urlopen(visit, timeout=20) as reply:
            assert reply.read() == b"hello from a sandbox\n"
        program.line(r'"GET / HTTP/1\.1" 200')
        program.stop(signal.SIGINT)
        assert "Traceback" not in program.text


def _run(name: str, edge: Edge, *arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, str(EXAMPLES[0].parent / name), *arguments],
        env=environment(edge.home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_examples_that_manage_records(tmp_path: Path, upstream: int) -> None:
    with Edge(tmp_path / "home") as edge:
        text = _run("make_and_remove.py", edge, "for-a-moment")
        assert "https://for-a-moment.localhost:" in text and "for-a-moment is deleted" in text
        for _ in range(2):  # the tunnel is made by the first and found by the second
            assert access.well_formed(Secret(_run("hand_out_key.py", edge, "shared").strip()), access.API_KEY)
        lines = _run("rotate_secret.py", edge, "shared", str(upstream)).splitlines()
        assert [line.partition(" is ")[2] for line in lines] == [
            "connected with the old secret",
            "connected with the new one",
        ]
        text = _run("watch_tunnels.py", edge)
        assert "1 tunnels, 3 keys" in text and "shared: active" in text and "tunnel.rotate" in text
