"""An HTTP/2 connection at the zone name: an agent's, or a visitor's of the control plane, stream by stream.

What is below ``/_system/`` is the carrier's, everything else goes to the control plane. A connection is a
visitor's, with its limits, until a hello is let in; then it is promoted: larger windows, more streams, no
longest age, and the clocks of a session.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from wellhead.edge.intake.session import IntakeSession, path_of
from wellhead.edge.intake.terms import IntakeTerms
from wellhead.errors import H2Error
from wellhead.net.socket_options import CARRIER_LOWAT_BYTES, tune, unacknowledged
from wellhead.visitors.house import House
from wellhead.visitors.http2 import Http2Visitor
from wellhead.visitors.pages import Page
from wellhead.wire.h2 import H2Connection, H2Stream
from wellhead.wire.h2_frames import ErrorCode
from wellhead.wire.hpack import Fields

SYSTEM = b"/_system/"


class Gate(Protocol):
    """Who judges hellos."""

    terms: IntakeTerms

    def asked(
        self, connection: ZoneConnection, stream: H2Stream, fields: Fields, path: bytes, end: bool, /
    ) -> None:
        """A connection without a session asks for something below ``/_system/``, or one says hello."""

    def lost(self, connection: ZoneConnection, /) -> None:
        """A connection is over."""


class ZoneConnection(Http2Visitor):
    """``session``: of an agent that was let in, else None."""

    def __init__(self, house: House, gate: Gate, *, local: bool, sni: str | None) -> None:
        super().__init__(house, local=local, sni=sni)
        self.session: IntakeSession | None = None
        self._gate = gate
        self._asked = False  # anything at all
        self._made = house.clock()

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        if self.session is not None:
            self.session.hear(self._clock())
        super().data_received(data)

    def received(self) -> None:
        if self.session is not None:
            self.session.received()

    def connection_lost(self, exc: Exception | None) -> None:
        try:
            self._gate.lost(self)
        finally:
            super().connection_lost(exc)

    # Streams

    def opened(self, stream: H2Stream, fields: Fields, end: bool) -> None:
        self.elsewhere(stream, fields, path_of(fields), end)

    def elsewhere(self, stream: H2Stream, fields: Fields, path: bytes, end: bool) -> None:
        """What is not a session's: a hello, or a request for the control plane.

        An agent's connection has no more of those at once than a visitor's.
        """
        self._asked = True
        if path.startswith(SYSTEM):
            self._gate.asked(self, stream, fields, path, end)
        elif len(self._requests) >= self.house.terms.h2.max_streams:
            stream.reset(ErrorCode.REFUSED_STREAM)
        else:
            super().opened(stream, fields, end)

    # For the gate and the session

    @property
    def refusal(self) -> Page | None:
        """What this connection is refused with, because of a limit."""
        return self._refusal

    @property
    def streams(self) -> int:
        """Live HTTP/2 streams."""
        return self._h2.streams

    @property
    def is_over(self) -> bool:
        return self._transport is None or self._closing

    def promote(self, make: Callable[[H2Connection], IntakeSession]) -> IntakeSession:
        """Make the session: from now on the agent's limits hold, and the house's clocks do not."""
        self.house.release(self)
        sock = self._transport.get_extra_info("socket") if self._transport is not None else None
        if sock is not None:
            tune(sock, notsent_lowat_bytes=CARRIER_LOWAT_BYTES)
        self.session = session = make(self._h2)
        self._h2.promote(self._gate.terms.h2, session.opened)
        return session

    def leave(self) -> None:
        """Close when everything is said."""
        self._leave()
        self.flush()

    def hang_up(self) -> None:
        self.flush()
        self._close()

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    @property
    def unsent(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def acknowledged(self) -> bool:
        return self._transport is not None and unacknowledged(self._transport) == 0

    # Swept: by the house before the promotion, by the gate after it

    def tick(self, now: float) -> None:
        session = self.session
        if session is None:
            super().tick(now)
            if self.house.draining and not self._asked and now - self._made >= self._gate.terms.hello_seconds:
                self._asked = True
                self.drain()
        elif self._look(now):
            session.tick(now)
            if self._leaving:
                self.flush()

    def drain(self) -> None:
        """Who has asked for nothing yet may be an agent whose hello is on its way, and has to be answered."""
        if self._asked:
            super().drain()

    def _fail(self, error: H2Error) -> None:
        if self.session is not None:
            self.session.broke(error)
        super()._fail(error)

    def _goaway(self, last_id: int, code: int) -> None:
        if self.session is not None:
            self.session.agent_leaves()
        else:
            super()._goaway(last_id, code)
