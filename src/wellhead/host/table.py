"""The sandboxes that are on this host, what happens in them, and which of them ended.

Changes of status are the business of ``sandboxes``, which adds them here and takes them away.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from wellhead.errors import HostNotFound, HostState
from wellhead.host.capacity import Capacity
from wellhead.host.entry import Entry, Happenings
from wellhead.model.sandboxes import SandboxId, SandboxStatus

S = SandboxStatus

ENDED_MAX = 10_000  # ends that are remembered until they are taken


@dataclass(frozen=True, slots=True)
class Ended:
    """A sandbox that is no more. ``status``: stopped, or error."""

    id: SandboxId
    status: SandboxStatus
    reason: str


class Table:
    """``clock`` counts activity, in seconds; ``wall`` gives seconds since 1970.

    ``on_change`` is called, inside the loop, when there is something new to tell the control plane.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self.clock = clock
        self.wall = wall
        self.happenings = Happenings()
        self.on_change: Callable[[], None] = lambda: None
        self._entries: dict[SandboxId, Entry] = {}
        self._ended: dict[SandboxId, Ended] = {}
        self._watchers: list[Callable[[Entry], None]] = []

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

    def find(self, sandbox: str) -> Entry | None:
        """None: it is not here."""
        return self._entries.get(SandboxId(sandbox))

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
        return self.wall() - max(0.0, self.clock() - entry.last_active)

    # Activity

    def touch(self, sandbox: str) -> None:
        """Something was done in it, or came out of it. Unknown ids are no error."""
        if (entry := self._entries.get(SandboxId(sandbox))) is not None:
            entry.last_active = self.clock()

    def stir(self, sandbox: str) -> None:
        """Something was begun in it, or typed: what comes of that may be asked for soon."""
        if (entry := self._entries.get(SandboxId(sandbox))) is not None:
            entry.last_active = entry.stirred_at = self.clock()

    @contextlib.contextmanager
    def busy(self, sandbox: str) -> Iterator[Entry]:
        """While it lasts, the sandbox is not paused for want of activity.

        Raises:
            HostNotFound: it is not here.
            HostState: it does not run.
        """
        entry = self.running(sandbox)
        entry.busy += 1
        self.stir(sandbox)
        try:
            yield entry
        finally:
            entry.busy -= 1
            self.stir(sandbox)

    # Changes

    def watch(self, watcher: Callable[[Entry], None]) -> None:
        """Have it called, inside the loop, with each entry whose status has changed."""
        self._watchers.append(watcher)

    def add(self, entry: Entry) -> None:
        self._entries[entry.id] = entry

    def forget(self, entry: Entry) -> None:
        """It is no more; whoever waits for that hears it."""
        self._entries.pop(entry.id, None)
        entry.ended.set()

    def become(self, entry: Entry, status: SandboxStatus) -> None:
        """
        Raises:
            StateError: that is no lawful change.
        """
        entry.become(status)
        for watcher in self._watchers:
            watcher(entry)
        self.on_change()

    def has_ended(self, sandbox: SandboxId, reason: str) -> None:
        """Remember that one stopped."""
        self._ended[sandbox] = Ended(sandbox, S.STOPPED, reason)
        while len(self._ended) > ENDED_MAX:
            del self._ended[next(iter(self._ended))]
        self.on_change()

    def tell(self, sandbox: SandboxId, event: str, detail: str = "") -> None:
        """Something was done, or found, unasked."""
        self.happenings.add(sandbox, event, self.wall(), detail)
        self.on_change()
