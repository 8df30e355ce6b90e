"""What an agent costs its server while nothing happens: the growth of PSS by many, divided by their number.

For Wellhead and the prototype one helper holds the sessions: ``python -m bench.idle PORT COUNT-ON-STDIN``;
for the others their own clients do.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
import struct
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from bench import product
from bench.ground import Ground, program
from bench.processes import Child, Unavailable, memory
from bench.targets import PRODUCTION, localtunnel_modules, localtunnel_server, prototype_edge, ssh_pair

WARM_UP = 32
"""Agents opened before counting: what the first ones cost is the server's, not theirs."""

_HERE = Path(__file__).parent
_HEADER = struct.Struct(">II")
_PING, _PONG, _HELLO, _WELCOME, _REFUSED = 6, 7, 16, 17, 18
_SETTLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Crowd:
    """A server, and how to give it so many more idle agents."""

    server: Child
    grow: Callable[[int], None]
    most: int  # agents that are reasonable on one machine


def wellhead(ground: Ground, agents: int) -> Crowd:
    """Native sessions over TLS, each on a tunnel of its own."""
    edge = product.start_edge(ground, "wellhead-idle")
    names = [f"idle-{number:05d}" for number in range(agents + WARM_UP)]
    for name in names:
        request = urllib.request.Request(
            f"{edge.api.rstrip('/')}/api/v1/tunnels",
            json.dumps({"tunnel_name": name}).encode(),
            {"X-API-Key": edge.key, "Content-Type": "application/json", "Host": "localhost"},
        )
        urllib.request.urlopen(request, timeout=10).close()
    return _held(ground, "wellhead", edge.process, edge.https, agents, [edge.key, str(edge.data / "ca.pem")])


def prototype(ground: Ground, agents: int) -> Crowd:
    edge, _, port = prototype_edge(ground, "prototype-idle", tls=False)
    return _held(ground, "prototype", edge, port, agents, [])


def prototype_tls(ground: Ground, agents: int) -> Crowd:
    edge, _, port = prototype_edge(ground, "prototype-tls-idle", tls=True)
    return _held(ground, "prototype-tls", edge, port, agents, [""])


def _held(ground: Ground, name: str, server: Child, port: int, most: int, extra: list[str]) -> Crowd:
    """``extra``: nothing for plain connections, an empty string for TLS alone, key and CA for a hello."""
    helper = ground.python(f"{name}-idle-agents", "-m", "bench.idle", str(port), *extra, stdin=True)
    return _told(server, helper, most)


def _told(server: Child, helper: Child, most: int) -> Crowd:
    opened = 0

    def grow(more: int) -> None:
        nonlocal opened
        opened += more
        helper.tell(str(more))
        helper.wait_for(rf"^open {opened}$", 120)

    return Crowd(server, grow, most)


def ssh(ground: Ground, agents: int) -> Crowd:
    server, client = ssh_pair(ground)
    numbers = itertools.count()

    def grow(more: int) -> None:
        for _ in range(more):
            forward = f"127.0.0.1:0:127.0.0.1:{ground.upstream}"
            child = ground.spawn(f"ssh-idle-{next(numbers)}", [*client, "-R", forward])
            child.wait_for("Allocated port", 20)

    return Crowd(server, grow, min(agents, 16))


def localtunnel(ground: Ground, agents: int) -> Crowd:
    server, port = localtunnel_server(ground, "localtunnel-idle-server")
    argv = [
        program("node"),
        str(_HERE / "idle_localtunnel.cjs"),
        f"http://127.0.0.1:{port}",
        str(ground.upstream),
    ]
    helper = ground.spawn(
        "localtunnel-idle-agents",
        [*argv, str(localtunnel_modules() / "localtunnel")],
        env=PRODUCTION,
        stdin=True,
    )
    return _told(server, helper, min(agents, 100))


CROWDS: dict[str, Callable[[Ground, int], Crowd]] = {
    "wellhead": wellhead,
    "prototype": prototype,
    "prototype-tls": prototype_tls,
    "ssh-R": ssh,
    "localtunnel": localtunnel,
}


def kib_per_agent(ground: Ground, name: str, agents: int) -> tuple[int, float]:
    """How many idle agents were opened, and the PSS that each added to the server, in KiB."""
    crowd = CROWDS[name](ground, agents)
    crowd.grow(min(WARM_UP, crowd.most))
    before = _settled(crowd.server)
    crowd.grow(crowd.most)
    return crowd.most, (_settled(crowd.server) - before) / crowd.most


def _settled(server: Child) -> int:
    time.sleep(_SETTLE_SECONDS)
    return memory(server.pids()).pss


class Agent(asyncio.Protocol):
    """An idle agent on the wire of docs/reference/wire.md: says hello, answers pings, accepts nothing."""

    def __init__(self, hello: bytes | None) -> None:
        self._hello = hello
        self._buffer = b""
        self.welcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's fits, but is no subclass
        if self._hello is None:
            self.welcome.set_result(None)
        else:
            self._send(_HELLO, self._hello)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            word, _ = _HEADER.unpack_from(self._buffer)
            end = _HEADER.size + (word >> 8)
            if len(self._buffer) < end:
                return
            self._frame(word & 0x3F, self._buffer[_HEADER.size : end])
            self._buffer = self._buffer[end:]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.welcome.done():
            self.welcome.set_exception(Unavailable(f"the edge closed before its welcome: {exc}"))

    def _frame(self, kind: int, payload: bytes) -> None:
        if kind == _PING:
            self._send(_PONG, payload)
        elif kind == _WELCOME:
            self.welcome.set_result(None)
        elif kind == _REFUSED:
            self.welcome.set_exception(Unavailable(f"the edge refused: {payload.decode()}"))

    def _send(self, kind: int, payload: bytes) -> None:
        self._transport.write(_HEADER.pack(len(payload) << 8 | kind, 0) + payload)


def _hello(key: str, number: int) -> bytes:
    return json.dumps(
        {
            "protocol": 1,
            "tunnel": f"idle-{number:05d}",
            "secret": key,
            "agent": "wellhead-bench/0",
            "session_hint": f"idle{number:05d}",
            "lane": "default",
            "window": 256 * 1024,
            "features": [],
        }
    ).encode()


async def _hold(port: int, extra: list[str]) -> None:
    """Open as many agents as each line of standard input says, and keep them until it ends."""
    loop = asyncio.get_running_loop()
    context: ssl.SSLContext | None = None
    if extra:
        native = len(extra) == 2
        context = ssl.create_default_context(cafile=extra[1] if native else None)
        if native:
            context.set_alpn_protocols(["wellhead/1"])
        else:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    agents: list[Agent] = []
    while line := await asyncio.to_thread(sys.stdin.readline):
        for number in range(len(agents), len(agents) + int(line)):
            hello = _hello(extra[0], number) if len(extra) == 2 else None
            name = "localhost" if context is not None else None
            _, agent = await loop.create_connection(
                lambda hello=hello: Agent(hello),
                "127.0.0.1",
                port,
                ssl=context,
                server_hostname=name,
            )
            async with asyncio.timeout(10):
                await agent.welcome
            agents.append(agent)
        print(f"open {len(agents)}", flush=True)


if __name__ == "__main__":
    import uvloop

    uvloop.run(_hold(int(sys.argv[1]), sys.argv[2:]))
