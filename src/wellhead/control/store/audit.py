"""Who changed what: an entry in the same transaction as its change, so there is none without the other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from wellhead.control.store.database import Database
from wellhead.control.store.tables import AuditRow
from wellhead.errors import Unavailable
from wellhead.logs import Log
from wellhead.model.records import Actor, ApiKey, OrganizationId, TunnelView

Fields = Mapping[str, object]
_log = Log("wellhead.control")


@dataclass(frozen=True, slots=True)
class Target:
    """What an entry is about; the name is kept because the target may be gone when it is read."""

    id: str
    name: str | None = None


def note(
    session: AsyncSession,
    organization_id: str,
    at: datetime,
    by: Actor,
    action: str,
    target: Target,
    before: Fields | None = None,
    after: Fields | None = None,
) -> None:
    """Add an entry to a transaction. ``before`` and ``after``: JSON of the fields that change, no secrets."""
    session.add(
        AuditRow(
            organization_id=organization_id,
            at=at,
            key_id=by.key_id,
            key_last4=by.key_last4,
            address=by.address,
            action=action,
            target_id=target.id,
            target_name=target.name,
            before=None if before is None else dict(before),
            after=None if after is None else dict(after),
        )
    )


class Audit:
    """Reading the entries, newest first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        organization_id: OrganizationId,
        limit: int,
        before: int | None = None,
        action: str | None = None,
        target_id: str | None = None,
    ) -> list[AuditRow]:
        """At most ``limit`` entries older than the one of number ``before``.

        Raises:
            Unavailable: the database does not answer.
        """
        query = select(AuditRow).where(AuditRow.organization_id == organization_id)
        if before is not None:
            query = query.where(AuditRow.id < before)
        if action is not None:
            query = query.where(AuditRow.action == action)
        if target_id is not None:
            query = query.where(AuditRow.target_id == target_id)
        async with self._database.reading() as session:
            return list(await session.scalars(query.order_by(AuditRow.id.desc()).limit(limit)))


TRESPASSES_WAITING = 1000  # refused claims not yet written; more are only logged


class Trespasses:
    """Refused claims of tunnels, in the audit of the organization whose key made them.

    They come from the edge, which does not wait for a database: they stand in line for ``write``.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._waiting: deque[tuple[datetime, ApiKey, str, str]] = deque()
        self._turn = asyncio.Lock()

    def note(self, key: ApiKey, tunnel: TunnelView, peer: str) -> None:
        _log.warning("tunnel claimed by another key", tunnel=tunnel.name, key=key.id, peer=peer)
        if len(self._waiting) < TRESPASSES_WAITING:
            # The name is what the claimer said himself; the other organization's id is not for him.
            self._waiting.append((self._clock(), key, tunnel.name, peer))

    async def write(self) -> None:
        """Write what stands in line; what the database does not take stays there."""
        async with self._turn:
            claims = list(self._waiting)
            if not claims:
                return
            try:
                async with self._database.writing() as session:
                    for at, key, name, peer in claims:
                        by = Actor(key.id, key.last4, peer or None)
                        note(session, key.organization_id, at, by, "tunnel.claim_refused", Target("", name))
            except Unavailable as error:
                _log.warning("refused claims not written", claims=len(claims), error=str(error))
                return
            for _ in claims:
                self._waiting.popleft()
