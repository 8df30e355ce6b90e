"""WebSockets to a server, by its rules of trust and names, whose failures are ours."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Mapping
from typing import Self

import websockets.asyncio.client
import websockets.sync.client
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from wellhead.client.exchange import Peer


class Socket:
    """An open WebSocket. What is sent or received after its end raises SessionLost."""

    def __init__(self, peer: Peer, connection: websockets.sync.client.ClientConnection) -> None:
        self._peer = peer
        self._connection = connection

    @classmethod
    def open(
        cls, peer: Peer, tls: ssl.SSLContext, path: str, query: Mapping[str, str], protocol: Subprotocol
    ) -> Self:
        """
        Raises:
            ApiError, DialError, TrustError, LinkError: as a call.
        """
        options = peer.socket(path, query, protocol, tls)
        if (address := peer.local_address) is not None:
            options["address"] = address
        with peer.socket_failures():
            return cls(peer, websockets.sync.client.connect(**options, legacy=True))

    def send(self, message: str | bytes) -> None:
        with self._peer.socket_loss():
            self._connection.send(message)

    def receive(self, timeout_seconds: float | None = None) -> str | bytes:
        """
        Raises:
            TimeoutError: nothing came in that time.
        """
        with self._peer.socket_loss():
            return self._connection.recv(timeout_seconds)

    def close(self) -> None:
        with contextlib.suppress(ConnectionClosed, OSError):
            self._connection.close()


class AsyncSocket:
    """``Socket``, awaited."""

    def __init__(self, peer: Peer, connection: websockets.asyncio.client.ClientConnection) -> None:
        self._peer = peer
        self._connection = connection

    @classmethod
    async def open(
        cls, peer: Peer, tls: ssl.SSLContext, path: str, query: Mapping[str, str], protocol: Subprotocol
    ) -> Self:
        options = peer.socket(path, query, protocol, tls)
        if (address := peer.local_address) is not None:
            options |= {"host": address[0], "port": address[1]}
        with peer.socket_failures():
            return cls(peer, await websockets.asyncio.client.connect(**options))

    async def send(self, message: str | bytes) -> None:
        with self._peer.socket_loss():
            await self._connection.send(message)

    async def receive(self) -> str | bytes:
        with self._peer.socket_loss():
            return await self._connection.recv()

    async def close(self) -> None:
        with contextlib.suppress(ConnectionClosed, OSError):
            await self._connection.close()
