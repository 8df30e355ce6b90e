"""How a tunnel's record begins: once for a request, however often that is sent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from wellhead.control.store import rows
from wellhead.control.store.certificates import Certificates
from wellhead.control.store.database import Database
from wellhead.control.store.sandbox_tables import SandboxOnceRow
from wellhead.control.store.tables import IdempotencyRow, TunnelRow
from wellhead.errors import Conflict, NameUnavailable
from wellhead.model.records import Actor, OrganizationId
from wellhead.model.text import shown

IDEMPOTENCY_KEPT = timedelta(hours=24)
OnceRow = TypeVar("OnceRow", IdempotencyRow, SandboxOnceRow)


@dataclass(frozen=True, slots=True)
class Once:
    """A create that is asked for under an idempotency key, and what is asked."""

    key_digest: bytes
    request_digest: bytes

    @classmethod
    def of(cls, key: str, request: Mapping[str, object]) -> Once:
        body = json.dumps(request, sort_keys=True).encode()
        return cls(hashlib.sha256(key.encode()).digest(), hashlib.sha256(body).digest())


@dataclass(frozen=True, slots=True)
class Terms:
    """Of one create: the idempotency key it came under, and how many tunnels its organization may have."""

    once: Once | None = None
    most: int | None = None


Repeat = Callable[[AsyncSession, TunnelRow, IdempotencyRow, datetime], None]
"""What is done to the row of an earlier create that is asked for again, within the transaction."""


class Creation:
    def __init__(
        self, database: Database, certificates: Certificates, put: Callable[[TunnelRow], None]
    ) -> None:
        self._database = database
        self._certificates = certificates
        self._put = put

    async def add(
        self, row: TunnelRow, terms: Terms | None, repeat: Repeat, *, by: Actor, action: str
    ) -> tuple[TunnelRow, bool]:
        """The tunnel as it now is in the records, and whether it was there already by the idempotency key.

        Raises:
            RateLimited: the organization has as many tunnels as it may.
            NameUnavailable: the name is taken, or held for a certificate.
            Conflict: the idempotency key was used for another request, or as ``repeat`` says.
        """
        terms = terms or Terms()
        organization_id, now = OrganizationId(row.organization_id), row.created_at
        replayed = False
        try:
            async with self._database.writing() as session:
                known = await known_before(session, IdempotencyRow, organization_id, terms.once, now)
                if known is not None:
                    row, replayed = await session.get_one(TunnelRow, known.tunnel_id), True
                    repeat(session, row, known, now)
                else:
                    await rows.check_room_for_tunnel(session, organization_id, terms.most)
                    await self._certificates.check_free(session, row.name, organization_id)
                    session.add(row)
                    await session.flush()
                    rows.note(session, row, now, by, action, None, rows.facts(row))
                    if terms.once is not None:
                        session.add(_idempotency(row, terms.once))
        except IntegrityError as error:
            raise NameUnavailable(409, f"tunnel name {shown(row.name)} is taken") from error
        self._put(row)
        return row, replayed


def _idempotency(row: TunnelRow, once: Once) -> IdempotencyRow:
    return IdempotencyRow(
        organization_id=row.organization_id,
        key_digest=once.key_digest,
        request_digest=once.request_digest,
        tunnel_id=row.id,
        secret_digest=row.secret_digest,
        created_at=row.created_at,
    )


async def known_before(
    session: AsyncSession,
    table: type[OnceRow],
    organization_id: OrganizationId,
    once: Once | None,
    now: datetime,
) -> OnceRow | None:
    """What came of this request before, if it is a repeat.

    Raises:
        Conflict: the idempotency key was used for another request.
    """
    if once is None:
        return None
    found = await session.get(table, (organization_id, once.key_digest))
    if found is None:
        return None
    if now - found.created_at >= IDEMPOTENCY_KEPT:
        await session.delete(found)
        await session.flush()
        return None
    if found.request_digest != once.request_digest:
        raise Conflict(409, "this Idempotency-Key was used for another request")
    return found
