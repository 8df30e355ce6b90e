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
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from wellhead import private
from wellhead.errors import (
    HostBusy,
    HostConflict,
    HostError,
    HostInvalid,
    HostNotFound,
    HostState,
    WellheadError,
)
from wellhead.host.capacity import Bounds, Capacity
from wellhead.host.entry import Entry, Happenings
from wellhead.host.ledger import Ledger, Line
from wellhead.host.runtime.runtime import Running, Runtime, SandboxSpec, Template
from wellhead.host.startup import begin
from wellhead.logs import Log
from wellhead.model.sandboxes import SandboxId, SandboxStatus

T = TypeVar("T")
S = SandboxStatus
Begin = Callable[[Running, Mapping[str, str]], Awaitable[None]]

_THERE = (S.RUNNING, S.PAUSED)

_log = Log("wellhead.host")
PAUSE_SECONDS = 60.0  # for every process of a sandbox to stand still
TIMEOUT_MAX_SECONDS = 30 * 86400.0
BOUNDS = Bounds()
ENDED_MAX = 10_000  # ends that are remembered until they are taken


class Templates(Protocol):
    """What sandboxes begin as. Its calls wait for the disk: not for a loop's thread."""

    def names(self) -> Sequence[str]:
        """All there are."""

    def get(self, name: str) -> Template:
        """Raises HostNotFound: there is none."""

    def add_snapshot(self, name: str, layer: Path, base: Template) -> object:
        """Keep a directory as a template; it is moved."""

    def remove(self, name: str) -> None:
        """Raises HostNotFound: there is none. HostForbidden: it came with the program."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A sandbox that is to be made. ``timeout_seconds``: see ``Entry``."""

    id: SandboxId
    template: str
    vcpus: float = 1.0
    memory_mb: int = 512
    disk_mb: int = 5120
    timeout_seconds: float = 0.0
    env: Mapping[str, str] = field(default_factory=dict)

    def check(self, bounds: Bounds) -> None:
        """
        Raises:
            HostInvalid: a value is out of its bounds.
        """
        bounds.check(self.vcpus, self.memory_mb, self.disk_mb)
        check_timeout(self.timeout_seconds)


def check_timeout(seconds: float) -> None:
    """
    Raises:
        HostInvalid: neither 0 nor as long as it may be.
    """
    if not 0 <= seconds <= TIMEOUT_MAX_SECONDS:
        raise HostInvalid(f"timeout_seconds must be 0 (never) to {TIMEOUT_MAX_SECONDS:g}, not {seconds:g}")


@dataclass(frozen=True, slots=True)
class Ended:
    """A sandbox that is no more. ``status``: stopped, or error."""

    id: SandboxId
    status: SandboxStatus
    reason: str


class Sandboxes:
    """The table. ``begin`` starts what a template has started with each.

    ``clock`` counts activity, in seconds; ``wall`` gives seconds since 1970.

    ``on_change`` is called, inside the loop, when there is something new to tell the control plane.
    """

    def __init__(
        self,
        runtime: Runtime,
        templates: Templates,
        capacity: Capacity,
        state: Path,
        *,
        bounds: Bounds = BOUNDS,
        begin: Begin = begin,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.capacity = capacity
        self.draining = False  # takes nothing new
        self.happenings = Happenings()
        self.on_change = on_change
        self._bounds = bounds
        self._begins = begin
        self._runtime = runtime
        self._templates = templates
        self._staging = state / "staging"
        self._ledger = Ledger(state)
        self._clock = clock
        self._wall = wall
        self._entries: dict[SandboxId, Entry] = {}
        self._ended: dict[SandboxId, Ended] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    # What there is

    def all(self) -> list[Entry]:
        """Every one that is there, the oldest first."""
        return list(self._entries.values())

    def ended(self) -> list[Ended]:
        """Those that ended and were not ``taken`` yet."""
        return list(self._ended.values())

    def taken(self, ended: Sequence[Ended]) -> None:
        """The control plane knows of these ends."""
        for each in ended:
            if self._ended.get(each.id) is each:
                del self._ended[each.id]

    def used(self) -> Capacity:
        return Capacity.of_specs(entry.spec for entry in self._entries.values())

    def entry(self, sandbox: str) -> Entry:
        """
        Raises:
            HostNotFound: it is not here.
        """
        found = self._entries.get(SandboxId(sandbox))
        if found is None:
            raise HostNotFound(f"sandbox {sandbox} is not on this host")
        return found

    def running(self, sandbox: str) -> Entry:
        """
        Raises:
            HostNotFound: it is not here.
            HostState: it does not run.
        """
        entry = self.entry(sandbox)
        if entry.status not in (S.RUNNING, S.SNAPSHOTTING):
            raise HostState(f"sandbox {sandbox} is {entry.status.value}, not running")
        return entry

    def last_active_at(self, entry: Entry) -> float:
        """Seconds since 1970."""
        return self._wall() - max(0.0, self._clock() - entry.last_active)

    # Activity

    def touch(self, sandbox: str) -> None:
        """Something was done in it, or came out of it. Unknown ids are no error."""
        if (entry := self._entries.get(SandboxId(sandbox))) is not None:
            entry.last_active = self._clock()

    @contextlib.contextmanager
    def busy(self, sandbox: str) -> Iterator[Entry]:
        """While it lasts, the sandbox is not paused for want of activity.

        Raises:
            HostNotFound: it is not here.
            HostState: it does not run.
        """
        entry = self.running(sandbox)
        entry.busy += 1
        entry.last_active = self._clock()
        try:
            yield entry
        finally:
            entry.busy -= 1
            entry.last_active = self._clock()

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
        return await self._through(self._pause(self.entry(sandbox)))

    async def resume(self, sandbox: str) -> Entry:
        """Let it go on.

        Raises:
            HostNotFound: it is not here.
            HostState: it is not paused.
            HostError: it stays paused.
        """
        return await self._through(self._resume(self.entry(sandbox)))

    async def destroy(self, sandbox: str) -> None:
        """End it and free everything. Unknown ids are no error.

        Raises:
            HostError: something is left; to be called again.
        """
        entry = self._entries.get(SandboxId(sandbox))
        if entry is not None:
            await self._through(self._destroy(entry))

    def discard(self, sandbox: str) -> None:
        """Begin to end it; a failure is logged."""
        if (entry := self._entries.get(SandboxId(sandbox))) is not None:
            self._begin(self._discard(entry))

    async def set_timeout(self, sandbox: str, seconds: float) -> Entry:
        """From now on it is paused after so long without activity; 0: never.

        Raises:
            HostNotFound: it is not here.
            HostInvalid: not such a time.
        """
        check_timeout(seconds)
        return await self._through(self._set_timeout(self.entry(sandbox), seconds))

    async def snapshot(self, sandbox: str, name: str, *, overwrite: bool = False) -> int:
        """Keep its disk as the template ``name``; gives the bytes. It stands still meanwhile.

        Raises:
            HostNotFound: it is not here.
            HostState: it neither runs nor is paused.
            HostConflict: there is such a template.
            HostError: it could not be copied.
        """
        return await self._through(self._snapshot(self.entry(sandbox), name, overwrite))

    async def recover(self) -> int:
        """Find again what runs from before; gives how many. Those that ended meanwhile are told as such."""
        names = await asyncio.to_thread(self._templates.names)
        templates = {name: await asyncio.to_thread(self._templates.get, name) for name in names}
        lines = await asyncio.to_thread(self._ledger.lines)
        found = await self._runtime.recover(templates)
        for running in found:
            self._recovered(running, lines.pop(running.spec.id, None))
        for sandbox in lines:
            self._has_ended(sandbox, S.STOPPED, "it ended while its host was not there")
            self.happenings.add(sandbox, "died", self._wall(), "it ended while its host was not there")
            await asyncio.to_thread(self._ledger.drop, sandbox)
        await asyncio.to_thread(shutil.rmtree, self._staging, ignore_errors=True)
        self.on_change()
        return len(found)

    async def destroy_all(self) -> None:
        """End every one. What cannot be ended is logged."""
        self.draining = True
        for entry in self.all():
            self.discard(entry.id)
        await self.settle()

    async def settle(self) -> None:
        """Until nothing is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    # Unasked

    def expire(self) -> None:
        """Begin to pause those that nothing has happened in for too long."""
        now = self._clock()
        for entry in self._entries.values():
            if entry.is_idle(now) and not entry.lock.locked():
                self._begin(self._auto_pause(entry))

    async def bury(self) -> None:
        """Free what is left of those whose first process is dead."""
        for entry in self.all():
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
        if asked.id in self._entries:
            raise HostConflict(f"sandbox {asked.id} is on this host already")
        spec = SandboxSpec(
            asked.id, template, asked.vcpus, asked.memory_mb, asked.disk_mb, self._bounds.pids
        )  # fmt: skip
        self.capacity.admit(self.used(), spec)
        entry = Entry(spec, asked.timeout_seconds, self._wall(), self._clock(), dict(asked.env))
        self._entries[asked.id] = entry
        async with entry.lock:
            try:
                await self._write(entry)
                entry.running = await self._made(spec, entry.env)
            except BaseException as error:
                self._forget(entry)
                await asyncio.to_thread(self._ledger.drop, asked.id)
                _log.warning("sandbox not made", sandbox=asked.id, template=asked.template, error=error)
                raise
            entry.last_active = self._clock()
            self._become(entry, S.RUNNING)
        _log.info(
            "sandbox made", sandbox=asked.id, template=asked.template,
            seconds=self._wall() - entry.started_at,
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
        self._become(entry, S.PAUSING)
        try:
            async with asyncio.timeout(PAUSE_SECONDS):
                await self._runtime.pause(entry.id)
        except TimeoutError as error:
            self._become(entry, S.RUNNING)
            raise HostError(f"sandbox {entry.id} did not freeze within {PAUSE_SECONDS:g} s") from error
        except BaseException:
            self._become(entry, S.RUNNING)
            raise
        self._become(entry, S.PAUSED)

    async def _resume(self, entry: Entry) -> Entry:
        async with self._when(entry, S.PAUSED):
            self._become(entry, S.RESUMING)
            try:
                await self._runtime.resume(entry.id)
            except BaseException:
                self._become(entry, S.PAUSED)
                raise
            entry.last_active = self._clock()
            entry.reason = ""
            self._become(entry, S.RUNNING)
        return entry

    async def _destroy(self, entry: Entry) -> None:
        async with entry.lock:
            if not entry.ended.is_set():
                await self._end(entry, "")

    async def _discard(self, entry: Entry) -> None:
        try:
            await self._destroy(entry)
        except HostError as error:
            _log.error("sandbox not destroyed", sandbox=entry.id, reason=error)

    async def _set_timeout(self, entry: Entry, seconds: float) -> Entry:
        async with self._when(entry, *_THERE):
            entry.timeout_seconds = seconds
            entry.last_active = self._clock()
            await self._write(entry)
        return entry

    async def _write(self, entry: Entry) -> None:
        line = Line(
            template=entry.spec.template.name, timeout_seconds=entry.timeout_seconds,
            started_at=entry.started_at, env=entry.env,
        )  # fmt: skip
        await asyncio.to_thread(self._ledger.save, entry.id, line)

    async def _snapshot(self, entry: Entry, name: str, overwrite: bool) -> int:
        if not overwrite and name in await asyncio.to_thread(self._templates.names):
            raise HostConflict(f"there is a template {name} already")
        async with self._when(entry, *_THERE):
            before = entry.status
            self._become(entry, S.SNAPSHOTTING)
            try:
                async with self._still(entry, before):
                    size = await self._copy(entry, name)
            except BaseException:
                # What does not go on again is paused: whoever resumes it hears why.
                self._become(entry, S.PAUSED if entry.reason else before)
                raise
            self._become(entry, before)
        _log.info("snapshot made", sandbox=entry.id, template=name, bytes=size)
        return size

    @contextlib.asynccontextmanager
    async def _still(self, entry: Entry, before: SandboxStatus) -> AsyncIterator[None]:
        """It stands still, and then is as it was."""
        if before is not S.RUNNING:
            yield
            return
        await self._runtime.pause(entry.id)
        try:
            yield
        finally:
            try:
                await self._runtime.resume(entry.id)
            except BaseException as error:
                entry.reason = f"it did not go on after a snapshot: {error}"
                raise

    async def _copy(self, entry: Entry, name: str) -> int:
        target = self._staging / secrets.token_hex(8)
        try:
            await asyncio.to_thread(private.make_directory, self._staging)
            await self._runtime.snapshot(entry.id, target)
            size = await asyncio.to_thread(_bytes_in, target)
            if name in await asyncio.to_thread(self._templates.names):
                await asyncio.to_thread(self._templates.remove, name)
            await asyncio.to_thread(self._templates.add_snapshot, name, target, entry.spec.template)
        finally:
            await asyncio.to_thread(shutil.rmtree, target, ignore_errors=True)
        return size

    async def _auto_pause(self, entry: Entry) -> None:
        async with entry.lock:
            if not entry.is_idle(self._clock()):
                return
            why = f"nothing happened for {entry.timeout_seconds:g} s"
            try:
                await self._freeze(entry)
            except Exception as error:
                why += f", and it could not be paused: {error}"
                _log.warning("sandbox not paused", sandbox=entry.id, error=error)
                await self._end(entry, why)
                self.happenings.add(entry.id, "auto_destroyed", self._wall(), why)
            else:
                _log.info("sandbox paused", sandbox=entry.id, reason=why)
                self.happenings.add(entry.id, "auto_paused", self._wall(), why)
        self.on_change()

    async def _bury(self, entry: Entry) -> None:
        why = "its first process ended"
        async with entry.lock:
            if entry.ended.is_set() or await self._runtime.is_alive(entry.id):
                return
            await self._end(entry, why)
            self.happenings.add(entry.id, "died", self._wall(), why)
        self.on_change()

    async def _end(self, entry: Entry, reason: str) -> None:
        """With its lock held."""
        self._become(entry, S.STOPPING)
        entry.reason = reason
        try:
            await self._runtime.destroy(entry.id)
            await asyncio.to_thread(self._ledger.drop, entry.id)
        except BaseException as error:
            entry.reason = f"it could not be ended: {error}"
            self._become(entry, S.ERROR)
            raise
        self._become(entry, S.STOPPED)
        self._forget(entry)
        self._has_ended(entry.id, S.STOPPED, reason)
        _log.info("sandbox ended", sandbox=entry.id, reason=reason or "asked for")

    def _recovered(self, running: Running, line: Line | None) -> None:
        spec, now = running.spec, self._clock()
        entry = Entry(
            spec, 0.0 if line is None else line.timeout_seconds,
            self._wall() if line is None else line.started_at, now, {} if line is None else line.env,
            S.PAUSED if running.paused else S.RUNNING, running,
        )  # fmt: skip
        self._entries[spec.id] = entry
        self.happenings.add(spec.id, "recovered", self._wall())
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

    def _become(self, entry: Entry, status: SandboxStatus) -> None:
        entry.become(status)
        self.on_change()

    def _forget(self, entry: Entry) -> None:
        self._entries.pop(entry.id, None)
        entry.ended.set()

    def _has_ended(self, sandbox: SandboxId, status: SandboxStatus, reason: str) -> None:
        self._ended[sandbox] = Ended(sandbox, status, reason)
        while len(self._ended) > ENDED_MAX:
            del self._ended[next(iter(self._ended))]
        self.on_change()

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
        except (WellheadError, asyncio.CancelledError):
            raise
        except Exception as error:
            raise HostError(f"the host failed: {type(error).__name__}") from error


def _bytes_in(directory: Path) -> int:
    """What the files under it take on disk."""
    return sum(path.lstat().st_blocks * 512 for path in directory.rglob("*"))
