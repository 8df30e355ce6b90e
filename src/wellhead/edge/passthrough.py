"""A visitor of a passthrough tunnel: its connection goes to the agent as it is, from the first byte on.

::

    ClientHello peeked ──> admitted: a session, and room in every limit ──> a stream of kind TCP
                      └──> or a TLS alert, and the socket was never ours

Nothing is decrypted here, so what a visitor can be told is an alert, as long as nothing of the agent's went
to it: ``unrecognized_name`` where the name has no certificate (yet, or any more), ``internal_error`` where
trying again may help. After that it is an RST.

Source: docs/reference/wire.md, "TCP envelopes".
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, cast

from wellhead.edge.ingress import Ingress
from wellhead.edge.registry import Line, Live
from wellhead.errors import ClientHelloError
from wellhead.model.records import TunnelStatus, TunnelView
from wellhead.net.socket_options import unsent
from wellhead.net.sockets import authority
from wellhead.net.splice import Splice
from wellhead.visitors.exchange import PAGES
from wellhead.visitors.pages import BROKEN, Page
from wellhead.wire.facts import Facts
from wellhead.wire.sni import INTERNAL_ERROR, UNRECOGNIZED_NAME, alert
from wellhead.wire.streams import Buffer, Reason, StreamKind

METHOD: Final = b"TLS"  # what the access line says in place of a method


@dataclass(frozen=True, slots=True)
class RawTerms:
    """How long a connection may be silent, or be on its way out. Seconds, each named as its setting."""

    idle_seconds: float = 3600.0
    half_close_seconds: float = 5.0
    linger_seconds: float = 1.0
    write_idle_seconds: float = 60.0


class RawVisitor(Splice):
    """One connection. ``peer`` is its IP address, ``server_name`` what its ClientHello asks for.

    Raises:
        ClientHelloError: it is not let in.
    """

    __slots__ = (
        "_began", "_carrier", "_cut_at", "_envelope", "_first_byte", "_heard", "_heard_state", "_hello",
        "_ingress", "_line", "_reason", "_request_id", "_server_name", "_session", "_terms", "_view", "peer",
    )  # fmt: skip

    def __init__(
        self, ingress: Ingress, terms: RawTerms, view: TunnelView, server_name: str, peer: str
    ) -> None:
        super().__init__()
        self._terms = terms
        self.peer = peer
        self._ingress = ingress
        self._view = view
        self._server_name = server_name
        self._line: Line | None = None
        self._carrier = ""
        self._session: Live | None = None  # that the stream is on
        self._envelope = b""
        self._hello = b""  # the first bytes, until there is an answer: another session may have to be asked
        self._reason = ""  # why it ended early, a constant word
        self._request_id = ingress.request_id()
        self._began = self._heard = ingress.clock()
        self._first_byte = 0.0
        self._heard_state = (0, 0, 0)  # what had moved then
        self._cut_at = 0.0  # when we hang up whatever still waits, 0: not soon
        self._admit()

    def _admit(self) -> None:
        awaiting = self._view.status is TunnelStatus.AWAITING_CERT
        if not (awaiting or self._view.status is TunnelStatus.ACTIVE):
            raise ClientHelloError(UNRECOGNIZED_NAME, "unknown-sni")
        refusal = self._ingress.admit(self)
        found = refusal or self._ingress.session_of(self._view)
        if awaiting and (isinstance(found, Page) or not found[1].own_certificate):
            self._ingress.release(self)
            raise ClientHelloError(UNRECOGNIZED_NAME, "awaiting-certificate")
        if isinstance(found, Page):
            self._ingress.release(self)
            raise ClientHelloError(INTERNAL_ERROR, found.reason)
        self._line = found[1]
        self._line.exchanges += 1

    # The transport's protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._transport = transport
        # Choked by the first byte that waits here: see Http1Visitor.
        transport.set_write_buffer_limits(high=0)
        if self._line is None:  # cut meanwhile
            self._cut()

    def data_received(self, data: bytes) -> None:
        if self._stream is not None:
            super().data_received(data)
        elif self._line is not None and self._transport is not None:
            self._open(self._line, self._transport, data)

    def _open(self, line: Line, transport: asyncio.Transport, data: bytes) -> None:
        """The first bytes: they travel beside the envelope."""
        self.from_socket = len(data)
        peername, sockname = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        facts = Facts(
            self.peer,
            peername[1] if peername else 0,
            self._server_name,
            authority(*sockname[:2]) if sockname else "",
        )
        session = line.pick()
        if session is None:
            self._turn_away("no-agent")
            return
        self._envelope, self._hello = facts.encode(), data
        self._begin(session, data)

    def _begin(self, session: Live, data: bytes) -> None:
        self._session = session
        self._carrier = session.carrier
        stream = session.open(StreamKind.TCP, self._envelope, self, data, self._socket_end)
        if self._line is not None and self._session is session:  # else it was refused within the call
            self._stream = stream

    def _try_again(self) -> bool:
        """The connection was never handed to an application: another session may have it, once."""
        hello, self._hello = self._hello, b""
        if not hello or self.from_socket != len(hello) or self._line is None:
            return False
        session = self._line.pick_other(self._session)
        if session is None:
            return False
        self._stream = None
        self._begin(session, hello)
        return True

    def eof_received(self) -> bool:
        return super().eof_received() if self._line is not None else False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        stream = self._stream
        if self._stream_end and self._socket_end:
            self._over(None)
        else:
            self._reason = self._reason or "visitor-left"
            self._over(Reason.CANCELLED)
            if stream is not None:
                stream.reset(Reason.CANCELLED)
        self._ingress.release(self)

    # The stream's sink

    def on_data(self, data: Buffer, end: bool) -> None:
        if not self.from_stream and data:
            self._first_byte = self._ingress.clock()
            self._hello = b""
        super().on_data(data, end)

    def on_reset(self, reason: int) -> None:
        if reason == Reason.REFUSED and self._try_again():
            return
        page = PAGES.get(reason, BROKEN)
        self._reason = self._reason or page.reason
        if self._stream_end and self._waits():
            # Its half came whole, and a slow visitor still has to take it: what ends is the visitor's.
            self._over(reason)
            self._held_up = True
            if self._transport is not None:
                self._transport.pause_reading()
        elif self.from_stream or self._stream_end:
            super().on_reset(reason)
        else:
            self._turn_away(self._reason)

    def _unconnected(self, data: Buffer, end: bool) -> None:
        """Nothing comes for a visitor that is gone: its stream was reset."""

    # For the ingress

    @property
    def held(self) -> int:
        """Bytes that wait for the visitor."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def tick(self, now: float) -> None:
        self._check_reset()
        transport = self._transport
        if transport is None:
            return
        if self._cut_at:
            if now >= self._cut_at:
                self._part(transport)
            return
        state = (self.from_socket, self.from_stream, transport.get_write_buffer_size())
        if state != self._heard_state:
            self._heard, self._heard_state = now, state
            return
        silent, terms = now - self._heard, self._terms
        if self._stream_end and self._socket_end:
            if silent >= terms.write_idle_seconds:
                self._give_up("slow-reader")
        elif self._line is None:  # its agent does not hear it any more
            if silent >= terms.write_idle_seconds or not self._waits():
                self._cut()
        elif silent >= terms.idle_seconds:
            self._give_up("idle")
        elif silent >= terms.half_close_seconds and self._is_half_closed():
            self._give_up("half-close")

    def drain(self) -> None:
        """What is open may finish."""

    def abort(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._reset_stream(Reason.CANCELLED)
        self._cut()

    # Ends

    def _is_half_closed(self) -> bool:
        """Whether one side said all it has to, the other side says nothing, and nothing waits for either."""
        if self._stream_end is self._socket_end or self._held_up:
            return False
        return not self._waits()

    def _waits(self) -> bool:
        """Whether the visitor has not taken what is there for it."""
        transport = self._transport
        return transport is not None and (transport.get_write_buffer_size() > 0 or unsent(transport) > 0)

    def _give_up(self, reason: str) -> None:
        """End what nobody uses: the agent is told, and the visitor gets what is still queued, and a FIN."""
        self._reason = self._reason or reason
        stream = self._stream
        if stream is not None and self._stream_end:
            stream.send(b"", True)
            self._over(Reason.TIMEOUT)
        else:
            self._reset_stream(Reason.TIMEOUT)
        self._hang_up()

    def _turn_away(self, reason: str) -> None:
        """Nothing was said to the visitor: it may still hear why not."""
        self._reason = self._reason or reason
        self._over(Reason.CANCELLED)
        if self._transport is not None:
            self._transport.write(alert(INTERNAL_ERROR))
            self._hang_up()

    def _hang_up(self) -> None:
        """FIN behind what is written, and the end soon: a close with unread bytes would be an RST."""
        transport = self._transport
        if transport is None:
            return
        self._cut_at = self._ingress.clock() + self._terms.linger_seconds
        if self._socket_end:
            transport.close()
            return
        transport.write_eof()
        if self._held_up:
            self._held_up = False
            transport.resume_reading()

    def _part(self, transport: asyncio.Transport) -> None:
        if transport.get_write_buffer_size():
            self._cut()
        else:
            transport.abort()

    def _reset_stream(self, reason: Reason) -> None:
        stream = self._stream
        self._over(reason)
        if stream is not None:
            stream.reset(reason)

    def _over(self, reason: int | None) -> None:
        """The access line; the visitor may still have to take what was written for it."""
        self._stream = None
        line, self._line = self._line, None
        if line is None:
            return
        line.exchanges -= 1
        self._ingress.note(
            (
                "tunnel", self._view.name, self.peer, METHOD, b"-", 0, reason is None, self.from_socket,
                self.from_stream, self._began, self._first_byte, self._ingress.clock(), self._request_id,
                self._reason, self._carrier,
            )
        )  # fmt: skip
