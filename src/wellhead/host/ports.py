"""Requests for ports of sandboxes: each is carried into the sandbox that it names, and into no other.

::

    edge -- envelope with Wellhead-Port --> Ports -> PortPool of (sandbox, port) -> Runtime.connect_port

Connections belong to an entry of the table and to a port: a sandbox that is made later has none of them,
whatever its address is. They are closed when their sandbox begins to end, and stand still while it does.
"""

from __future__ import annotations

import functools

from wellhead.errors import InputError
from wellhead.host.entry import Entry
from wellhead.host.port_pool import PortPool
from wellhead.host.port_terms import PortTerms
from wellhead.host.runtime.runtime import Runtime
from wellhead.host.table import Table
from wellhead.logs import Log
from wellhead.model.sandboxes import SandboxStatus
from wellhead.net.session import OnOpen
from wellhead.wire.muxstream import MuxStream
from wellhead.wire.ports import read_port_value, take_port
from wellhead.wire.streams import Buffer, Reason, Stream, StreamKind

S = SandboxStatus

_TAKES = (S.RUNNING, S.SNAPSHOTTING)
_ENDS = (S.STOPPING, S.STOPPED, S.ERROR)

_log = Log("wellhead.host")


class Ports:
    """The ways into every sandbox of a host."""

    def __init__(self, table: Table, runtime: Runtime, terms: PortTerms) -> None:
        self._table = table
        self._runtime = runtime
        self._terms = terms
        self._pools: dict[bytes, PortPool] = {}  # by sandbox and port, as envelopes have them
        table.watch(self._changed)

    def before(self, otherwise: OnOpen) -> OnOpen:
        """What takes every stream that the edge opens: those for no port go on to ``otherwise``."""

        def accept(opened: MuxStream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
            if (taken := take_port(envelope)) is None:
                otherwise(opened, kind, envelope, data, end)
            else:
                self.accept(opened, kind, *taken, data, end)

        return accept

    def accept(
        self, stream: Stream, kind: StreamKind, port: bytes, envelope: bytes, data: Buffer, end: bool
    ) -> None:
        """Take a stream for ``{sandbox}/{port}``."""
        pool = self._pools.get(port) or self._made(port)
        if pool is None or pool.entry.status not in _TAKES or kind is StreamKind.TCP:
            stream.reset(Reason.REFUSED)
        else:
            pool.entry.last_active = self._table.clock()
            pool.accept(stream, kind, envelope, data, end)

    async def aclose(self) -> None:
        """Give up what is running and close every connection."""
        pools = list(self._pools.values())
        self._pools.clear()
        for pool in pools:
            await pool.aclose()

    def _made(self, value: bytes) -> PortPool | None:
        """None: no such sandbox is here."""
        try:
            sandbox, port = read_port_value(value)
        except InputError as error:
            _log.warning("request for no port of a sandbox", error=error)
            return None
        entry = self._table.find(sandbox)
        if entry is None or entry.status not in _TAKES:
            return None
        pool = self._pools[value] = PortPool(self._runtime, entry, port, self._terms)
        pool.on_empty = functools.partial(self._forget, value, pool)
        return pool

    def _forget(self, value: bytes, pool: PortPool) -> None:
        if self._pools.get(value) is pool:
            del self._pools[value]

    def _changed(self, entry: Entry) -> None:
        """It has another status."""
        for value, pool in list(self._pools.items()):
            if pool.entry is entry:
                if entry.status in _ENDS:
                    del self._pools[value]
                    pool.close()
                elif entry.status is S.RUNNING:
                    pool.go_on()
                else:
                    pool.stand_still()
