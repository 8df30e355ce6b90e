"""Requests for ports of sandboxes: each is carried into the sandbox that it names, and into no other.

::

    edge -- envelope with Wellhead-Port --> Ports -> PortPool of (sandbox, port) -> Runtime.connect_port

Connections belong to an entry of the table and to a port: a sandbox that is made later has none of them,
whatever its address is. They are closed when their sandbox begins to end; while it is paused their clocks
stand still.
"""

from __future__ import annotations

import asyncio

from wellhead.errors import InputError
from wellhead.host.entry import Entry
from wellhead.host.port_pool import Allowance, PortPool
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

LOOK_SECONDS = 1.0  # how exactly activity is told, and how long what is of no use is kept

_TAKES = (S.RUNNING, S.SNAPSHOTTING)
_ENDS = (S.STOPPING, S.STOPPED, S.ERROR)

_log = Log("wellhead.host")


class Ports:
    """The ways into every sandbox of a host."""

    def __init__(self, table: Table, runtime: Runtime, terms: PortTerms) -> None:
        self._table = table
        self._runtime = runtime
        self._terms = terms
        self.pools: dict[bytes, PortPool] = {}  # by sandbox and port, as envelopes have them
        self._allowances: dict[Entry, Allowance] = {}
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
        pool = self.pools.get(port) or self._made(port)
        if pool is None or pool.entry.status not in _TAKES or kind is StreamKind.TCP:
            stream.reset(Reason.REFUSED)
        else:
            pool.entry.last_active = self._table.clock()
            pool.accept(stream, kind, envelope, data, end)

    def open_connections(self, entry: Entry) -> int:
        """How many one sandbox has."""
        allowance = self._allowances.get(entry)
        return 0 if allowance is None else allowance.used

    async def run(self) -> None:
        """Tell activity, and forget what is of no use, until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                self.look()
            except Exception as error:
                _log.error("looking at ports failed", error=error)

    def look(self) -> None:
        """Once. A sandbox is active while bytes move on its ports, or a reply is awaited from it."""
        now = self._table.clock()
        for pool in list(self.pools.values()):
            if pool.look() and pool.entry.status in _TAKES:
                pool.entry.last_active = now

    async def aclose(self) -> None:
        """Give up what is running and close every connection."""
        pools = list(self.pools.values())
        self.pools.clear()
        self._allowances.clear()
        for pool in pools:
            await pool.aclose()

    def _made(self, value: bytes) -> PortPool | None:
        """None: no such sandbox is here, or it does not run."""
        try:
            sandbox, port = read_port_value(value)
        except InputError as error:
            _log.warning("request for no port of a sandbox", error=error)
            return None
        entry = self._table.find(sandbox)
        if entry is None or entry.status not in _TAKES:
            return None
        allowance = self._allowances.get(entry)
        if allowance is None:
            allowance = self._allowances[entry] = Allowance(entry, self._terms.connections)
        pool = self.pools[value] = PortPool(self._runtime, allowance, port, self._terms, self._table.clock)
        pool.on_empty = lambda gone: self._forget(value, gone)
        if entry.status is not S.RUNNING:
            pool.stand_still()
        return pool

    def _forget(self, value: bytes, pool: PortPool) -> None:
        pool.close()
        if self.pools.get(value) is pool:
            del self.pools[value]

    def _changed(self, entry: Entry) -> None:
        """It has another status."""
        ends = entry.status in _ENDS
        allowance = self._allowances.pop(entry, None) if ends else self._allowances.get(entry)
        if allowance is None:
            return
        if ends:
            self.pools = {value: pool for value, pool in self.pools.items() if pool.entry is not entry}
        for pool in list(allowance.pools):
            if ends:
                pool.close()
            elif entry.status is S.RUNNING:
                pool.go_on()
            else:
                pool.stand_still()
