"""WebSockets to a server, by its rules of trust and names, whose failures are ours."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ssl
import threading
from collections.abc import Coroutine, Mapping
from typing import Any, Self, TypeVar

import websockets.asyncio.client
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from wellhead.client.exchange import Peer
from wellhead.errors import SessionLost

T = TypeVar("T")


class Socket:
    """An open WebSocket. What is sent or received after its end raises SessionLost.

    One thread may receive while others send, however much goes both ways.
    """

    # ``websockets.sync`` holds one lock while it sends and while it reads: whoever sends to a peer that waits
    # to be read itself waits for ever. Before Python 3.13.4 its two threads also meet in one TLS object.

    def __init__(self, runs: _Loop, socket: AsyncSocket) -> None:
        self._runs = runs
        self._socket = socket

    @classmethod
    def open(
        cls, peer: Peer, tls: ssl.SSLContext, path: str, query: Mapping[str, str], protocol: Subprotocol
    ) -> Self:
        """
        Raises:
            ApiError, DialError, TrustError, LinkError: as a call.
        """
        runs = _Loop()
        try:
            return cls(runs, runs.result(AsyncSocket.open(peer, tls, path, query, protocol)))
        except BaseException:
            runs.end()
            raise

    def send(self, message: str | bytes) -> None:
        self._runs.result(self._socket.send(message))

    def receive(self, timeout_seconds: float | None = None) -> str | bytes:
        """
        Raises:
            TimeoutError: nothing came in that time.
        """
        return self._runs.result(self._socket.receive(timeout_seconds))

    def close(self) -> None:
        try:
            if not self._runs.ended:
                self._runs.result(self._socket.close())
        except SessionLost:
            pass  # another thread closes it
        finally:
            self._runs.end()


class _Loop:
    """An event loop in a thread of its own, and what others wait for in it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._wishes = threading.Lock()
        self.ended = False
        # A daemon: a socket that nobody closed keeps no program from its end.
        threading.Thread(target=self._run, name="websocket", daemon=True).start()

    def result(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """
        Raises:
            SessionLost: the loop has ended.
        """
        with self._wishes:
            if self.ended:
                coroutine.close()
                raise SessionLost("the connection is closed")
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise SessionLost("the connection is closed") from None
        except BaseException:
            future.cancel()  # where it was not it that failed, but who waits that was interrupted
            raise

    def end(self) -> None:
        """Whoever waits is told SessionLost."""
        with self._wishes:
            if not self.ended:
                self.ended = True
                self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop):
            self._loop.run_forever()


class AsyncSocket:
    """``Socket``, awaited: one task may receive while others send."""

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

    async def receive(self, timeout_seconds: float | None = None) -> str | bytes:
        with self._peer.socket_loss():
            async with asyncio.timeout(timeout_seconds):
                return await self._connection.recv()

    async def close(self) -> None:
        with contextlib.suppress(ConnectionClosed, OSError):
            await self._connection.close()
