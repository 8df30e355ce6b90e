"""Which ports of this machine are a sandbox's, where sandboxes have no network of their own.

A port is a sandbox's when each socket that listens there is held by a process of the sandbox's tree.
"""

from __future__ import annotations

from collections.abc import Sequence

from wellhead.errors import NothingListens
from wellhead.guest.ports import Listener, listeners, sockets
from wellhead.host.runtime import processes
from wellhead.host.runtime.kept import Kept
from wellhead.net.sockets import Address

_TAKES = {
    "127.0.0.1": ("127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1", "::ffff:0.0.0.0", "::"),
    "::1": ("::1", "::"),
}
"""What a connection to an address is taken by: the first kind of listener that there is."""


def own_addresses(kept: Kept, port: int) -> list[Address]:
    """Where this machine's port leads to the sandbox, and to nothing else. Takes milliseconds.

    Raises:
        NothingListens: nothing of the sandbox does.
    """
    there = [each for each in listeners(processes.PROC) if each.port == port]
    if there:
        own = {
            inode
            for pid in processes.tree(kept.pid, kept.spec.id)
            for inode in sockets(processes.PROC / str(pid))
        }
        found = [
            Address(host, port)
            for host, takes in _TAKES.items()
            if (taking := _first(there, takes)) and all(each.inode in own for each in taking)
        ]
        if found:
            return found
    raise NothingListens(f"nothing of {kept.spec.id} listens on port {port}")


def _first(there: Sequence[Listener], takes: Sequence[str]) -> list[Listener]:
    for address in takes:
        if found := [each for each in there if each.address == address]:
            return found
    return []
