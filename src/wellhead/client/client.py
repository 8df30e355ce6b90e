"""``Client`` and ``AsyncClient``: two senders of the same described calls."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, Protocol, Self, TypeVar

import httpx

from wellhead.client import calls
from wellhead.client.calls import Call
from wellhead.client.exchange import Peer
from wellhead.model.access import Secret

T = TypeVar("T")
P = ParamSpec("P")


class _Send(Protocol):
    def __call__(self, call: Call[T], /) -> T: ...


class _AsyncSend(Protocol):
    def __call__(self, call: Call[T], /) -> Awaitable[T]: ...


def _method(send: _Send, describe: Callable[P, Call[T]]) -> Callable[P, T]:
    @functools.wraps(describe)
    def method(*args: P.args, **kwargs: P.kwargs) -> T:
        return send(describe(*args, **kwargs))

    return method


def _async_method(send: _AsyncSend, describe: Callable[P, Call[T]]) -> Callable[P, Awaitable[T]]:
    @functools.wraps(describe)
    async def method(*args: P.args, **kwargs: P.kwargs) -> T:
        return await send(describe(*args, **kwargs))

    return method


class Tunnels:
    """The calls of ``client.tunnels``; what each takes, gives and raises is told in ``client.calls``."""

    def __init__(self, send: _Send) -> None:
        self.list = _method(send, calls.list_tunnels)
        self.find = _method(send, calls.find_tunnel)
        self.get = _method(send, calls.get_tunnel)
        self.create = _method(send, calls.create_tunnel)
        self.update = _method(send, calls.update_tunnel)
        self.delete = _method(send, calls.delete_tunnel)
        self.restore = _method(send, calls.restore_tunnel)


class AsyncTunnels:
    """The calls of ``client.tunnels``, awaited."""

    def __init__(self, send: _AsyncSend) -> None:
        self.list = _async_method(send, calls.list_tunnels)
        self.find = _async_method(send, calls.find_tunnel)
        self.get = _async_method(send, calls.get_tunnel)
        self.create = _async_method(send, calls.create_tunnel)
        self.update = _async_method(send, calls.update_tunnel)
        self.delete = _async_method(send, calls.delete_tunnel)
        self.restore = _async_method(send, calls.restore_tunnel)


class Client:
    """A control plane's REST API. Every call may raise ApiError, DialError, TrustError and LinkError.

    ``url`` is a base URL, ``https://HOST[:PORT]``. ``ca_file`` names PEM authorities to trust in place of the
    system's. Names under ``localhost`` are this machine's, whatever the resolver says.
    """

    def __init__(self, url: str, api_key: Secret | str, *, ca_file: Path | None = None) -> None:
        self._peer = Peer.of(url, api_key, ca_file)
        self._http = httpx.Client(**self._peer.options())
        self.tunnels = Tunnels(self.send)

    @property
    def url(self) -> str:
        return self._peer.url

    def send(self, call: Call[T], /) -> T:
        with self._peer.failures():
            response = self._http.request(**self._peer.request(call))
        return self._peer.answer(call, response)

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

    def __init__(self, url: str, api_key: Secret | str, *, ca_file: Path | None = None) -> None:
        self._peer = Peer.of(url, api_key, ca_file)
        self._http = httpx.AsyncClient(**self._peer.options())
        self.tunnels = AsyncTunnels(self.send)

    @property
    def url(self) -> str:
        return self._peer.url

    async def send(self, call: Call[T], /) -> T:
        with self._peer.failures():
            response = await self._http.request(**self._peer.request(call))
        return self._peer.answer(call, response)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
