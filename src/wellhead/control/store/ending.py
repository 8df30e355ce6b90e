"""How a tunnel's record ends: with its traffic, its certificates and the keys that were for it alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from wellhead.control.store import rows
from wellhead.control.store.certificates import Certificates
from wellhead.control.store.database import Database
from wellhead.control.store.duty import Sightings
from wellhead.control.store.keys import Keys
from wellhead.control.store.tables import OrganizationRow, TunnelRow
from wellhead.logs import Log
from wellhead.model.records import SERVER, Actor, OrganizationId, TunnelId, TunnelStatus
from wellhead.model.snapshot import Snapshot

Find = Callable[[AsyncSession], Awaitable[TunnelRow | None]]

_log = Log("wellhead.control")


class Ending:
    def __init__(
        self,
        database: Database,
        directory: Snapshot,
        certificates: Certificates,
        keys: Keys,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._directory = directory
        self._certificates = certificates
        self._keys = keys
        self._clock = clock
        self._sightings = Sightings()

    async def end(self, find: Find, by: Actor, action: str) -> TunnelRow | None:
        """End the tunnel that ``find`` gives within the transaction; None: it gives none.

        Its name is free, or held for its certificates; live sessions end, and so do the keys whose scope was
        this tunnel and nothing else.
        """
        async with self._database.writing() as session:
            row = await find(session)
            if row is None:
                return None
            now = self._clock()
            rows.finish(session, row, now, by, action)
            await self._certificates.release(session, row, now, by)
            keys = await self._keys.revoke_bound(session, row, now, by)
        self._directory.drop_tunnel(TunnelId(row.id))
        self._certificates.revision += 1
        self._keys.forget(keys)
        _log.info("tunnel ended", tunnel=row.id, name=row.name, action=action, keys=len(keys))
        return row

    async def release_overdue(self, now: float) -> None:
        """End the tunnels whose deadline was seen passed for a while. ``now``: seconds, monotonic.

        Raises:
            Unavailable: the database does not answer; what is left is done next time.
        """
        overdue = select(TunnelRow.id).where(
            TunnelRow.status == TunnelStatus.PENDING_REMOVAL, TunnelRow.restore_deadline_at <= self._clock()
        )
        async with self._database.reading() as session:
            seen = list(await session.scalars(overdue))
        for tunnel_id in self._sightings.over(seen, now):
            await self.end(self._still_overdue(tunnel_id), SERVER, "tunnel.release")

    async def end_organization(self, organization_id: OrganizationId, name: str, by: Actor) -> bool:
        """End all tunnels and keys of the organization, if this is its name; whether there is such a one."""
        async with self._database.reading() as session:
            found = await session.get(OrganizationRow, organization_id)
        if found is None or found.name != name:
            return False
        tunnels = rows.tunnels_of(organization_id).limit(1)

        async def find(session: AsyncSession) -> TunnelRow | None:
            row: TunnelRow | None = await session.scalar(tunnels)
            return row

        while await self.end(find, by, "organization.end") is not None:
            pass
        async with self._database.writing() as session:
            keys = await self._keys.revoke_all(session, organization_id, self._clock(), by)
        self._keys.forget(keys)
        _log.info("organization ended", organization=organization_id, keys=len(keys))
        return True

    def _still_overdue(self, tunnel_id: str) -> Find:
        async def find(session: AsyncSession) -> TunnelRow | None:
            row = await session.get_one(TunnelRow, tunnel_id)
            over = row.status is TunnelStatus.PENDING_REMOVAL and rows.is_over(row, self._clock())
            return row if over else None

        return find
