"""An agent on the HTTP/2 carrier, in the test's own loop, with an upstream that does what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.kit.certs import authority
from tests.kit.scripted_edge import Answer, Asked, Line, ScriptedEdge, scripted_edge
from tests.kit.watched import PATIENCE, Watched
from wellhead.agent.intake.carrier import IntakeCarrier
from wellhead.agent.intake.terms import IntakeLimits
from wellhead.errors import WellheadError
from wellhead.net.authority import LocalAuthority
from wellhead.net.backoff import Backoff
from wellhead.net.uplink import Status, Uplink, UplinkTimes
from wellhead.wire.h2 import H2Terms
from wellhead.wire.intake import SECRET, Caller
from wellhead.wire.messages import Welcome
from wellhead.wire.streams import Buffer, HeadKind, Stream, StreamKind


class Upstream(Watched):
    """One stream as the agent is given it: writes down what it hears, and says what the test has it say."""

    def __init__(self, stream: Stream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
        self.stream = stream
        self.kind = kind
        self.envelope = envelope
        self.body = bytearray(data)
        self.ended = end
        self.reset: int | None = None
        self.writable = 0
        self.greedy = True
        self.changed = asyncio.Event()
        stream.sink = self

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        raise AssertionError("a head from the edge")

    def on_data(self, data: Buffer, end: bool) -> None:
        assert not self.ended and self.reset is None
        self.body += data
        self.ended = end
        if self.greedy:
            self.stream.consumed(len(data))
        self.changed.set()

    def on_reset(self, reason: int) -> None:
        assert self.reset is None
        self.reset = reason
        self.changed.set()

    def on_writable(self) -> None:
        self.writable += 1
        self.changed.set()

    def reply(self, body: bytes = b"", *lines: bytes, status: int = 200) -> None:
        """A whole reply."""
        fields = b"".join(line + b"\r\n" for line in lines)
        head = b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n%b\r\n" % (status, len(body), fields)
        self.stream.head(HeadKind.REPLY, head, body, True)


class Agent(Watched):
    """An uplink on this carrier, and all that it told."""

    def __init__(self, edge: ScriptedEdge, limits: IntakeLimits, **times: float) -> None:
        assert edge.address is not None
        self.told: list[tuple[Status, WellheadError | None]] = []
        self.welcomes: list[Welcome] = []
        self.streams: list[Upstream] = []
        self.answers: Callable[[Upstream], None] | None = None
        self.changed = asyncio.Event()
        caller = Caller(b"localhost", b"4b6c", (SECRET, b"whs_secret"), user_agent=b"wellhead-python/0")
        self.carrier = IntakeCarrier(caller, b"my-agent.example", limits, self._opened)
        self.uplink = Uplink(
            edge.address,
            [self.carrier],
            on_status=self._status,
            on_welcome=self.welcomes.append,
            times=UplinkTimes(**{"close_seconds": 0.5, **times}),
            backoff=Backoff(lambda low, high: high / 50),
        )
        self.task = asyncio.get_running_loop().create_task(self.uplink.run())

    def _opened(self, stream: Stream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
        upstream = Upstream(stream, kind, envelope, data, end)
        self.streams.append(upstream)
        if self.answers is not None:
            self.answers(upstream)
        self.changed.set()

    def _status(self, status: Status, error: WellheadError | None) -> None:
        self.told.append((status, error))
        self.changed.set()

    @property
    def statuses(self) -> list[Status]:
        return [status for status, _ in self.told]

    async def connected(self, times: int = 1) -> None:
        await self.until(lambda: self.statuses.count(Status.CONNECTED) >= times)

    async def stream(self, number: int = 0) -> Upstream:
        await self.until(lambda: len(self.streams) > number)
        return self.streams[number]

    async def failed(self) -> WellheadError:
        """What ended it."""
        with pytest.raises(WellheadError) as caught:
            await asyncio.wait_for(asyncio.shield(self.task), PATIENCE)
        return caught.value

    async def end(self) -> None:
        await self.uplink.aclose()
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


MakeAgent = Callable[..., Agent]


@asynccontextmanager
async def a_line(
    ca: LocalAuthority, agent: MakeAgent, *answers: Answer, terms: H2Terms | None = None, parked: int = 1
) -> AsyncIterator[tuple[Agent, Line]]:
    """An agent and the edge's end of its connection, once so many of its intakes are parked there."""
    async with scripted_edge(ca, *answers, terms=terms) as edge:
        yield agent(edge), await edge.line(parked=parked)


class Bridged:
    """What is open over a bridge: the edge's end of the bridge and the upstream's end of its stream."""

    def __init__(self, line: Line, bridge: Asked, upstream: Upstream) -> None:
        self.line = line
        self.bridge = bridge
        self.upstream = upstream

    def edge_says(self, *pieces: bytes, end: bool = False) -> None:
        for piece in pieces:
            self.bridge.stream.data(self.framed(piece))
        if end:
            self.bridge.stream.data(b"", True)
        self.line.flush()

    def framed(self, piece: bytes) -> bytes:
        """A piece as it stands on the bridge."""
        return piece


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> LocalAuthority:
    return authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
async def agent() -> AsyncIterator[MakeAgent]:
    """Makes agents and ends them; none leaves an exchange, or a clock, behind."""
    made: list[Agent] = []

    def make(edge: ScriptedEdge, limits: IntakeLimits | None = None, **times: float) -> Agent:
        made.append(Agent(edge, limits or IntakeLimits(), **times))
        return made[-1]

    yield make
    for each in made:
        await each.end()
    for each in made:
        assert not each.carrier.exchanges
