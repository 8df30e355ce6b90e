"""The sandboxes of this host: made, frozen and thawed, copied and ended, one thing at a time for each.

::

    create -> starting -> running <-> pausing, paused, resuming
                             |  \\-> snapshotting -> as before
                             '-> stopping -> ended: no entry any more, told with the next report

What is begun here is finished, whoever stops waiting for it: nothing half made stays.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

from wellhead.errors import (
    HostBusy,
    HostConflict,
    HostError,
    HostNotFound,
    HostState,
    LocalStateError,
    WellheadError,
)
from wellhead.host.asked import Asked, check_timeout
from wellhead.host.capacity import BOUNDS, Bounds, Capacity
from wellhead.host.entry import Entry
from wellhead.host.ledger import Ledger, Line
from wellhead.host.runtime.runtime import Running, Runtime, SandboxSpec, Template
from wellhead.host.snapshots import Snapshots, Templates
from wellhead.host.startup import begin
from wellhead.host.table import Table
from wellhead.logs import Log
from wellhead.model.sandboxes import SandboxStatus

T = TypeVar("T")
S = SandboxStatus
Begin = Callable[[Running, Mapping[str, str]], Awaitable[None]]

_THERE = (S.RUNNING, S.PAUSED)

_log = Log("wellhead.host")
PAUSE_SECONDS = 60.0  # for every process of a sandbox to stand still


class Sandboxes:
    """``table`` is where they stand. ``begin`` starts what a template has started with each."""

    def __init__(
        self,
        table: Table,
        runtime: Runtime,
        templates: Templates,
        capacity: Capacity,
        state: Path,
        *,
        bounds: Bounds = BOUNDS,
        begin: Begin = begin,
    ) -> None:
        self.table = table
        self.capacity = capacity
        self.draining = False  # takes nothing new
        self._bounds = bounds
        self._begins = begin
        self._runtime = runtime
        self._templates = templates
        self._snapshots = Snapshots(runtime, templates, state)
        self._ledger = Ledger(state)
        self._tasks: set[asyncio.Task[Any]] = set()

    # Life

    async def create(self, asked: Asked) -> Entry:
        """A sandbox that runs.

        Raises:
            HostInvalid: a value is out of its bounds.
            HostNotFound: no such template.
            HostConflict: there is one of this id.
            HostBusy: no room.
            HostError: it could not be made; nothing of it is left.
        """
        return await self._through(self._create(asked))

    async def pause(self, sandbox: str) -> Entry:
        """Freeze it.

        Raises:
            HostNotFound: it is not here.
            HostState: it does not run.
            HostError: it could not be frozen, and goes on.
        """
        return await self._through(self._pause(self.table.entry(sandbox)))

    async def resume(self, sandbox: str) -> Entry:
        """Let it go on.

        Raises:
            HostNotFound: it is not here.
            HostState: it is not paused.
            HostError: it stays paused.
        """
        return await self._through(self._resume(self.table.entry(sandbox)))

    async def destroy(self, sandbox: str) -> None:
        """End it and free everything. Unknown ids are no error.

        Raises:
            HostError: something is left; to be called again.
        """
        entry = self.table.find(sandbox)
        if entry is not None:
            await self._through(self._destroy(entry))

    def discard(self, sandbox: str) -> None:
        """Begin to end it; a failure is logged."""
        if (entry := self.table.find(sandbox)) is not None:
            self._begin(self._discard(entry))

    async def set_timeout(self, sandbox: str, seconds: float) -> Entry:
        """From now on it is paused after so long without activity; 0: never.

        Raises:
            HostNotFound: it is not here.
            HostInvalid: not such a time.
        """
        check_timeout(seconds)
        return await self._through(self._set_timeout(self.table.entry(sandbox), seconds))

    async def snapshot(self, sandbox: str, name: str, *, overwrite: bool = False) -> int:
        """Keep its disk as the template ``name``; gives the bytes. It stands still meanwhile.

        Raises:
            HostNotFound: it is not here.
            HostState: it neither runs nor is paused.
            HostConflict: there is such a template.
            HostError: it could not be copied.
        """
        return await self._through(self._snapshot(self.table.entry(sandbox), name, overwrite))

    async def recover(self) -> int:
        """Find again what runs from before; gives how many. Those that ended meanwhile are told as such."""
        templates = await asyncio.to_thread(self._all_templates)
        lines = await asyncio.to_thread(self._ledger.lines)
        found = await self._runtime.recover(templates)
        for running in found:
            self._recovered(running, lines.pop(running.spec.id, None))
        for sandbox in lines:
            self.table.has_ended(sandbox, "it ended while its host was not there")
            self.table.tell(sandbox, "died", "it ended while its host was not there")
            await asyncio.to_thread(self._ledger.drop, sandbox)
        await self._snapshots.sweep()
        self.table.on_change()
        return len(found)

    async def destroy_all(self) -> None:
        """End every one. What cannot be ended is logged."""
        self.draining = True
        for entry in self.table.all():
            self.discard(entry.id)
        await self.settle()

    async def settle(self) -> None:
        """Until nothing is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    # Unasked

    def expire(self) -> None:
        """Begin to pause those that nothing has happened in for too long."""
        now = self.table.clock()
        for entry in self.table.all():
            if entry.is_idle(now) and not entry.lock.locked():
                self._begin(self._auto_pause(entry))

    async def bury(self) -> None:
        """Free what is left of those whose first process is dead."""
        for entry in self.table.all():
            if entry.running is None or entry.status is S.ERROR or entry.lock.locked():
                continue
            try:
                alive = await self._runtime.is_alive(entry.id)
            except HostError as error:
                _log.warning("sandbox not looked at", sandbox=entry.id, error=error)
                continue
            if not alive and not entry.lock.locked() and not entry.ended.is_set():
                self._begin(self._bury(entry))

    # The work

    async def _create(self, asked: Asked) -> Entry:
        asked.check(self._bounds)
        if self.draining:
            raise HostBusy("this host is leaving and takes no new sandboxes")
        template = await asyncio.to_thread(self._templates.get, asked.template)
        if self.table.find(asked.id) is not None:
            raise HostConflict(f"sandbox {asked.id} is on this host already")
        spec = SandboxSpec(
            asked.id, template, asked.vcpus, asked.memory_mb, asked.disk_mb, self._bounds.pids
        )  # fmt: skip
        self.capacity.admit(self.table.used(), spec)
        entry = Entry(spec, asked.timeout_seconds, self.table.wall(), self.table.clock(), dict(asked.env))
        self.table.add(entry)
        async with entry.lock:
            try:
                await self._write(entry)
                entry.running = await self._made(spec, entry.env)
            except BaseException as error:
                self.table.forget(entry)
                with contextlib.suppress(
                    LocalStateError
                ):  # the next start finds that line, and nothing to it
                    await asyncio.to_thread(self._ledger.drop, asked.id)
                _log.warning("sandbox not made", sandbox=asked.id, template=asked.template, error=error)
                raise
            self.table.become(entry, S.RUNNING)
            self.table.stir(entry.id)
        _log.info(
            "sandbox made", sandbox=asked.id, template=asked.template,
            seconds=self.table.wall() - entry.started_at,
        )  # fmt: skip
        return entry

    async def _made(self, spec: SandboxSpec, env: Mapping[str, str]) -> Running:
        """It runs, and what its template begins with does."""
        running = await self._runtime.create(spec)
        try:
            await self._begins(running, env)
        except BaseException:
            await self._runtime.destroy(spec.id)
            raise
        return running

    async def _pause(self, entry: Entry) -> Entry:
        async with self._when(entry, S.RUNNING):
            await self._freeze(entry)
        return entry

    async def _freeze(self, entry: Entry) -> None:
        self.table.become(entry, S.PAUSING)
        try:
            async with asyncio.timeout(PAUSE_SECONDS):
                await self._runtime.pause(entry.id)
        except TimeoutError as error:
            self.table.become(entry, S.RUNNING)
            raise HostError(f"sandbox {entry.id} did not freeze within {PAUSE_SECONDS:g} s") from error
        except BaseException:
            self.table.become(entry, S.RUNNING)
            raise
        self.table.become(entry, S.PAUSED)

    async def _resume(self, entry: Entry) -> Entry:
        async with self._when(entry, S.PAUSED):
            self.table.become(entry, S.RESUMING)
            try:
                await self._runtime.resume(entry.id)
            except BaseException:
                self.table.become(entry, S.PAUSED)
                raise
            entry.reason = ""
            self.table.become(entry, S.RUNNING)
            self.table.stir(entry.id)
        return entry

    async def _destroy(self, entry: Entry) -> None:
        async with entry.lock:
            if not entry.ended.is_set():
                await self._end(entry, "")

    async def _discard(self, entry: Entry) -> None:
        try:
            await self._destroy(entry)
        except WellheadError as error:
            _log.error("sandbox not destroyed", sandbox=entry.id, reason=error)

    async def _set_timeout(self, entry: Entry, seconds: float) -> Entry:
        async with self._when(entry, *_THERE):
            entry.timeout_seconds = seconds
            entry.last_active = self.table.clock()
            await self._write(entry)
        return entry

    async def _write(self, entry: Entry) -> None:
        line = Line(
            template=entry.spec.template.name, timeout_seconds=entry.timeout_seconds,
            started_at=entry.started_at, env=entry.env,
        )  # fmt: skip
        await asyncio.to_thread(self._ledger.save, entry.id, line)

    async def _snapshot(self, entry: Entry, name: str, overwrite: bool) -> int:
        if not overwrite:
            await self._snapshots.check(name)
        async with self._when(entry, *_THERE):
            before = entry.status
            self.table.become(entry, S.SNAPSHOTTING)
            try:
                size = await self._snapshots.take(entry, name, before)
            except BaseException:
                # What does not go on again is paused: whoever resumes it hears why.
                self.table.become(entry, S.PAUSED if entry.reason else before)
                raise
            self.table.become(entry, before)
        _log.info("snapshot made", sandbox=entry.id, template=name, bytes=size)
        return size

    async def _auto_pause(self, entry: Entry) -> None:
        async with entry.lock:
            if not entry.is_idle(self.table.clock()):
                return
            why = f"nothing happened for {entry.timeout_seconds:g} s"
            try:
                await self._freeze(entry)
            except Exception as error:
                why += f", and it could not be paused: {error}"
                _log.warning("sandbox not paused", sandbox=entry.id, error=error)
                await self._end(entry, why)
                self.table.tell(entry.id, "auto_destroyed", why)
            else:
                _log.info("sandbox paused", sandbox=entry.id, reason=why)
                self.table.tell(entry.id, "auto_paused", why)

    async def _bury(self, entry: Entry) -> None:
        why = "its first process ended"
        async with entry.lock:
            if entry.ended.is_set() or await self._runtime.is_alive(entry.id):
                return
            await self._end(entry, why)
            self.table.tell(entry.id, "died", why)

    async def _end(self, entry: Entry, reason: str) -> None:
        """With its lock held."""
        self.table.become(entry, S.STOPPING)
        entry.reason = reason
        try:
            await self._runtime.destroy(entry.id)
            await asyncio.to_thread(self._ledger.drop, entry.id)
        except BaseException as error:
            entry.reason = f"it could not be ended: {error}"
            self.table.become(entry, S.ERROR)
            raise
        self.table.become(entry, S.STOPPED)
        self.table.forget(entry)
        self.table.has_ended(entry.id, reason)
        _log.info("sandbox ended", sandbox=entry.id, reason=reason or "asked for")

    def _all_templates(self) -> dict[str, Template]:
        found = {}
        for name in self._templates.names():
            try:
                found[name] = self._templates.get(name)
            except HostError as error:
                _log.warning("template unreadable", template=name, reason=error)
        return found

    def _recovered(self, running: Running, line: Line | None) -> None:
        spec, now = running.spec, self.table.clock()
        entry = Entry(
            spec, 0.0 if line is None else line.timeout_seconds,
            self.table.wall() if line is None else line.started_at, now, {} if line is None else line.env,
            S.PAUSED if running.paused else S.RUNNING, running,
        )  # fmt: skip
        self.table.add(entry)
        self.table.tell(spec.id, "recovered")
        _log.info("sandbox found again", sandbox=spec.id, status=entry.status.value)

    @contextlib.asynccontextmanager
    async def _when(self, entry: Entry, *statuses: SandboxStatus) -> AsyncIterator[None]:
        """The entry's lock, where it then has one of these statuses."""
        async with entry.lock:
            if entry.ended.is_set():
                raise HostNotFound(f"sandbox {entry.id} is not on this host")
            if entry.status not in statuses:
                wanted = " or ".join(status.value for status in statuses)
                raise HostState(f"sandbox {entry.id} is {entry.status.value}, not {wanted}")
            yield

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            if not isinstance(error, WellheadError):
                _log.error("sandbox work failed", error=error)

    async def _through(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for work that is finished whether somebody waits or not.

        Raises:
            HostError: what it raised, or that something unexpected went wrong.
        """
        try:
            return await asyncio.shield(self._begin(work))
        except (HostError, asyncio.CancelledError):
            raise
        except WellheadError as error:
            raise HostError(str(error)) from error
        except Exception as error:
            raise HostError(f"the host failed: {type(error).__name__}") from error
