"""Organizations and API keys at rest."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from sqlalchemy import Select, String, cast, select
from sqlalchemy.ext.asyncio import AsyncSession

from wellhead.control.store import audit
from wellhead.control.store.audit import Target
from wellhead.control.store.database import Database
from wellhead.control.store.rows import check_room, count
from wellhead.control.store.sandbox_tables import HostRow
from wellhead.control.store.tables import ApiKeyRow, OrganizationRow, TunnelRow
from wellhead.errors import Conflict, NotFound
from wellhead.logs import Log
from wellhead.model import access
from wellhead.model.access import Scope, ScopeKind, Secret
from wellhead.model.records import (
    LABEL_MAX,
    SERVER,
    Actor,
    ApiKey,
    KeyId,
    OrganizationId,
    TunnelStatus,
)
from wellhead.model.sandboxes import HostId
from wellhead.model.snapshot import Snapshot
from wellhead.model.text import shown

_log = Log("wellhead.control")


class Keys:
    """The keys of every organization. Of another organization's key it says what it says of none."""

    def __init__(self, database: Database, directory: Snapshot, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._directory = directory
        self._clock = clock

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
        self._put(row)
        return secret

    async def owner(self) -> OrganizationId | None:
        """The organization that the server was set up with: it looks after what is the server's own."""
        query = select(OrganizationRow.id).order_by(OrganizationRow.created_at, OrganizationRow.id).limit(1)
        async with self._database.reading() as session:
            found: str | None = await session.scalar(query)
        return None if found is None else OrganizationId(found)

    async def create_organization(self, name: str) -> tuple[OrganizationId, Secret]:
        """A new organization and its first admin key, which is nowhere but in the answer."""
        async with self._database.writing() as session:
            row, secret = await self._add_organization(session, name)
        return self._put(row).organization_id, secret

    async def _add_organization(self, session: AsyncSession, name: str) -> tuple[ApiKeyRow, Secret]:
        secret, now = access.mint(access.API_KEY), self._clock()
        organization = OrganizationRow(id=str(uuid.uuid4()), name=name, created_at=now)
        session.add(organization)
        await session.flush()  # the key refers to it
        row = _row(organization.id, secret, (access.ADMIN,), now, "first key", None)
        session.add(row)
        audit.note(
            session, organization.id, now, SERVER, "organization.create",
            Target(organization.id, name), None, {"name": name},
        )  # fmt: skip
        _note_created(session, row, SERVER)
        return row, secret

    async def create(
        self,
        organization_id: OrganizationId,
        scopes: Sequence[Scope],
        expires_at: datetime | None = None,
        label: str = "",
        description: str | None = None,
        *,
        most: int | None = None,
        by: Actor = SERVER,
    ) -> tuple[ApiKey, Secret]:
        """A new key; the secret is nowhere but in the answer. ``most``: live keys of the organization.

        Raises:
            Conflict: it would be over already.
            RateLimited: the organization has as many keys as it may.
            NotFound: a scope names a tunnel or a host that is not the organization's.
        """
        secret, now = access.mint(access.API_KEY), self._clock()
        if expires_at is not None and expires_at <= now:
            raise Conflict(409, f"expires_at {shown(expires_at.isoformat())} is over already")
        row = _row(organization_id, secret, scopes, now, label, expires_at)
        row.description, row.created_by = description, by.key_id
        async with self._database.writing() as session:
            await _check_room(session, organization_id, most, now)
            await _check_scopes(session, organization_id, scopes)
            session.add(row)
            _note_created(session, row, by)
        _log.info("key created", key=row.id, last4=row.last4)
        return self._put(row), secret

    async def page(
        self,
        organization_id: OrganizationId,
        limit: int | None = None,
        after: tuple[datetime, str] | None = None,
    ) -> list[ApiKeyRow]:
        """The organization's keys, revoked ones too, oldest first; those after a place in that order."""
        query = _keys_of(organization_id).order_by(ApiKeyRow.created_at, ApiKeyRow.id)
        if after is not None:
            at, key_id = after
            query = query.where(
                (ApiKeyRow.created_at > at) | ((ApiKeyRow.created_at == at) & (ApiKeyRow.id > key_id))
            )
        async with self._database.reading() as session:
            return list(await session.scalars(query if limit is None else query.limit(limit)))

    async def one(self, organization_id: OrganizationId, key_id: str) -> ApiKeyRow:
        """
        Raises:
            NotFound: none of that id in this organization.
        """
        async with self._database.reading() as session:
            return await _one(session, organization_id, key_id)

    async def revoke(self, organization_id: OrganizationId, key_id: str, *, by: Actor = SERVER) -> ApiKeyRow:
        """From now on the key is nobody's, and the sessions that it let in end. Twice is as once.

        Raises:
            NotFound: none of that id in this organization.
            Conflict: it is the last key that may administer the organization.
        """
        now = self._clock()
        async with self._database.writing() as session:
            row = await _one(session, organization_id, key_id)
            if row.revoked_at is not None:
                return row
            await self._check_not_last(session, row, now)
            _revoke(session, row, now, by)
        self.forget([row])
        return row

    # Within a transaction of others' records, and after it

    def add_of_host(
        self, session: AsyncSession, organization_id: OrganizationId, host_id: HostId, name: str, by: Actor
    ) -> tuple[ApiKeyRow, Secret]:
        """A key by which a host is that host; good once ``begin`` was told of it."""
        secret = access.mint(access.API_KEY)
        label = f"host {name}"[:LABEL_MAX]
        scopes = (Scope(ScopeKind.HOST, host_id),)
        row = _row(organization_id, secret, scopes, self._clock(), label, None)
        session.add(row)
        _note_created(session, row, by)
        return row, secret

    def begin(self, row: ApiKeyRow) -> None:
        """The transaction that made this key is durable."""
        self._put(row)

    async def revoke_of_host(
        self, session: AsyncSession, organization_id: OrganizationId, host_id: str, now: datetime, by: Actor
    ) -> list[ApiKeyRow]:
        """Revoke the keys that are for a host, and nothing else, that goes."""
        scope = str(Scope(ScopeKind.HOST, host_id))
        live = _keys_of(organization_id).where(
            ApiKeyRow.revoked_at.is_(None), cast(ApiKeyRow.scopes, String).contains(scope)
        )
        bound = [row for row in await session.scalars(live) if set(row.scopes) == {scope}]
        for row in bound:
            _revoke(session, row, now, by)
        return bound

    async def revoke_bound(
        self, session: AsyncSession, tunnel: TunnelRow, now: datetime, by: Actor
    ) -> list[ApiKeyRow]:
        """Revoke the keys whose scope is a tunnel that ends, and nothing else."""
        live = _keys_of(OrganizationId(tunnel.organization_id)).where(
            ApiKeyRow.revoked_at.is_(None), cast(ApiKeyRow.scopes, String).contains(tunnel.id)
        )
        found = list(await session.scalars(live))
        bound = [row for row in found if access.only_tunnel(key_of(row).scopes) == tunnel.id]
        for row in bound:
            _revoke(session, row, now, by)
        return bound

    async def revoke_all(
        self, session: AsyncSession, organization_id: OrganizationId, now: datetime, by: Actor
    ) -> list[ApiKeyRow]:
        """Revoke every key of an organization, the last admin key too."""
        live = _keys_of(organization_id).where(ApiKeyRow.revoked_at.is_(None))
        every = list(await session.scalars(live))
        for row in every:
            _revoke(session, row, now, by)
        return every

    def forget(self, revoked: Collection[ApiKeyRow]) -> None:
        """The transaction that revoked these is durable: from now on they are nobody's."""
        for row in revoked:
            self._directory.drop_key(KeyId(row.id), row.handle)
            _log.info("key revoked", key=row.id, last4=row.last4)

    async def _check_not_last(self, session: AsyncSession, row: ApiKeyRow, now: datetime) -> None:
        if str(access.ADMIN) not in row.scopes:
            return
        others = _keys_of(OrganizationId(row.organization_id)).where(
            ApiKeyRow.id != row.id, ApiKeyRow.revoked_at.is_(None), ApiKeyRow.expires_at.is_(None)
        )
        if not any(str(access.ADMIN) in other.scopes for other in await session.scalars(others)):
            raise Conflict(
                409, "this is the last admin key without an expiry: create another before you revoke it"
            )

    async def load(self, session: AsyncSession) -> None:
        """Tell the snapshot of every key that was not revoked."""
        for row in await session.scalars(select(ApiKeyRow).where(ApiKeyRow.revoked_at.is_(None))):
            self._put(row)

    def _put(self, row: ApiKeyRow) -> ApiKey:
        record = key_of(row)
        self._directory.put_key(record, row.handle, row.digest)
        return record


def _revoke(session: AsyncSession, row: ApiKeyRow, now: datetime, by: Actor) -> None:
    row.revoked_at = now
    audit.note(
        session, row.organization_id, now, by, "key.revoke", Target(row.id, row.label),
        {"revoked_at": None}, {"revoked_at": now.isoformat()},
    )  # fmt: skip


def key_of(row: ApiKeyRow) -> ApiKey:
    return ApiKey(
        KeyId(row.id),
        OrganizationId(row.organization_id),
        row.last4,
        tuple(Scope.parse(scope) for scope in row.scopes),
        row.created_at,
        row.expires_at,
        row.revoked_at,
        row.label,
        f"{access.API_KEY}_{row.handle}",
        row.description,
        None if row.created_by is None else KeyId(row.created_by),
    )


def _keys_of(organization_id: OrganizationId) -> Select[ApiKeyRow]:
    return select(ApiKeyRow).where(ApiKeyRow.organization_id == organization_id)


async def _one(session: AsyncSession, organization_id: OrganizationId, key_id: str) -> ApiKeyRow:
    row = await session.scalar(_keys_of(organization_id).where(ApiKeyRow.id == key_id))
    if row is None:
        raise NotFound(404, "no such key")
    return row


async def _check_room(
    session: AsyncSession, organization_id: OrganizationId, most: int | None, now: datetime
) -> None:
    if most is None:
        return
    live = _keys_of(organization_id).where(
        ApiKeyRow.revoked_at.is_(None), ApiKeyRow.expires_at.is_(None) | (ApiKeyRow.expires_at > now)
    )
    there = await count(session, live)
    check_room("live keys", there, most, "keys_per_organization: revoke some", "api-keys")


async def _check_scopes(
    session: AsyncSession, organization_id: OrganizationId, scopes: Sequence[Scope]
) -> None:
    for scope in scopes:
        if (named := _named_by(scope, organization_id)) is not None and await session.scalar(named) is None:
            raise NotFound(404, f"scope {shown(str(scope))} names no {scope.kind.value} of this organization")


def _named_by(scope: Scope, organization_id: OrganizationId) -> Select[str] | None:
    """The id of what a scope is for, if there is such a one; None: it is for no single thing."""
    if scope.kind is ScopeKind.TUNNEL:
        return select(TunnelRow.id).where(
            TunnelRow.id == scope.resource,
            TunnelRow.organization_id == organization_id,
            TunnelRow.status != TunnelStatus.DELETED,
        )
    if scope.kind is ScopeKind.HOST:
        return select(HostRow.id).where(
            HostRow.id == scope.resource, HostRow.organization_id == organization_id
        )
    return None


def _note_created(session: AsyncSession, row: ApiKeyRow, by: Actor) -> None:
    after: dict[str, object] = {
        "label": row.label,
        "scopes": list(row.scopes),
        "expires_at": None if row.expires_at is None else row.expires_at.isoformat(),
    }
    if row.description is not None:
        after["description"] = row.description
    target = Target(row.id, row.label)
    audit.note(session, row.organization_id, row.created_at, by, "key.create", target, None, after)


def _row(
    organization_id: str,
    secret: Secret,
    scopes: Sequence[Scope],
    now: datetime,
    label: str,
    expires_at: datetime | None,
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
        label=label,
    )
