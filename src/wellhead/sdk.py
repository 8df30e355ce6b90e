"""``Wellhead`` and ``AsyncWellhead``: a server's API, found by itself, and ``connect`` beside it.

>>> with Wellhead() as server:
...     for tunnel in server.tunnels.list():
...         print(tunnel.tunnel_name, tunnel.status.name)
"""

from __future__ import annotations

from typing import Unpack

from wellhead.agent import TunnelListener, connect, connect_async
from wellhead.agent.options import AnyPath, ConnectOptions, ForwardTo, ListenOptions, as_path, as_secret
from wellhead.client import AsyncClient, Client, Timeouts
from wellhead.client.groups import AsyncSend, AsyncTunnels, Send, Tunnels
from wellhead.model.access import Secret
from wellhead.profile import Connection, Profile


class ConnectingTunnels(Tunnels):
    """The calls of ``Client.tunnels``, and ``connect``."""

    def __init__(self, send: Send, server: Connection) -> None:
        super().__init__(send)
        self._server = server

    def connect(self, forward_to: ForwardTo, **options: Unpack[ListenOptions]) -> TunnelListener:
        """Put an upstream on a public hostname of this server: ``wellhead.connect``."""
        return connect(forward_to, **_options(self._server, options))


class AsyncConnectingTunnels(AsyncTunnels):
    """The calls of ``AsyncClient.tunnels``, and ``connect``."""

    def __init__(self, send: AsyncSend, server: Connection) -> None:
        super().__init__(send)
        self._server = server

    async def connect(self, forward_to: ForwardTo, **options: Unpack[ListenOptions]) -> TunnelListener:
        """Put an upstream on a public hostname of this server: ``wellhead.connect_async``."""
        return await connect_async(forward_to, **_options(self._server, options))


class Wellhead(Client):
    """A server, by what is given here, then by ``WELLHEAD_*`` variables, then by the profile.

    Args:
        api_key: a key for its API.
        base_url: ``https://HOST[:PORT]``.
        ca_file: the authorities (PEM) to trust in place of the system's.
        timeouts: how long to wait for an answer.

    Raises:
        SettingsError: no server or no key is known, or the CA file cannot be read.
        InputError: not a server's URL.
        LocalStateError: the profile is unsafe or damaged.
    """

    tunnels: ConnectingTunnels

    def __init__(
        self,
        *,
        api_key: str | Secret | None = None,
        base_url: str | None = None,
        ca_file: AnyPath | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        server = Profile.load().resolve(base_url, as_secret(api_key), as_path(ca_file))
        super().__init__(server.url, server.api_key, ca_file=server.ca_file, timeouts=timeouts)
        self.tunnels = ConnectingTunnels(self.send, server)


class AsyncWellhead(AsyncClient):
    """``Wellhead``, awaited."""

    tunnels: AsyncConnectingTunnels

    def __init__(
        self,
        *,
        api_key: str | Secret | None = None,
        base_url: str | None = None,
        ca_file: AnyPath | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        server = Profile.load().resolve(base_url, as_secret(api_key), as_path(ca_file))
        super().__init__(server.url, server.api_key, ca_file=server.ca_file, timeouts=timeouts)
        self.tunnels = AsyncConnectingTunnels(self.send, server)


def _options(server: Connection, options: ListenOptions) -> ConnectOptions:
    return {**options, "url": server.url, "api_key": server.api_key, "ca_file": server.ca_file}
