"""When sandboxes ran: written with each change of status, read to tell an organization what it uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from wellhead.control.store.database import Database
from wellhead.control.store.sandbox_tables import RunRow, SandboxRow
from wellhead.model.records import OrganizationId
from wellhead.model.sandboxes import SandboxStatus
from wellhead.model.usage import Run


async def turn(session: AsyncSession, row: SandboxRow, before: SandboxStatus, now: datetime) -> None:
    """Begin or end a run where a sandbox's status, now in ``row``, does so."""
    running = row.status is SandboxStatus.RUNNING
    if running is (before is SandboxStatus.RUNNING):
        return
    if running:
        session.add(
            RunRow(
                organization_id=row.organization_id,
                sandbox_id=row.id,
                vcpus=row.vcpus,
                memory_mb=row.memory_mb,
                began_at=now,
            )
        )
        return
    open_run = (RunRow.sandbox_id == row.id) & RunRow.ended_at.is_(None)
    await session.execute(update(RunRow).where(open_run).values(ended_at=now))


@dataclass(frozen=True, slots=True)
class Runs:
    database: Database

    async def within(self, organization_id: OrganizationId, begin: datetime, end: datetime) -> Sequence[Run]:
        """The runs of an organization of which some part lies in this time; those under way end at ``end``.

        Raises:
            Unavailable: the database does not answer.
        """
        query = select(RunRow.vcpus, RunRow.memory_mb, RunRow.began_at, RunRow.ended_at).where(
            RunRow.organization_id == organization_id,
            or_(RunRow.ended_at.is_(None), RunRow.ended_at > begin),
            RunRow.began_at < end,
        )
        async with self.database.reading() as session:
            found = (await session.execute(query)).all()
        return [
            Run(vcpus, memory_mb, max(began, begin), end if ended is None else min(ended, end))
            for vcpus, memory_mb, began, ended in found
        ]
