"""What an agent costs its server while nothing happens: the growth of PSS by many, divided by their number.

For Wellhead and the prototype one helper holds the sessions: ``python -m bench.idle PORT [SECRETS CA]``;
for the others their own clients do. SECRETS has a line "name secret" per agent, and is empty where no hello
is said; CA is a file, and empty where the server is not verified; without both there is no TLS.
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
from functools import partial
from pathlib import Path
from typing import cast

import uvloop

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
    secrets = ground.directory / "wellhead-idle-secrets"
    secrets.touch(0o600)
    lines = []
    for number in range(agents + WARM_UP):
        name = f"idle-{number:05d}"
        lines.append(f"{name} {_create_tunnel(edge, name)}\n")
    secrets.write_text("".join(lines))
    extra = [str(secrets), str(edge.data / "ca.pem")]
    return _held(ground, "wellhead", edge.process, edge.https, agents, extra)


def _create_tunnel(edge: product.Edge, name: str) -> str:
    """Its connect secret."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{edge.http}/api/v1/tunnels",
        json.dumps({"tunnel_name": name}).encode(),
        {"X-API-Key": edge.key, "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        secret = json.load(answer)["connect_secret"]
    assert isinstance(secret, str)
    return secret


def prototype(ground: Ground, agents: int) -> Crowd:
    edge, _, port = prototype_edge(ground, "prototype-idle", tls=False)
    return _held(ground, "prototype", edge, port, agents, [])


def prototype_tls(ground: Ground, agents: int) -> Crowd:
    edge, _, port = prototype_edge(ground, "prototype-tls-idle", tls=True)
    return _held(ground, "prototype-tls", edge, port, agents, ["", ""])


def _held(ground: Ground, name: str, server: Child, port: int, most: int, extra: list[str]) -> Crowd:
    """``extra``: the helper's further arguments."""
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


def hello_of(line: str) -> bytes:
    """``line``: a tunnel's name and its secret."""
    tunnel, secret = line.split()
    facts = {
        "protocol": 1,
        "tunnel": tunnel,
        "secret": secret,
        "agent": "wellhead-bench/0",
        "session_hint": tunnel,
    }
    return json.dumps(facts).encode()


async def _hold(port: int, context: ssl.SSLContext | None, hellos: list[bytes]) -> None:
    """Open as many agents as each line of standard input says, and keep them until it ends."""
    loop = asyncio.get_running_loop()
    agents: list[Agent] = []
    while line := await asyncio.to_thread(sys.stdin.readline):
        for number in range(len(agents), len(agents) + int(line)):
            _, agent = await loop.create_connection(
                partial(Agent, hellos[number] if hellos else None),
                "127.0.0.1",
                port,
                ssl=context,
                server_hostname=None if context is None else "localhost",
            )
            async with asyncio.timeout(10):
                await agent.welcome
            agents.append(agent)
        print(f"open {len(agents)}", flush=True)


def client_context(authority: str) -> ssl.SSLContext:
    """For native agents that trust this file; without one, for peers that are not verified."""
    if authority:
        context = ssl.create_default_context(cafile=authority)
        context.set_alpn_protocols(["wellhead/1"])
        return context
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _main(port: str, secrets: str = "", authority: str | None = None) -> None:
    hellos = [hello_of(line) for line in Path(secrets).read_text().splitlines()] if secrets else []
    uvloop.run(_hold(int(port), None if authority is None else client_context(authority), hellos))


if __name__ == "__main__":
    _main(*sys.argv[1:])
