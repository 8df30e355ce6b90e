"""Which ports of this machine are a sandbox's, where sandboxes have no network of their own.

A port is a sandbox's when each socket that would take the connection is held by a process of its tree.
Without ``/proc`` nobody tells, and no port is anyone's.
"""

from __future__ import annotations

from collections.abc import Sequence

from wellhead.errors import NothingListens
from wellhead.guest.ports import Listener, listeners, sockets
from wellhead.host.runtime import processes
from wellhead.host.runtime.kept import Kept
from wellhead.model.sandboxes import SandboxId
from wellhead.net.sockets import Address

_TAKERS = {
    "127.0.0.1": ("127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0", "::ffff:0.0.0.0", "::"),
    "::1": ("::1", "::"),
}
"""What takes a connection to an address: the listeners of the first of these that has any."""


class OwnPorts:
    """Remembers what it found: looking through all that a sandbox's processes hold takes milliseconds."""

    def __init__(self) -> None:
        self._held: dict[SandboxId, frozenset[str]] = {}  # inodes of sockets; each is given once

    def addresses(self, kept: Kept, port: int) -> list[Address]:
        """Where this machine's port leads to the sandbox, and to nobody else.

        Raises:
            NothingListens: nothing of the sandbox does.
        """
        there = [each for each in listeners(processes.PROC) if each.port == port]
        found = [
            Address(host, port)
            for host, addresses in _TAKERS.items()
            if (takers := _first(there, addresses)) and self._holds(kept, takers)
        ]
        if not found:
            raise NothingListens(f"nothing of {kept.spec.id} listens on port {port}")
        return found

    def forget(self, sandbox: SandboxId) -> None:
        self._held.pop(sandbox, None)

    def _holds(self, kept: Kept, takers: Sequence[Listener]) -> bool:
        wanted = {each.inode for each in takers}
        if not wanted <= self._held.get(kept.spec.id, frozenset()):
            tree = processes.tree(kept.pid, kept.spec.id)
            self._held[kept.spec.id] = frozenset(
                inode for pid in tree for inode in sockets(processes.PROC / str(pid))
            )
        return wanted <= self._held[kept.spec.id]


def _first(there: Sequence[Listener], addresses: Sequence[str]) -> list[Listener]:
    for address in addresses:
        if found := [each for each in there if each.address == address]:
            return found
    return []
