"""Requests that wait for a sandbox: a paused one that is resumed for them, or one of which a change is due.

The control plane is told once for all who wait, and again while they do: a resuming may have failed, or
nobody may have heard. Whoever waits looks again at each change of the sandbox's record and at each new
session of its host, and gives up when its time is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from wellhead.edge.host_directory import HostDirectory
from wellhead.logs import Log
from wellhead.model.sandboxes import HostId, SandboxId, SandboxStatus, SandboxView
from wellhead.wire.feed import Wake

_log = Log("wellhead.edge")
APART_SECONDS: Final = 5.0  # between two tellings of one sandbox


class Waiter(Protocol):
    @property
    def held(self) -> int:
        """Bytes that wait with it."""

    def look(self) -> None:
        """Something changed: go on, or wait on."""

    def late(self) -> None:
        """The time is over."""


class _Bed:
    """Those who wait for one sandbox."""

    __slots__ = ("again", "waiters")

    def __init__(self) -> None:
        self.waiters: dict[Waiter, asyncio.TimerHandle] = {}
        self.again: asyncio.TimerHandle | None = None  # when it may be told again


class Wakes:
    """``tell`` tells the control plane; ``most`` may wait at once, half of them for one sandbox."""

    def __init__(self, directory: HostDirectory, tell: Callable[[Wake], None], *, most: int) -> None:
        self._directory = directory
        self._tell = tell
        self._most = most
        self._most_each = (most + 1) // 2
        self._loop = asyncio.get_running_loop()
        self._beds: dict[SandboxId, _Bed] = {}
        self._count = 0
        self._told: dict[SandboxId, float] = {}  # loop time of the last telling, the oldest first

    def __len__(self) -> int:
        """How many wait."""
        return self._count

    def __iter__(self) -> Iterator[Waiter]:
        return (waiter for bed in self._beds.values() for waiter in bed.waiters)

    def wait(self, sandbox: SandboxId, waiter: Waiter, seconds: float) -> bool:
        """Have it wait so long at most; False: too many do."""
        bed = self._beds.get(sandbox) or _Bed()
        if self._count >= self._most or len(bed.waiters) >= self._most_each:
            return False
        self._beds[sandbox] = bed
        self._count += 1
        bed.waiters[waiter] = self._loop.call_later(seconds, self._late, sandbox, waiter)
        self._wake(sandbox, bed)
        return True

    def leave(self, sandbox: SandboxId, waiter: Waiter) -> None:
        """It waits no more. Who does not wait is ignored."""
        bed = self._beds.get(sandbox)
        timer = bed.waiters.pop(waiter, None) if bed is not None else None
        if bed is None or timer is None:
            return
        timer.cancel()
        self._count -= 1
        if not bed.waiters:
            del self._beds[sandbox]
            if bed.again is not None:
                bed.again.cancel()

    def changed(self, sandbox: SandboxId) -> None:
        """The record of a sandbox did."""
        view = self._directory.sandbox(sandbox)
        if view is not None and view.status is SandboxStatus.RUNNING:
            self._told.pop(sandbox, None)  # what it was told for has come true
        bed = self._beds.get(sandbox)
        if bed is not None:
            self._wake(sandbox, bed)
            for waiter in list(bed.waiters):
                try:
                    waiter.look()
                except Exception as error:  # whoever told of the change has others to tell
                    _log.error("a request for a sandbox failed", error=error)
                    self.leave(sandbox, waiter)

    def joined(self, host: HostId) -> None:
        """A host has one session more."""
        for sandbox in list(self._beds):
            view = self._directory.sandbox(sandbox)
            if view is not None and view.host_id == host:
                self.changed(sandbox)

    def tell_all(self) -> None:
        """Tell of every sandbox that is waited for: whoever listens is new and has heard of none."""
        self._told.clear()
        for sandbox, bed in self._beds.items():
            if bed.again is not None:
                bed.again.cancel()
                bed.again = None
            self._wake(sandbox, bed)

    def _wake(self, sandbox: SandboxId, bed: _Bed) -> None:
        """Tell that the sandbox is to be resumed, or do so later, where it was told just now."""
        view = self._directory.sandbox(sandbox)
        if bed.again is not None or view is None or not _is_to_wake(view):
            return
        now = self._loop.time()
        wait = self._told.get(sandbox, -APART_SECONDS) + APART_SECONDS - now
        if wait <= 0:
            self._tell(Wake(sandbox))
            self._note(sandbox, now)
            wait = APART_SECONDS
        bed.again = self._loop.call_later(wait, self._again, sandbox, bed)

    def _note(self, sandbox: SandboxId, now: float) -> None:
        while self._told and next(iter(self._told.values())) <= now - APART_SECONDS:
            del self._told[next(iter(self._told))]
        self._told[sandbox] = now

    def _again(self, sandbox: SandboxId, bed: _Bed) -> None:
        bed.again = None
        self._wake(sandbox, bed)

    def _late(self, sandbox: SandboxId, waiter: Waiter) -> None:
        self.leave(sandbox, waiter)
        waiter.late()


def _is_to_wake(view: SandboxView) -> bool:
    return view.status is SandboxStatus.PAUSED and view.access.auto_resume
