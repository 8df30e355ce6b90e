"""The host's program: its sandboxes, the sessions with the edge on which it is asked for them, its reports.

::

    edge == interactive session ==\\
    edge == bulk session ========== InProcess -> application -> sandboxes -> runtime
                                 \\= Ports -> ports of sandboxes
    control plane <---- reports ---- Reporter -------------------^

Sandboxes live longer than the program: a start finds again what a former one left.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wellhead.client import AsyncClient
from wellhead.errors import HostError, HostRemoved, SecretRejected, WellheadError
from wellhead.host.api.app import build
from wellhead.host.api.context import ApiTerms
from wellhead.host.api.control import control_routes
from wellhead.host.calls import AGENT
from wellhead.host.capacity import BOUNDS, Bounds, Capacity
from wellhead.host.membership import Membership
from wellhead.host.metrics import Metrics
from wellhead.host.overflow import Overflow
from wellhead.host.port_terms import PortTerms
from wellhead.host.ports import Ports
from wellhead.host.report import EVERY_SECONDS, Reporter
from wellhead.host.runtime.runtime import Runtime
from wellhead.host.sandboxes import Sandboxes
from wellhead.host.snapshots import Templates
from wellhead.host.table import Table
from wellhead.host.ttl import Caretaker
from wellhead.inprocess.asgi import Application, Asgi
from wellhead.inprocess.upstream import InProcess
from wellhead.logs import Log
from wellhead.model.sandboxes import Lane
from wellhead.net.carrier import MuxCarrier
from wellhead.net.session import OnOpen
from wellhead.net.tls import ALPN_MUX, client_context
from wellhead.net.uplink import EdgeAddress, Status, Uplink, UplinkTimes
from wellhead.net.upstream_owner import UpstreamLimits
from wellhead.wire.messages import Hello

DRAIN_SECONDS = 5.0
_PROCESS = secrets.token_hex(8)  # by which the edge recognises the sessions of one process

_log = Log("wellhead.host")


@dataclass(frozen=True, slots=True)
class Facts:
    """A host that is there."""

    host: str
    runtime: str
    sandboxes: int


@dataclass(frozen=True, slots=True)
class HostTerms:
    """How a host behaves. ``destroy_at_end``: its sandboxes do not outlive it.

    ``lanes``: those it has a session for; what belongs on another one comes on what there is.
    """

    capacity: Capacity
    bounds: Bounds = BOUNDS
    api: ApiTerms = ApiTerms()
    report_seconds: float = EVERY_SECONDS
    drain_seconds: float = DRAIN_SECONDS
    destroy_at_end: bool = False
    uplink: UplinkTimes = UplinkTimes()
    ports: PortTerms = PortTerms()
    lanes: tuple[Lane, ...] = tuple(Lane)


class HostProgram:
    """``state``: its directory, which no other program has."""

    def __init__(
        self, membership: Membership, state: Path, runtime: Runtime, templates: Templates, terms: HostTerms
    ) -> None:
        self._membership = membership
        self._state = state
        self._runtime = runtime
        self._templates = templates
        self._terms = terms
        self.table = Table()
        self.sandboxes = Sandboxes(self.table, runtime, templates, terms.capacity, state, bounds=terms.bounds)
        self._ports = Ports(self.table, runtime, terms.ports)
        self._metrics = Metrics(self.table, runtime)
        self._client = AsyncClient(membership.url, membership.key, ca_file=membership.ca_file)
        self._reporter = Reporter(
            self._client, membership.host_id, runtime.name, self.sandboxes, self._metrics, templates.names,
            terms.report_seconds,
        )  # fmt: skip
        self.table.on_change = self._reporter.soon

    async def run(self, stop: asyncio.Event, ready: Callable[[Facts], None]) -> None:
        """Until ``stop``. ``ready`` is called once it was let in and heard.

        Raises:
            HostRemoved: it was deleted at the control plane; its sandboxes are ended.
            RefusedError: the edge does not let it in, for good.
            TrustError: the edge, or the control plane, is not who it should be.
        """
        try:
            await self.sandboxes.recover()
            await self._serve(stop, ready)
        except HostRemoved:
            # Nobody will ask for its sandboxes again.
            _log.error("this host was deleted: its sandboxes end", host=self._membership.host_id)
            await self.sandboxes.destroy_all()
            Membership.drop(self._state)
            raise
        finally:
            await self.sandboxes.settle()
            await self._client.aclose()

    async def leave(self) -> int:
        """End every sandbox, be a host no more; gives how many there were.

        Raises:
            HostError: one cannot be ended.
        """
        try:
            found = await self.sandboxes.recover()
            await self.sandboxes.destroy_all()
            if left := self.table.all():
                raise HostError(f"sandbox {left[0].id} cannot be ended: {left[0].reason}")
            await self._reporter.last()
            Membership.drop(self._state)
            return found
        finally:
            await self._client.aclose()

    async def _serve(self, stop: asyncio.Event, ready: Callable[[Facts], None]) -> None:
        orders = control_routes(self.sandboxes, self._metrics, self._templates)
        async with _answering(build(self.table, self._metrics, orders, self._terms.api)) as answering:
            accept = self._ports.before(Overflow(answering.accept).accept)
            # A host is there for its server when it has a session and has reported.
            links = [
                _Link(self._membership, lane, accept, self._terms.uplink, self._reporter.soon)
                for lane in self._terms.lanes
            ]
            try:
                async with _under_way(self._duties(links, ready)) as duties:
                    try:
                        await _until(stop, duties)
                    finally:
                        answering.drain()
                        await asyncio.gather(
                            *(link.uplink.aclose(self._terms.drain_seconds) for link in links)
                        )
                        await self._ports.aclose()
            except SecretRejected:
                await self._reporter.ask()
                raise
        if self._terms.destroy_at_end:
            await self.sandboxes.destroy_all()
        await self._reporter.last()

    def _duties(self, links: list[_Link], ready: Callable[[Facts], None]) -> list[Coroutine[Any, Any, None]]:
        async def announce() -> None:
            for each in (*(link.connected for link in links), self._reporter.taken):
                await each.wait()
            ready(Facts(self._membership.host_id, self._runtime.name, len(self.table.all())))

        care = Caretaker(self.sandboxes)
        return [
            *(link.uplink.run() for link in links), self._reporter.run(), self._metrics.run(), care.run(),
            self._ports.run(), announce(),
        ]  # fmt: skip


class _Link:
    """The session of one lane."""

    def __init__(
        self,
        membership: Membership,
        lane: Lane,
        accept: OnOpen,
        times: UplinkTimes,
        on_connected: Callable[[], None],
    ) -> None:
        self.connected = asyncio.Event()  # ever
        self._lane = lane
        self._on_connected = on_connected
        self._last = Status.CONNECTING
        hello = Hello(
            tunnel=f"host:{membership.host_id}", secret=membership.key.reveal(), agent=AGENT,
            session_hint=_PROCESS, lane=lane.value,
        )  # fmt: skip
        hostname, port = membership.edge_address
        context = client_context(ca_file=membership.ca_file, alpn=[ALPN_MUX])
        self.uplink = Uplink(
            EdgeAddress(hostname, port, context),
            [MuxCarrier(hello, accept)],
            on_status=self._status,
            on_welcome=lambda welcome: None,
            times=times,
        )

    def _status(self, status: Status, error: WellheadError | None) -> None:
        if status is not self._last:  # every failed dial is heard of: the same news is no news
            self._last = status
            _log.info("session", lane=self._lane.value, status=status.value, error=error or "-")
        if status is Status.CONNECTED:
            self.connected.set()
            self._on_connected()


@contextlib.asynccontextmanager
async def _answering(app: Application) -> AsyncIterator[InProcess]:
    """Hands streams to the application."""
    answerer = Asgi(app)
    await answerer.start()
    # A command may be silent for as long as it may run.
    answering = InProcess(answerer, limits=UpstreamLimits(reply_seconds=math.inf))
    try:
        yield answering
    finally:
        await answering.aclose()
        await answerer.stop()


@contextlib.asynccontextmanager
async def _under_way(works: Sequence[Coroutine[Any, Any, None]]) -> AsyncIterator[set[asyncio.Task[None]]]:
    """Tasks for these; what still runs at the end is cancelled."""
    tasks = {asyncio.ensure_future(work) for work in works}
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until(stop: asyncio.Event, duties: Iterable[asyncio.Task[None]]) -> None:
    """Until ``stop``; what a duty fails with is raised."""
    stopping = asyncio.ensure_future(stop.wait())
    going: set[asyncio.Future[Any]] = {stopping, *duties}
    try:
        while not stopping.done():
            done, going = await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()
    finally:
        stopping.cancel()
