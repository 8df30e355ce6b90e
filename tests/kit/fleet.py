"""Many agents in the test's own loop: the product's uplinks, each answering for a tunnel of its own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from tests.kit.agents import answer
from tests.kit.programs import Edge
from wellhead.client import AsyncClient
from wellhead.errors import WellheadError
from wellhead.net.backoff import Backoff
from wellhead.net.carrier import MuxCarrier
from wellhead.net.tls import ALPN_MUX, client_context
from wellhead.net.uplink import EdgeAddress, Status, Uplink
from wellhead.wire.messages import Hello, Welcome
from wellhead.wire.mux import MuxStream
from wellhead.wire.streams import Buffer, HeadKind, StreamKind

AT_ONCE = 32  # API calls that run side by side


@dataclass(eq=False)
class Member:
    """One agent and what happened to it; times are ``time.monotonic``'s."""

    name: str
    dials: list[float] = field(default_factory=list)
    online: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)  # why it was without a session, each time

    def told(self, status: Status, error: WellheadError | None) -> None:
        if status is Status.RECONNECTING:
            self.lost.append(str(error))

    def welcomed(self, welcome: Welcome) -> None:
        self.online.append(time.monotonic())


class _Noting(Backoff):
    """Writes down when each pause ends, which is when the next dial begins."""

    def __init__(self, member: Member) -> None:
        super().__init__()
        self._member = member

    def pause(self, error: WellheadError | None = None) -> float:
        seconds = super().pause(error)
        self._member.dials.append(time.monotonic() + seconds)
        return seconds


class _Answers:
    """Answers one request with the name of its tunnel; a body is taken and forgotten."""

    def __init__(self, stream: MuxStream, taken: int) -> None:
        self._stream = stream
        stream.consumed(taken)

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None: ...

    def on_data(self, data: Buffer, end: bool) -> None:
        self._stream.consumed(len(data))

    def on_reset(self, reason: int) -> None: ...
    def on_writable(self) -> None: ...


@contextlib.asynccontextmanager
async def fleet(edge: Edge, count: int) -> AsyncIterator[Sequence[Member]]:
    """``count`` agents of ``count`` new tunnels, all of them online."""
    root = edge.api.removesuffix("/api/v1")
    turns = asyncio.Semaphore(AT_ONCE)
    context = client_context(ca_file=edge.ca, alpn=[ALPN_MUX])
    members = [Member(f"fleet-{number}") for number in range(count)]

    async def join(client: AsyncClient, member: Member) -> Uplink:
        async with turns:
            created = await client.tunnels.create(member.name)
        hello = Hello(str(created.tunnel.id), created.connect_secret.reveal(), agent="fleet/1")
        reply = member.name.encode()

        def opened(stream: MuxStream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
            stream.sink = _Answers(stream, len(data))
            answer(stream, reply)

        return Uplink(
            EdgeAddress("127.0.0.1", edge.https, context),
            [MuxCarrier(hello, opened)],
            on_status=member.told,
            on_welcome=member.welcomed,
            backoff=_Noting(member),
        )

    async with AsyncClient(root, edge.key, ca_file=edge.ca) as client:
        uplinks = await asyncio.gather(*(join(client, member) for member in members))
    running: list[asyncio.Task[None]] = []
    try:
        for first in range(0, count, AT_ONCE):
            running += [asyncio.create_task(uplink.run()) for uplink in uplinks[first : first + AT_ONCE]]
            await everybody(members[: first + AT_ONCE], seconds=20)
        yield members
    finally:
        await asyncio.gather(*(uplink.aclose() for uplink in uplinks))
        for task in running:
            task.cancel()  # where it waits before a dial
        outcomes = await asyncio.gather(*running, return_exceptions=True)
    failed = [each for each in outcomes if isinstance(each, Exception)]
    assert not failed, failed[:3]


async def everybody(members: Sequence[Member], *, since: float = 0.0, seconds: float) -> None:
    """Until each was welcomed after the moment ``since``.

    Raises:
        AssertionError: some were not in time.
    """
    until = time.monotonic() + seconds
    while missing := [each for each in members if not each.online or each.online[-1] <= since]:
        assert time.monotonic() < until, f"{len(missing)} not online, as {missing[0]}"
        await asyncio.sleep(0.02)
