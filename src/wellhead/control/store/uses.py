"""When keys were last used: noted in memory on the way, written now and then behind everybody's back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import cast

from sqlalchemy import Table, bindparam, update

from wellhead.control.store.database import Database
from wellhead.control.store.tables import ApiKeyRow
from wellhead.model.records import KeyId

_KEYS = cast(Table, ApiKeyRow.__table__)
_UPDATE = update(_KEYS).where(_KEYS.c.id == bindparam("key")).values(last_used_at=bindparam("at"))


class KeyUses:
    """At most one time a key waits to be written, however often it is used."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._unwritten: dict[str, datetime] = {}

    def note(self, key_id: KeyId) -> None:
        self._unwritten[key_id] = self._clock()

    def last(self, row: ApiKeyRow) -> datetime | None:
        """When the key of this row was last used; None: never."""
        return self._unwritten.get(row.id, row.last_used_at)

    async def write(self) -> None:
        """Write what was noted since the last time, as one transaction.

        Raises:
            Unavailable: the database does not answer; what was noted still waits.
        """
        if not (noted := dict(self._unwritten)):
            return
        async with self._database.writing() as session:
            rows = [{"key": key_id, "at": at} for key_id, at in noted.items()]
            await (await session.connection()).execute(_UPDATE, rows)
        for key_id, at in noted.items():
            if self._unwritten[key_id] == at:  # not used again meanwhile
                del self._unwritten[key_id]
