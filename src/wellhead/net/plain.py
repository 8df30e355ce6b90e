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


class Entrance:
    """Gives accepted sockets to protocols, as they are; holds those that are on their way in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._entering: set[asyncio.Task[None]] = set()

    def enter(
        self,
        sock: socket.socket,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        on_failed: Callable[[OSError], None] = lambda error: None,
    ) -> None:
        """Connect a protocol to a socket, which is the transport's from here on.

        ``on_failed`` is told in its place where the peer was gone before it came in.
        """
        task = begin(self._loop, self._enter(sock, protocol_factory, on_failed))
        if not task.done():
            self._entering.add(task)
            task.add_done_callback(self._entering.discard)

    async def _enter(
        self,
        sock: socket.socket,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        on_failed: Callable[[OSError], None],
    ) -> None:
        try:
            await self._loop.connect_accepted_socket(protocol_factory, sock)
        except OSError as error:
            sock.close()
            on_failed(error)
        except BaseException:
            sock.close()
            raise


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
        self._factory = protocol_factory
        self._entrance = Entrance()
        self._acceptor = Acceptor(
            sockets, self._accepted, max_descriptor=max_descriptor, on_refused=on_refused
        )

    def start(self) -> None:
        self._acceptor.start()

    def stop(self) -> None:
        """Accept nothing more; open connections are their protocols'. Idempotent."""
        self._acceptor.close()

    def _accepted(self, sock: socket.socket, ip: str) -> None:
        self._entrance.enter(sock, self._factory)
