"""Tells the control plane how this host and its sandboxes are: at once when something changed, and regularly.

What happened is told again with every report until one is taken, so a lost answer loses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from wellhead.client import AsyncClient
from wellhead.errors import ApiError, HostRemoved, LinkError, NotFound, Unauthorized, WellheadError
from wellhead.host.calls import AGENT, Wishes, report
from wellhead.host.entry import Entry
from wellhead.host.metrics import Metrics
from wellhead.host.sandboxes import Sandboxes
from wellhead.host.table import Ended, Table
from wellhead.logs import Log
from wellhead.model.sandboxes import HostId
from wellhead.net.backoff import Backoff

EVERY_SECONDS = 10.0
TOGETHER_SECONDS = 0.2  # what changes within it is told together
AGAIN_SECONDS = 1.0  # before a control plane that does not know us is asked whether that is so

_log = Log("wellhead.host")


class Reporter:
    """``templates`` gives the names of all there are, and may wait for the disk."""

    def __init__(
        self,
        client: AsyncClient,
        host: HostId,
        runtime: str,
        sandboxes: Sandboxes,
        metrics: Metrics,
        templates: Callable[[], Sequence[str]],
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        self.taken = asyncio.Event()  # one was, ever
        self._client = client
        self._host = host
        self._runtime = runtime
        self._sandboxes = sandboxes
        self._table = sandboxes.table
        self._metrics = metrics
        self._templates = templates
        self._every = every_seconds
        self._boot = secrets.token_hex(8)
        self._news = asyncio.Event()
        self._backoff = Backoff()
        self._away = False  # the last report did not get there

    def soon(self) -> None:
        """Something changed. Called inside the loop."""
        self._news.set()

    async def run(self) -> None:
        """Until it is cancelled.

        Raises:
            HostRemoved: the control plane knows this host no more.
        """
        while True:
            pause = await self._tell()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._news.wait()
                    await asyncio.sleep(TOGETHER_SECONDS)

    async def ask(self) -> None:
        """Find out whether the control plane still knows this host.

        Raises:
            HostRemoved: it does not.
            WellheadError: it cannot be asked.
        """
        await self._send()

    async def last(self) -> None:
        """Say that the host is leaving; where that cannot be said, it will be noticed."""
        try:
            await self._send(leaving=True)
        except WellheadError as error:
            _log.warning("leaving was not told", error=error)

    async def _tell(self) -> float:
        """One report; gives the seconds until the next."""
        self._news.clear()
        try:
            await self._send()
        except (LinkError, ApiError) as error:
            if not self._away:
                _log.warning("report failed", host=self._host, error=error)
            self._away = True
            return min(self._every, self._backoff.pause(error))
        if self._away:
            _log.info("reports are taken again", host=self._host)
        self._away = False
        self._backoff.reset()
        self.taken.set()
        return self._every

    async def _send(self, leaving: bool = False) -> None:
        capacity = self._sandboxes.capacity
        table = self._table
        happenings, ended = table.happenings.waiting(), table.ended()
        told = {
            "boot": self._boot,
            "asked_at": time.time(),
            "leaving": leaving,
            "runtime": self._runtime,
            "agent": AGENT,
            "templates": list(await asyncio.to_thread(self._templates)),
            "vcpus": capacity.vcpus,
            "memory_mb": capacity.memory_mb,
            "disk_mb": capacity.disk_mb,
            "sandboxes_max": capacity.sandboxes,
            "used": dataclasses.asdict(table.used()),
            "sandboxes": [
                *(sandbox_view(table, self._metrics, entry) for entry in table.all()),
                *map(_ended_view, ended),
            ],
            "events": [
                {"number": each.number, "id": each.sandbox, "event": each.event, "at": each.at,
                 "detail": each.detail}
                for each in happenings
            ],
        }  # fmt: skip
        wishes = await self._deliver(told)
        table.taken(ended)
        if happenings:
            table.happenings.taken(happenings[-1].number)
        self._sandboxes.draining = wishes.draining
        for sandbox in wishes.destroy:
            if table.find(sandbox) is not None:
                _log.info("sandbox is not wanted", sandbox=sandbox)
                self._sandboxes.discard(sandbox)

    async def _deliver(self, told: dict[str, Any]) -> Wishes:
        call = report(self._host, told)
        try:
            return await self._client.send(call)
        except (NotFound, Unauthorized) as error:
            _log.warning("the control plane does not know this host", host=self._host, error=error)
        # Nothing is ended on one word that somebody in between may have said.
        await asyncio.sleep(AGAIN_SECONDS)
        try:
            return await self._client.send(call)
        except (NotFound, Unauthorized) as error:
            raise HostRemoved(f"{self._client.url} knows no host {self._host} any more: {error}") from error


def sandbox_view(table: Table, metrics: Metrics, entry: Entry) -> dict[str, Any]:
    """A sandbox as the control plane is told of it."""
    usage, latest = metrics.usage(entry.id), metrics.latest(entry.id)
    return {
        "id": entry.id,
        "status": entry.status.value,
        "template": entry.spec.template.name,
        "vcpus": entry.spec.vcpus,
        "memory_mb": entry.spec.memory_mb,
        "disk_mb": entry.spec.disk_mb,
        "timeout_seconds": entry.timeout_seconds,
        "address": "" if entry.running is None else entry.running.address,
        "started_at": entry.started_at,
        "last_active_at": table.last_active_at(entry),
        "reason": entry.reason or None,
        "usage": None
        if usage is None
        else {
            **dataclasses.asdict(usage),
            "cpu_percent": 0.0 if latest is None else latest.cpu_percent,
        },
    }


def _ended_view(ended: Ended) -> dict[str, Any]:
    return {"id": ended.id, "status": ended.status.value, "reason": ended.reason or None}
