"""One sandbox, as its host knows it."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wellhead.errors import HostState, StateError
from wellhead.host.runtime.runtime import Running, SandboxSpec
from wellhead.model.sandboxes import SandboxId, SandboxStatus, may_become

EVENTS_MAX = 1000  # that wait to be taken


@dataclass(slots=True, eq=False)
class Entry:
    """``env`` is for whatever is begun in it. ``ended`` is set when it is no more.

    ``timeout_seconds``: without activity until it is paused; 0: never. ``last_active`` on the table's clock,
    ``started_at`` in seconds since 1970.
    """

    spec: SandboxSpec
    timeout_seconds: float
    started_at: float
    last_active: float
    env: Mapping[str, str] = field(default_factory=dict)
    status: SandboxStatus = SandboxStatus.STARTING
    running: Running | None = None
    stirred_at: float = -math.inf  # on the table's clock: when something was begun in it, or typed
    busy: int = 0  # executions that it may not be frozen under
    reason: str = ""  # of an end or an error
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # of whoever changes its status

    @property
    def id(self) -> SandboxId:
        return self.spec.id

    @property
    def guest_socket(self) -> Path:
        """
        Raises:
            HostState: it is not there yet.
        """
        if self.running is None:
            raise HostState(f"sandbox {self.id} is {self.status.value}")
        return self.running.guest_socket

    def is_idle(self, now: float) -> bool:
        """Whether nothing has happened in it for longer than it may stay so."""
        return (
            self.status is SandboxStatus.RUNNING
            and self.timeout_seconds > 0
            and not self.busy
            and now - self.last_active >= self.timeout_seconds
        )

    def become(self, status: SandboxStatus) -> None:
        """
        Raises:
            StateError: that is no lawful change.
        """
        if status is not self.status and not may_become(self.status, status):
            raise StateError(f"a sandbox that is {self.status.value} cannot become {status.value}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Happening:
    """What a host did, or found, unasked. ``at``: seconds since 1970."""

    number: int
    sandbox: SandboxId
    event: str  # auto_paused, auto_destroyed, died, recovered
    at: float
    detail: str = ""


class Happenings:
    """Those that nobody has taken yet, the oldest first; above EVENTS_MAX the oldest are forgotten."""

    def __init__(self) -> None:
        self._waiting: deque[Happening] = deque(maxlen=EVENTS_MAX)
        self._number = 0

    def add(self, sandbox: SandboxId, event: str, at: float, detail: str = "") -> None:
        self._number += 1
        self._waiting.append(Happening(self._number, sandbox, event, at, detail))

    def waiting(self) -> list[Happening]:
        return list(self._waiting)

    def taken(self, number: int) -> None:
        """All up to this number were."""
        while self._waiting and self._waiting[0].number <= number:
            self._waiting.popleft()
