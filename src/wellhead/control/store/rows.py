"""Tunnels' rows: which are asked for, what may become of them, and what the audit is told of them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import DateTime, Select, String, func, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.attributes import flag_modified

from wellhead.control.store import audit
from wellhead.control.store.audit import Target
from wellhead.control.store.tables import IdempotencyRow, TunnelRow
from wellhead.errors import Conflict, NotFound, RateLimited
from wellhead.model import access
from wellhead.model.access import Secret
from wellhead.model.records import Actor, OrganizationId, TlsMode, TunnelStatus, may_become

ROOM_SECONDS = 3600  # when to ask again who has as many records as are allowed: none goes by itself sooner


class Unchanged:
    """An argument that was not given, where None is a value."""


UNCHANGED = Unchanged()


@dataclass(frozen=True, slots=True)
class Changes:
    """What a tunnel's owner may change of its record."""

    description: str | None | Unchanged = UNCHANGED
    metadata: dict[str, object] | Unchanged = UNCHANGED
    display_name: str | None | Unchanged = UNCHANGED


@dataclass(frozen=True, slots=True)
class Filter:
    """Which tunnels of an organization; None does not choose."""

    ids: Collection[str] | None = None
    name: str | None = None
    prefix: str | None = None  # of its name
    status: TunnelStatus | None = None
    tls_mode: TlsMode | None = None
    connected: bool | None = None
    after: tuple[datetime, str] | None = None  # creation time and id: a place in the order


def tunnels_of(organization_id: OrganizationId) -> Select[TunnelRow]:
    return select(TunnelRow).where(
        TunnelRow.organization_id == organization_id, TunnelRow.status != TunnelStatus.DELETED
    )


class ListedRow(NamedTuple):
    """A tunnel's row as it lies in the database: words for enums, JSON for metadata, times in UTC."""

    id: str
    organization_id: str
    name: str
    tls_mode: str
    status: str
    created_at: datetime  # naive
    updated_at: datetime
    description: str | None
    metadata: str
    restore_deadline_at: datetime | None
    cert_pem: str | None
    cert_fingerprint_sha256: str | None
    cert_expires_at: datetime | None
    cert_renew_at: datetime | None
    display_name: str | None


def listed(query: Select[TunnelRow]) -> Select[*tuple[Any, ...]]:
    """The same tunnels, as ``ListedRow`` has them."""
    row = TunnelRow
    return query.with_only_columns(
        row.id,
        row.organization_id,
        row.name,
        type_coerce(row.tls_mode, String),
        type_coerce(row.status, String),
        type_coerce(row.created_at, DateTime).label("created_at"),
        type_coerce(row.updated_at, DateTime),
        row.description,
        type_coerce(row.metadata_, String),
        type_coerce(row.restore_deadline_at, DateTime),
        row.cert_pem,
        row.cert_fingerprint_sha256,
        type_coerce(row.cert_expires_at, DateTime),
        type_coerce(row.cert_renew_at, DateTime),
        row.display_name,
    )


def chosen(organization_id: OrganizationId, chosen: Filter) -> Select[TunnelRow]:
    query = tunnels_of(organization_id)
    if chosen.ids is not None:
        query = query.where(TunnelRow.id.in_(chosen.ids))
    if chosen.name is not None:
        query = query.where(TunnelRow.name == chosen.name)
    if chosen.prefix is not None:
        # No LIKE, which takes signs for wildcards and, in SQLite, capitals for small letters.
        begin = func.substr(TunnelRow.name, 1, len(chosen.prefix))
        query = query.where(begin == chosen.prefix)
    if chosen.status is not None:
        query = query.where(TunnelRow.status == chosen.status)
    if chosen.tls_mode is not None:
        query = query.where(TunnelRow.tls_mode == chosen.tls_mode)
    if chosen.connected is not None:
        query = query.where(TunnelRow.currently_connected == chosen.connected)
    if chosen.after is not None:
        at, tunnel_id = chosen.after
        query = query.where(
            (TunnelRow.created_at > at) | ((TunnelRow.created_at == at) & (TunnelRow.id > tunnel_id))
        )
    return query


async def one(session: AsyncSession, organization_id: OrganizationId, tunnel_id: str) -> TunnelRow:
    row = await session.scalar(tunnels_of(organization_id).where(TunnelRow.id == tunnel_id))
    if row is None:
        raise NotFound(404, "no such tunnel")
    return row


def change(
    session: AsyncSession, row: TunnelRow, to: TunnelStatus, now: datetime, by: Actor, action: str
) -> None:
    """
    Raises:
        Conflict: the status that it has does not allow it.
    """
    before = row.status
    if not may_become(before, to):
        raise Conflict(409, f"tunnel {row.name} is {before.value}, it cannot become {to.value}")
    row.status, row.updated_at = to, now
    note(session, row, now, by, action, {"status": before.value}, {"status": to.value})


def is_over(row: TunnelRow, now: datetime) -> bool:
    return row.restore_deadline_at is not None and now >= row.restore_deadline_at


def finish(session: AsyncSession, row: TunnelRow, now: datetime, by: Actor, action: str) -> None:
    change(session, row, TunnelStatus.DELETED, now, by, action)
    # What the owner wrote and what let agents in end with it; the row stays for a while as history.
    row.description, row.metadata_, row.secret_digest = None, {}, bytes(32)
    row.display_name = None
    row.restore_deadline_at = None
    row.cert_pem = row.cert_fingerprint_sha256 = row.cert_expires_at = row.cert_renew_at = None


def first_status(tls_mode: TlsMode) -> TunnelStatus:
    """What a tunnel is before its first certificate, if it needs one."""
    return TunnelStatus.ACTIVE if tls_mode is TlsMode.EDGE else TunnelStatus.AWAITING_CERT


def status_of(row: TunnelRow) -> TunnelStatus:
    """What a tunnel is that is not to be removed."""
    return TunnelStatus.ACTIVE if row.cert_pem is not None else first_status(row.tls_mode)


async def count(session: AsyncSession, query: Select[Any]) -> int:
    """How many rows a query would give."""
    return await session.scalar(select(func.count()).select_from(query.subquery())) or 0


def check_room(what: str, there: int, most: int, way_out: str, reason: str) -> None:
    """
    Raises:
        RateLimited: there are as many as are allowed. Not Conflict: to the first generation's clients that
            says that a tunnel's name is taken, and they may look for another and another.
    """
    if there >= most:
        raise RateLimited(
            429,
            f"the organization has {there} {what}, at most {most} are allowed by {way_out}",
            retry_after_seconds=ROOM_SECONDS,
            reason=reason,
        )


async def check_room_for_tunnel(
    session: AsyncSession, organization_id: OrganizationId, most: int | None
) -> None:
    """
    Raises:
        RateLimited: as ``check_room``.
    """
    if most is not None:
        there = await count(session, tunnels_of(organization_id))
        way_out = "tunnels_per_organization: delete some, by force if it is urgent"
        check_room("tunnels", there, most, way_out, "api-tunnels")


def facts(row: TunnelRow) -> dict[str, object]:
    return {
        "tunnel_name": row.name,
        "tls_mode": row.tls_mode.value,
        "status": row.status.value,
        "description": row.description,
        "metadata": row.metadata_,
        "display_name": row.display_name,
    }


def fresh(
    organization_id: OrganizationId,
    name: str,
    tls_mode: TlsMode,
    secret_digest: bytes,
    now: datetime,
    description: str | None = None,
    metadata: dict[str, object] | None = None,
    display_name: str | None = None,
) -> TunnelRow:
    """The record of a tunnel that begins."""
    return TunnelRow(
        id=str(uuid.uuid4()),
        organization_id=organization_id,
        name=name,
        tls_mode=tls_mode,
        status=first_status(tls_mode),
        secret_digest=secret_digest,
        description=description,
        metadata_=metadata or {},
        created_at=now,
        updated_at=now,
        currently_connected=False,
        display_name=display_name,
    )


def update(
    session: AsyncSession, row: TunnelRow, changes: Changes, now: datetime, by: Actor, action: str
) -> None:
    """What is as it was is no change, and has no entry in the audit."""
    before = facts(row)
    if not isinstance(changes.description, Unchanged):
        row.description = changes.description
    if not isinstance(changes.metadata, Unchanged):
        row.metadata_ = changes.metadata
    if not isinstance(changes.display_name, Unchanged):
        row.display_name = changes.display_name
    was, became = differences(before, facts(row))
    if became:
        row.updated_at = now
        flag_modified(row, "metadata_")  # SQLAlchemy takes 1, 1.0 and true for one another
        note(session, row, now, by, action, was, became)


def differences(before: audit.Fields, after: audit.Fields) -> tuple[audit.Fields, audit.Fields]:
    """The fields whose JSON is another afterwards, as they were and as they are."""
    fields = [field for field in after if json.dumps(before[field]) != json.dumps(after[field])]
    return {field: before[field] for field in fields}, {field: after[field] for field in fields}


def note(
    session: AsyncSession,
    row: TunnelRow,
    at: datetime,
    by: Actor,
    action: str,
    before: audit.Fields | None = None,
    after: audit.Fields | None = None,
) -> None:
    """As ``audit.note``, of this tunnel."""
    audit.note(session, row.organization_id, at, by, action, Target(row.id, row.name), before, after)


def replay(
    session: AsyncSession,
    row: TunnelRow,
    made: IdempotencyRow,
    used: bool,
    secret: Secret,
    now: datetime,
    by: Actor,
) -> None:
    """Give the tunnel of an earlier create a fresh secret. ``used``: an agent has connected.

    Raises:
        Conflict: the first answer's secret is in use, or was replaced otherwise.
    """
    if row.status is TunnelStatus.DELETED or used or row.secret_digest != made.secret_digest:
        raise Conflict(
            409,
            f"this Idempotency-Key made tunnel {row.id}, which is {row.status.value} and whose secret"
            " is in use or was replaced: rotate it if you have not got it",
        )
    row.secret_digest = made.secret_digest = access.digest(secret)
    row.updated_at = now
    note(session, row, now, by, "tunnel.create_repeated")
