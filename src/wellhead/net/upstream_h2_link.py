"""One HTTP/2 connection to the upstream: the protocol of its transport, with the requests that it carries.

What is written in one turn of the loop is joined, as in ``net.session``. An upstream that says nothing
while it owes replies is asked with a PING, and given up where it does not answer that either.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from wellhead.errors import H2Error
from wellhead.logs import Log
from wellhead.net.h2_writer import H2Writer
from wellhead.net.tls import ALPN_H2
from wellhead.net.upstream_h2_reply import H2Reply
from wellhead.net.upstream_h2_request import H2Request
from wellhead.net.upstream_owner import Owner
from wellhead.wire.h2 import H2Connection, H2Role, H2Terms
from wellhead.wire.h2_frames import MAX_FRAME, ErrorCode
from wellhead.wire.streams import Reason

HIGH_WATER = 256 * 1024  # bytes in the transport above which nothing more is taken
LOW_WATER = 64 * 1024
# gRPC servers hang up on whoever sends a second PING within five minutes in which they sent no data.
PING_PAUSE_SECONDS = 330.0
MOST_RESETS = 100  # of one connection: Netty hangs up on 200 in 30 s, Node on 1,000 in one go
REFUSED_PAUSE_SECONDS = 0.05  # for which a connection whose upstream refused a request gets no other

# An upstream is trusted more than a stranger, and it may be busy: a program of one thread answers nobody
# while it works. How long a reply may take is the request's affair, how slowly it reads the visitor's.
TERMS = H2Terms(
    max_block=64 * 1024, max_list=64 * 1024, max_list_decoded=128 * 1024, max_fields=1000,
    stall_seconds=float("inf"), preface_seconds=30, settings_seconds=120,
    updates_per_data=MAX_FRAME // 256,  # some servers credit what they read, 512 bytes at a time
)  # fmt: skip

_log = Log("wellhead.agent")


class Home(Protocol):
    """Whoever has the connections."""

    owner: Owner

    def room(self, link: H2Link) -> None:
        """It takes requests now, or one more."""

    def not_h2(self, link: H2Link, transport: asyncio.Transport, spoken: str) -> None:
        """The upstream chose another protocol; the transport is to be had."""

    def leaving(self, link: H2Link) -> None:
        """It takes no more requests."""

    def dial_failed(self, link: H2Link) -> None:
        """Nobody answered."""


class H2Link(H2Writer):
    """See the module; made by ``net.upstream_h2`` only."""

    __slots__ = (
        "_asked", "_has_enough", "_heard", "_held", "_home", "_pinged", "_resets", "carried", "is_leaving",
        "requests", "reused", "since",
    )  # fmt: skip

    def __init__(self, home: Home) -> None:
        super().__init__(home.owner.loop, HIGH_WATER)
        self.h2 = H2Connection(
            H2Role.CLIENT,
            terms=TERMS,
            on_goaway=self._goaway,
            wake=self._wake,
            clock=home.owner.loop.time,
            shared=True,
        )
        self.requests: set[H2Request] = set()
        self.reused = False
        self.is_leaving = False
        self.since = 0.0  # loop time: when it was dialled, or became idle
        self.carried = 0  # bytes that were read
        self._home = home
        self._held: list[H2Reply] = []  # whose heads wait for the end of the read
        self._heard = 0.0  # loop time of the last byte
        self._pinged = -PING_PAUSE_SECONDS
        self._asked = False  # and nothing was heard since
        self._has_enough = False  # a request was refused just now
        self._resets = 0  # requests that were given up

    @property
    def awaits_reply(self) -> bool:
        return bool(self.requests)

    def has_room(self) -> bool:
        # How many it takes is in its SETTINGS: some hang up on whoever guesses too high.
        return not (self.is_leaving or self._has_enough) and self.h2.greeted and self.h2.may_open

    def ask(self, request: H2Request) -> None:
        """Carry a request; it was asked before whether there is room."""
        if not self.requests:
            self.since = self._heard = self._home.owner.now  # silence is counted from here
        request.go(self, self.h2)
        self.requests.add(request)

    def hold(self, reply: H2Reply) -> None:
        self._held.append(reply)

    def gave_up(self) -> None:
        """One visitor's haste must not cost the others their connection: they get a fresh one in time."""
        self._resets += 1
        if self._resets >= MOST_RESETS:
            self.leave()

    def refused(self) -> None:
        if not self._has_enough:
            self._has_enough = True
            self._home.owner.loop.call_later(REFUSED_PAUSE_SECONDS, self._goes_on)

    def _goes_on(self) -> None:
        self._has_enough = False
        if not self.is_leaving:
            self._home.room(self)

    def release(self, request: H2Request) -> None:
        self.requests.discard(request)
        self.reused = True
        if not self.requests:
            self.since = self._home.owner.now
        if not self.is_leaving:
            self._home.room(self)
        elif not self.requests:
            self.close()

    def close(self) -> None:
        """Say goodbye and hang up."""
        transport = self._transport
        self.leave()
        if transport is not None and not transport.is_closing():
            self.h2.goaway()
            self._flush()
            self._paused = True
            transport.close()

    # The transport's protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # not every TLS transport has the class
        if self.is_leaving:
            transport.abort()
            return
        secured = transport.get_extra_info("ssl_object")
        spoken = ALPN_H2 if secured is None else secured.selected_alpn_protocol()
        if spoken != ALPN_H2:
            self.is_leaving = True
            self._home.not_h2(self, transport, spoken or "")
            return
        self._transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER, low=LOW_WATER)
        self._heard = self.since = self._home.owner.loop.time()
        self.h2.start()
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._heard = self._home.owner.loop.time()
        self.carried += len(data)
        self._asked = False
        self._receiving = True
        greeted = self.h2.greeted
        try:
            self.h2.receive(data)
        except H2Error as error:
            self._broken(error)
        finally:
            self._receiving = False
        if self._held:
            held, self._held = self._held, []
            for reply in held:
                reply.let_go()
        if not greeted and self.h2.greeted and not self.is_leaving:
            self._home.room(self)
        if self._scheduled:
            self._flush()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        if not self.is_leaving or self.requests:
            self._paused = False
            self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.leave()
        self.h2.lost()
        self._home.owner.forget(self)

    # For the pool

    def on_dial_failed(self, reason: Reason) -> None:
        self.is_leaving = True
        self._home.dial_failed(self)

    def on_sweep(self, now: float) -> None:
        for request in list(self.requests):
            request.on_sweep(now)
        transport, limits = self._transport, self._home.owner.limits
        if transport is None:
            return
        try:
            self.h2.tick(now)
        except H2Error as error:
            self._broken(error)
        if not self.requests:
            if self.h2.greeted and now - self.since > limits.idle_seconds:
                self.close()
        elif self._asked:
            if now - self._pinged >= limits.pong_seconds and not self._paused:
                _log.info("upstream silent", upstream=str(self._home.owner.address))
                transport.abort()
        elif now - self._heard >= limits.ping_seconds and now - self._pinged >= PING_PAUSE_SECONDS:
            self._asked = True
            self._pinged = now
            self.h2.ping(now)

    def on_pool_closed(self) -> None:
        self.leave()
        for request in list(self.requests):
            request.fail(Reason.UPSTREAM_FAILED)
        transport, self._transport = self._transport, None
        if transport is not None:
            self.h2.goaway()
            transport.write(b"".join(self.h2.take(HIGH_WATER)))
            transport.abort()
        else:
            self._home.owner.cancel_dial(self)

    # Ends

    def _goaway(self, last: int, code: int) -> None:
        if code != ErrorCode.NO_ERROR:
            _log.info("upstream hangs up", upstream=str(self._home.owner.address), code=code)
        self.leave()
        if not self.requests:
            self.close()

    def leave(self) -> None:
        """Take no more requests."""
        if not self.is_leaving:
            self.is_leaving = True
            self._home.leaving(self)

    def _broken(self, error: H2Error) -> None:
        _log.info("upstream broke http/2", upstream=str(self._home.owner.address), error=str(error))
        self.leave()
        self._flush()
        if self._transport is not None:
            self._paused = True
            self._transport.close()
        self.h2.lost()
