"""What is over and kept to be looked up, for a while: audit, deleted tunnels, ended keys, sandboxes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Delete, Select, delete, or_, select

from wellhead.control.store.creation import IDEMPOTENCY_KEPT
from wellhead.control.store.database import Database
from wellhead.control.store.duty import SIGHTING_SECONDS
from wellhead.control.store.sandbox_tables import RunRow, SandboxOnceRow, SandboxRow
from wellhead.control.store.tables import ApiKeyRow, AuditRow, CertificateRow, IdempotencyRow, TunnelRow
from wellhead.logs import Log
from wellhead.model.records import KeyId, TunnelStatus
from wellhead.model.sandboxes import LIVE

KEPT = timedelta(days=400)
BATCH = 500  # rows that one transaction takes away: others have their turn between two

_log = Log("wellhead.control")


class History:
    """Forgets what ended longer ago than ``kept``, a little late.

    A wall clock that jumps ahead must not cost anybody the audit. So what is to go is what was old enough
    already SIGHTING_SECONDS ago by the monotonic clock, and still is; a clock put right in between saves it.
    ``drop_key`` is told id and handle of a forgotten key.
    """

    def __init__(
        self, database: Database, drop_key: Callable[[KeyId, str], None], clock: Callable[[], datetime]
    ) -> None:
        self.kept = KEPT
        self._database = database
        self._drop_key = drop_key
        self._clock = clock
        self._seen: tuple[float, datetime] | None = None  # when was looked, and what was too old then

    async def forget(self, now: float) -> None:
        """Forget used-up idempotency keys, and now and then what is older. ``now``: seconds, monotonic.

        Raises:
            Unavailable: the database does not answer; what is left is done next time.
        """
        await self._forget_idempotency()
        too_old = self._clock() - self.kept
        if self._seen is None:
            self._seen = now, too_old
            return
        at, was_too_old = self._seen
        if now - at < SIGHTING_SECONDS:
            return
        self._seen = now, too_old
        await self.forget_until(min(was_too_old, too_old))

    async def forget_until(self, end: datetime) -> None:
        """Forget what ended at ``end`` or before it.

        Raises:
            Unavailable: the database does not answer.
        """
        entries = await self._take(_old_entries(end), lambda ids: [_without(AuditRow.id, ids)])
        tunnels = await self._take(
            _old_tunnels(end),
            lambda ids: [_without(IdempotencyRow.tunnel_id, ids), _without(TunnelRow.id, ids)],
        )
        keys = await self._forget_keys(end)
        certificates = await self._take(
            select(CertificateRow.id).where(CertificateRow.expires_at <= end),
            lambda ids: [_without(CertificateRow.id, ids)],
        )
        sandboxes = await self._take(
            _old_sandboxes(end),
            lambda ids: [_without(SandboxOnceRow.sandbox_id, ids), _without(SandboxRow.id, ids)],
        )
        sandboxes += await self._take(
            select(RunRow.id).where(RunRow.ended_at <= end), lambda ids: [_without(RunRow.id, ids)]
        )
        if entries or tunnels or keys or certificates or sandboxes:
            _log.info(
                "history forgotten",
                entries=entries,
                tunnels=tunnels,
                keys=keys,
                certificates=certificates,
                sandboxes=sandboxes,
            )

    async def _forget_idempotency(self) -> None:
        for table in (IdempotencyRow, SandboxOnceRow):
            await self._forget_once(table.created_at, table.key_digest)

    async def _forget_once(self, made: Any, digest: Any) -> None:
        old = made <= self._clock() - IDEMPOTENCY_KEPT
        await self._take(select(digest).where(old), lambda ids: [_without(digest, ids).where(old)])

    async def _forget_keys(self, end: datetime) -> int:
        old = or_(ApiKeyRow.revoked_at <= end, ApiKeyRow.expires_at <= end)
        async with self._database.reading() as session:
            handles = {key.id: key.handle for key in await session.scalars(select(ApiKeyRow).where(old))}
        taken = await self._take(select(ApiKeyRow.id).where(old), lambda ids: [_without(ApiKeyRow.id, ids)])
        for key_id, handle in handles.items():
            self._drop_key(KeyId(key_id), handle)
        return taken

    async def _take(self, old: Select[Any], away: Callable[[list[Any]], list[Delete]]) -> int:
        # What is over does not begin again, so it may be looked for outside of the writers' line.
        taken = 0
        while ids := await self._first(old):
            async with self._database.writing() as session:
                for statement in away(ids):
                    await session.execute(statement)
            taken += len(ids)
        return taken

    async def _first(self, old: Select[Any]) -> list[Any]:
        async with self._database.reading() as session:
            return list(await session.scalars(old.limit(BATCH)))


def _without(column: Any, values: list[Any]) -> Delete:
    return delete(column.class_).where(column.in_(values))


def _old_entries(end: datetime) -> Select[Any]:
    # Entries are numbered as they come: of the first few, so that nothing is looked through to no end.
    first = select(AuditRow.id, AuditRow.at).order_by(AuditRow.id).limit(BATCH).subquery()
    return select(first.c.id).where(first.c.at <= end)


def _old_tunnels(end: datetime) -> Select[Any]:
    return select(TunnelRow.id).where(TunnelRow.status == TunnelStatus.DELETED, TunnelRow.updated_at <= end)


def _old_sandboxes(end: datetime) -> Select[Any]:
    return select(SandboxRow.id).where(SandboxRow.status.not_in(LIVE), SandboxRow.last_updated <= end)
