"""An upstream's last words.

A server that refuses an upload answers and hangs up at once. If our next write fails before the loop has
read that answer, the transport is torn down with the answer unread in the socket: Linux keeps what was
received even after an RST, for as long as somebody holds a descriptor.
"""

from __future__ import annotations

import asyncio
import os
from typing import Self


class Lifeline:
    """A second descriptor of a transport's socket. Drop it: the socket stays open until then."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def of(cls, transport: asyncio.Transport) -> Self | None:
        """None over TLS, where bytes of the socket say nothing to us."""
        sock = transport.get_extra_info("socket")
        if sock is None or transport.get_extra_info("ssl_object") is not None:
            return None
        return cls(os.dup(sock.fileno()))

    def read(self) -> bytes | None:
        """What is still unread; empty at a proper end, None where nothing more will come."""
        try:
            return os.read(self._descriptor, 65536)
        except OSError:
            return None

    def drop(self) -> None:
        os.close(self._descriptor)
