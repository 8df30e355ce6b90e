"""Sandboxes' records: which there are, how they begin, and each change of their status."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from wellhead.control.store import audit, runs
from wellhead.control.store.audit import Target
from wellhead.control.store.creation import Once, known_before
from wellhead.control.store.database import Database
from wellhead.control.store.placing import held, place
from wellhead.control.store.rows import check_room, count
from wellhead.control.store.runs import Runs
from wellhead.control.store.sandbox_edits import Edit, apply, changeable, kept_ports, port_access
from wellhead.control.store.sandbox_tables import SandboxOnceRow, SandboxRow
from wellhead.errors import HostState, NotFound
from wellhead.model.placement import Resources
from wellhead.model.reconciling import Move
from wellhead.model.records import SERVER, Actor, OrganizationId
from wellhead.model.sandboxes import (
    LIVE,
    HostId,
    SandboxId,
    SandboxStatus,
    SandboxView,
    may_become,
    new_sandbox_id,
)
from wellhead.model.snapshot import Snapshot
from wellhead.model.usage import Load
from wellhead.model.visibility import PortAccess

SHOWN_SECONDS = 600.0  # that the directory still knows a sandbox which is over, for those who ask for it
REASON_MAX = 1000  # characters


@dataclass(frozen=True, slots=True)
class Asked:
    """What a sandbox is to be. ``host``: where, if that is said."""

    template: str
    vcpus: int
    memory_mb: int
    disk_mb: int
    timeout_sec: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)
    host: HostId | None = None
    access: PortAccess = PortAccess()

    @property
    def resources(self) -> Resources:
        return Resources(self.vcpus, self.memory_mb, self.disk_mb, 1)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one create: the idempotency key it came under, and how many its organization may have that live."""

    once: Once | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which sandboxes of an organization; None does not choose. Without a status: those that are not over."""

    status: SandboxStatus | None = None
    template: str | None = None
    host: str | None = None


class Sandboxes:
    """Of a sandbox of another organization it says what it says of none."""

    def __init__(
        self,
        database: Database,
        directory: Snapshot,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._directory = directory
        self._clock = clock
        self._monotonic = monotonic
        self._over: dict[SandboxId, float] = {}  # when each was over, monotonic
        self.runs = Runs(database)

    async def load(self, session: AsyncSession) -> None:
        """Tell the snapshot of every sandbox that is not over."""
        for row in await session.scalars(select(SandboxRow).where(SandboxRow.status.in_(LIVE))):
            self._put(row)

    async def page(
        self, organization_id: OrganizationId, chosen: Filter, limit: int | None = None
    ) -> list[SandboxRow]:
        """Newest first."""
        query = _of(organization_id)
        if chosen.status is None:
            query = query.where(SandboxRow.status.in_(LIVE))
        else:
            query = query.where(SandboxRow.status == chosen.status)
        if chosen.template is not None:
            query = query.where(SandboxRow.template == chosen.template)
        if chosen.host is not None:
            query = query.where(SandboxRow.host_id == chosen.host)
        ordered = query.order_by(SandboxRow.created_at.desc(), SandboxRow.id.desc())
        async with self._database.reading() as session:
            return list(await session.scalars(ordered if limit is None else ordered.limit(limit)))

    async def one(self, organization_id: OrganizationId, sandbox_id: str) -> SandboxRow:
        """
        Raises:
            NotFound: none of that id in this organization.
        """
        async with self._database.reading() as session:
            return await _one(session, organization_id, sandbox_id)

    async def live_of_host(self, host_id: HostId) -> list[SandboxRow]:
        async with self._database.reading() as session:
            return list(await session.scalars(_live_of_host(host_id)))

    async def running(self, organization_id: OrganizationId) -> Load:
        """How many of the organization's run now, and what they have."""
        row = SandboxRow
        query = select(func.count(), func.sum(row.vcpus), func.sum(row.memory_mb)).where(
            row.organization_id == organization_id, row.status == SandboxStatus.RUNNING
        )
        async with self._database.reading() as session:
            number, vcpus, memory = (await session.execute(query)).one()
        return Load(number, vcpus or 0, memory or 0)

    async def held(self, hosts: Sequence[str]) -> dict[str, Resources]:
        """What each of these hosts holds; one that holds nothing is not there."""
        async with self._database.reading() as session:
            return await held(session, hosts)

    async def begin(
        self, organization_id: OrganizationId, asked: Asked, bounds: Bounds, by: Actor
    ) -> tuple[SandboxRow, bool]:
        """A new sandbox, STARTING at the host that suits it best; or the one of an earlier, same create.

        The second is whether it is that.

        Raises:
            RateLimited: the organization has as many as it may.
            NotFound: no host of the organization has that template, or it has no such host.
            HostState: the host that is asked for is away, or takes nothing new.
            HostBusy: none that has it is online and has room.
            Conflict: the idempotency key was used for another request.
        """
        now = self._clock()
        async with self._database.writing() as session:
            known = await known_before(session, SandboxOnceRow, organization_id, bounds.once, now)
            if known is not None:
                return await session.get_one(SandboxRow, known.sandbox_id), True
            await self._check_room(session, organization_id, bounds.most)
            host = await place(session, organization_id, asked.template, asked.resources, asked.host)
            row = _fresh(organization_id, host, asked, now)
            session.add(row)
            await session.flush()
            audit.note(
                session, row.organization_id, now, by, "sandbox.create", Target(row.id), None, _facts(row)
            )
            if bounds.once is not None:
                session.add(
                    SandboxOnceRow(
                        organization_id=organization_id,
                        key_digest=bounds.once.key_digest,
                        request_digest=bounds.once.request_digest,
                        sandbox_id=row.id,
                        created_at=now,
                    )
                )
        self._put(row)
        return row, False

    async def move(
        self,
        organization_id: OrganizationId,
        sandbox_id: str,
        to: SandboxStatus,
        *,
        by: Actor = SERVER,
        action: str | None = None,
        address: str | None = None,
        reason: str | None = None,
    ) -> SandboxRow:
        """Give a sandbox another status. ``action``: the word of it in the audit, where it has an entry.

        Raises:
            NotFound: none of that id in this organization.
            HostState: the status that it has does not allow it.
        """
        async with self._database.writing() as session:
            row = await _one(session, organization_id, sandbox_id)
            before = row.status
            if not may_become(before, to):
                raise HostState(f"sandbox {row.id} is {before.value}, it cannot become {to.value}")
            now = self._clock()
            if address is not None:
                row.guest_ip = row.host_ip = address or None
            await self._turn(session, row, to, now, reason)
            if action is not None:
                was, became = {"status": before.value}, {"status": to.value}
                audit.note(session, row.organization_id, now, by, action, Target(row.id), was, became)
            if to is SandboxStatus.ERROR:  # nothing was made: the same create may be tried again
                await _forget_once(session, row)
        self._put(row)
        return row

    async def move_all(self, moves: Collection[Move]) -> list[tuple[SandboxStatus, SandboxRow]]:
        """Make these moves in one transaction; gives those that were made, with the statuses before them."""
        if not moves:
            return []
        made = []
        async with self._database.writing() as session:
            now = self._clock()
            for move in moves:
                row = await session.get(SandboxRow, move.sandbox)
                if row is not None and row.status is move.seen and may_become(move.seen, move.to):
                    await self._turn(session, row, move.to, now, move.reason)
                    made.append((move.seen, row))
        for _, row in made:
            self._put(row)
        return made

    async def change(
        self,
        organization_id: OrganizationId,
        sandbox_id: str,
        by: Actor,
        edit: Edit,
    ) -> SandboxRow:
        """Change what its owner may.

        Raises:
            NotFound: none of that id in this organization.
            HostState: it is over.
            Invalid: more ports would have a visibility of their own than may.
        """
        async with self._database.writing() as session:
            row = await _living(session, organization_id, sandbox_id)
            before = changeable(row)
            apply(row, edit)
            after = changeable(row)
            if after != before:
                now = row.last_updated = self._clock()
                target = Target(row.id)
                audit.note(session, row.organization_id, now, by, "sandbox.update", target, before, after)
        if after != before:
            self._put(row)
        return row

    async def note_link(
        self, organization_id: OrganizationId, sandbox_id: str, port: int, expires_at: datetime, by: Actor
    ) -> SandboxRow:
        """Note in the audit that a link to a port was made, 0 being all of them; nothing else is kept of it.

        Raises:
            NotFound: none of that id in this organization.
            HostState: it is over.
        """
        async with self._database.writing() as session:
            row = await _living(session, organization_id, sandbox_id)
            made = {"port": port or None, "expires_at": expires_at.isoformat()}
            now, target = self._clock(), Target(row.id)
            audit.note(session, row.organization_id, now, by, "sandbox.link", target, None, made)
        return row

    async def revoke_links(self, organization_id: OrganizationId, sandbox_id: str, by: Actor) -> None:
        """Void every link to its ports that there is.

        Raises:
            NotFound: none of that id in this organization.
            HostState: it is over.
        """
        async with self._database.writing() as session:
            row = await _living(session, organization_id, sandbox_id)
            row.links_epoch += 1
            now, target = self._clock(), Target(row.id)
            audit.note(session, row.organization_id, now, by, "sandbox.links_revoke", target)
        self._put(row)

    async def active(self, host_id: HostId, times: Mapping[SandboxId, datetime]) -> None:
        """Note when sandboxes of a host were last used."""
        if not times:
            return
        async with self._database.writing() as session:
            for row in await session.scalars(_live_of_host(host_id)):
                if (at := times.get(SandboxId(row.id))) is not None:
                    row.last_active_at = max(at, row.last_active_at or row.created_at)

    def forget_over(self) -> None:
        """Let the directory forget those that have been over for a while."""
        now = self._monotonic()
        for sandbox_id, since in list(self._over.items()):
            if now - since >= SHOWN_SECONDS:
                del self._over[sandbox_id]
                self._directory.drop_sandbox(sandbox_id)

    async def _turn(
        self, session: AsyncSession, row: SandboxRow, to: SandboxStatus, now: datetime, reason: str | None
    ) -> None:
        before, row.status, row.last_updated = row.status, to, now
        row.reason = None if reason is None else reason[:REASON_MAX]
        if to is SandboxStatus.RUNNING:
            row.started_at = row.started_at or now
            row.last_active_at = row.last_active_at or now
        await runs.turn(session, row, before, now)

    async def _check_room(
        self, session: AsyncSession, organization_id: OrganizationId, most: int | None
    ) -> None:
        if most is not None:
            there = await count(session, _of(organization_id).where(SandboxRow.status.in_(LIVE)))
            way_out = "sandboxes_per_organization: destroy some"
            check_room("sandboxes", there, most, way_out, "api-sandboxes")

    def _put(self, row: SandboxRow) -> None:
        sandbox_id = SandboxId(row.id)
        if row.status in LIVE:
            self._over.pop(sandbox_id, None)
        else:
            self._over.setdefault(sandbox_id, self._monotonic())
        organization_id, host_id = OrganizationId(row.organization_id), HostId(row.host_id)
        self._directory.put_sandbox(
            SandboxView(sandbox_id, organization_id, host_id, row.status, port_access(row))
        )


def _of(organization_id: OrganizationId) -> Select[SandboxRow]:
    return select(SandboxRow).where(SandboxRow.organization_id == organization_id)


def _live_of_host(host_id: str) -> Select[SandboxRow]:
    return select(SandboxRow).where(SandboxRow.host_id == host_id, SandboxRow.status.in_(LIVE))


async def _one(session: AsyncSession, organization_id: OrganizationId, sandbox_id: str) -> SandboxRow:
    row = await session.scalar(_of(organization_id).where(SandboxRow.id == sandbox_id))
    if row is None:
        raise NotFound(404, "no such sandbox")
    return row


async def _living(session: AsyncSession, organization_id: OrganizationId, sandbox_id: str) -> SandboxRow:
    row = await _one(session, organization_id, sandbox_id)
    if row.status not in LIVE:
        raise HostState(f"sandbox {row.id} is {row.status.value}, it cannot be changed")
    return row


async def _forget_once(session: AsyncSession, row: SandboxRow) -> None:
    for once in await session.scalars(select(SandboxOnceRow).where(SandboxOnceRow.sandbox_id == row.id)):
        await session.delete(once)


def _fresh(organization_id: OrganizationId, host: HostId, asked: Asked, now: datetime) -> SandboxRow:
    return SandboxRow(
        id=new_sandbox_id(),
        organization_id=organization_id,
        host_id=host,
        template=asked.template,
        status=SandboxStatus.STARTING,
        vcpus=asked.vcpus,
        memory_mb=asked.memory_mb,
        disk_size_mb=asked.disk_mb,
        timeout_sec=asked.timeout_sec,
        metadata_=dict(asked.metadata),
        visibility=asked.access.default,
        port_visibility=kept_ports(asked.access.ports),
        links_epoch=asked.access.links_epoch,
        auto_resume=asked.access.auto_resume,
        created_at=now,
        last_updated=now,
    )


def _facts(row: SandboxRow) -> dict[str, object]:
    return {
        "template": row.template,
        "host_id": row.host_id,
        "vcpus": row.vcpus,
        "memory_mb": row.memory_mb,
        "disk_size_mb": row.disk_size_mb,
        **changeable(row),
    }
