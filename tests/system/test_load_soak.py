"""A long day in short: what comes and goes leaves nothing behind.

Requests all the time, and beside them lives of tunnels: made, connected, asked on a connection of its own,
drained, connected again, removed for good; and one certificate of the operator's that changes all the time.
``--load-seconds 300`` or 1800 for the long forms.
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psutil
import pytest
from cryptography import x509

from tests.kit.agents import answer
from tests.kit.certs import Root, shown
from tests.kit.loads import LoadServer, scrape
from tests.kit.openloop import crowding
from tests.kit.programs import Edge, Program, eventually
from tests.kit.visitors import ask
from wellhead.client import AsyncClient
from wellhead.net.authority import CONTEXTS
from wellhead.net.carrier import MuxCarrier
from wellhead.net.tls import ALPN_MUX, client_context
from wellhead.net.uplink import EdgeAddress, Uplink
from wellhead.wire.messages import Hello, Welcome
from wellhead.wire.mux import MuxStream
from wellhead.wire.streams import Buffer, HeadKind, StreamKind

NAME = "steady"
RATE = 200.0  # requests a second
LIVES = 3  # at once
PAUSE_SECONDS = (
    1.0  # between two of them: one for a hundred requests, four times the day that this stands for
)
MAX_WAL = 8 << 20  # bytes; SQLite writes it back from 4 MiB on
GROWTH = 0.05  # of the memory, in all
# A name that nobody asked for before takes a place in two caches of the edge: that of TLS contexts, which is
# most of this and has CONTEXTS places, and that of the Hosts that were read.
CACHED_BYTES = 24 << 10
SWAPPED = "swapped.localhost"
HALF_SWAPPED = "certificate refused"  # of its two files one is new: the old pair is kept so long
ENOUGH = 100_000  # requests, by which a growth for each can be told from noise
GROWTH_BYTES = 1 << 20  # for so many requests
EXPLAINED = {"visitor-left"}  # refusals that this load brings about by itself
pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.timeout(2400),
]  # the longest form's


@dataclass
class Sample:
    requests: float
    memory: float  # bytes, of both processes
    descriptors: int
    threads: int
    tasks: float

    def near(self, other: Sample) -> bool:
        """Nothing is left behind but what comes and goes anyway."""
        pairs = (
            (self.descriptors, other.descriptors),
            (self.threads, other.threads),
            (self.tasks, other.tasks),
        )
        return all(abs(one - two) <= 5 for one, two in pairs)


def look(edge: Edge) -> Sample:
    numbers = scrape(edge)
    processes = [psutil.Process(edge.pid), edge.control()]
    return Sample(
        sum(number for name, number in numbers.items() if name.startswith("wellhead_exchanges_total")),
        sum(process.memory_info().rss for process in processes),
        sum(process.num_fds() for process in processes),
        sum(process.num_threads() for process in processes),
        numbers["wellhead_tasks"],
    )


class Lives:
    """Tunnels that come and go."""

    def __init__(self, edge: Edge, client: AsyncClient) -> None:
        self.over = False
        self.reconnects = 0
        self.tunnels = 0
        self._edge = edge
        self._client = client
        self._context = client_context(ca_file=edge.ca, alpn=[ALPN_MUX])
        self._numbers = count()

    async def run(self) -> None:
        while not self.over:
            name = f"life-{next(self._numbers)}"
            created = await self._client.tunnels.create(name)
            hello = Hello(str(created.tunnel.id), created.connect_secret.reveal(), agent="soak/1")
            for _ in range(3):
                await self._connect(hello, name)
                self.reconnects += 1
            await self._client.tunnels.delete(created.tunnel.id)
            await self._client.tunnels.force_delete(created.tunnel.id)
            self.tunnels += 1
            await asyncio.sleep(PAUSE_SECONDS)

    async def _connect(self, hello: Hello, name: str) -> None:
        """An agent that answers one visitor and takes its leave."""
        online = asyncio.Event()

        def opened(stream: MuxStream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
            stream.sink = _NoBody()
            answer(stream, name.encode())

        def welcomed(welcome: Welcome) -> None:
            online.set()

        address = EdgeAddress("127.0.0.1", self._edge.https, self._context)
        carrier = MuxCarrier(hello, opened)
        uplink = Uplink(address, [carrier], on_status=lambda *_: None, on_welcome=welcomed)
        running = asyncio.create_task(uplink.run())
        async with asyncio.timeout(20):
            await online.wait()
            reply = await ask(self._edge, f"{name}.localhost")
            assert (reply.status, reply.body.decode()) == (200, name)
            await uplink.aclose()
            await running


class Swaps:
    """A certificate of files that is replaced again and again."""

    def __init__(self, directory: Path) -> None:
        self.over = False
        self.count = 0
        self.serial = 0  # of the last one
        self._directory = directory
        self.root = Root()
        self.files = self.swap()

    def swap(self) -> tuple[Path, Path]:
        pair = self.root.pair(SWAPPED)
        self.serial = x509.load_pem_x509_certificate(pair[0].encode()).serial_number
        self.count += 1
        return self.root.put(self._directory, "swapped", pair)

    async def run(self) -> None:
        while not self.over:
            self.swap()
            await asyncio.sleep(PAUSE_SECONDS / 4)

    def is_served(self, edge: Edge) -> bool:
        """Whether a visitor sees the last one."""
        with (
            socket.create_connection(("127.0.0.1", edge.https), 10) as sock,
            self.root.trust(["http/1.1"]).wrap_socket(sock, server_hostname=SWAPPED) as tls,
        ):
            return shown(tls).serial_number == self.serial


class _NoBody:
    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None: ...
    def on_data(self, data: Buffer, end: bool) -> None: ...
    def on_reset(self, reason: int) -> None: ...
    def on_writable(self) -> None: ...


async def test_what_comes_and_goes_leaves_nothing_behind(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    seconds = float(pytestconfig.getoption("load_seconds") or 25.0)
    swaps = Swaps(tmp_path)
    settings = {
        "access_log": "off",
        "api_requests_per_key_per_minute": 1_000_000,
        "tls_files": ":".join(map(str, swaps.files)),
        "tls_reload_seconds": 0.1,
    }
    with (
        Edge(tmp_path, settings=settings) as edge,
        LoadServer(NAME) as server,
        edge.agent(server.port) as agent,
        crowding(edge, agent.hostname, NAME, "/echo", connections=10) as crowd,
    ):
        root = edge.api.removesuffix("/api/v1")
        async with AsyncClient(root, edge.key, ca_file=edge.ca) as client:
            lives = Lives(edge, client)
            crowd.rate(RATE)
            await asyncio.to_thread(eventually, lambda: len(crowd.answers) > 10 * RATE / 4, 20)
            before = await asyncio.to_thread(look, edge)
            samples = []
            async with asyncio.TaskGroup() as tasks:
                for _ in range(LIVES):
                    tasks.create_task(lives.run())
                tasks.create_task(swaps.run())
                until = time.monotonic() + seconds
                while time.monotonic() < until:
                    await asyncio.sleep(0.5)
                    samples.append(await asyncio.to_thread(look, edge))
                lives.over = swaps.over = True
        await asyncio.to_thread(eventually, lambda: swaps.is_served(edge), 10)
        await asyncio.to_thread(eventually, lambda: look(edge).near(before), 20)
        crowd.rate(0)
        wal = max(path.stat().st_size for path in edge.data.glob("*.db-wal"))
        refused = {name for name in scrape(edge) if name.startswith("wellhead_refused_total")}
        complaints(edge, agent)
    judge(samples[len(samples) // 10 :], CACHED_BYTES * min(lives.tunnels, CONTEXTS))
    print(
        f"{samples[-1].requests:.0f} requests, {lives.reconnects} sessions, {lives.tunnels} lives, "
        f"{swaps.count} certificates, WAL {wal}"
    )
    assert lives.tunnels > seconds / 4 and samples[-1].requests > RATE * seconds / 3
    assert wal <= MAX_WAL
    assert {name.split('"')[1] for name in refused} <= EXPLAINED, refused


def judge(samples: list[Sample], cached: int) -> None:
    """Memory by a line through all samples, not by its ends; ``cached`` bytes are what caches may take."""
    requests = [sample.requests for sample in samples]
    slope, _ = statistics.linear_regression(requests, [sample.memory for sample in samples])
    grown = slope * (requests[-1] - requests[0])
    held = statistics.mean(sample.memory for sample in samples)
    print(f"{held / 2**20:.0f} MiB, {grown / 2**20:+.2f} MiB in {requests[-1] - requests[0]:.0f} requests")
    assert grown <= GROWTH * held
    grown = max(0.0, grown - cached)
    if requests[-1] - requests[0] >= ENOUGH:
        assert grown / (requests[-1] - requests[0]) * ENOUGH <= GROWTH_BYTES


def complaints(*programs: Program) -> None:
    """Nothing was said that somebody would have to look after."""
    for program in programs:
        told = [line for line in program.text.splitlines() if HALF_SWAPPED not in line]
        bad = [line for line in told if "Traceback" in line or " error " in line.lower()]
        assert not bad, bad[:10]
