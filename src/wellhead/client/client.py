"""``Client`` and ``AsyncClient``: two senders of the same described calls."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from websockets.typing import Subprotocol

from wellhead.client.calls import Call, no_answer
from wellhead.client.exchange import Peer
from wellhead.client.groups import (
    AsyncAudit,
    AsyncCertificates,
    AsyncHosts,
    AsyncIdentities,
    AsyncKeys,
    AsyncSnapshots,
    AsyncTunnels,
    Audit,
    Certificates,
    Hosts,
    Identities,
    Keys,
    Snapshots,
    Tunnels,
)
from wellhead.client.patience import Timeouts
from wellhead.client.sandboxes import AsyncSandboxes, Sandboxes
from wellhead.client.sockets import AsyncSocket, Socket
from wellhead.errors import ApiError, LinkError
from wellhead.model.access import Secret

T = TypeVar("T")
R = TypeVar("R")


class Client:
    """A control plane's REST API. Every call may raise ApiError, DialError, TrustError and LinkError.

    ``url`` is a base URL, ``https://HOST[:PORT]``. ``ca_file`` names PEM authorities to trust in place of the
    system's. Names under ``localhost`` are this machine's, whatever the resolver says.
    """

    def __init__(
        self,
        url: str,
        api_key: Secret | str,
        *,
        ca_file: Path | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._peer = Peer.of(url, api_key, ca_file, timeouts)
        options = self._peer.options()
        self._tls: ssl.SSLContext = options["verify"]
        self._http = httpx.Client(**options)
        self.tunnels = Tunnels(self.send)
        self.identities = Identities(self.send)
        self.certs = Certificates(self.send)
        self.keys = Keys(self.send)
        self.audit = Audit(self.send)
        self.sandboxes = Sandboxes(self)
        self.snapshots = Snapshots(self.send)
        self.hosts = Hosts(self.send)

    @property
    def url(self) -> str:
        return self._peer.url

    def send(self, call: Call[T], /) -> T:
        return self._tried(
            call, lambda: self._peer.answer(call, self._http.request(**self._peer.request(call)))
        )

    @contextmanager
    def stream(self, call: Call[None], /) -> Iterator[Iterator[bytes]]:
        """The body of an answer, piece by piece."""
        response = self._tried(call, lambda: self._begun(call))
        try:
            with self._peer.failures(call):
                yield response.iter_raw()
        finally:
            response.close()

    def _begun(self, call: Call[None]) -> httpx.Response:
        response = self._http.send(self._http.build_request(**self._peer.request(call)), stream=True)
        if not response.is_success:
            response.read()
            self._peer.answer(call, response)
        return response

    def socket(
        self, path: str, query: Mapping[str, str], protocol: Subprotocol, /, *, patient: bool = True
    ) -> Socket:
        """A WebSocket; as a call it is tried again, unless not ``patient``."""

        def once() -> Socket:
            return Socket.open(self._peer, self._tls, path, query, protocol)

        return self._tried(Call("GET", path, no_answer, repeatable=True), once) if patient else once()

    def _tried(self, call: Call[Any], once: Callable[[], R]) -> R:
        attempts = self._peer.attempts(call)
        while True:
            try:
                with self._peer.failures(call, self._http.is_closed):
                    return once()
            except (ApiError, LinkError) as error:
                if (pause := attempts.pause(error, time.monotonic())) is None:
                    raise
            time.sleep(pause)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient:
    """``Client``, awaited."""

    def __init__(
        self,
        url: str,
        api_key: Secret | str,
        *,
        ca_file: Path | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._peer = Peer.of(url, api_key, ca_file, timeouts)
        options = self._peer.options()
        self._tls: ssl.SSLContext = options["verify"]
        self._http = httpx.AsyncClient(**options)
        self.tunnels = AsyncTunnels(self.send)
        self.identities = AsyncIdentities(self.send)
        self.certs = AsyncCertificates(self.send)
        self.keys = AsyncKeys(self.send)
        self.audit = AsyncAudit(self.send)
        self.sandboxes = AsyncSandboxes(self)
        self.snapshots = AsyncSnapshots(self.send)
        self.hosts = AsyncHosts(self.send)

    @property
    def url(self) -> str:
        return self._peer.url

    async def send(self, call: Call[T], /) -> T:
        async def once() -> T:
            return self._peer.answer(call, await self._http.request(**self._peer.request(call)))

        return await self._tried(call, once)

    @asynccontextmanager
    async def stream(self, call: Call[None], /) -> AsyncIterator[AsyncIterator[bytes]]:
        response = await self._tried(call, lambda: self._begun(call))
        try:
            with self._peer.failures(call):
                yield response.aiter_raw()
        finally:
            await response.aclose()

    async def _begun(self, call: Call[None]) -> httpx.Response:
        response = await self._http.send(self._http.build_request(**self._peer.request(call)), stream=True)
        if not response.is_success:
            await response.aread()
            self._peer.answer(call, response)
        return response

    async def socket(
        self, path: str, query: Mapping[str, str], protocol: Subprotocol, /, *, patient: bool = True
    ) -> AsyncSocket:
        async def once() -> AsyncSocket:
            return await AsyncSocket.open(self._peer, self._tls, path, query, protocol)

        if not patient:
            return await once()
        return await self._tried(Call("GET", path, no_answer, repeatable=True), once)

    async def _tried(self, call: Call[Any], once: Callable[[], Awaitable[R]]) -> R:
        attempts = self._peer.attempts(call)
        while True:
            try:
                with self._peer.failures(call, self._http.is_closed):
                    return await once()
            except (ApiError, LinkError) as error:
                if (pause := attempts.pause(error, time.monotonic())) is None:
                    raise
            await asyncio.sleep(pause)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
