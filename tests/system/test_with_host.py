"""``wellhead up --with-host``: one command, and there is a server with a host on its own machine."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.kit.hosted import hosted
from tests.kit.hosts import SandboxApi
from tests.kit.programs import Edge, eventually

pytestmark = pytest.mark.system
LATE_SECONDS = 30.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / ".wellhead"


@pytest.fixture
def edge(home: Path) -> Iterator[Edge]:
    with hosted(home, runtime="process") as running:
        yield running


def host_of(edge: Edge) -> psutil.Process:
    """The process of the host beside a server.

    Raises:
        AssertionError: there is none just now.
    """
    for child in psutil.Process(edge.pid).children():
        with contextlib.suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
            if "wellhead.serve_host" in child.cmdline():
                return child
    raise AssertionError("no host")


def test_when_it_says_ready_a_sandbox_can_be_made(edge: Edge) -> None:
    with SandboxApi(edge) as api:
        assert [host["name"] for host in api.ask("GET", "/hosts")] == ["local"]
        sandbox = api.create()
        assert api.run(sandbox, "echo", "there") == "there\n"


def test_it_says_that_ports_are_public_and_a_setting_makes_them_private(edge: Edge, tmp_path: Path) -> None:
    said = "sandbox ports are public: whoever knows a port's name reaches it; sandbox_visibility changes it"
    with SandboxApi(edge) as api:
        assert edge.out.count(said) == 1 and edge.out.index(said) < edge.out.index(
            edge.line("^ready ").string
        )
        assert api.ask("GET", f"/sandboxes/{api.create()}")["visibility"] == "public"
    private = {"sandbox_visibility": "private"}
    with hosted(tmp_path / "other", runtime="process", settings=private) as other, SandboxApi(other) as api:
        assert "sandbox ports" not in other.text
        assert api.ask("GET", f"/sandboxes/{api.create()}")["visibility"] == "private"


def test_a_host_that_was_killed_comes_back_and_knows_its_sandboxes(edge: Edge) -> None:
    with SandboxApi(edge) as api:
        sandbox = api.create()
        api.run(sandbox, "sh", "-c", "echo kept > note")
        host = host_of(edge)
        host.kill()
        eventually(lambda: host_of(edge).pid != host.pid, LATE_SECONDS)

        def answers() -> bool:
            return api.run(sandbox, "cat", "note") == "kept\n"

        eventually(answers, LATE_SECONDS)


def test_the_host_ends_with_a_server_that_was_killed_and_its_sandboxes_do_not(home: Path) -> None:
    keep = {"host_keep_sandboxes": True}
    with hosted(home, runtime="process", settings=keep) as first, SandboxApi(first) as api:
        sandbox = api.create()
        api.run(sandbox, "sh", "-c", "echo kept > note")
        host = host_of(first)
        first.signal(signal.SIGKILL)
        eventually(lambda: not psutil.pid_exists(host.pid), LATE_SECONDS)
        first.wait()
        with hosted(home, runtime="process") as second, SandboxApi(second) as again:
            eventually(lambda: again.status(sandbox) == "running", LATE_SECONDS)
            assert again.run(sandbox, "cat", "note") == "kept\n"
            assert len(again.ask("GET", "/hosts")) == 1


def test_the_token_by_which_it_joined_is_good_no_more(edge: Edge) -> None:
    token = (edge.data / "host-token").read_text().strip()
    assert (edge.data / "host-token").stat().st_mode & 0o777 == 0o600
    with SandboxApi(edge) as api:
        machine = {"name": "other", "runtime": "process", "vcpus": 1, "memory_mb": 1, "disk_mb": 1}
        api.ask("POST", "/hosts/join", 401, json={"token": token, "templates": [], **machine})
