"""Templates that were made of sandboxes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from wellhead.control.store import audit
from wellhead.control.store.audit import Target
from wellhead.control.store.database import Database
from wellhead.control.store.rows import check_room, count
from wellhead.control.store.sandbox_tables import HostRow, SandboxRow, SnapshotRow
from wellhead.errors import NotFound, TemplateNameTaken
from wellhead.model.records import Actor, OrganizationId
from wellhead.model.text import shown


class Snapshots:
    """Of another organization's it says what it says of none."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def page(self, organization_id: OrganizationId) -> list[SnapshotRow]:
        """The organization's, newest first."""
        query = _of(organization_id)
        async with self._database.reading() as session:
            return list(
                await session.scalars(query.order_by(SnapshotRow.created_at.desc(), SnapshotRow.name))
            )

    async def find(self, organization_id: OrganizationId, name: str) -> SnapshotRow | None:
        async with self._database.reading() as session:
            return await session.get(SnapshotRow, (organization_id, name))

    async def one(self, organization_id: OrganizationId, name: str) -> SnapshotRow:
        """
        Raises:
            NotFound: none of that name in this organization.
        """
        if (row := await self.find(organization_id, name)) is None:
            raise NotFound(404, "no such template")
        return row

    async def bases(self, organization_id: OrganizationId) -> set[str]:
        """The templates at the organization's hosts that are no snapshots."""
        async with self._database.reading() as session:
            return await _bases(session, organization_id)

    async def check_free(
        self, organization_id: OrganizationId, name: str, *, overwrite: bool, most: int
    ) -> SnapshotRow | None:
        """The snapshot of this name that is to be overwritten, if there is one.

        Raises:
            TemplateNameTaken: the name is a base template's, or a snapshot's that is not to be overwritten.
            RateLimited: the organization has as many as it may.
        """
        async with self._database.reading() as session:
            found = await session.get(SnapshotRow, (organization_id, name))
            if (found is not None and not overwrite) or name in await _bases(session, organization_id):
                raise TemplateNameTaken(f"template name {shown(name)} is taken")
            if found is None:
                there = await count(session, _of(organization_id))
                check_room(
                    "snapshots", there, most, "snapshots_per_organization: delete some", "api-snapshots"
                )
        return found

    async def put(self, source: SandboxRow, name: str, size_bytes: int, by: Actor) -> SnapshotRow:
        """What was made of a sandbox, in place of what had the name."""
        now = self._clock()
        row = SnapshotRow(
            organization_id=source.organization_id,
            name=name,
            host_id=source.host_id,
            sandbox_id=source.id,
            base=source.template,
            vcpus=source.vcpus,
            memory_mb=source.memory_mb,
            size_bytes=size_bytes,
            created_at=now,
        )
        async with self._database.writing() as session:
            row = await session.merge(row)
            await _list(session, source.host_id, name, there=True)
            after: dict[str, object] = {"sandbox_id": source.id, "size_bytes": size_bytes}
            _note(session, row, now, by, "snapshot.create", None, after)
        return row

    async def delete(self, row: SnapshotRow, by: Actor) -> None:
        async with self._database.writing() as session:
            found = await session.get(SnapshotRow, (row.organization_id, row.name))
            if found is not None:
                _note(session, found, self._clock(), by, "snapshot.delete", {"host_id": found.host_id}, None)
                await _list(session, found.host_id, found.name, there=False)
                await session.delete(found)

    async def delete_of_host(self, host_id: str) -> None:
        """Those that went with their host."""
        async with self._database.writing() as session:
            for row in await session.scalars(select(SnapshotRow).where(SnapshotRow.host_id == host_id)):
                await session.delete(row)


def _of(organization_id: OrganizationId) -> Select[SnapshotRow]:
    return select(SnapshotRow).where(SnapshotRow.organization_id == organization_id)


async def _list(session: AsyncSession, host_id: str, name: str, *, there: bool) -> None:
    """Let a host's record have what its next report will say."""
    if (host := await session.get(HostRow, host_id)) is not None:
        others = [other for other in host.templates if other != name]
        host.templates = [*others, name] if there else others


async def _bases(session: AsyncSession, organization_id: OrganizationId) -> set[str]:
    hosts = await session.scalars(select(HostRow.templates).where(HostRow.organization_id == organization_id))
    names = {name for templates in hosts for name in templates}
    return names - {row.name for row in await session.scalars(_of(organization_id))}


def _note(
    session: AsyncSession,
    row: SnapshotRow,
    at: datetime,
    by: Actor,
    action: str,
    before: audit.Fields | None,
    after: audit.Fields | None,
) -> None:
    # A name of 64 characters is longer than what an entry has for an id.
    audit.note(session, row.organization_id, at, by, action, Target(row.sandbox_id, row.name), before, after)
