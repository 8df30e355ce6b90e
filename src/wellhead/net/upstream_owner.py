"""What a connection to an upstream and the pool that owns it ask of each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from wellhead.net.upstream_address import UpstreamAddress
from wellhead.net.upstream_exchange import Exchange
from wellhead.net.upstream_reply import Reply
from wellhead.net.upstream_request import RequestHeads
from wellhead.wire.streams import Buffer, Reason, Stream, StreamKind

OnExchange = Callable[[Exchange], None]
Carry = Callable[[Stream, StreamKind, bytes, Buffer, bool], None]
Dial = Callable[[asyncio.Protocol, bool], Coroutine[Any, Any, Reason | None]]
"""Connects a protocol, offering HTTP/2 or not; gives why it is given up, or None when it is connected."""


@dataclass(frozen=True, slots=True)
class UpstreamLimits:
    reply_seconds: float = 120.0  # until a reply's head; none once it has begun
    dial_seconds: float = 10.0  # one attempt to connect
    dial_retry_seconds: float = 3.0  # how long a refused dial is repeated
    idle_seconds: float = 30.0  # how long an unused connection is kept
    max_idle: int = 4096  # unused connections kept: fewer than may be busy would be dialled again at once
    max_connections: int = 4096
    max_head_bytes: int = 64 * 1024  # of a reply
    max_interim: int = 16  # 1xx heads before a reply
    max_h2_connections: int = 8  # HTTP/2 connections to one upstream, each with as many requests as it allows
    max_waiting: int = 1024  # requests that wait for one of them
    ping_seconds: float = 30.0  # silence after which an HTTP/2 upstream that owes replies is asked
    pong_seconds: float = 60.0  # how long it may take to answer
    slashes: bool = False  # whether a target may begin with two, see ``read_envelope``


class Connection(Protocol):
    """A connection, as the pool sees it; it is an ``asyncio.Protocol`` besides."""

    since: float  # loop time: when it became idle, or when waiting for the reply began

    @property
    def carried(self) -> int:
        """A count of bytes that grows while bodies or messages come and go on it."""

    @property
    def awaits_reply(self) -> bool:
        """Whether the upstream owes a reply."""

    def on_dial_failed(self, reason: Reason) -> None:
        """Nobody answered, for as long as it was worth trying."""

    def on_sweep(self, now: float) -> None:
        """A few times a second: is anything too old or too late?"""

    def on_pool_closed(self) -> None:
        """Give up at once."""


class Reusable(Connection, Protocol):
    """One that serves exchange after exchange."""

    def carry(self, stream: Stream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None: ...

    def is_quiet(self) -> bool: ...

    def close(self) -> None: ...


class Owner(Protocol):
    """The pool, as a connection sees it."""

    limits: UpstreamLimits
    heads: RequestHeads
    idle: list[Reusable]  # connections whose exchange is over; the youngest last
    on_exchange: OnExchange | None
    now: float  # loop time of the last sweep: exact enough for deadlines, and free
    loop: asyncio.AbstractEventLoop
    address: UpstreamAddress
    last_reply: Reply  # servers repeat their heads byte for byte

    def tell(self, exchange: Exchange, failure: str) -> None:
        """An exchange is over; ``failure`` is empty where it went well."""

    def has_room(self) -> bool:
        """Whether one more connection is allowed."""

    def dial(self, connection: Connection, *, http2: bool = False) -> None:
        """Connect it, and call its ``connection_made`` or its ``on_dial_failed``.

        ``http2``: offer HTTP/2 where there is TLS.
        """

    def carry_http1(self, stream: Stream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
        """Take a stream on over HTTP/1.1."""

    def carrier_http1(self, transport: asyncio.Transport) -> Carry:
        """Does the same, on a connection that is there already."""

    def cancel_dial(self, connection: Connection) -> None:
        """Nobody waits for it any more."""

    def release(self, connection: Reusable) -> None:
        """Its exchange is over and it may serve another."""

    def replace(self, old: Connection, new: Connection) -> None:
        """An upgraded connection goes on as a raw one."""

    def forget(self, connection: Connection, *, was_idle: bool = False) -> None:
        """It is over."""
