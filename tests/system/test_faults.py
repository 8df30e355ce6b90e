"""Programs that die, sleep and come back: whom it costs what, and how soon."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from tests.kit.programs import Agent, Edge, eventually, quiet_port
from tests.kit.stopwatch import Stopwatch
from tests.kit.upstreams import Peer, serving
from tests.kit.visitors import Truncated, ask, request, visiting

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


async def ok(peer: Peer) -> None:
    while await peer.request():
        await peer.reply()


async def status(edge: Edge, hostname: str) -> int:
    return (await ask(edge, hostname)).status


async def back(edge: Edge, agent: Agent, seconds: float) -> float:
    """How long it takes until the tunnel answers 200 again."""
    watch = Stopwatch(edge, agent)
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(ConnectionError, Truncated):
                if await status(edge, agent.hostname) == 200:
                    return watch.seconds()
            await asyncio.sleep(0.05)


async def test_an_agent_that_is_killed_within_a_reply_is_seen_at_once(tmp_path: Path) -> None:
    """X4: a visible truncation for a reply that had begun, 502 or 503 for those that had not."""

    async def upstream(peer: Peer) -> None:
        head = await peer.request()
        if b"/begun" in head:
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nsome")
        if b"/chunked" in head:
            await peer.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n")
        await peer.closed()

    port = quiet_port()
    with Edge(tmp_path) as edge, edge.agent(port) as agent:
        host = f"{agent.hostname}:{edge.https}"
        async with (
            serving(upstream, port=port),
            visiting(edge, agent.hostname) as sized,
            visiting(edge, agent.hostname) as chunked,
            visiting(edge, agent.hostname) as waiting,
        ):
            await sized.send(request("/begun", host))
            await chunked.send(request("/chunked", host))
            await waiting.send(request("/waiting", host))
            assert (await sized.head()).status == (await chunked.head()).status == 200
            agent.signal(signal.SIGKILL)
            watch = Stopwatch(edge)
            assert (await sized.rest()) in (b"some", b"")
            rest = await chunked.rest()
            assert not rest.endswith(b"0\r\n\r\n")
            assert (await waiting.reply()).status in (502, 503)
            assert watch.seconds() < 1.0
            assert await status(edge, agent.hostname) == 503


async def test_new_streams_go_to_the_least_loaded_agent_and_a_dead_one_costs_only_its_own(
    tmp_path: Path,
) -> None:
    release = asyncio.Event()
    ports = [quiet_port(), quiet_port()]

    async def upstream(peer: Peer) -> None:
        who = b"%d" % peer.writer.get_extra_info("sockname")[1]
        while head := await peer.request():
            if b"/hold" in head:
                await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(who) + 1), who)
                await release.wait()
                await peer.say(b".")
            else:
                await peer.reply(who)

    with (
        Edge(tmp_path) as edge,
        edge.agent(ports[0]) as first,
        edge.agent(ports[1], "--name", first.name) as second,
    ):
        assert first.url == second.url
        host = f"{first.hostname}:{edge.https}"
        async with (
            serving(upstream, port=ports[0]),
            serving(upstream, port=ports[1]),
            contextlib.AsyncExitStack() as stack,
        ):
            visitors = [await stack.enter_async_context(visiting(edge, first.hostname)) for _ in range(10)]
            who = []
            for visitor in visitors:
                await visitor.send(request("/hold", host))
                await visitor.head()
                async with asyncio.timeout(5):
                    who.append(int(await visitor.reader.readexactly(len(str(ports[0])))))
            assert Counter(who) == {ports[0]: 5, ports[1]: 5}

            second.signal(signal.SIGKILL)
            for visitor, port in zip(visitors, who, strict=True):
                if port == ports[1]:
                    assert await visitor.rest(2) == b""  # cut short of its last byte
            for _ in range(5):
                assert (await ask(edge, first.hostname)).body == b"%d" % ports[0]
            release.set()
            for visitor, port in zip(visitors, who, strict=True):
                if port == ports[0]:
                    async with asyncio.timeout(5):
                        assert await visitor.reader.readexactly(1) == b"."


async def test_an_agent_that_slept_notices_and_serves_again(tmp_path: Path) -> None:
    """X8, with clocks ten times as fast: the edge gives it up, it comes back by itself."""
    port = quiet_port()
    settings = {"ping_seconds": 1, "ping_timeout_seconds": 0.5}
    with Edge(tmp_path, settings=settings) as edge, edge.agent(port) as agent:
        async with serving(ok, port=port):
            assert await status(edge, agent.hostname) == 200
            agent.signal(signal.SIGSTOP)
            await asyncio.sleep(6)  # the fault itself: four times what the edge waits for
            assert await status(edge, agent.hostname) == 503
            agent.signal(signal.SIGCONT)
            assert await back(edge, agent, 30) <= 3.0


async def test_an_agent_that_stops_answering_under_traffic_is_given_up_within_five_seconds(
    tmp_path: Path,
) -> None:
    """X5 without a network: with the usual clocks, a request to a silent agent is a probe."""
    port = quiet_port()
    with Edge(tmp_path) as edge, edge.agent(port) as agent:
        async with serving(ok, port=port):
            assert await status(edge, agent.hostname) == 200
            agent.signal(signal.SIGSTOP)
            await asyncio.sleep(2.2)  # silence that makes the next request a probe
            watch = Stopwatch(edge)
            assert await status(edge, agent.hostname) in (503, 504)
            assert watch.seconds() <= 5.0
            agent.signal(signal.SIGCONT)
            await back(edge, agent, 30)


async def test_a_request_waits_for_an_upstream_that_comes_back(tmp_path: Path) -> None:
    """X12: dialled again while nothing was sent; 502 where it stays away; success soon after."""
    port = quiet_port()
    with Edge(tmp_path) as edge, edge.agent(port) as agent:
        watch = Stopwatch(edge, agent)
        assert await status(edge, agent.hostname) == 502
        assert watch.seconds() <= 3.5

        async with visiting(edge, agent.hostname) as visitor:
            await visitor.send(request("/", f"{agent.hostname}:{edge.https}"))
            await asyncio.sleep(2)  # the fault itself
            watch = Stopwatch(edge, agent)
            async with serving(ok, port=port):
                assert (await visitor.reply()).status == 200
                assert watch.seconds() <= 1.0


async def test_a_request_that_may_have_been_received_is_not_sent_twice(tmp_path: Path) -> None:
    got: list[bytes] = []

    async def upstream(peer: Peer) -> None:
        """Takes one request whole, then dies without a word; a connection is good once more before."""
        if b"/warm" in (head := await peer.request()):
            await peer.reply()
            head = await peer.request()
        got.append(head.split()[0])

    port = quiet_port()
    with Edge(tmp_path) as edge, edge.agent(port) as agent:
        async with serving(upstream, port=port):
            for method in ("POST", "PATCH"):
                got.clear()
                assert (await ask(edge, agent.hostname, "/warm")).status == 200
                reply = await ask(edge, agent.hostname, "/", "Content-Length: 0", method=method)
                assert reply.status == 502 and got == [method.encode()]


async def test_an_agent_comes_back_to_an_edge_that_was_killed(tmp_path: Path) -> None:
    """X1 for one agent: the same names, ports and keys; back within five seconds."""
    port, https, http = quiet_port(), quiet_port(), quiet_port()
    start = partial(Edge, tmp_path, https=f"127.0.0.1:{https}", http=f"127.0.0.1:{http}")
    with contextlib.ExitStack() as stack:
        edge = stack.enter_context(start())
        agent = stack.enter_context(edge.agent(port))
        async with serving(ok, port=port):
            assert await status(edge, agent.hostname) == 200
            edge.signal(signal.SIGKILL)
            edge.wait()
            again = stack.enter_context(start())
            assert await back(again, agent, 30) <= 5.0
            assert agent.process.poll() is None
            mark = agent.text
            assert "Traceback" not in mark + again.text
            eventually(lambda: "whs_" not in again.text, 1)
