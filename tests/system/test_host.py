"""A host beside a real server: it joins, makes sandboxes, and what happens when either of them goes."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kit.host_network import in_host_network
from tests.kit.hosts import HostProgram, SandboxApi
from tests.kit.programs import Edge, Program, environment, eventually
from tests.kit.sandbox_host import free_all, needs_namespaces
from tests.system.test_howto import PATH, commands, shell
from wellhead.cli.exit import ExitCode

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]
SANDBOXES = 5
MANY = 20
LATE_SECONDS = 30.0


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with Edge(tmp_path_factory.mktemp("server") / "home") as running:
        yield running


@pytest.fixture
def api(edge: Edge) -> Iterator[SandboxApi]:
    with SandboxApi(edge) as api:
        yield api


def _ended(host: HostProgram, *sandboxes: str) -> None:
    for sandbox in sandboxes:
        eventually(lambda sandbox=sandbox: not host.processes(sandbox), LATE_SECONDS)
    assert not [path for path in (host.state / "sandboxes").glob("*") if path.name in sandboxes]


def test_a_host_joins_and_is_asked_for_sandboxes(edge: Edge, api: SandboxApi, tmp_path: Path) -> None:
    token = api.token()
    with HostProgram(edge, tmp_path / "host", token) as host:
        eventually(lambda: api.host(host.host)["status"] == "online", LATE_SECONDS)
        sandbox = api.create(envs={"GREETING": "hello"})
        assert api.run(sandbox, "sh", "-c", "echo $GREETING; pwd").splitlines()[0] == "hello"
        assert api.ask("POST", f"/sandboxes/{sandbox}/pause")["status"] == "paused"
        api.ask("POST", f"/sandboxes/{sandbox}/exec", 409, json={"argv": ["true"]})
        assert api.ask("POST", f"/sandboxes/{sandbox}/resume")["status"] == "running"
        api.run(sandbox, "true")
        tree = host.processes(sandbox)
        assert tree
        api.ask("DELETE", f"/sandboxes/{sandbox}", 204)
        assert api.status(sandbox) == "stopped"
        _ended(host, sandbox)
        again = HostProgram(edge, tmp_path / "other", token, wait=False)
        with again:
            assert again.wait() == ExitCode.REFUSED
            assert "token" in again.text
        assert host.stop() == 0
        eventually(lambda: api.host(host.host)["status"] == "offline", LATE_SECONDS)


def test_a_host_that_was_killed_finds_its_sandboxes_again(
    edge: Edge, api: SandboxApi, tmp_path: Path
) -> None:
    state = tmp_path / "host"
    with HostProgram(edge, state, api.token()) as first:
        with ThreadPoolExecutor(4) as pool:
            sandboxes = list(pool.map(lambda _: api.create(), range(SANDBOXES)))
        for sandbox in sandboxes:
            api.run(sandbox, "sh", "-c", "echo kept > note")
        *kept, paused, dies = sandboxes
        api.ask("POST", f"/sandboxes/{paused}/pause")
        first.stop(signal.SIGKILL)
        victim = first.processes(dies)[0]
        victim.kill()
        with HostProgram(edge, state) as second:
            assert second.host == first.host and second.found == SANDBOXES - 1
            wanted = dict.fromkeys(kept, "running") | {paused: "paused"}
            eventually(lambda: api.statuses() == wanted, LATE_SECONDS)
            eventually(lambda: api.status(dies) == "stopped", LATE_SECONDS)
            for sandbox in kept:
                assert api.run(sandbox, "cat", "note") == "kept\n"
            api.ask("POST", f"/sandboxes/{paused}/resume")
            assert api.run(paused, "cat", "note") == "kept\n"
            api.ask("DELETE", f"/hosts/{second.host}", 409)
            trees = {each.pid for sandbox in (*kept, paused) for each in second.processes(sandbox)}
            assert len(trees) >= SANDBOXES - 1
            api.ask("DELETE", f"/hosts/{second.host}?force=true", 204)
            assert second.wait(60) == ExitCode.REFUSED
            assert "deleted" in second.text and not (state / "host.json").exists()
            _ended(second, *kept, paused)
            assert not [pid for pid in trees if os.path.exists(f"/proc/{pid}")]


@needs_namespaces
def test_a_killed_host_of_isolated_sandboxes_finds_all_of_them_again() -> None:
    with in_host_network(), tempfile.TemporaryDirectory(prefix="wh-") as place, ExitStack() as ending:
        state = Path(place, "host")
        ending.callback(free_all, state)
        settings = {"host_memory_mb": MANY * 128, "host_egress": "none"}
        edge = ending.enter_context(Edge(Path(place, "home")))
        api = ending.enter_context(SandboxApi(edge))
        first = HostProgram(edge, state, api.token(), runtime="namespace", settings=settings)
        with first, ThreadPoolExecutor(4) as pool:
            sandboxes = list(pool.map(lambda _: api.create(disk_size_mb=64), range(MANY)))
            api.ask("POST", "/sandboxes", 503, json={"template": "minimal", "memory_mb": 128})
            for number, sandbox in enumerate(sandboxes):
                api.run(sandbox, "sh", "-c", f"echo {number} > /root/note")
            first.stop(signal.SIGKILL)
        with HostProgram(edge, state, runtime="namespace", settings=settings) as second:
            assert second.found == MANY
            wanted = dict.fromkeys(sandboxes, "running")
            eventually(lambda: api.statuses() == wanted, LATE_SECONDS)
            for number, sandbox in enumerate(sandboxes):
                assert api.run(sandbox, "cat", "/root/note") == f"{number}\n"
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda each: api.ask("DELETE", f"/sandboxes/{each}", 204), sandboxes))
            _ended(second, *sandboxes)
            assert second.stop() == 0


def test_a_restarted_server_finds_its_host_and_the_sandboxes_there(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with Edge(home) as first:
        with SandboxApi(first) as api:
            token = api.token()
            with HostProgram(first, tmp_path / "host", token) as host:
                sandbox = api.create()
                api.run(sandbox, "sh", "-c", "echo kept > note")
                ports = f"127.0.0.1:{first.https}", f"127.0.0.1:{first.http}"
                first.stop()
                with Edge(home, https=ports[0], http=ports[1]) as second, SandboxApi(second) as later:
                    eventually(lambda: later.status(sandbox) == "running", LATE_SECONDS)
                    eventually(lambda: later.run(sandbox, "cat", "note") == "kept\n", LATE_SECONDS)
                    later.ask("DELETE", f"/sandboxes/{sandbox}", 204)
                    host.stop()


def test_the_commands_of_the_page(edge: Edge, api: SandboxApi, tmp_path: Path) -> None:
    *before, join = commands("hosts.md", edge).splitlines()
    shell("\n".join(before), edge, tmp_path)
    assert "https://tunnels.example.com" in join
    here = join.replace("https://tunnels.example.com", edge.api.removesuffix("/api/v1"))
    settings = environment(edge.home, PATH=PATH, WELLHEAD_HOST_RUNTIME="process")
    with Program(["sh", "-c", f"exec {here}"], settings, tmp_path) as host:
        named = host.line(r"^online host=(\S+)")[1]
        assert named in shell("wellhead host status\nwellhead host get big-machine", edge, tmp_path)
        shell("wellhead host drain big-machine", edge, tmp_path)
        api.ask("POST", "/sandboxes", 503, json={"template": "minimal"})
        shell("wellhead host drain big-machine --undo", edge, tmp_path)
        sandbox = api.create(host_id=named)
        assert host.stop() == 0
    assert api.status(sandbox) == "missing"
    with Program(["sh", "-c", "exec wellhead host run"], settings, tmp_path) as host:
        host.line(r"^online host=\S+ runtime=process sandboxes=1$")
        eventually(lambda: api.status(sandbox) == "running", LATE_SECONDS)
        assert host.stop() == 0
    assert "1 sandboxes were ended" in shell(
        "WELLHEAD_HOST_RUNTIME=process wellhead host leave --yes", edge, tmp_path
    )
    shell("wellhead host rm big-machine --force --yes", edge, tmp_path)
    assert "big-machine" not in shell("wellhead host list", edge, tmp_path)
