"""The only writer of the records. Every write is durable first, then told to the snapshot."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import cast

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from wellhead.control.store import rows
from wellhead.control.store.audit import Audit, Trespasses
from wellhead.control.store.certificates import Certificates
from wellhead.control.store.creation import Creation, Terms
from wellhead.control.store.database import Database
from wellhead.control.store.duty import Duty, SteadyClock
from wellhead.control.store.ending import Ending
from wellhead.control.store.history import History
from wellhead.control.store.hosts import Hosts
from wellhead.control.store.identities import Identities
from wellhead.control.store.keys import Keys
from wellhead.control.store.orders import Orders
from wellhead.control.store.presence import PresenceWriter, write_presences
from wellhead.control.store.rows import UNCHANGED, Changes, Filter, ListedRow, Unchanged
from wellhead.control.store.sandboxes import Sandboxes
from wellhead.control.store.snapshots import Snapshots
from wellhead.control.store.tables import IdempotencyRow, TunnelRow
from wellhead.control.store.uses import KeyUses
from wellhead.errors import Conflict, Unavailable
from wellhead.logs import Log
from wellhead.model import access
from wellhead.model.access import Scope, Secret
from wellhead.model.records import (
    RESTORE_GRACE,
    SERVER,
    Actor,
    ApiKey,
    OrganizationId,
    TlsMode,
    TunnelId,
    TunnelStatus,
    TunnelView,
)
from wellhead.model.snapshot import Presence, Snapshot, utc_now

BATCH = 500  # rows of a long list read at a time, each a trip to a thread; they hold up the loop for 3 ms

_log = Log("wellhead.control")


@dataclass(frozen=True, slots=True)
class Created:
    """A tunnel, its connect secret, and whether the tunnel was there already by the idempotency key."""

    row: TunnelRow
    secret: Secret
    replayed: bool = False


class Store:
    """Every organization's records. Of a tunnel of another organization it says what it says of none.

    Every change takes ``by``, who asks for it, and writes it into the audit.
    """

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self.clock = clock
        self._steady = SteadyClock(clock, monotonic)
        self._presence = PresenceWriter(self._write_presence)
        self.directory = Snapshot(self._presence.note, clock)
        self.keys = Keys(database, self.directory, clock)
        self.audit = Audit(database)
        self.certificates = Certificates(database, clock, self._steady, self._put_tunnel)
        self._creation = Creation(database, self.certificates, self._put_tunnel)
        self.ending = Ending(database, self.directory, self.certificates, self.keys, clock)
        self.identities = Identities(database, self._creation, self.ending, self._put_tunnel, clock)
        self.orders = Orders(database, self._steady)
        self.hosts = Hosts(database, self.directory, self.keys, clock)
        self.sandboxes = Sandboxes(database, self.directory, clock, monotonic)
        self.snapshots = Snapshots(database, clock)
        self.uses = KeyUses(database, clock)
        self.directory.on_used(self.uses.note)
        self.history = History(database, self.directory.drop_key, clock)
        self._trespasses = Trespasses(database, clock)
        self.directory.on_trespass(self._trespasses.note)
        self._duty = Duty(self._often, self._seldom, monotonic)

    @classmethod
    async def open(
        cls,
        path: Path,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        sessions_live: bool = False,
    ) -> Store:
        """Open or make the database file, migrate it, and load the snapshot. The directory must exist.

        ``sessions_live``: whoever has the agents' sessions outlived the last store, and will tell of them.

        Raises:
            LocalStateError: as ``Database.open``.
        """
        async with AsyncExitStack() as stack:
            database = await Database.open(path)
            stack.push_async_callback(database.close)
            store = cls(database, clock, monotonic)
            stack.push_async_callback(store._presence.close)
            stack.push_async_callback(store._duty.close)
            await store._load(sessions_live)
            stack.pop_all()
        return store

    async def close(self) -> None:
        """Write what is waiting and close the file."""
        await self._duty.close()
        await self._trespasses.write()
        with suppress(Unavailable):  # when a key was last used is nothing to fail for
            await self.uses.write()
        await self._presence.close()
        await self._database.close()

    async def bootstrap(self, keep: Callable[[Secret], None] | None = None) -> Secret | None:
        """As ``Keys.bootstrap``."""
        return await self.keys.bootstrap(keep)

    async def create_organization(self, name: str) -> tuple[OrganizationId, Secret]:
        """As ``Keys.create_organization``."""
        return await self.keys.create_organization(name)

    async def create_key(
        self,
        organization_id: OrganizationId,
        scopes: Sequence[Scope],
        expires_at: datetime | None = None,
    ) -> tuple[ApiKey, Secret]:
        """As ``Keys.create``."""
        return await self.keys.create(organization_id, scopes, expires_at)

    async def tunnels(
        self, organization_id: OrganizationId, chosen: Filter | None = None, limit: int | None = None
    ) -> list[TunnelRow]:
        """The organization's tunnels, oldest first, at most ``limit`` of those chosen."""
        query = rows.chosen(organization_id, chosen or Filter()).order_by(TunnelRow.created_at, TunnelRow.id)
        async with self._database.reading() as session:
            return list(await session.scalars(query.limit(limit)))

    async def each_listed(
        self, organization_id: OrganizationId, chosen: Filter, limit: int | None = None
    ) -> AsyncGenerator[Sequence[ListedRow], None]:
        """``tunnels`` in batches of one consistent view: between two of them others have their turn."""
        query = rows.chosen(organization_id, chosen).order_by(TunnelRow.created_at, TunnelRow.id)
        listed = rows.listed(query).limit(limit)
        async with self._database.reading() as session:
            found = await session.stream(listed.execution_options(yield_per=BATCH))
            async for batch in found.partitions(BATCH):
                yield cast(Sequence[ListedRow], batch)  # rows are named tuples

    async def tunnel(self, organization_id: OrganizationId, tunnel_id: str) -> TunnelRow:
        """
        Raises:
            NotFound: none of that id in this organization.
        """
        async with self._database.reading() as session:
            return await rows.one(session, organization_id, tunnel_id)

    async def create_tunnel(
        self,
        organization_id: OrganizationId,
        name: str,
        tls_mode: TlsMode,
        description: str | None = None,
        metadata: dict[str, object] | None = None,
        *,
        by: Actor = SERVER,
    ) -> tuple[TunnelRow, Secret]:
        """A new tunnel and its connect secret, which is nowhere but in the answer. The name is well formed.

        Raises:
            NameUnavailable: the name is taken, or held for a certificate.
        """
        made = await self.create_once(organization_id, name, tls_mode, description, metadata, by=by)
        return made.row, made.secret

    async def create_once(
        self,
        organization_id: OrganizationId,
        name: str,
        tls_mode: TlsMode,
        description: str | None = None,
        metadata: dict[str, object] | None = None,
        *,
        terms: Terms | None = None,
        by: Actor = SERVER,
    ) -> Created:
        """``create_tunnel``; a repeat under the same idempotency key finds the first one's tunnel.

        The first answer cannot be given again, for the secret in it is kept nowhere. A repeat replaces it:
        the secret that got lost is dead, the new one is good.

        Raises:
            RateLimited: the organization has as many tunnels as it may.
            NameUnavailable: the name is taken, or held for a certificate.
            Conflict: the idempotency key was used for another request; or it is a repeat, and the first
                answer's secret is in use already.
        """
        secret = access.mint(access.CONNECT_SECRET)
        digest = access.digest(secret)
        row = rows.fresh(organization_id, name, tls_mode, digest, self.clock(), description, metadata)

        def repeat(session: AsyncSession, row: TunnelRow, made: IdempotencyRow, now: datetime) -> None:
            used = self.directory.presence(TunnelId(row.id)).last_connected_at is not None
            rows.replay(session, row, made, used, secret, now, by)

        row, replayed = await self._creation.add(row, terms, repeat, by=by, action="tunnel.create")
        _log.info("tunnel created", tunnel=row.id, name=name, replayed=replayed)
        return Created(row, secret, replayed)

    async def update_tunnel(
        self,
        organization_id: OrganizationId,
        tunnel_id: str,
        description: str | None | Unchanged = UNCHANGED,
        metadata: dict[str, object] | Unchanged = UNCHANGED,
        *,
        by: Actor = SERVER,
    ) -> TunnelRow:
        """What is as it was is no change, and has no entry in the audit.

        Raises:
            NotFound: none of that id in this organization.
        """
        async with self._changing(organization_id, tunnel_id) as (session, row, now):
            rows.update(session, row, Changes(description, metadata), now, by, "tunnel.update")
        return row

    async def rotate_secret(
        self, organization_id: OrganizationId, tunnel_id: str, *, hard: bool = False, by: Actor = SERVER
    ) -> Secret:
        """A new connect secret; the old one fails at the next hello. ``hard`` ends live sessions too.

        Raises:
            NotFound: none of that id in this organization.
        """
        secret = access.mint(access.CONNECT_SECRET)
        async with self._changing(organization_id, tunnel_id) as (session, row, now):
            row.secret_digest, row.updated_at = access.digest(secret), now
            rows.note(session, row, now, by, "tunnel.rotate_secret", None, {"hard": hard})
        if hard:
            self.directory.end_sessions(TunnelId(row.id))
        _log.info("tunnel secret rotated", tunnel=row.id, name=row.name, hard=hard)
        return secret

    async def delete_tunnel(
        self, organization_id: OrganizationId, tunnel_id: str, *, by: Actor = SERVER
    ) -> TunnelRow:
        """Stop its traffic now; the record may be restored for RESTORE_GRACE. Twice is as once.

        Raises:
            NotFound: none of that id in this organization.
        """
        async with self._changing(organization_id, tunnel_id) as (session, row, now):
            if row.status is TunnelStatus.PENDING_REMOVAL:
                return row
            rows.change(session, row, TunnelStatus.PENDING_REMOVAL, now, by, "tunnel.delete")
            row.restore_deadline_at = now + RESTORE_GRACE
        _log.info("tunnel pending removal", tunnel=row.id, name=row.name)
        return row

    async def restore_tunnel(
        self, organization_id: OrganizationId, tunnel_id: str, *, by: Actor = SERVER
    ) -> TunnelRow:
        """Take a delete back.

        Raises:
            NotFound: none of that id in this organization.
            Conflict: it is not pending removal, or the time for it is over.
        """
        async with self._changing(organization_id, tunnel_id) as (session, row, now):
            if row.status is not TunnelStatus.PENDING_REMOVAL:
                raise Conflict(409, f"tunnel {row.name} is {row.status.value}, there is nothing to restore")
            if rows.is_over(row, now):
                raise Conflict(409, f"tunnel {row.name} could be restored until {row.restore_deadline_at}")
            rows.change(session, row, rows.status_of(row), now, by, "tunnel.restore")
            row.restore_deadline_at = None
        _log.info("tunnel restored", tunnel=row.id, name=row.name)
        return row

    async def force_delete_tunnel(
        self, organization_id: OrganizationId, tunnel_id: str, *, by: Actor = SERVER
    ) -> TunnelRow:
        """End a tunnel that is pending removal without waiting for its deadline; its name is free, or held.

        Raises:
            NotFound: none of that id in this organization.
            Conflict: it is not pending removal.
        """

        async def find(session: AsyncSession) -> TunnelRow:
            row = await rows.one(session, organization_id, tunnel_id)
            if row.status is not TunnelStatus.PENDING_REMOVAL:
                raise Conflict(409, f"tunnel {row.name} is {row.status.value}, it cannot become deleted")
            return row

        row = await self.ending.end(find, by, "tunnel.force_delete")
        assert row is not None  # find raises where there is none
        return row

    @asynccontextmanager
    async def _changing(
        self, organization_id: OrganizationId, tunnel_id: str
    ) -> AsyncGenerator[tuple[AsyncSession, TunnelRow, datetime], None]:
        """A transaction with a tunnel's row and the time; when it is durable the snapshot is told.

        Raises:
            NotFound: none of that id in this organization.
        """
        async with self._database.writing() as session:
            row = await rows.one(session, organization_id, tunnel_id)
            yield session, row, self.clock()
        self._put_tunnel(row)

    async def _often(self) -> None:
        self.directory.expire()
        self._steady.now()  # so that a jump is seen when it happens
        await self._trespasses.write()

    async def _seldom(self, now: float) -> None:
        await self.ending.release_overdue(now)
        await self.uses.write()
        await self.orders.forget()
        await self.hosts.forget_tokens()
        self.sandboxes.forget_over()
        await self.history.forget(now)

    async def _load(self, sessions_live: bool) -> None:
        now = self.clock()
        async with self._database.writing() as session:
            if not sessions_live:  # no session outlives the process that had it
                await session.execute(
                    update(TunnelRow)
                    .where(TunnelRow.currently_connected)
                    .values(currently_connected=False, last_disconnected_at=now)
                )
            await self.keys.load(session)
            live = select(TunnelRow).where(TunnelRow.status != TunnelStatus.DELETED)
            for row in await session.scalars(live):
                self._put_tunnel(row)
            await self.hosts.load(session)
            await self.sandboxes.load(session)

    async def _write_presence(self, changed: Collection[TunnelId]) -> None:
        async with self._database.writing() as session:
            await write_presences(session, {each: self.directory.presence(each) for each in changed})

    def _put_tunnel(self, row: TunnelRow) -> None:
        view = TunnelView(
            TunnelId(row.id), row.name, OrganizationId(row.organization_id), row.status, row.tls_mode
        )
        presence = Presence(
            row.currently_connected,
            row.last_connected_at,
            row.last_disconnected_at,
            row.last_connected_ip_addr,
            row.agent_version,
        )
        self.directory.put_tunnel(view, row.secret_digest, presence)
