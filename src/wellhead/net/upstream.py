"""The agent's way to its upstream: streams come in, pooled HTTP/1.1 connections carry them on; TCP streams
and those for a ``tls`` address each have a connection of their own.

A connection is at once the stream's sink and the transport's protocol (``net.upstream_http``,
``net.upstream_raw``): bytes go from one callback straight into the other. The pool keeps idle
connections (the youngest is taken first), dials new ones, and looks at all of them a few times a
second for what is too old or too late; nothing runs while it holds none.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from typing import cast

from wellhead.errors import FrameError, InputError
from wellhead.logs import Log
from wellhead.net.upstream_address import UpstreamAddress
from wellhead.net.upstream_dial import AddressDialler, UpstreamContexts, connect
from wellhead.net.upstream_exchange import Exchange
from wellhead.net.upstream_h2 import H2Upstream
from wellhead.net.upstream_http import HttpConnection
from wellhead.net.upstream_owner import Carry, Connection, Dial, OnExchange, Reusable, UpstreamLimits
from wellhead.net.upstream_raw import RawConnection
from wellhead.net.upstream_reply import NO_REPLY, Reply
from wellhead.net.upstream_request import RequestHeads
from wellhead.wire.facts import Facts
from wellhead.wire.headers import HostPolicy
from wellhead.wire.streams import Buffer, Reason, Stream, StreamKind

__all__ = ["Exchange", "OnExchange", "UpstreamAddress", "UpstreamLimits", "UpstreamPool"]

_log = Log("wellhead.agent")
SWEEP_SECONDS = 0.25  # how exact deadlines are

_host_value = re.compile(r"[A-Za-z0-9_.:\[\]-]{1,255}").fullmatch


class UpstreamPool:
    """Forwards streams to one upstream.

    ``host_header`` is ``rewrite`` (the upstream's authority), ``preserve`` (the visitor's) or the
    value to send. The contexts are for an ``https`` address (see ``upstream_dial.upstream_contexts``);
    without ``h2_context`` it is spoken to in HTTP/1.1.
    ``on_exchange`` is called at the end of each request, inside the loop: it must not block.
    ``dial`` connects, where that is not done by the address. ``one_name``: see ``HostPolicy``.

    Raises:
        InputError: ``host_header`` cannot stand in a Host field.
    """

    def __init__(
        self,
        address: UpstreamAddress,
        *,
        ssl_context: ssl.SSLContext | None = None,
        h2_context: ssl.SSLContext | None = None,
        host_header: str = "rewrite",
        limits: UpstreamLimits | None = None,
        on_exchange: OnExchange | None = None,
        dial: Dial | None = None,
        one_name: bool = False,
    ) -> None:
        self.address = address
        self.limits = limits or UpstreamLimits()
        self.heads = RequestHeads(
            HostPolicy(_checked(host_header), address, one_name=one_name),
            b"https" if address.tls else b"http",
        )
        self.on_exchange = on_exchange
        self.now = 0.0  # loop time of the last sweep: exact enough for deadlines, and free
        self.last_reply: Reply = NO_REPLY  # servers repeat their heads byte for byte
        self.loop = asyncio.get_running_loop()
        self._ssl_context = ssl_context
        self._h2_context = h2_context
        self._connect = (
            dial or AddressDialler(address, UpstreamContexts(ssl_context, h2_context), self.limits).dial
        )
        self._h2 = H2Upstream(self) if address.may_speak_h2 and (h2_context or not address.tls) else None
        self.idle: list[Reusable] = []
        self._open: set[Connection] = set()
        self._dials: dict[Connection, asyncio.Task[None]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._stood_since: float | None = None  # loop time
        self._closed = False

    @property
    def busy(self) -> int:
        """Connections that carry something, or are being dialled."""
        return len(self._open) - len(self.idle) - (self._h2.idle if self._h2 is not None else 0)

    def accept(self, stream: Stream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
        """Forward a stream that the peer opened, with the first bytes that came beside its envelope."""
        if kind is StreamKind.HTTP:
            idle = self.idle
            while idle:  # the youngest first
                connection = idle.pop()
                if connection.since == self.now or connection.is_quiet():
                    connection.carry(stream, kind, envelope, data, end)
                    return
                connection.close()
        h2 = self._h2
        if h2 is not None and kind is not StreamKind.TCP and h2.takes(kind) and not self._closed:
            h2.carry(stream, kind, envelope, data, end)
        elif not self.has_room():
            stream.reset(Reason.OVERLOADED)
        elif kind is StreamKind.TCP:
            raw = RawConnection(self, stream, self._raw_exchange(envelope))
            self.dial(raw)
            raw.on_data(data, end)
        elif self.address.raw:
            stream.reset(Reason.REFUSED)
        else:
            HttpConnection(self).carry(stream, kind, envelope, data, end)

    def _raw_exchange(self, envelope: bytes) -> Exchange | None:
        if self.on_exchange is None:
            return None
        exchange = Exchange(StreamKind.TCP, b"", b"", 0)
        with contextlib.suppress(FrameError):  # nothing hangs on it
            exchange.peer = Facts.decode(envelope).peer
        return exchange

    async def probe(self) -> None:
        """Connect once and hang up: whether the upstream answers at all.

        Raises:
            DialError: it does not.
            TrustError: its certificate is not trusted.
        """
        context = self._h2_context or self._ssl_context
        transport = await connect(asyncio.Protocol, self.address, context, self.limits.dial_seconds)
        transport.close()

    def drain(self) -> None:
        """What is open ends when the upstream or its visitors say so."""

    async def aclose(self) -> None:
        """As ``close``, and wait for what was being dialled to be given up."""
        dials = list(self._dials.values())
        self.close()
        await asyncio.gather(*dials, return_exceptions=True)

    def close(self) -> None:
        """Give up what is running and close every connection. Idempotent."""
        self._closed = True
        self._stop_sweeping()
        if self._h2 is not None:
            self._h2.on_pool_closed()
        dials = list(self._dials.values())
        for connection in list(self._open):
            connection.on_pool_closed()
        for task in dials:
            task.cancel()

    def stand_still(self) -> None:
        """The upstream does: until it goes on, nothing of it is late. Idempotent."""
        if self._stood_since is None:
            self._stood_since = self.loop.time()
            self._stop_sweeping()

    def go_on(self) -> None:
        """It does again. Idempotent."""
        if self._stood_since is not None:
            self.now = self.loop.time()
            for connection in self._open:
                connection.since += self.now - self._stood_since
            self._stood_since = None
            self._sweep_later()

    # For the connections

    def tell(self, exchange: Exchange, failure: str) -> None:
        exchange.over(failure)
        try:
            if self.on_exchange is not None:
                self.on_exchange(exchange)
        except Exception as error:  # of whoever listens: the traffic goes on
            _log.error("on_exchange failed", error=error)

    def release(self, connection: Reusable) -> None:
        """Keep a connection whose exchange is over, if there is room for it."""
        if len(self.idle) < self.limits.max_idle and not self._closed:
            connection.since = self.now
            self.idle.append(connection)
        else:
            connection.close()

    def forget(self, connection: Connection, *, was_idle: bool = False) -> None:
        """The connection is over."""
        self._open.discard(connection)
        if was_idle:
            self.idle = [other for other in self.idle if other is not connection]

    def drop_idle(self) -> bool:
        """Close the connection that has been unused for longest; False where there is none."""
        if not self.idle:
            return False
        connection = self.idle.pop(0)
        self._open.discard(connection)
        connection.close()
        return True

    def replace(self, old: Connection, new: Connection) -> None:
        """An upgraded connection goes on as a raw one."""
        self._open.discard(old)
        self._open.add(new)

    def has_room(self) -> bool:
        return not self._closed and len(self._open) < self.limits.max_connections

    def carry_http1(self, stream: Stream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
        """Take a stream on over HTTP/1.1, though HTTP/2 was thought of first."""
        if self.has_room():
            HttpConnection(self).carry(stream, kind, envelope, data, end)
        else:
            stream.reset(Reason.OVERLOADED)

    def carrier_http1(self, transport: asyncio.Transport) -> Carry:
        """Does the same, on a connection that is there already."""
        connection = HttpConnection(self)
        connection.adopt(transport)
        self._open.add(connection)
        return connection.carry

    def dial(self, connection: Connection, *, http2: bool = False) -> None:
        """Connect it, and call its ``connection_made`` or its ``on_dial_failed``."""
        self._open.add(connection)
        if self._sweeper is None:
            self.now = self.loop.time()
            self._sweep_later()
        connection.since = self.now
        self._dials[connection] = self.loop.create_task(self._dial(connection, http2), name="upstream dial")

    def cancel_dial(self, connection: Connection) -> None:
        task = self._dials.pop(connection, None)
        if task is not None:
            task.cancel()
        self._open.discard(connection)

    async def _dial(self, connection: Connection, http2: bool) -> None:
        reason: Reason | None = Reason.UPSTREAM_UNREACHABLE
        try:
            reason = await self._connect(cast(asyncio.Protocol, connection), http2)
        except Exception as error:
            _log.error("dial failed", error=error, upstream=str(self.address))
        finally:
            self._dials.pop(connection, None)
        if reason is None:
            return
        self._open.discard(connection)
        if self._h2 is not None:
            self._h2.http1_only = False  # whoever listens there next may choose again
        connection.on_dial_failed(reason)

    def _sweep(self) -> None:
        self._sweeper = None
        self.now = now = self.loop.time()
        for connection in list(self._open):
            connection.on_sweep(now)
        if self._h2 is not None:
            self._h2.on_sweep(now)
        self._sweep_later()

    def _sweep_later(self) -> None:
        if self._open and self._stood_since is None:
            self._sweeper = self.loop.call_later(SWEEP_SECONDS, self._sweep)

    def _stop_sweeping(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None


def _checked(host_header: str) -> str:
    if not _host_value(host_header):
        raise InputError(
            f"host header must be rewrite, preserve or a host[:port], not {ascii(host_header[:80])}"
        )
    return host_header
