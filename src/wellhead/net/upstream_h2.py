"""HTTP/2 towards an upstream: a few connections, many requests on each.

A request goes to the oldest connection that has room. Where none has, one more is dialled, up to a
bound, and the request waits for that one or for a reply that makes room, whichever comes first.
"""

from __future__ import annotations

import asyncio
from collections import deque

from wellhead.errors import HttpError
from wellhead.logs import Log
from wellhead.net.upstream_address import UpstreamHttp
from wellhead.net.upstream_h2_link import H2Link
from wellhead.net.upstream_h2_reply import ReplyHeads
from wellhead.net.upstream_h2_request import H2Request
from wellhead.net.upstream_owner import Owner
from wellhead.wire.streams import Buffer, Reason, Stream, StreamKind

_log = Log("wellhead.agent")


class H2Upstream:
    """The HTTP/2 connections of one pool."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.http1_only = False  # learned: the upstream chose HTTP/1.1, or asked for it
        self._must = owner.address.http is UpstreamHttp.HTTP2
        self._links: list[H2Link] = []  # those that take requests, or will; the oldest first
        self._waiting: deque[H2Request] = deque()
        self.reply_heads = ReplyHeads()

    @property
    def idle(self) -> int:
        """Connections that carry nothing."""
        return sum(link.h2.greeted and not link.requests for link in self._links)

    def takes(self, kind: StreamKind) -> bool:
        """Whether a stream is to be carried here, not over HTTP/1.1."""
        if self._must:
            return True
        if self.http1_only:
            return False
        # As browsers do it: a WebSocket goes over HTTP/1.1 unless we know better.
        return kind is StreamKind.HTTP or any(link.h2.peer_connects for link in self._links)

    def carry(self, stream: Stream, kind: StreamKind, envelope: bytes, data: Buffer, end: bool) -> None:
        """Take a stream on."""
        try:
            request = H2Request(self, stream, kind, envelope, data, end)
        except HttpError:
            stream.reset(Reason.PROTOCOL)
            return
        self.place(request)

    def on_sweep(self, now: float) -> None:
        for request in list(self._waiting):
            request.on_sweep(now)

    def on_pool_closed(self) -> None:
        for request in self._drawn():
            request.fail(Reason.UPSTREAM_FAILED)

    # For the requests

    def place(self, request: H2Request) -> None:
        """Find it a connection, now or later."""
        for link in self._links:
            if link.has_room():
                self._ask(link, request)
                return
        if len(self._waiting) >= self.owner.limits.max_waiting or not self._may_hope():
            request.fail(Reason.OVERLOADED)
            return
        request.since = self.owner.now  # behind the dial, which may have set the clock going
        self._waiting.append(request)

    def place_http1(self, request: H2Request) -> None:
        if self._must:
            request.fail(Reason.UPSTREAM_FAILED)
            return
        self.http1_only = True
        request.hand_over(self.owner.carry_http1)

    def withdraw(self, request: H2Request) -> None:
        if request in self._waiting:
            self._waiting.remove(request)

    # For the connections

    def room(self, link: H2Link) -> None:
        """Serve who waits."""
        waiting = self._waiting
        while waiting and link.has_room():
            self._ask(link, waiting.popleft())
        if waiting:
            self._may_hope()

    def not_h2(self, link: H2Link, transport: asyncio.Transport, spoken: str) -> None:
        """The upstream chose HTTP/1.1: who waits goes on in that, the first one on this connection."""
        self._links.remove(link)
        self.owner.forget(link)
        waiting = self._drawn()
        if self._must:
            _log.info("upstream speaks no http/2", upstream=str(self.owner.address), spoken=spoken)
            transport.abort()
            for request in waiting:
                request.fail(Reason.UPSTREAM_FAILED)
            return
        self.http1_only = True
        first = next((request for request in waiting if not request.is_websocket), None)
        if first is None:
            transport.abort()
        for request in waiting:
            is_first = request is first  # a WebSocket has a connection of its own from the beginning
            request.hand_over(self.owner.carrier_http1(transport) if is_first else self.owner.carry_http1)

    def leaving(self, link: H2Link) -> None:
        if link in self._links:
            self._links.remove(link)
        if not link.h2.greeted:  # it never got as far as SETTINGS, and another one would not
            self._give_up(Reason.UPSTREAM_FAILED)
        elif self._waiting and not self._may_hope():
            self._give_up(Reason.OVERLOADED)

    def dial_failed(self, link: H2Link) -> None:
        if link in self._links:
            self._links.remove(link)
        if not self._links:
            self._give_up(Reason.UPSTREAM_UNREACHABLE)

    # Inside

    def _ask(self, link: H2Link, request: H2Request) -> None:
        if request.is_websocket and not link.h2.peer_connects:
            _log.info("upstream takes no websockets over http/2", upstream=str(self.owner.address))
            self.place_http1(request)
        else:
            link.ask(request)

    def _may_hope(self) -> bool:
        """Dial one more connection where that may help; False where there is none to wait for."""
        links = self._links
        if all(link.h2.greeted for link in links) and len(links) < self.owner.limits.max_h2_connections:
            if self.owner.has_room():
                link = H2Link(self)
                links.append(link)
                self.owner.dial(link, http2=True)
        return bool(links)

    def _drawn(self) -> list[H2Request]:
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def _give_up(self, reason: Reason) -> None:
        for request in self._drawn():
            request.fail(reason)
