"""Which hosts are there, by what the edge tells of their sessions and by their own reports; what follows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from wellhead.control.events import Event, EventKind, Hub, Resource
from wellhead.control.store.hosts import Machine
from wellhead.control.store.sandbox_tables import HostRow
from wellhead.control.store.store import Store
from wellhead.errors import Unavailable
from wellhead.logs import Log
from wellhead.model.reconciling import Kept, Move, Said, reconcile
from wellhead.model.records import SERVER, OrganizationId
from wellhead.model.sandboxes import HostId, HostStatus, SandboxId, SandboxStatus, may_become
from wellhead.settings import ServerSettings
from wellhead.wire.feed import HostSeen

TICK_SECONDS = 1.0
WRITE_SECONDS = 60.0  # between two notes of when a host, of which nothing else changed, was seen

_PRESENT = (HostStatus.ONLINE, HostStatus.DRAINING)
_log = Log("wellhead.control")


@dataclass(frozen=True, slots=True)
class Report:
    """What a host says of itself. ``active``: when sandboxes were last used, of those that it knows of."""

    boot: str
    machine: Machine
    sandboxes: Mapping[SandboxId, Said]
    active: Mapping[SandboxId, datetime] = field(default_factory=dict)
    leaving: bool = False  # its program ends, and its sandboxes go on


@dataclass(slots=True)
class _Watched:
    """Times are monotonic, in seconds."""

    heard_at: float  # its last report, or from when on there could have been one
    here_at: float  # the same of a session
    has_session: bool = False
    has_reported: bool = False
    gone_at: float = float("-inf")  # when it was found to be away
    sandboxes: Mapping[SandboxId, Said] = field(default_factory=dict)  # as it said last
    absent: set[SandboxId] = field(default_factory=set)  # live ones that it did not name then
    written_at: float = float("-inf")
    written: tuple[str, Machine] | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class HostWatch:
    """``is_busy`` says of a sandbox whether somebody is changing it: then what a host says of it waits."""

    def __init__(
        self,
        store: Store,
        hub: Hub,
        settings: ServerSettings,
        is_busy: Callable[[SandboxId], bool],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._hub = hub
        self._away_seconds = settings.host_away_seconds
        self._silent_seconds = settings.host_silent_seconds
        self._is_busy = is_busy
        self._monotonic = monotonic
        self._began = monotonic()
        self._hosts: dict[HostId, _Watched] = {}
        self._wake = asyncio.Event()

    def seen(self, told: HostSeen) -> None:
        """The edge tells which sessions a host has."""
        watched = self._of(told.host)
        if watched.has_session:
            watched.here_at = self._monotonic()
        watched.has_session = bool(told.lanes)
        self._wake.set()

    def is_present(self, host: HostId) -> bool:
        """Whether a host is believed to be there."""
        view = self._store.directory.host(host)
        return view is not None and view.status in _PRESENT

    async def report(self, host: HostId, report: Report, address: str) -> list[SandboxId]:
        """Take a host's report; gives what it runs and should not.

        Raises:
            Unavailable: the database does not answer.
        """
        watched = self._of(host)
        async with watched.turn:
            watched.heard_at = self._monotonic()
            watched.has_reported = not report.leaving
            watched.sandboxes = report.sandboxes
            await self._write(host, watched, report, address)
            if report.leaving:
                await self._turn(host, HostStatus.OFFLINE)
                return []
            await self._judge(host, watched)
            return await self._reconcile(host, watched) if self.is_present(host) else []

    async def tick(self) -> None:
        """Look at every host that has come.

        Raises:
            Unavailable: the database does not answer; what is left is done next time.
        """
        views = self._store.directory.hosts()
        for gone in self._hosts.keys() - {view.id for view in views}:
            del self._hosts[gone]
        for view in views:
            watched = self._of(view.id)
            if self._verdict(watched, view.status) is not None:
                async with watched.turn:
                    await self._judge(view.id, watched)

    async def run(self) -> None:
        """Look at the hosts each second, and when the edge tells of one."""
        while True:
            try:
                async with asyncio.timeout(TICK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self.tick()
            except Unavailable as error:
                _log.warning("hosts not looked at", error=str(error))
                await asyncio.sleep(TICK_SECONDS)
            except Exception as error:  # a bug here must not end the watch for good
                _log.error("hosts not looked at", error)
                await asyncio.sleep(TICK_SECONDS)

    def _of(self, host: HostId) -> _Watched:
        watched = self._hosts.get(host)
        if watched is None:
            watched = self._hosts[host] = _Watched(heard_at=self._began, here_at=self._began)
        return watched

    def _verdict(self, watched: _Watched, status: HostStatus) -> HostStatus | None:
        """What a host is to be that is something else now."""
        now = self._monotonic()
        silent = now - watched.heard_at >= self._silent_seconds
        if status in _PRESENT:
            away = not watched.has_session and now - watched.here_at >= self._away_seconds
            return HostStatus.UNREACHABLE if away or silent else None
        came = watched.has_session and watched.has_reported and not silent
        return HostStatus.ONLINE if came else None

    async def _judge(self, host: HostId, watched: _Watched) -> None:
        view = self._store.directory.host(host)
        to = None if view is None else self._verdict(watched, view.status)
        if to is not None:
            await self._turn(host, to)
            if to is not HostStatus.ONLINE:
                watched.gone_at = self._monotonic()
            elif watched.heard_at >= watched.gone_at:  # an older report is no news of what is missing since
                await self._reconcile(host, watched)

    async def _turn(self, host: HostId, to: HostStatus) -> None:
        row = await self._store.hosts.turn(host, to)
        if row is None:
            return
        self._announce(row, to)
        if to is not HostStatus.ONLINE:
            await self._lose(host)

    def _announce(self, row: HostRow, to: HostStatus) -> None:
        kind = EventKind.HOST_UP if to is HostStatus.ONLINE else EventKind.HOST_DOWN
        event = Event(kind, self._hub.clock(), resource=Resource(row.id, "host"))
        self._hub.publish(OrganizationId(row.organization_id), event)

    async def _lose(self, host: HostId) -> None:
        """Nobody knows how it is with the sandboxes of a host that is not there."""
        rows = await self._store.sandboxes.live_of_host(host)
        lost = SandboxStatus.MISSING
        reason = "its host is not heard of"
        await self._make(
            [
                Move(SandboxId(row.id), row.status, lost, reason)
                for row in rows
                if may_become(row.status, lost) and not self._is_busy(SandboxId(row.id))
            ]
        )

    async def _reconcile(self, host: HostId, watched: _Watched) -> list[SandboxId]:
        now = self._store.clock()
        kept = [
            Kept(
                SandboxId(row.id),
                row.status,
                (now - row.last_updated).total_seconds(),
                self._is_busy(SandboxId(row.id)),
            )
            for row in await self._store.sandboxes.live_of_host(host)
        ]
        outcome = reconcile(kept, watched.sandboxes, watched.absent)
        watched.absent = outcome.absent
        await self._make(outcome.moves)
        if outcome.destroy:
            _log.info("host has what it should not", host=host, sandboxes=len(outcome.destroy))
        return outcome.destroy

    async def _make(self, moves: list[Move]) -> None:
        for before, row in await self._store.sandboxes.move_all(moves):
            kind, metadata = EventKind.STATE_CHANGED, {"from": before.value, "to": row.status.value}
            if (before, row.status) == (SandboxStatus.RUNNING, SandboxStatus.PAUSED):
                kind, metadata = EventKind.PAUSE, {"reason": "ttl_expired"}
            elif row.status is SandboxStatus.STOPPED:
                kind, metadata = EventKind.DESTROY, {"reason": "orphaned"}
            self._hub.tell(row, kind, SERVER, metadata=metadata)
            _log.info("sandbox status", sandbox=row.id, before=before.value, status=row.status.value)

    async def _write(self, host: HostId, watched: _Watched, report: Report, address: str) -> None:
        written = report.boot, report.machine
        now = self._monotonic()
        if watched.written == written and now - watched.written_at < WRITE_SECONDS:
            return
        await self._store.hosts.seen(host, report.machine, report.boot, address)
        await self._store.sandboxes.active(host, report.active)
        watched.written, watched.written_at = written, now
