"""The port without TLS: accept, and let the protocol have the connection.

It shares its process with agents, so it takes no more descriptors than it is given: beyond, newcomers wait in
the kernel's backlog until others have left.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

from wellhead.net.acceptor import Acceptor
from wellhead.net.loop import begin


class PlainPort:
    """Listening sockets, and a protocol for each of their connections.

    ``max_descriptor`` is the highest that a connection may get, 0: any. ``on_refused("descriptors")`` is told
    once for each pause.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        *,
        max_descriptor: int = 0,
        on_refused: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._factory = protocol_factory
        self._entering: set[asyncio.Task[None]] = set()
        self._acceptor = Acceptor(
            sockets, self._accepted, max_descriptor=max_descriptor, on_refused=on_refused
        )

    def start(self) -> None:
        self._acceptor.start()

    def stop(self) -> None:
        """Accept nothing more; open connections are their protocols'. Idempotent."""
        self._acceptor.close()

    def _accepted(self, sock: socket.socket, ip: str) -> None:
        task = begin(self._loop, self._enter(sock))
        if not task.done():
            self._entering.add(task)
            task.add_done_callback(self._entering.discard)

    async def _enter(self, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._factory, sock)
        except BaseException as error:
            sock.close()
            if not isinstance(error, OSError):  # that peer was gone before it came in
                raise
