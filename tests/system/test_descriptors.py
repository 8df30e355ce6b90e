"""A server that has run out of descriptors: agents stay, nothing spins, all is well when some are free."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.programs import Edge, Program, quiet_port
from tests.kit.stopwatch import Stopwatch
from tests.kit.upstreams import Peer, serving
from tests.kit.visitors import visiting

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

LIMIT = 256
WATCHED = 3.0  # seconds


async def ok(peer: Peer) -> None:
    while await peer.request():
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@contextlib.contextmanager
def crowd(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Connections that say nothing."""
    made: list[socket.socket] = []
    try:
        for _ in range(count):
            made.append(socket.create_connection(("127.0.0.1", port), 5))
        yield made
    finally:
        for sock in made:
            sock.close()


def cpu_seconds(program: Program) -> float:
    fields = Path(f"/proc/{program.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def until_full(edge: Edge) -> None:
    """Until the server has said that it takes no more for want of descriptors."""
    await asyncio.to_thread(edge.line, r"connection refused reason=descriptors", 10)


async def agents_door(edge: Edge) -> str | None:
    """The protocol that a newcomer among agents has agreed with the server."""
    context = edge.trust()
    context.set_alpn_protocols(["wellhead/1"])
    async with asyncio.timeout(5):
        _, writer = await asyncio.open_connection(
            "127.0.0.1", edge.https, ssl=context, server_hostname="localhost"
        )
    spoken: str | None = writer.get_extra_info("ssl_object").selected_alpn_protocol()
    writer.transport.abort()
    return spoken


@pytest.mark.parametrize("doors", [("http",), ("https",), ("http", "https")], ids="+".join)
async def test_without_descriptors_agents_stay_nothing_spins_and_all_is_well_afterwards(
    tmp_path: Path, doors: tuple[str, ...]
) -> None:
    port = quiet_port()
    limited = ("prlimit", f"--nofile={LIMIT}:{LIMIT}")
    with Edge(tmp_path, prefix=limited) as edge, edge.agent(port) as agent:
        host = f"{agent.hostname}:{edge.http}"
        async with serving(ok, port=port), visiting(edge, None) as early:
            assert (await early.get("/", host)).status == 200
            with contextlib.ExitStack() as stack:
                for door in doors:
                    stack.enter_context(crowd(getattr(edge, door), LIMIT))
                if "http" in doors:
                    await until_full(edge)
                before, began = cpu_seconds(edge), time.monotonic()
                while time.monotonic() - began < WATCHED:
                    assert (await early.get("/", host)).status == 200
                    await asyncio.sleep(0.2)
                assert (cpu_seconds(edge) - before) / (time.monotonic() - began) < 0.2
                assert edge.descriptors() < LIMIT
                if doors == ("http",):  # those that wait at the agents' own door stand before a newcomer
                    assert await agents_door(edge) == "wellhead/1"
            released = Stopwatch(edge, agent)
            for sni in (None, agent.hostname):
                there = f"{agent.hostname}:{edge.https if sni else edge.http}"
                async with visiting(edge, sni) as late:
                    assert (await late.get("/", there)).status == 200
            assert released.seconds() <= 2
        assert "session closed" not in edge.text
        assert "Traceback" not in edge.text
