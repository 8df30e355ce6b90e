"""A host's two sessions with an edge, and an application in the place of its sandboxes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from wellhead.host.overflow import Overflow
from wellhead.inprocess.asgi import Application, Asgi
from wellhead.inprocess.upstream import InProcess
from wellhead.model.access import Secret
from wellhead.model.sandboxes import HostId, Lane
from wellhead.net.backoff import Backoff
from wellhead.net.carrier import MuxCarrier
from wellhead.net.session import OnOpen
from wellhead.net.tls import ALPN_MUX
from wellhead.net.uplink import EdgeAddress, Status, Uplink
from wellhead.wire.messages import Hello
from wellhead.wire.muxstream import MuxStream
from wellhead.wire.streams import Buffer, StreamKind


@dataclass
class Lanes:
    """``opened``: how many streams came on each lane so far."""

    opened: Counter[Lane] = field(default_factory=Counter)
    connected: dict[Lane, asyncio.Event] = field(default_factory=dict)

    async def ready(self) -> None:
        """Until every lane has a session."""
        async with asyncio.timeout(10):
            for event in self.connected.values():
                await event.wait()


@contextlib.asynccontextmanager
async def lanes(
    port: int, trust: ssl.SSLContext, host: HostId, key: Secret, app: Application
) -> AsyncIterator[Lanes]:
    """Both lanes of a host, connected."""
    made = Lanes()
    answerer = Asgi(app)
    await answerer.start()
    answering = InProcess(answerer)
    accept = Overflow(answering.accept).accept
    trust.set_alpn_protocols([ALPN_MUX])
    uplinks = [_uplink(made, lane, EdgeAddress("localhost", port, trust), host, key, accept) for lane in Lane]
    running = [asyncio.ensure_future(uplink.run()) for uplink in uplinks]
    try:
        await made.ready()
        yield made
    finally:
        for uplink in uplinks:
            await uplink.aclose(0.0)
        await asyncio.gather(*running)
        await answering.aclose()
        await answerer.stop()


def _uplink(made: Lanes, lane: Lane, edge: EdgeAddress, host: HostId, key: Secret, accept: OnOpen) -> Uplink:
    connected = made.connected[lane] = asyncio.Event()

    def status(now: Status, error: Exception | None) -> None:
        if now is Status.CONNECTED:
            connected.set()
        else:
            connected.clear()

    def opened(stream: MuxStream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
        made.opened[lane] += 1
        accept(stream, kind, envelope, data, end)

    hello = Hello(f"host:{host}", key.reveal(), "test/1", session_hint="test", lane=lane.value)
    return Uplink(
        edge,
        [MuxCarrier(hello, opened)],
        on_status=status,
        on_welcome=lambda welcome: None,
        backoff=Backoff(),
    )
