"""``/api/v1/audit``: who changed what, for keys that may administer their organization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query

from wellhead.control import paging
from wellhead.control.access import Key, need_admin
from wellhead.control.store.store import Store
from wellhead.control.store.tables import AuditRow
from wellhead.errors import NotFound
from wellhead.model.records import AuditEntry, KeyId

PAGE = 100  # entries, where no limit is asked for
_NUMBER_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class AuditPage:
    entries: list[AuditEntry]
    next_cursor: str | None = None


Limit = Annotated[int, Query(ge=1, le=paging.LIMIT_MAX, description="At most so many.")]
Action = Annotated[
    str | None, Query(max_length=64, description="Only of this action, such as `tunnel.create`.")
]
TargetId = Annotated[str | None, Query(max_length=64, description="Only of this tunnel or key.")]


def router(store: Store) -> APIRouter:
    routes = APIRouter(prefix="/audit", tags=["audit"])

    @routes.get("", operation_id="list_audit")
    async def list_audit(
        key: Key,
        limit: Limit = PAGE,
        cursor: paging.At = None,
        action: Action = None,
        target_id: TargetId = None,
    ) -> AuditPage:
        """Changes of the organization's records, newest first. No entry holds a secret."""
        need_admin(key)
        before = None if cursor is None else _number(cursor)
        rows = await store.audit.page(key.organization_id, limit + 1, before, action, target_id)
        more = len(rows) > limit
        following = paging.pack(str(rows[limit - 1].id)) if more else None
        return AuditPage([_entry(row) for row in rows[:limit]], following)

    return routes


def _number(cursor: str) -> int:
    (text,) = paging.unpack(cursor, 1)
    if text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _NUMBER_MAX:
        return int(text)
    raise NotFound(404, "cursor is no place in this list")


def _entry(row: AuditRow) -> AuditEntry:
    return AuditEntry(
        id=str(row.id),
        at=row.at,
        actor="server" if row.key_id is None else "key",
        key_id=None if row.key_id is None else KeyId(row.key_id),
        key_last4=row.key_last4,
        address=row.address,
        action=row.action,
        target_id=row.target_id,
        target_name=row.target_name,
        before=row.before,
        after=row.after,
    )
