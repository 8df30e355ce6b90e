"""Writes agents' comings and goings to the database, behind the edge's back: late, joined, never lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import cast

from sqlalchemy import Table, bindparam, update
from sqlalchemy.ext.asyncio import AsyncSession

from wellhead.control.store.tables import TunnelRow
from wellhead.errors import Unavailable
from wellhead.logs import Log
from wellhead.model.records import TunnelId
from wellhead.model.snapshot import Presence

JOIN_SECONDS = 0.2  # changes within this time are one transaction
RETRY_SECONDS = 1.0

_log = Log("wellhead.control")

_TUNNELS = cast(Table, TunnelRow.__table__)
_UPDATE = (
    update(_TUNNELS)
    .where(_TUNNELS.c.id == bindparam("tunnel"))
    .values(
        currently_connected=bindparam("connected"),
        last_connected_at=bindparam("came_at"),
        last_disconnected_at=bindparam("went_at"),
        last_connected_ip_addr=bindparam("ip"),
        agent_version=bindparam("agent"),
    )
)


async def write_presences(session: AsyncSession, presences: Mapping[TunnelId, Presence]) -> None:
    """Write them, one at least, into their tunnels' rows; rows that ``session`` holds are not told.

    One statement with many parameters: a statement for each is 0.7 ms for each, most of it on the way to
    the database's thread and back.
    """
    rows = [
        {
            "tunnel": tunnel_id,
            "connected": presence.connected,
            "came_at": presence.last_connected_at,
            "went_at": presence.last_disconnected_at,
            "ip": presence.last_ip,
            "agent": presence.agent,
        }
        for tunnel_id, presence in presences.items()
    ]
    await (await session.connection()).execute(_UPDATE, rows)


class PresenceWriter:
    """One task. Its queue is a set of tunnel ids: at most one entry a tunnel, however its agents flap."""

    def __init__(
        self,
        write: Callable[[Collection[TunnelId]], Awaitable[None]],
        join_seconds: float = JOIN_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._write = write
        self._join_seconds = join_seconds
        self._retry_seconds = retry_seconds
        self._changed: dict[TunnelId, None] = {}  # a set that keeps its order
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="presence-writer")

    def note(self, tunnel_id: TunnelId) -> None:
        self._changed[tunnel_id] = None
        self._wake.set()

    async def close(self) -> None:
        """Write what is waiting, once, and end."""
        self._closing.set()
        self._wake.set()
        await self._task

    async def _run(self) -> None:
        while not self._closing.is_set():
            await self._wake.wait()
            await self._pause(self._join_seconds)
            if not await self._flush():
                await self._pause(self._retry_seconds)
        await self._flush()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            pass

    async def _flush(self) -> bool:
        changed = list(self._changed)
        self._changed.clear()
        self._wake.clear()
        if not changed:
            return True
        try:
            await self._write(changed)
        except Unavailable as error:
            _log.warning("presence not written", tunnels=len(changed), error=str(error))
            for tunnel_id in changed:
                self.note(tunnel_id)
            return False
        except Exception as error:  # a bug: what it concerns is lost, what comes later is not
            _log.error("presence not written", error, tunnels=len(changed))
        return True
