"""The only writer of the records. Every write is durable first, then told to the snapshot."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path

from sqlalchemy import Select, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from wellhead.control.store.database import Database
from wellhead.control.store.presence import PresenceWriter
from wellhead.control.store.snapshot import Presence, Snapshot, utc_now
from wellhead.control.store.tables import ApiKeyRow, OrganizationRow, TunnelRow
from wellhead.errors import Conflict, NotFound
from wellhead.logs import Log
from wellhead.model import access
from wellhead.model.access import Scope, Secret
from wellhead.model.records import (
    RESTORE_GRACE,
    ApiKey,
    KeyId,
    OrganizationId,
    TlsMode,
    TunnelId,
    TunnelStatus,
    TunnelView,
    may_become,
)
from wellhead.model.text import shown

_log = Log("wellhead.control")


class Unchanged:
    """An argument that was not given, where None is a value."""


UNCHANGED = Unchanged()


class Store:
    """Organizations, keys and tunnels. Of a tunnel of another organization it says what it says of none."""

    def __init__(self, database: Database, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock
        self._presence = PresenceWriter(self._write_presence)
        self.directory = Snapshot(self._presence.note, clock)

    @classmethod
    async def open(cls, path: Path, clock: Callable[[], datetime] = utc_now) -> Store:
        """Open or make the database file, migrate it, and load the snapshot. The directory must exist.

        Raises:
            LocalStateError: as ``Database.open``.
        """
        async with AsyncExitStack() as stack:
            database = await Database.open(path)
            stack.push_async_callback(database.close)
            store = cls(database, clock)
            stack.push_async_callback(store._presence.close)
            await store._load()
            stack.pop_all()
        return store

    async def close(self) -> None:
        """Write what is waiting and close the file."""
        await self._presence.close()
        await self._database.close()

    async def bootstrap(self, keep: Callable[[Secret], None] | None = None) -> Secret | None:
        """On an empty database, make an organization with one admin key and return the key; else None.

        ``keep`` is given the key before it becomes valid: if it fails, nothing was made, and a crash after it
        leaves a key that the next start replaces. So there is never a server whose only key nobody has.
        """
        async with self._database.writing() as session:
            if (await session.scalar(select(OrganizationRow.id).limit(1))) is not None:
                return None
            row, secret = await self._add_organization(session, "default")
            if keep is not None:
                keep(secret)
        self._put_key(row)
        return secret

    async def create_organization(self, name: str) -> tuple[OrganizationId, Secret]:
        """A new organization and its first admin key, which is nowhere but in the answer."""
        async with self._database.writing() as session:
            row, secret = await self._add_organization(session, name)
        return self._put_key(row).organization_id, secret

    async def _add_organization(self, session: AsyncSession, name: str) -> tuple[ApiKeyRow, Secret]:
        secret, now = access.mint(access.API_KEY), self._clock()
        organization = OrganizationRow(id=str(uuid.uuid4()), name=name, created_at=now)
        session.add(organization)
        await session.flush()  # the key refers to it
        row = _key_row(organization.id, secret, (access.ADMIN,), now)
        session.add(row)
        return row, secret

    async def create_key(
        self,
        organization_id: OrganizationId,
        scopes: Sequence[Scope],
        expires_at: datetime | None = None,
    ) -> tuple[ApiKey, Secret]:
        """A new key; the secret is nowhere but in the answer."""
        secret = access.mint(access.API_KEY)
        row = _key_row(organization_id, secret, scopes, self._clock(), expires_at)
        async with self._database.writing() as session:
            session.add(row)
        return self._put_key(row), secret

    async def tunnels(self, organization_id: OrganizationId, name: str | None = None) -> list[TunnelRow]:
        """The organization's tunnels, oldest first; only the one of that name, where one is given."""
        query = _tunnels_of(organization_id).order_by(TunnelRow.created_at, TunnelRow.id)
        if name is not None:
            query = query.where(TunnelRow.name == name)
        async with self._database.reading() as session:
            return list(await session.scalars(query))

    async def tunnel(self, organization_id: OrganizationId, tunnel_id: str) -> TunnelRow:
        """
        Raises:
            NotFound: none of that id in this organization.
        """
        async with self._database.reading() as session:
            return await _one(session, organization_id, tunnel_id)

    async def create_tunnel(
        self,
        organization_id: OrganizationId,
        name: str,
        tls_mode: TlsMode,
        description: str | None = None,
        metadata: dict[str, object] | None = None,
    ) -> tuple[TunnelRow, Secret]:
        """A new tunnel and its connect secret, which is nowhere but in the answer. The name is well formed.

        Raises:
            Conflict: the name is taken.
        """
        secret, now = access.mint(access.CONNECT_SECRET), self._clock()
        row = TunnelRow(
            id=str(uuid.uuid4()),
            organization_id=organization_id,
            name=name,
            tls_mode=tls_mode,
            status=TunnelStatus.ACTIVE if tls_mode is TlsMode.EDGE else TunnelStatus.AWAITING_CERT,
            secret_digest=access.digest(secret),
            description=description,
            metadata_=metadata or {},
            created_at=now,
            updated_at=now,
            currently_connected=False,
        )
        try:
            async with self._database.writing() as session:
                session.add(row)
        except IntegrityError as error:
            raise Conflict(409, f"tunnel name {shown(name)} is taken") from error
        self._put_tunnel(row)
        _log.info("tunnel created", tunnel=row.id, name=name)
        return row, secret

    async def update_tunnel(
        self,
        organization_id: OrganizationId,
        tunnel_id: str,
        description: str | None | Unchanged = UNCHANGED,
        metadata: dict[str, object] | Unchanged = UNCHANGED,
    ) -> TunnelRow:
        """
        Raises:
            NotFound: none of that id in this organization.
        """
        async with self._database.writing() as session:
            row = await _one(session, organization_id, tunnel_id)
            if not isinstance(description, Unchanged):
                row.description = description
            if not isinstance(metadata, Unchanged):
                row.metadata_ = metadata
            row.updated_at = self._clock()
        return row

    async def delete_tunnel(self, organization_id: OrganizationId, tunnel_id: str) -> TunnelRow:
        """Stop its traffic now; the record may be restored for RESTORE_GRACE. Twice is as once.

        Raises:
            NotFound: none of that id in this organization.
        """
        now = self._clock()
        async with self._database.writing() as session:
            row = await _one(session, organization_id, tunnel_id)
            if row.status is TunnelStatus.PENDING_REMOVAL:
                return row
            _change(row, TunnelStatus.PENDING_REMOVAL, now)
            row.restore_deadline_at = now + RESTORE_GRACE
        self._put_tunnel(row)
        _log.info("tunnel pending removal", tunnel=row.id, name=row.name)
        return row

    async def restore_tunnel(self, organization_id: OrganizationId, tunnel_id: str) -> TunnelRow:
        """Take a delete back.

        Raises:
            NotFound: none of that id in this organization.
            Conflict: it is not pending removal, or the time for it is over.
        """
        now = self._clock()
        async with self._database.writing() as session:
            row = await _one(session, organization_id, tunnel_id)
            if row.status is TunnelStatus.PENDING_REMOVAL and _is_over(row, now):
                raise Conflict(409, f"tunnel {row.name} could be restored until {row.restore_deadline_at}")
            to = TunnelStatus.ACTIVE if row.tls_mode is TlsMode.EDGE else TunnelStatus.AWAITING_CERT
            _change(row, to, now)
            row.restore_deadline_at = None
        self._put_tunnel(row)
        _log.info("tunnel restored", tunnel=row.id, name=row.name)
        return row

    async def _load(self) -> None:
        now = self._clock()
        async with self._database.writing() as session:
            # No session outlives the process that had it.
            await session.execute(
                update(TunnelRow)
                .where(TunnelRow.currently_connected)
                .values(currently_connected=False, last_disconnected_at=now)
            )
            for key in await session.scalars(select(ApiKeyRow).where(ApiKeyRow.revoked_at.is_(None))):
                self._put_key(key)
            live = select(TunnelRow).where(TunnelRow.status != TunnelStatus.DELETED)
            for row in await session.scalars(live):
                self._put_tunnel(row)

    async def _write_presence(self, changed: Collection[TunnelId]) -> None:
        async with self._database.writing() as session:
            for tunnel_id in changed:
                presence = self.directory.presence(tunnel_id)
                await session.execute(
                    update(TunnelRow)
                    .where(TunnelRow.id == tunnel_id)
                    .values(
                        currently_connected=presence.connected,
                        last_connected_at=presence.last_connected_at,
                        last_disconnected_at=presence.last_disconnected_at,
                        last_connected_ip_addr=presence.last_ip,
                    )
                )

    def _put_key(self, row: ApiKeyRow) -> ApiKey:
        record = ApiKey(
            KeyId(row.id),
            OrganizationId(row.organization_id),
            row.last4,
            tuple(Scope.parse(scope) for scope in row.scopes),
            row.created_at,
            row.expires_at,
            row.revoked_at,
        )
        self.directory.put_key(record, row.handle, row.digest)
        return record

    def _put_tunnel(self, row: TunnelRow) -> None:
        view = TunnelView(
            TunnelId(row.id), row.name, OrganizationId(row.organization_id), row.status, row.tls_mode
        )
        presence = Presence(
            False, row.last_connected_at, row.last_disconnected_at, row.last_connected_ip_addr
        )
        self.directory.put_tunnel(view, row.secret_digest, presence)


def _tunnels_of(organization_id: OrganizationId) -> Select[TunnelRow]:
    return select(TunnelRow).where(
        TunnelRow.organization_id == organization_id, TunnelRow.status != TunnelStatus.DELETED
    )


async def _one(session: AsyncSession, organization_id: OrganizationId, tunnel_id: str) -> TunnelRow:
    row = await session.scalar(_tunnels_of(organization_id).where(TunnelRow.id == tunnel_id))
    if row is None:
        raise NotFound(404, "no such tunnel")
    return row


def _change(row: TunnelRow, to: TunnelStatus, now: datetime) -> None:
    if not may_become(row.status, to):
        raise Conflict(409, f"tunnel {row.name} is {row.status.value}, it cannot become {to.value}")
    row.status, row.updated_at = to, now


def _is_over(row: TunnelRow, now: datetime) -> bool:
    return row.restore_deadline_at is not None and now >= row.restore_deadline_at


def _key_row(
    organization_id: str,
    secret: Secret,
    scopes: Sequence[Scope],
    now: datetime,
    expires_at: datetime | None = None,
) -> ApiKeyRow:
    return ApiKeyRow(
        id=str(uuid.uuid4()),
        organization_id=organization_id,
        handle=access.handle_of(secret),
        digest=access.digest(secret),
        last4=access.last4(secret),
        scopes=[str(scope) for scope in scopes],
        created_at=now,
        expires_at=expires_at,
    )
