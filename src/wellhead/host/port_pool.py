"""The connections to one port of one sandbox, and what all ports of a sandbox share."""

from __future__ import annotations

from collections.abc import Callable

from wellhead.host.entry import Entry
from wellhead.host.port_dial import PortDialler
from wellhead.host.port_terms import PortTerms
from wellhead.host.runtime.runtime import Runtime
from wellhead.logs import Log
from wellhead.net.upstream import UpstreamPool
from wellhead.net.upstream_address import UpstreamAddress, UpstreamHttp
from wellhead.net.upstream_owner import Connection, UpstreamLimits

STIRRED_SECONDS = 30.0  # after something was begun in a sandbox, a port of it may yet open
REACHED_SECONDS = 60.0  # after it was open last, it may open again

_log = Log("wellhead.host")


class Allowance:
    """The connections that the ports of one sandbox may have together."""

    def __init__(self, entry: Entry, most: int) -> None:
        self.entry = entry
        self.pools: set[PortPool] = set()
        self._most = most
        self._is_full = False

    @property
    def used(self) -> int:
        """How many there are, with those that are being dialled."""
        return sum(pool.connections for pool in self.pools)

    def has_room(self) -> bool:
        """Whether there may be one more; an unused one makes room for it."""
        if self.used < self._most:
            self._is_full = False
            return True
        if any(pool.drop_idle() for pool in self.pools):
            return True
        if not self._is_full:  # told once, and not for each request that is turned away
            self._is_full = True
            _log.warning(
                "ports take no more connections", sandbox=self.entry.id, reason="port-connections",
                most=self._most,
            )  # fmt: skip
        return False


class PortPool(UpstreamPool):
    """``clock`` is the table's. ``on_empty`` is called when it is not worth keeping."""

    def __init__(
        self, runtime: Runtime, allowance: Allowance, port: int, terms: PortTerms, clock: Callable[[], float]
    ) -> None:
        self.entry = allowance.entry
        self.on_empty: Callable[[PortPool], None] = lambda pool: None
        self._allowance = allowance
        self._clock = clock
        self._reached_at: float | None = None
        self._carried = 0
        allowance.pools.add(self)
        super().__init__(
            UpstreamAddress(tls=False, host="localhost", port=port, path="", http=UpstreamHttp.HTTP1),
            host_header=terms.host_header,
            one_name=True,
            limits=UpstreamLimits(
                reply_seconds=terms.reply_seconds, idle_seconds=terms.idle_seconds,
                max_idle=terms.connections, slashes=True,  # nobody but the application reads it
            ),
            dial=PortDialler(runtime, self.entry.id, port, terms, self._may_come).dial,
        )  # fmt: skip

    @property
    def connections(self) -> int:
        """As ``Allowance.used``, of this port."""
        return len(self._open)

    def has_room(self) -> bool:
        return not self._closed and self._allowance.has_room()

    def look(self) -> bool:
        """Once in a while: whether anything has moved on it since the last time."""
        if not self._open:
            if self._reached_at is None or self._clock() - self._reached_at > REACHED_SECONDS:
                self.on_empty(self)
            return False
        if len(self._open) > len(self._dials):
            self._reached_at = self._clock()
        before, self._carried = self._carried, sum(each.carried for each in self._open)
        return self._carried != before or any(each.awaits_reply for each in self._open)

    def close(self) -> None:
        self._allowance.pools.discard(self)
        super().close()

    async def _dial(self, connection: Connection, http2: bool) -> None:
        await super()._dial(connection, http2)
        if connection in self._open:
            self._reached_at = self._clock()
        elif not self._open and self._reached_at is None:
            self.on_empty(self)

    def _may_come(self) -> bool:
        now = self._clock()
        reached = self._reached_at is not None and now - self._reached_at < REACHED_SECONDS
        return reached or now - self.entry.stirred_at < STIRRED_SECONDS
