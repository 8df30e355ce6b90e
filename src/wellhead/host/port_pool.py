"""The connections to one port of one sandbox."""

from __future__ import annotations

from collections.abc import Callable

from wellhead.host.entry import Entry
from wellhead.host.port_dial import PortDialler
from wellhead.host.port_terms import PortTerms
from wellhead.host.runtime.runtime import Runtime
from wellhead.net.upstream import UpstreamPool
from wellhead.net.upstream_address import UpstreamAddress, UpstreamHttp
from wellhead.net.upstream_owner import Connection, UpstreamLimits


class PortPool(UpstreamPool):
    """``on_empty`` is called when it has not reached anything and is not worth keeping."""

    def __init__(self, runtime: Runtime, entry: Entry, port: int, terms: PortTerms) -> None:
        self.entry = entry
        self.on_empty: Callable[[], None] = lambda: None
        dialler = PortDialler(runtime, entry.id, port, terms, lambda: True)
        super().__init__(
            UpstreamAddress(tls=False, host="localhost", port=port, path="", http=UpstreamHttp.HTTP1),
            host_header=terms.host_header,
            limits=UpstreamLimits(
                reply_seconds=terms.reply_seconds, idle_seconds=terms.idle_seconds,
                max_idle=terms.connections, max_connections=terms.connections,
            ),
            dial=dialler.dial,
        )  # fmt: skip

    async def _dial(self, connection: Connection, http2: bool) -> None:
        await super()._dial(connection, http2)
        if not self._open:
            self.on_empty()
