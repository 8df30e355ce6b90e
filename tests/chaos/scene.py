"""A server, some tunnels with agents and upstreams, and what may be broken about them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack
from datetime import datetime
from functools import partial
from pathlib import Path
from random import Random

from prometheus_client.parser import text_string_to_metric_families

from tests.chaos.history import Executed, Fault, History, Sampled, Session
from tests.kit.programs import Agent, Edge, quiet_port
from tests.kit.relay import Relay, relaying
from tests.kit.upstreams import Peer, serving
from tests.kit.visitors import Truncated, ask
from wellhead.client import AsyncClient
from wellhead.model.access import Secret

AGENTS_PER_TUNNEL = 2
SETTINGS = {
    "ping_seconds": 1, "ping_timeout_seconds": 0.5, "drain_seconds": 2, "websocket_drain_seconds": 0.5,
    "access_log": "off",
}  # fmt: skip
_SESSION = re.compile(r"^(\S+)Z \S+ wellhead.edge session (opened|closed) session=(\S+) tunnel=(\S+)")


class Crew:
    """One agent, the upstream behind it, and the relay that it dials the edge through."""

    def __init__(self, scene: Scene, post: Post, home: Path) -> None:
        self.scene = scene
        self.post = post
        self.home = home
        self.port = quiet_port()
        self.relay: Relay
        self.agent: Agent | None = None
        self._stack = AsyncExitStack()
        self._upstream = AsyncExitStack()

    async def __aenter__(self) -> Crew:
        self.relay = await self._stack.enter_async_context(relaying(self.scene.https))
        await self.upstream_up()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.dismiss()
        await self._upstream.aclose()
        await self._stack.aclose()

    async def upstream_up(self) -> None:
        await self._upstream.enter_async_context(serving(self._serve, port=self.port))

    async def upstream_down(self) -> None:
        await self._upstream.aclose()

    def dismiss(self) -> None:
        """SIGKILL, whatever it does."""
        if self.agent is not None:
            self.agent.kill()
            self.agent = None

    def hire(self) -> None:
        """An agent with the tunnel's present secret, in place of the one before."""
        self.dismiss()
        post = self.post
        extra = {
            "WELLHEAD_URL": f"https://localhost:{self.relay.port}",
            "WELLHEAD_CA_FILE": str(self.scene.edge.ca),
            "WELLHEAD_TUNNEL_SECRET": post.secret.reveal(),
        }
        self._labels = (post.tunnel, post.generation)
        self.agent = Agent(self.home, str(self.port), "--name", post.name, wait=False, extra=extra)

    async def _serve(self, peer: Peer) -> None:
        """Answer each request with its id and body, signed; a WebSocket with its own messages."""
        tunnel, generation = self._labels  # of the agent that connects now
        while head := await peer.request():
            method, target, _ = head.split(b" ", 2)
            number = target.rpartition(b"/")[2]
            websocket = b"\r\nupgrade: websocket" in head.lower()
            now = self.scene.history.now()
            self.scene.history.add(
                Executed(
                    began=now, ended=now, tunnel=tunnel, id=number.decode(),
                    method="WEBSOCKET" if websocket else method.decode(),
                )
            )  # fmt: skip
            marks = (f"X-Tunnel: {tunnel}", f"X-Generation: {generation}", f"X-Id: {number.decode()}")
            if websocket:
                await peer.converse(head, *(mark.encode() for mark in marks))
                return
            found = re.search(rb"(?i)\r\ncontent-length: (\d+)\r\n", head)
            body = await peer.body(int(found[1])) if found else b""
            await asyncio.sleep(self.scene.chance.choice((0, 0, 0, 0.02, 0.2)))
            await peer.reply(number + b"\n" + body, *(mark.encode() for mark in marks))


class Post:
    """A name, the tunnel that has it at present, and who answers for it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tunnel = ""  # its id; empty while there is none
        self.secret = Secret("")
        self.generation = 0  # of the secret
        self.retired: list[tuple[str, int, Secret]] = []  # tunnel, generation
        self.crews: list[Crew] = []
        self.busy = asyncio.Lock()  # held by whoever changes the record or the agents

    def supervise(self) -> None:
        """Agents in place of those that have left, as a supervisor does it."""
        for crew in self.crews:
            if crew.agent is None or crew.agent.process.poll() is not None:
                crew.hire()


class Scene:
    """Everything. ``chance`` is for the scene's own dice; each client has its own."""

    def __init__(self, home: Path, seed: int) -> None:
        self.home = home
        self.seed = seed
        self.chance = Random(f"{seed}/scene")
        self.history = History()
        self.https = quiet_port()
        self.boot = 0
        self.over = False  # clients finish what they do, and do no more
        self.posts: list[Post] = []
        self.standing = asyncio.Lock()  # held by whoever restarts the edge
        self._boots: list[Edge] = []
        self._start = partial(
            Edge, home / "edge", https=f"127.0.0.1:{self.https}", http="off", settings=SETTINGS, wait=False
        )

    @property
    def edge(self) -> Edge:
        return self._boots[-1]

    def dice(self, who: str) -> Random:
        """A client's own: what others do does not change its rolls."""
        return Random(f"{self.seed}/{who}")

    async def boot_edge(self) -> None:
        edge = self._start()
        self._boots.append(edge)
        self.boot += 1
        await asyncio.to_thread(edge.ready)

    @contextlib.asynccontextmanager
    async def fault(self, what: str) -> AsyncIterator[None]:
        began = self.history.now()
        try:
            yield
        finally:
            self.history.add(Fault(began=began, ended=self.history.now(), what=what))

    def client(self) -> AsyncClient:
        return AsyncClient(f"https://localhost:{self.https}", self.edge.key, ca_file=self.edge.ca)

    async def sample(self) -> dict[str, float] | None:
        """Read the metrics; None where the edge is away."""
        began, boot = self.history.now(), self.boot
        try:
            reply = await ask(self.edge, "localhost", "/metrics")
        except (OSError, Truncated, TimeoutError):
            return None
        if reply.status != 200 or boot != self.boot:
            return None
        values = {
            sample.name + str(sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(reply.body.decode())
            for sample in family.samples
        }
        self.history.add(Sampled(began=began, ended=self.history.now(), boot=boot, values=values))
        return values

    def read_logs(self) -> None:
        """Take the sessions' story out of every edge's log."""
        ahead = datetime.now().timestamp() - self.history.now()
        for boot, edge in enumerate(self._boots, 1):
            for line in edge.lines:
                if found := _SESSION.match(line):
                    at = datetime.fromisoformat(found[1] + "+00:00").timestamp() - ahead
                    self.history.add(
                        Session(
                            began=at, ended=at, boot=boot, session=found[3], name=found[4],
                            opened=found[2] == "opened",
                        )
                    )  # fmt: skip

    def programs(self) -> Iterable[Edge | Agent]:
        yield from self._boots
        yield from (crew.agent for post in self.posts for crew in post.crews if crew.agent is not None)

    def close(self) -> None:
        for edge in self._boots:
            edge.kill()


@contextlib.asynccontextmanager
async def staged(home: Path, seed: int, names: Iterable[str]) -> AsyncIterator[Scene]:
    """A scene whose edge runs, with a post for each name, still without a tunnel."""
    async with AsyncExitStack() as stack:
        scene = Scene(home, seed)
        stack.callback(scene.close)
        await scene.boot_edge()
        for name in names:
            post = Post(name)
            scene.posts.append(post)
            for number in range(AGENTS_PER_TUNNEL):
                crew = Crew(scene, post, home / f"{name}-{number}")
                post.crews.append(await stack.enter_async_context(crew))
        yield scene


# What may be broken. Each mends it before it returns.


async def agent_killed(scene: Scene, chance: Random) -> None:
    crew = _some_crew(scene, chance)
    async with crew.post.busy:
        crew.dismiss()
    await asyncio.sleep(chance.uniform(0, 1))
    async with crew.post.busy:
        if crew.post.tunnel:
            crew.hire()


async def agent_asleep(scene: Scene, chance: Random) -> None:
    agent = _some_crew(scene, chance).agent
    if agent is not None:
        await _asleep(agent, chance.uniform(0.5, 4))


async def network_silent(scene: Scene, chance: Random) -> None:
    """A black hole; what waited in it comes out at its end, or never."""
    crew = _some_crew(scene, chance)
    crew.relay.silence()
    await asyncio.sleep(chance.uniform(0.5, 5))
    if chance.random() < 0.5:
        crew.relay.cut()
    crew.relay.speak()


async def network_cut(scene: Scene, chance: Random) -> None:
    _some_crew(scene, chance).relay.cut()


async def upstream_gone(scene: Scene, chance: Random) -> None:
    crew = _some_crew(scene, chance)
    await crew.upstream_down()
    await asyncio.sleep(chance.uniform(0.2, 4))
    await crew.upstream_up()


async def edge_killed(scene: Scene, chance: Random) -> None:
    async with scene.standing:
        scene.edge.kill()
        await asyncio.sleep(chance.uniform(0, 1))
        await scene.boot_edge()


async def edge_drained(scene: Scene, chance: Random) -> None:
    async with scene.standing:
        await asyncio.to_thread(scene.edge.stop, signal.SIGTERM, 15)
        await scene.boot_edge()


async def edge_asleep(scene: Scene, chance: Random) -> None:
    async with scene.standing:
        await _asleep(scene.edge, chance.uniform(0.3, 2.5))


async def control_killed(scene: Scene, chance: Random) -> None:
    async with scene.standing:
        with contextlib.suppress(AssertionError):  # there is none: it was killed just now
            scene.edge.control().kill()


async def control_asleep(scene: Scene, chance: Random) -> None:
    async with scene.standing:
        try:
            process = scene.edge.control()
        except AssertionError:
            return
        process.suspend()
        try:
            await asyncio.sleep(chance.uniform(0.5, 4))
        finally:
            process.resume()


FAULTS: dict[Callable[[Scene, Random], object], int] = {  # how often, against the others
    agent_killed: 2, agent_asleep: 4, network_silent: 5, network_cut: 5, upstream_gone: 4,
    edge_killed: 1, edge_drained: 1, edge_asleep: 3, control_killed: 2, control_asleep: 2,
}  # fmt: skip


def _some_crew(scene: Scene, chance: Random) -> Crew:
    return chance.choice(chance.choice(scene.posts).crews)


async def _asleep(program: Edge | Agent, seconds: float) -> None:
    if program.process.poll() is None:
        program.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            if program.process.poll() is None:
                program.signal(signal.SIGCONT)
