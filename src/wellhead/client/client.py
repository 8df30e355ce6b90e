"""``Client`` and ``AsyncClient``: two senders of the same described calls."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx

from wellhead.client.calls import Call
from wellhead.client.exchange import Peer
from wellhead.client.groups import (
    AsyncAudit,
    AsyncCertificates,
    AsyncIdentities,
    AsyncKeys,
    AsyncTunnels,
    Audit,
    Certificates,
    Identities,
    Keys,
    Tunnels,
)
from wellhead.client.patience import Timeouts
from wellhead.errors import ApiError, LinkError
from wellhead.model.access import Secret

T = TypeVar("T")


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
        self._http = httpx.Client(**self._peer.options())
        self.tunnels = Tunnels(self.send)
        self.identities = Identities(self.send)
        self.certs = Certificates(self.send)
        self.keys = Keys(self.send)
        self.audit = Audit(self.send)

    @property
    def url(self) -> str:
        return self._peer.url

    def send(self, call: Call[T], /) -> T:
        attempts = self._peer.attempts(call)
        while True:
            try:
                with self._peer.failures(call, self._http.is_closed):
                    response = self._http.request(**self._peer.request(call))
                return self._peer.answer(call, response)
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
        self._http = httpx.AsyncClient(**self._peer.options())
        self.tunnels = AsyncTunnels(self.send)
        self.identities = AsyncIdentities(self.send)
        self.certs = AsyncCertificates(self.send)
        self.keys = AsyncKeys(self.send)
        self.audit = AsyncAudit(self.send)

    @property
    def url(self) -> str:
        return self._peer.url

    async def send(self, call: Call[T], /) -> T:
        attempts = self._peer.attempts(call)
        while True:
            try:
                with self._peer.failures(call, self._http.is_closed):
                    response = await self._http.request(**self._peer.request(call))
                return self._peer.answer(call, response)
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
