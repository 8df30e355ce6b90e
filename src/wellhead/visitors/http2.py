"""A visitor's HTTP/2 connection: many requests at once, each an exchange of its own.

::

    OPEN -> LEAVING -> CLOSING -> closed        LEAVING: a GOAWAY is said, what runs goes on
      \\-----------------^                      CLOSING: everything is said, the transport closes

The wire's state machine says what to write, this says when: once in a loop turn. No request has a
task or a timer; clocks are plain numbers that the house sweeps. The connection is read all the
time: what a slow stream may send is bounded by its window, so that it holds up no other.
"""

from __future__ import annotations

import asyncio
import base64
import random
import secrets
from typing import cast

from wellhead.errors import H2Error, HttpError
from wellhead.net.socket_options import reset_on_close
from wellhead.net.writing import write_joined
from wellhead.visitors import pages
from wellhead.visitors.house import Destination, House
from wellhead.visitors.http2_stream import Http2Request
from wellhead.visitors.pace import Outflow
from wellhead.visitors.pages import Page
from wellhead.wire import h2_fields, headers
from wellhead.wire.h2 import H2Connection, H2Role, H2Stream
from wellhead.wire.headers import ReplyFacts
from wellhead.wire.hpack import Fields
from wellhead.wire.ws import check_handshake

HIGH_WATER = 128 * 1024  # bytes in the transport above which nothing more is taken from the streams
LOW_WATER = 32 * 1024
HEADS_AT_ONCE = 32  # requests that one connection may begin before it is everybody else's turn
CUT_SECONDS = 0.5  # for a visitor that broke the rules to hear so and to take leave
JITTER = 0.1  # part of the longest age by which connections differ, so that they do not end together


class Http2Visitor(asyncio.Protocol):
    """One connection. ``sni`` is the name its TLS was made for."""

    def __init__(self, house: House, *, local: bool, sni: str | None = None) -> None:
        self.house = house
        self.peer = ""
        self._clock = house.clock
        self._local = local
        self._sni = sni
        self._refusal: Page | None = None  # over a limit: what requests are answered with
        self._transport: asyncio.Transport | None = None
        self._h2 = H2Connection(
            H2Role.SERVER,
            terms=house.terms.h2,
            on_stream=self.opened,
            on_goaway=self._goaway,
            wake=self._wake,
            clock=house.clock,
            note=self._note,
        )
        self._requests: dict[Http2Request, None] = {}  # those that are not over
        # when to write
        self._woken = False
        self._receiving = False
        self._behind = False  # reading is paused until all that came is taken in
        self._full = False  # the transport takes no more
        self._outflow = Outflow()
        # when to end
        self._leaving = False
        self._closing = False
        self._failed = False
        self._cut_at = 0.0  # loop time at which a connection that closes is cut
        self._retire_at = 0.0
        self._idle_since = 0.0
        # of the last request and the last reply: their like comes again
        self._reader = h2_fields.RequestReader(house.terms.head, _websocket_key)
        self._host = b""
        self._destination: Destination | Page = pages.UNKNOWN
        self._edge_fields = b""
        self._facts: ReplyFacts | None = None
        self._reply_fields: Fields = []

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's and aiofastnet's are no subclasses
        self._transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER, low=LOW_WATER)
        peername = transport.get_extra_info("peername")
        self.peer = peername[0] if peername else ""
        now = self._idle_since = self._clock()
        age = self.house.terms.h2_max_age_seconds
        self._retire_at = now + age * (1 + JITTER * random.random())
        self._refusal = self.house.admit(self)
        self._h2.start()
        if self.house.draining:
            self.drain()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._receiving = True
        try:
            self._h2.receive(data)
        except H2Error as error:
            self._fail(error)
        finally:
            self._receiving = False
        self.received()
        if self._h2.behind != self._behind:
            self._catch_up()
        if self._woken or self._leaving:
            self.flush()

    def received(self) -> None:
        """All that came was read, and what it brought about is not written yet."""

    def _catch_up(self) -> None:
        """A crowd of requests came at once: everybody else has a turn between some of them and the next."""
        transport = self._transport
        if transport is None:
            return
        self._behind = self._h2.behind
        if self._behind:
            transport.pause_reading()
            self.house.loop.call_soon(self._go_on)
        else:
            transport.resume_reading()

    def _go_on(self) -> None:
        if self._behind and self._transport is not None:
            self.data_received(b"")
            if self._behind:
                self.house.loop.call_soon(self._go_on)

    def eof_received(self) -> bool:
        return False  # TLS has no half-close: the transport closes

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        try:
            self._h2.lost()
        finally:  # whatever a request makes of it
            self.house.release(self)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self.flush()

    # Writing

    def _wake(self) -> None:
        self._woken = True
        if not self._receiving:
            self.house.loop.call_soon(self._flush_woken)

    def _flush_woken(self) -> None:
        if self._woken:
            self.flush()

    def flush(self) -> None:
        """Write what waits, as far as the transport takes it."""
        transport = self._transport
        if transport is None or self._full or self._closing:
            return
        self._woken = False
        h2 = self._h2
        try:
            pieces = h2.take(HIGH_WATER)
        except Exception:  # what was taken out is lost: nobody shall read on without it
            self.abort("internal")
            raise
        if pieces:
            write_joined(transport, pieces)
        if h2.pending:
            if not (self._full or self._woken):
                self._wake()
        elif self._leaving and h2.drained:
            self._close()

    # Requests

    def opened(self, stream: H2Stream, fields: Fields, end: bool) -> None:
        """A request's head is complete."""
        request = Http2Request(self, stream, receiving=not end)
        stream.sink = request
        self._requests[request] = None
        try:
            head = self._reader.read(fields)
            if head.websocket:
                check_handshake(head.method, head.fields)
        except HttpError as error:
            request.reject(fields, pages.for_status(error.status, error.reason))
            return
        host = head.fields.host
        if host != self._host:
            self._host = host
            self._edge_fields = headers.edge_fields(self.peer, "https", host)
            self._destination = self._refusal or self.house.destination(
                head.fields.hostname, self._sni, secure=True, local=self._local
            )
        request.start(head, self._destination, self._edge_fields)
        if self._refusal is not None:
            self._leave()

    def reply_fields(self, facts: ReplyFacts) -> Fields:
        """The reply head in this version's words. Servers repeat their heads: the last is remembered."""
        if facts is not self._facts:
            self._facts, self._reply_fields = facts, h2_fields.reply_fields(facts)
        return self._reply_fields

    def finished(self, request: Http2Request) -> None:
        self._requests.pop(request, None)

    # Ends

    def _goaway(self, last_id: int, code: int) -> None:
        """The visitor leaves: what it asked for is still answered."""
        self._leaving = True

    def _fail(self, error: H2Error) -> None:
        """The visitor broke a rule of the connection, or is too much: it is told, and every agent too."""
        if self._behind:
            self._catch_up()  # it is read to the end: TLS waits for its answer
        reason = f"h2-{error.reason}"
        self.house.refused(reason, self.peer)
        self._blame(reason)
        if self._transport is not None:
            self._transport.write(b"".join(self._h2.take(HIGH_WATER)))
        self._failed = True
        self._close()
        self._cut_at = self._clock() + CUT_SECONDS
        self._h2.lost()

    def _note(self, reason: str) -> None:
        """A limit ended one stream."""
        self.house.refused(f"h2-{reason}", self.peer)

    def _leave(self) -> None:
        """Take no more requests; those that are under way by now are served. Idempotent."""
        self._leaving = True
        self._h2.drain()

    def _close(self) -> None:
        """Close when everything is written. The visitor is read until then: TLS waits for its answer."""
        if self._transport is not None and not self._closing:
            self._closing = True
            self._cut_at = self._clock() + self.house.terms.linger_seconds
            self._transport.close()

    def _blame(self, reason: str) -> None:
        for request in self._requests:
            request.blame(reason)

    # Swept by the house

    @property
    def held(self) -> int:
        """Bytes that wait in the transport; what waits in the streams has not been credited to an agent."""
        return self._outflow.unsent

    def tick(self, now: float) -> None:
        if not self._look(now):
            return
        if self._requests:
            self._idle_since = now
        terms = self.house.terms
        if now >= self._retire_at or now - self._idle_since >= terms.idle_seconds:
            self._leave()
        if self._leaving:
            self.flush()

    def _look(self, now: float) -> bool:
        """Look at every clock of the connection that runs; False: it is over, or on its way out."""
        transport, terms = self._transport, self.house.terms
        if transport is None:
            return False
        if self._outflow.is_stalled(transport, now, terms.write_idle_seconds):
            reset_on_close(transport)
            self.abort("slow-reader")
            return False
        if self._closing:
            # One that leaves takes its last bytes first; for who broke the rules there is no more.
            if now >= self._cut_at and (self._failed or not transport.get_write_buffer_size()):
                transport.abort()
            return False
        try:
            self._h2.tick(now)
        except H2Error as error:
            self._fail(error)
            return False
        for request in list(self._requests):
            request.tick(now)
        return True

    def drain(self) -> None:
        """Close when the running requests are done; WebSockets are asked to come again."""
        self._leave()
        for request in list(self._requests):
            request.drain()

    def abort(self, reason: str) -> None:
        """Cut the connection at once; ``reason`` is a constant word for the access lines."""
        if self._transport is not None:
            self._blame(reason)
            self._transport.abort()


def _websocket_key() -> bytes:
    """What the upstream is asked with: HTTP/2 has no key, HTTP/1.1 wants one."""
    return base64.b64encode(secrets.token_bytes(16))
