"""Connections from the host into sandboxes: to a port of one's own address, and to no other place.

The way by the sandbox's link comes first: what comes back on it passes the bucket that bounds what a sandbox
sends. It leads to what listens on 127.0.0.1 or on every address, for inside the link each port leads there
(see ``network``). The kernel has no such way to ``::1``. For that, and for the address of the link itself, a
socket that was made inside is the second way, which passes no bucket.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Sequence

from wellhead.errors import DialError, HostState, NothingListens
from wellhead.host.runtime.kept import Kept
from wellhead.host.runtime.network import entered, host_end
from wellhead.model.sandboxes import SandboxId
from wellhead.net.dialling import connected
from wellhead.net.socket_options import tune
from wellhead.net.sockets import Address, why

_REFUSED = {
    socket.AF_INET: {errno.ECONNREFUSED},
    socket.AF_INET6: {errno.ECONNREFUSED, errno.EADDRNOTAVAIL, errno.ENETUNREACH},  # loopback may have none
}


class Inward:
    """The ways into a host's sandboxes."""

    def __init__(self) -> None:
        self._namespaces: dict[SandboxId, int] = {}  # descriptors, of those that the second way led into

    async def connect(self, kept: Kept, port: int) -> socket.socket:
        """
        Raises:
            NothingListens: on that port, inside.
            DialError: it cannot be connected to.
            HostState: the sandbox has just ended.
        """
        sock = self._outside(kept)
        if await _is_connected(sock, Address(kept.address, port)):
            return sock
        for address in (Address("::1", port), Address(kept.address, port)):
            inside = self._inside(kept, _family(address))
            if inside is not None and await _is_connected(inside, address):
                return inside
        raise NothingListens(f"nothing listens on port {port} of {kept.spec.id}")

    def forget(self, sandbox: SandboxId) -> None:
        """It ends; nothing of it is held on to."""
        descriptor = self._namespaces.pop(sandbox, None)
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        for sandbox in list(self._namespaces):
            self.forget(sandbox)

    def _outside(self, kept: Kept) -> socket.socket:
        """A socket of the host's own network that sends through the sandbox's link only: were that gone, its
        address might be another machine's.
        """
        sock = _made(socket.AF_INET)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, host_end(kept.slot).encode())
        except OSError as error:
            sock.close()
            raise HostState(f"sandbox {kept.spec.id} has no link: {why(error)}") from error
        return sock

    def _inside(self, kept: Kept, family: socket.AddressFamily) -> socket.socket | None:
        """A socket of the sandbox's network; None where the kernel has no such family.

        The thread is in there while it is made, and not longer.
        """
        try:
            with entered(f"/proc/self/fd/{self._namespace(kept)}"):
                return socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            if error.errno == errno.EAFNOSUPPORT:
                return None
            raise DialError(f"no socket inside {kept.spec.id}: {why(error)}") from error

    def _namespace(self, kept: Kept) -> int:
        found = self._namespaces.get(kept.spec.id)
        if found is not None:
            return found
        with contextlib.ExitStack() as undone:
            descriptor = os.open(f"/proc/{kept.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            undone.callback(os.close, descriptor)
            if not kept.is_alive():  # and so it may be another process's
                raise HostState(f"sandbox {kept.spec.id} has ended")
            undone.pop_all()
        self._namespaces[kept.spec.id] = descriptor
        return descriptor


async def connect_any(addresses: Sequence[Address]) -> socket.socket:
    """A connection to the first of some addresses of this machine that accepts one.

    Raises:
        NothingListens: none does.
        DialError: one cannot be connected to.
    """
    for address in addresses:
        sock = _made(_family(address))
        if await _is_connected(sock, address):
            return sock
    raise NothingListens(f"nothing listens on {', '.join(map(str, addresses))}")


def _made(family: socket.AddressFamily) -> socket.socket:
    try:
        return socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:  # descriptors or memory are used up
        raise DialError(f"no socket: {why(error)}") from error


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address.host else socket.AF_INET


async def _is_connected(sock: socket.socket, address: Address) -> bool:
    """Connect; False where it is refused. The socket is closed but where it is connected.

    Raises:
        DialError: another failure.
    """
    try:
        await connected(sock, address)
    except OSError as error:
        if error.errno in _REFUSED[_family(address)]:
            return False
        raise DialError(f"port {address.port}: {why(error)}") from error
    tune(sock, user_timeout_seconds=0)  # what runs inside may be slow to read: the visitor decides
    return True
