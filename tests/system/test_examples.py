"""Every example runs as it is, and does what its first line says."""

from __future__ import annotations

import signal
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from tests.kit.programs import Edge, Program, environment

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
MAX_LINES = 25
FORWARDERS = [path for path in EXAMPLES if path.stem in ("forward_url", "watch_requests")]

pytestmark = pytest.mark.system


class _Quiet(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None: ...


@pytest.fixture(scope="module")
def upstream() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


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
