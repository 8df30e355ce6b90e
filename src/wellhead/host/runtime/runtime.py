"""What the host asks of whatever runs sandboxes: Linux namespaces, or plain processes."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from wellhead.model.sandboxes import SandboxId


@dataclass(frozen=True, slots=True)
class Template:
    """What a sandbox begins as.

    ``layers``: directories, the topmost first, that together are its root; empty where the machine's own
    root is used (runtime ``process``). ``shared``: the machine's own directories that show at the same place;
    what a sandbox writes there is its own. ``start``: argv of a process that begins with every sandbox, as
    ``user``, after which ``healthy_port`` is to be listened on.
    """

    name: str
    layers: Sequence[Path] = ()
    shared: Sequence[str] = ()
    user: str = "root"
    home: str = "/root"
    env: Mapping[str, str] = field(default_factory=dict)
    user_namespace: bool = False
    no_new_privs: bool = True
    start: Sequence[str] = ()
    healthy_port: int | None = None


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """What was asked for."""

    id: SandboxId
    template: Template
    vcpus: float = 1.0
    memory_mb: int = 512
    disk_mb: int = 5120
    pids_max: int = 1024


@dataclass(frozen=True, slots=True)
class Running:
    """A sandbox that is there. ``address``: the guest's IPv4 address, seen from the host; "" without one."""

    spec: SandboxSpec
    guest_socket: Path
    paused: bool
    address: str = ""
    slot: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What a sandbox takes now. CPU seconds since it began, bytes."""

    cpu_seconds: float
    memory_bytes: int
    disk_bytes: int
    pids: int


class Runtime(Protocol):
    """Every call may raise HostError. Calls for one sandbox come one at a time."""

    @property
    def name(self) -> str:
        """``namespace`` or ``process``."""

    async def start(self) -> list[str]:
        """Be ready to create; what this machine cannot do comes back as sentences for the operator.

        Raises:
            HostError: it cannot run sandboxes at all.
        """

    async def close(self) -> None:
        """Leave. Sandboxes go on."""

    async def recover(self, templates: Mapping[str, Template]) -> list[Running]:
        """The sandboxes that run from before; of those that died, everything is freed."""

    async def create(self, spec: SandboxSpec) -> Running:
        """A sandbox whose guest answers. Nothing is left behind where it fails."""

    async def pause(self, sandbox: SandboxId) -> None:
        """Freeze every process; sockets and memory stay."""

    async def resume(self, sandbox: SandboxId) -> None: ...

    async def destroy(self, sandbox: SandboxId) -> None:
        """Kill the whole tree, frozen or not, and free everything. Unknown ids are no error."""

    async def is_alive(self, sandbox: SandboxId) -> bool:
        """Whether its first process lives."""

    async def usage(self, sandbox: SandboxId) -> Usage: ...

    async def connect_port(self, sandbox: SandboxId, port: int) -> socket.socket:
        """A connection to what listens on a port inside, non-blocking, tried once; the caller owns it.

        It leads into this sandbox or nowhere. Calls come at any time, many at once.

        Raises:
            NothingListens: on that port.
            DialError: it cannot be connected to.
        """

    async def snapshot(self, sandbox: SandboxId, target: Path) -> None:
        """Write what the sandbox changed, merged over its template's own layers, as a layer at ``target``."""
