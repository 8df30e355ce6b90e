"""A server that is started again is the same server; one that is asked to stop finishes first."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import stat
from functools import partial
from pathlib import Path

import pytest

from tests.kit.programs import Edge, quiet_port
from tests.kit.upstreams import Peer, serving
from tests.kit.visitors import ask, request, visiting

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


async def ok(peer: Peer) -> None:
    while await peer.request():
        await peer.reply()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_a_second_start_finds_everything_as_it_was(tmp_path: Path) -> None:
    port = quiet_port()
    async with serving(ok, port=port):
        with Edge(tmp_path) as edge:
            key, ca = edge.key, edge.ca.read_bytes()
            assert edge.text.count(key) == 1, "the key is printed once"
            assert mode(edge.data) == 0o700 and mode(edge.data / "admin-key") == 0o600
            private = [path for path in edge.data.rglob("*") if path.is_file() and path != edge.ca]
            assert private and all(mode(path) & 0o077 == 0 for path in private), private
            assert (edge.data / "ca.key").exists()
            with edge.agent(port) as agent:
                name, secret = agent.name, "whs_"
                assert secret in agent.text, "the connect secret is shown when the tunnel is made"
                assert (await ask(edge, agent.hostname)).status == 200
                assert agent.stop(signal.SIGINT) == 0
            state = tmp_path / "tunnels" / name
            assert mode(state) == 0o700 and all(mode(path) == 0o600 for path in state.iterdir())
            assert edge.stop() == 0

        with Edge(tmp_path) as edge:
            assert (edge.key, edge.ca.read_bytes()) == (key, ca)
            assert key not in edge.text
            assert (await ask(edge, f"{name}.localhost")).status == 503  # known, nobody there
            with edge.agent(port) as agent:
                assert agent.name == name, "the name is remembered for the upstream"
                assert secret not in agent.text
                assert (await ask(edge, agent.hostname)).status == 200


async def test_sigterm_lets_a_slow_reply_finish_and_refuses_new_work(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def upstream(peer: Peer) -> None:
        while head := await peer.request():
            if b"/slow" in head:
                await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nslow")
                await release.wait()
                await peer.say(b"done")
            else:
                await peer.reply()

    port = quiet_port()
    with Edge(tmp_path) as edge, edge.agent(port) as agent:
        host = f"{agent.hostname}:{edge.https}"
        async with (
            serving(upstream, port=port),
            visiting(edge, agent.hostname) as slow,
            visiting(edge, agent.hostname) as idle,
        ):
            assert (await idle.get("/", host)).status == 200
            await slow.send(request("/slow", host))
            await slow.head()
            edge.signal(signal.SIGTERM)
            assert await idle.rest(5) == b"", "a connection without a request is closed"
            with pytest.raises(OSError):
                async with visiting(edge, agent.hostname) as late:
                    await late.get("/", host)
            assert edge.process.poll() is None
            release.set()
            async with asyncio.timeout(5):
                assert await slow.reader.readexactly(8) == b"slowdone"
            code = await asyncio.to_thread(edge.wait, 5)
            assert code == 0
        assert "Traceback" not in edge.text


async def test_an_agent_goes_on_through_a_restart_of_its_edge(tmp_path: Path) -> None:
    port, https, http = quiet_port(), quiet_port(), quiet_port()
    start = partial(Edge, tmp_path, https=f"127.0.0.1:{https}", http=f"127.0.0.1:{http}")
    async with serving(ok, port=port):
        with contextlib.ExitStack() as stack:
            edge = stack.enter_context(start())
            agent = stack.enter_context(edge.agent(port))
            assert (await ask(edge, agent.hostname)).status == 200
            assert await asyncio.to_thread(edge.stop, signal.SIGTERM, 10) == 0
            edge = stack.enter_context(start())
            mark = edge.mark()
            await asyncio.to_thread(edge.line, r"session opened", 15, after=max(0, mark - 20))
            assert (await ask(edge, agent.hostname)).status == 200
            assert agent.stop(signal.SIGINT) == 0
            assert "Traceback" not in agent.text + edge.text


def test_two_servers_do_not_share_a_data_directory(tmp_path: Path) -> None:
    with Edge(tmp_path), Edge(tmp_path, wait=False) as second:
        assert second.wait() != 0
        assert "in use" in second.text and "Traceback" not in second.text
