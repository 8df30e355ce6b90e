"""What happens to a tunnel while an official SDK's agent has it: nothing that the agent does not survive."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from tests.kit.carriers import APP, Upstream, conversing, identity
from tests.kit.programs import Edge, eventually
from tests.kit.sdks import NEW, OLD, SdkAgent, sdk
from tests.kit.visitors import ask
from tests.kit.zones import NEEDED, zoned
from wellhead.client import Client

pytestmark = NEEDED

REFUSED = 4  # the exit code of an agent that is not wanted any more
BOTH = pytest.mark.parametrize("version", [OLD, NEW])


@dataclass
class User:
    """Somebody with a machine, who runs one agent there again and again."""

    edge: Edge
    home: Path
    version: str
    name: str

    def __post_init__(self) -> None:
        if self.version == NEW:
            identity(self.edge, self.name)

    def agent(self, *flags: str, wait: bool = True, key: str | None = None) -> SdkAgent:
        app = ("--app", str(APP))
        return SdkAgent(sdk(self.version), self.edge, self.home, self.name, *app, *flags, key=key, wait=wait)

    def client(self) -> Client:
        return Client(f"https://{self.edge.address}", self.edge.key, ca_file=self.edge.ca)

    def status(self, target: str = "/echo") -> int:
        """What a visitor is answered."""
        return asyncio.run(ask(self.edge, f"{self.name}.localhost", target)).status

    def state(self) -> dict[str, str]:
        """What the SDK has written down."""
        found: dict[str, str] = json.loads(
            (self.home / ".inkbox" / "tunnels" / self.name / "state.json").read_text()
        )
        return found


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with zoned(tmp_path_factory.mktemp("zone")) as edge:
        yield edge


@BOTH
def test_an_agent_that_is_started_again_has_its_tunnel_again(
    edge: Edge, tmp_path: Path, version: str
) -> None:
    user = User(edge, tmp_path, version, f"again-{version.replace('.', '-')}")
    ids = set()
    for _ in range(2):
        with user.agent() as agent:
            assert user.status() == 200
            ids.add(user.state()["tunnel_id"])
            with user.client() as client:
                eventually(lambda: client.tunnels.get(user.state()["tunnel_id"]).currently_connected, 5)
            assert agent.stop(signal.SIGTERM) == 0
        with user.client() as client:
            eventually(lambda: not client.tunnels.get(user.state()["tunnel_id"]).currently_connected, 5)
        assert user.status() == 503
    assert len(ids) == 1


def test_a_secret_that_was_rotated_serves_the_live_agent_and_no_next_one(edge: Edge, tmp_path: Path) -> None:
    user = User(edge, tmp_path, OLD, "rotated")
    with user.agent() as agent, user.client() as client:
        secret = client.tunnels.rotate_secret(user.state()["tunnel_id"]).reveal()
        for _ in range(3):
            assert user.status() == 200
        assert agent.stop() == 0
        with user.agent(wait=False) as late:
            late.line(r"^ended _TunnelAuthError")
        with user.agent("--secret", secret):
            assert user.status() == 200
            assert user.state()["secret"] == secret


def test_an_agent_of_a_deleted_tunnel_waits_and_is_back_when_it_is_restored(
    edge: Edge, tmp_path: Path
) -> None:
    user = User(edge, tmp_path, OLD, "restored")
    with user.agent() as agent, user.client() as client:
        assert user.status() == 200
        tunnel, mark = user.state()["tunnel_id"], agent.mark()
        client.tunnels.delete(tunnel)
        eventually(lambda: user.status() in (404, 410, 503), 5)
        agent.line("^status reconnecting", after=mark)
        assert agent.process.poll() is None
        client.tunnels.restore(tunnel)
        agent.connected(after=mark)
        assert user.status() == 200


@BOTH
def test_an_agent_of_a_tunnel_that_is_gone_for_good_ends(edge: Edge, tmp_path: Path, version: str) -> None:
    user = User(edge, tmp_path, version, f"gone-{version.replace('.', '-')}")
    with user.agent() as agent, user.client() as client:
        tunnel = user.state()["tunnel_id"]
        if version == NEW:
            sdk(NEW).run("inkbox.get_identity(sys.argv[1]).delete()", edge, tmp_path, user.name)
        else:
            client.tunnels.delete(tunnel)
            client.tunnels.force_delete(tunnel)
        agent.line("^ended _TunnelAuthError")
        with user.agent(wait=False) as late:
            late.line("^ended (TunnelRemoved|TunnelNotProvisioned)")


def test_a_newer_agent_takes_the_tunnel_over_and_the_older_one_ends(edge: Edge, tmp_path: Path) -> None:
    user = User(edge, tmp_path, NEW, "taken-over")
    with user.agent() as first, user.agent():
        first.line("^ended TunnelSupersededError")
        assert "status superseded" in first.text
        for _ in range(5):
            assert user.status() == 200


def test_our_agent_takes_over_on_this_carrier_and_is_one_more_on_its_own(edge: Edge, tmp_path: Path) -> None:
    user = User(edge, tmp_path, NEW, "passed-on")
    with Upstream() as upstream, user.agent() as official:
        flags = (upstream.url, "--name", user.name)
        with edge.agent(*flags, "--carrier", "mux"):
            assert user.status() == 200
            with edge.agent(*flags, "--carrier", "h2") as first:
                official.line("^ended TunnelSupersededError")
                with edge.agent(*flags, "--carrier", "h2"):
                    assert first.wait() == REFUSED and "another agent" in first.text
                    assert user.status() == 200
        assert user.status() == 503


def test_two_older_agents_of_one_tunnel_do_not_displace_each_other_without_end(
    edge: Edge, tmp_path: Path
) -> None:
    user = User(edge, tmp_path, OLD, "displaced")
    with user.agent() as first, user.agent() as second:
        until = time.monotonic() + 8
        answers = []
        while time.monotonic() < until:
            answers.append(user.status())
        connected = sum(agent.text.count("status connected") for agent in (first, second))
    assert answers.count(200) > 0.9 * len(answers)
    assert connected <= 12


@BOTH
def test_a_credential_that_was_revoked_ends_the_agent(edge: Edge, tmp_path: Path, version: str) -> None:
    user = User(edge, tmp_path, version, f"revoked-{version.replace('.', '-')}")
    with user.client() as client:
        made = client.keys.create("an agent's", scopes=["admin"])
        with user.agent(key=made.api_key.reveal()) as agent:
            assert user.status() == 200
            client.keys.revoke(made.record.id)
            if version == NEW:
                agent.line("^ended _TunnelAuthError")
            else:
                assert user.status() == 200  # it came with its tunnel's secret
    if version == OLD:
        with user.agent("--secret", "whs_" + "x" * 43, wait=False) as wrong:
            wrong.line("^ended _TunnelAuthError")


@BOTH
def test_visitors_of_an_agent_that_is_killed_are_told_at_once(
    edge: Edge, tmp_path: Path, version: str
) -> None:
    user = User(edge, tmp_path, version, f"killed-{version.replace('.', '-')}")

    async def wait(agent: SdkAgent) -> tuple[int, int, float]:
        waiting = asyncio.create_task(ask(edge, f"{user.name}.localhost", "/wait/20000"))
        async with conversing(edge, f"{user.name}.localhost") as client:
            await client.send("hi")  # so is the request, which was before, with the app
            assert await client.recv() == "hi"
            began = time.monotonic()
            agent.kill()
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
        code = closed.value.rcvd.code if closed.value.rcvd is not None else 1006
        return (await waiting).status, code, time.monotonic() - began

    with user.agent() as agent:
        status, code, seconds = asyncio.run(wait(agent))
    assert (status, code) == (503, 1011) and seconds < 5
    assert user.status() == 503
