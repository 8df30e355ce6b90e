"""Hears when this machine's addresses or routes change: a laptop in another network, a new lease.

What was connected by an address that is gone gets no answer and no error; TCP notices after many minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final

SETTLE_SECONDS: Final = 0.2  # changes come in flocks: an address, its routes, the other family

# Multicast groups of linux/rtnetlink.h: addresses and routes of both families.
_GROUPS: Final = 0x10 | 0x40 | 0x100 | 0x400
_MESSAGES_MAX: Final = 64 * 1024


class NetworkChanges:
    """Calls ``on_change()`` in the running loop, soon after changes, once for each flock of them.

    Where the system has no netlink, or does not let us hear it, nothing is ever told.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_change = on_change
        self._timer: asyncio.TimerHandle | None = None
        self._socket = _subscribed()
        if self._socket is not None:
            self._loop.add_reader(self._socket.fileno(), self._heard)

    def close(self) -> None:
        """Hear no more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _heard(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(OSError):  # ENOBUFS: more than fits was told, which is a change as well
            while self._socket.recv(_MESSAGES_MAX):
                pass
        if self._timer is None:
            self._timer = self._loop.call_later(SETTLE_SECONDS, self._tell)

    def _tell(self) -> None:
        self._timer = None
        self._on_change()


def is_ours(address: tuple[object, ...]) -> bool:
    """Whether a socket's own IP address is still one of this machine's."""
    family = socket.AF_INET6 if len(address) == 4 else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        try:
            sock.bind((address[0], 0, *address[2:]))
        except OSError:
            return False
    return True


def _subscribed() -> socket.socket | None:
    family = getattr(socket, "AF_NETLINK", None)
    if family is None:
        return None
    try:
        sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    except OSError:
        return None
    try:
        sock.bind((0, _GROUPS))
    except OSError:
        sock.close()
        return None
    return sock
