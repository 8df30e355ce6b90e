"""Identities at rest: tunnels' records by the name that their agents have, their handle."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from wellhead.control.store import rows
from wellhead.control.store.creation import Creation, Terms
from wellhead.control.store.database import Database
from wellhead.control.store.ending import Ending
from wellhead.control.store.rows import Changes
from wellhead.control.store.tables import IdempotencyRow, TunnelRow
from wellhead.errors import Conflict, NotFound
from wellhead.model import access
from wellhead.model.records import SERVER, Actor, OrganizationId, TlsMode, TunnelStatus


class Identities:
    """Of an identity of another organization it says what it says of none.

    ``tell`` is told of each tunnel whose record changed, once that is durable.
    """

    def __init__(
        self,
        database: Database,
        creation: Creation,
        ending: Ending,
        tell: Callable[[TunnelRow], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._creation = creation
        self._ending = ending
        self._tell = tell
        self._clock = clock

    async def one(self, organization_id: OrganizationId, handle: str) -> TunnelRow:
        """
        Raises:
            NotFound: none of that handle in this organization.
        """
        async with self._database.reading() as session:
            return await _one(session, organization_id, handle)

    async def create(
        self,
        organization_id: OrganizationId,
        handle: str,
        tls_mode: TlsMode,
        display_name: str | None = None,
        description: str | None = None,
        terms: Terms | None = None,
        *,
        by: Actor = SERVER,
    ) -> tuple[TunnelRow, bool]:
        """A new identity with its tunnel, and whether it was there already by the idempotency key.

        Nobody has the tunnel's connect secret: agents come with keys, until somebody rotates it.

        Raises:
            RateLimited: the organization has as many tunnels as it may.
            NameUnavailable: the handle is taken, or held for a certificate.
            Conflict: the idempotency key was used for another request, or what it made is gone.
        """
        row = rows.fresh(
            organization_id,
            handle,
            tls_mode,
            access.digest(access.mint(access.CONNECT_SECRET)),
            self._clock(),
            description=description,
            display_name=handle if display_name is None else display_name,
        )
        return await self._creation.add(row, terms, _repeat, by=by, action="identity.create")

    async def update(
        self, organization_id: OrganizationId, handle: str, changes: Changes, *, by: Actor = SERVER
    ) -> TunnelRow:
        """What is as it was is no change, and has no entry in the audit.

        Raises:
            NotFound: none of that handle in this organization.
        """
        async with self._database.writing() as session:
            row = await _one(session, organization_id, handle)
            rows.update(session, row, changes, self._clock(), by, "identity.update")
        self._tell(row)
        return row

    async def delete(self, organization_id: OrganizationId, handle: str, *, by: Actor = SERVER) -> TunnelRow:
        """End an identity and its tunnel for good, from whatever status: nothing can be restored.

        Raises:
            NotFound: none of that handle in this organization.
        """

        async def find(session: AsyncSession) -> TunnelRow:
            return await _one(session, organization_id, handle)

        row = await self._ending.end(find, by, "identity.delete")
        assert row is not None  # find raises where there is none
        return row


async def _one(session: AsyncSession, organization_id: OrganizationId, handle: str) -> TunnelRow:
    row = await session.scalar(rows.tunnels_of(organization_id).where(TunnelRow.name == handle))
    if row is None:
        raise NotFound(404, "no such identity")
    return row


def _repeat(session: AsyncSession, row: TunnelRow, made: IdempotencyRow, now: datetime) -> None:
    # The answer holds no secret, so it can be given again, whatever was done since.
    if row.status is TunnelStatus.DELETED:
        raise Conflict(409, f"this Idempotency-Key made identity {row.id}, which is deleted")
