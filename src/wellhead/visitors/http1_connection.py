"""One connection of a visitor below HTTP: its state, its flow both ways, and how it ends.

A base of what reads requests and writes replies on it, and not a part of them: a call more for each
request is 4 % of the edge's work for it.
"""

from __future__ import annotations

import asyncio
import enum

from wellhead.net.socket_options import reset_on_close
from wellhead.visitors.exchange import Exchange
from wellhead.visitors.house import House
from wellhead.visitors.http1_body import RequestBody
from wellhead.visitors.pace import Outflow


class State(enum.Enum):
    """What the next bytes of the visitor are; the picture is in ``http1``."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    BUSY = "busy"
    UNREAD = "unread"
    UPGRADED = "upgraded"
    LINGER = "linger"
    CLOSED = "closed"


class Connection:
    """State and flow. ``choked``: the visitor does not read."""

    __slots__ = (
        "_body", "_buffer", "_clock", "_deadline", "_eof", "_exchange", "_house", "_keep", "_outflow",
        "_reading", "_state", "_terms", "_transport", "choked", "peer",
    )  # fmt: skip

    def __init__(self, house: House) -> None:
        self._house = house
        self._terms = house.terms
        self._clock = house.clock
        self._transport: asyncio.Transport | None = None
        self.peer = ""
        self._state = State.IDLE
        self._deadline = 0.0  # loop time at which the state's clock runs out, 0: none
        self._keep = True  # the connection serves again
        # from the visitor
        self._buffer = b""  # bytes that nobody has looked at yet
        self._reading = True
        self._eof = False  # the visitor ended its half
        # the running request
        self._exchange: Exchange | None = None
        self._body: RequestBody | None = None  # None: all of it is in
        # what the visitor has not yet taken
        self.choked = False
        self._outflow = Outflow()

    # Flow

    def _pause(self) -> None:
        if self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def _resume(self) -> None:
        if not self._reading and self._transport is not None:
            self._reading = True
            if self._body is not None:
                self._body.restart(self._clock())
            self._transport.resume_reading()

    # Ends

    def _reset(self) -> None:
        """End so that nobody takes it for an end."""
        transport = self._transport
        if transport is None:
            return
        self._state = State.LINGER
        reset_on_close(transport)
        transport.abort()

    def _linger(self) -> None:
        """Close without losing the reply: a close with unread bytes would reset the connection."""
        transport = self._transport
        if transport is None:
            return
        if self._eof or not transport.can_write_eof():
            self._close()
            return
        self._state = State.LINGER
        self._buffer = b""
        transport.write_eof()
        self._deadline = self._clock() + self._terms.linger_seconds
        if not self._reading:
            self._resume()

    def _linger_expired(self, transport: asyncio.Transport, now: float) -> None:
        if transport.get_write_buffer_size():  # not yet: the visitor still reads its reply
            self._deadline = now + self._terms.linger_seconds
        else:
            transport.abort()

    def _close(self) -> None:
        """Close when everything is written. A TLS transport must read for that: it waits for an answer.

        It waits no longer than ``linger_seconds``: who keeps a connection for later may not look at it now.
        """
        self._state = State.LINGER
        self._deadline = self._clock() + self._terms.linger_seconds
        self._buffer = b""
        if self._transport is not None:
            self._resume()
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Cut the connection at once; ``reason`` is a constant word for the access line."""
        if self._transport is not None:
            if self._exchange is not None:
                self._exchange.reason = reason
            self._transport.abort()
