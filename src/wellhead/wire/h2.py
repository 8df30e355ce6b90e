"""HTTP/2 without I/O, clock or tasks: one connection, either end.

A driver owns an ``H2Connection`` and a transport::

    connection = H2Connection(H2Role.SERVER, terms=H2Terms(), on_stream=..., wake=..., clock=...)
    connection.start()
    connection.receive(data)         calls the sinks; raises H2Error when the peer broke the rules
    connection.take(room)            what to write now: after wake(), after an H2Error, and while ``pending``
    connection.tick(now)             four times a second: what only time can settle; raises H2Error too
    connection.lost()                the connection is over: every sink is told

After an ``H2Error`` the driver writes what ``take`` gives (the GOAWAY is its last frame), closes, and
calls ``lost``. Sinks may call anything of any stream from inside ``receive`` and ``take``.

What arrives goes from the frame parser into the sink in one call. A stream's window is credited when its
bytes are consumed, the connection's at once: a slow stream holds up nobody else, and memory is bounded by
the streams' windows and ``max_held``.

Source: RFC 9113; RFC 8441 for extended CONNECT.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from wellhead.errors import H2Error, SessionLost, StateError
from wellhead.wire.h2_frames import (
    DEFAULT_WINDOW,
    ENABLE_CONNECT_PROTOCOL,
    ENABLE_PUSH,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_HEADER_LIST_SIZE,
    MAX_ID,
    PREFACE,
    ErrorCode,
    PeerSettings,
    goaway_frame,
    ping_frame,
    read_u32,
    settings_frame,
)
from wellhead.wire.h2_guard import Guard, H2Terms, calm
from wellhead.wire.h2_heads import OnStream
from wellhead.wire.h2_inbox import Inbox, OnGoAway
from wellhead.wire.h2_ledger import H2Role
from wellhead.wire.h2_stream import HEAD_ONLY, LEAVING, H2Sink, H2Stream
from wellhead.wire.hpack import Fields
from wellhead.wire.streams import tell_reset

__all__ = ["Fields", "H2Connection", "H2Role", "H2Sink", "H2Stream", "H2Terms"]

_DRAIN_PING = b"draining"
_WATCH_SECONDS = 1.0  # between two looks at streams that wait for the peer's window
_pack_double = struct.Struct("!d").pack


def _forget(reason: str) -> None:
    """Of those who do not want to know which limits acted."""


class H2Connection(Inbox):
    """One end of a connection. Not for use from several threads.

    SERVER: ``on_stream(stream, fields, end)`` hears of every request whose head is complete, and sets its
    ``sink`` or resets it before it returns. CLIENT: streams are made by ``open``.
    ``on_goaway(last_id, code)``: the peer wants no more streams. ``wake()``: something is to be written,
    and nothing was announced since the last ``take``. ``clock()``: seconds, monotonic, the same as
    ``tick`` is told. ``note(reason)``: a limit acted on one stream alone, a constant word: ``streams``
    (refused), ``header-list`` (answered 431), ``held``, ``stalled`` (reset).
    ``shared``: what we send belongs to several people (see ``hpack.Encoder``).
    ``behind``: there were more heads than ``H2Terms.heads_at_once``; ``receive`` again, with nothing if
    nothing came, after others had their turn.
    """

    __slots__ = (
        "_drain_at",
        "_draining",
        "_goaway_got",
        "_head_seen",
        "_head_since",
        "_pinged",
        "_started",
        "_watched",
        "goaway_debug",
        "is_lost",
        "rtt",
    )

    def __init__(
        self,
        role: H2Role,
        *,
        terms: H2Terms,
        on_stream: OnStream | None = None,
        on_goaway: OnGoAway,
        wake: Callable[[], None],
        clock: Callable[[], float],
        note: Callable[[str], None] = _forget,
        shared: bool = False,
    ) -> None:
        super().__init__(role, terms, on_stream, on_goaway, wake, clock, note, shared)
        self.is_lost = False
        self.goaway_debug = b""  # what the peer's last GOAWAY said beside its code
        self.rtt: float | None = None  # seconds, of the last ``ping``
        self._started: float | None = None
        self._pinged: float | None = None  # when, while it is not answered
        self._draining = False
        self._drain_at: float | None = None  # when the second step is due
        self._goaway_got = False
        self._watched = 0.0
        self._head_since: float | None = None  # when an incomplete header block was first seen
        self._head_seen = (0, 0)  # which it was

    def __repr__(self) -> str:
        return f"H2Connection({self.role.value}, streams={len(self._streams)}, held={self.held})"

    @property
    def streams(self) -> int:
        """Live streams."""
        return len(self._streams)

    @property
    def idle(self) -> bool:
        """No stream is live and nothing waits to be written."""
        return not self._streams and not self.pending

    @property
    def drained(self) -> bool:
        """The peer knows the last stream that is served, and all of them are over: it may be closed."""
        return (self._closing or self._goaway_got) and self.idle

    @property
    def may_open(self) -> bool:
        """CLIENT: whether ``open`` would succeed now."""
        return self._usable and len(self._streams) < self._peer.max_streams

    @property
    def _usable(self) -> bool:
        return not (
            self.is_lost
            or self._failed
            or self._draining
            or self._closing
            or self._goaway_got
            or self._started is None
            or self._next_id > self.terms.last_id
        )

    @property
    def spent(self) -> bool:
        """CLIENT: its stream ids are used up."""
        return self._next_id > self.terms.last_id

    @property
    def credit(self) -> int:
        """Body bytes that the peer's window of the connection takes now."""
        return self._credit

    @property
    def queues(self) -> bool:
        """Body bytes wait on some stream, for the connection's window or for their turn."""
        return bool(self._turns)

    @property
    def peer(self) -> PeerSettings:
        """What the peer announced."""
        return self._peer

    @property
    def peer_connects(self) -> bool:
        """The peer takes extended CONNECT (RFC 8441)."""
        return self._peer.connect_protocol

    @property
    def greeted(self) -> bool:
        """The peer's SETTINGS have come."""
        return self._got_settings

    @property
    def unanswered_since(self) -> float | None:
        """When the ping was sent that is not yet answered."""
        return self._pinged

    def start(self) -> None:
        """Queue our preface."""
        terms = self.terms
        values = {INITIAL_WINDOW_SIZE: terms.window, MAX_HEADER_LIST_SIZE: terms.max_list}
        if self.role is H2Role.SERVER:
            values[MAX_CONCURRENT_STREAMS] = terms.max_streams
            values[ENABLE_CONNECT_PROTOCOL] = 1
        else:
            values[ENABLE_PUSH] = 0
            self._control.append(PREFACE)
        self._control.append(settings_frame(values))  # nothing overtakes it there
        self._started = self._settings_sent = self._clock()
        self._settings_open = 1
        more = self._room - DEFAULT_WINDOW
        if more:
            self._put_credit(0, more)
        self._wake()

    def promote(self, terms: H2Terms, on_stream: OnStream) -> None:
        """SERVER: let a peer that is known by now do more: new limits, and what of them it has to be told.

        From now on its requests are told to ``on_stream``.

        Raises:
            StateError: a window is smaller than it was.
        """
        self._on_stream = on_stream
        before = self.terms
        grow, more = terms.window - before.window, terms.connection_window - before.connection_window
        if grow < 0 or more < 0:
            raise StateError(f"windows made smaller by {-grow} and {-more} bytes")
        self.terms = terms
        self._guard = Guard(terms, self._guard)
        self._decoder.allow(terms.max_list_decoded, terms.max_fields, terms.max_list)
        values = {
            INITIAL_WINDOW_SIZE: terms.window,
            MAX_HEADER_LIST_SIZE: terms.max_list,
            MAX_CONCURRENT_STREAMS: terms.max_streams,
        }
        self._put_ready(settings_frame(values))
        self._settings_open += 1
        self._settings_sent = self._clock()
        for stream in self._streams.values():
            stream._room += grow
        if more:
            self._room += more
            self._put_credit(0, more)

    def open(self, fields: Fields, end: bool, sink: H2Sink, more: Fields | None = None) -> H2Stream:
        """CLIENT: send a request head; ``end`` says that no body follows, ``more`` is as of ``headers``.

        Raises:
            SessionLost: the connection is lost, leaving, or out of stream ids; another one is needed.
            StateError: as many streams are live as the peer allows; ask ``may_open`` before.
        """
        if not self._usable:
            raise SessionLost("the HTTP/2 connection takes no more streams")
        if len(self._streams) >= self._peer.max_streams:
            raise StateError(
                f"{len(self._streams)} streams are live, the peer allows {self._peer.max_streams}"
            )
        stream_id = self._next_id
        self._next_id += 2
        room = self.terms.window + self._shrink
        stream = H2Stream(self, stream_id, sink, self._peer.window, room, self._clock())
        if (b":method", b"HEAD") in fields:
            stream._flags = HEAD_ONLY
        self._streams[stream_id] = stream
        self._guard.opened()
        stream.headers(fields, end, more)
        return stream

    def ping(self, now: float) -> None:
        """Ask the peer for a sign of life at ``now``; see ``rtt`` and ``unanswered_since``."""
        self._pinged = now
        self._control.append(ping_frame(_pack_double(now)))
        self._wake()

    def _on_pong(self, payload: bytes) -> None:
        if payload == _DRAIN_PING:
            self._finish_drain()
        elif self._pinged is not None and payload == _pack_double(self._pinged):
            self.rtt = self._clock() - self._pinged
            self._pinged = None

    def goaway(self, code: int = ErrorCode.NO_ERROR, last: int | None = None) -> None:
        """Say that streams above ``last`` (default: the last there was) are not served; the others go on."""
        self._closing = True
        self._drain_at = None
        self._put_ready(goaway_frame(self._last_id if last is None else last, code))

    def warn(self, code: int, debug: bytes) -> None:
        """Send a GOAWAY with ``debug`` that refuses nothing: a peer that goes on as agreed is served."""
        self._put_ready(goaway_frame(MAX_ID, code, debug))

    def announce_leaving(self) -> None:
        """CLIENT: say GOAWAY, of which the peer may make what it likes; streams may still be opened.

        It only rules out streams that the peer would open (RFC 9113 section 6.8).
        """
        self._put_ready(goaway_frame(self._last_id, ErrorCode.NO_ERROR))

    def drain(self) -> None:
        """Leave without losing a request: a warning first, the last id a round trip later. Idempotent.

        Streams that the peer opened before it heard of it are served. Ask ``drained`` when to close.
        """
        if self._draining or self._closing or self._failed:
            return
        self._draining = True
        if self.role is H2Role.CLIENT:
            self.goaway()
            return
        self._put_ready(goaway_frame(MAX_ID, ErrorCode.NO_ERROR))
        self._put_ready(ping_frame(_DRAIN_PING))  # behind the warning, so that its answer follows it
        self._drain_at = self._clock() + self.terms.drain_seconds

    def _finish_drain(self) -> None:
        if self._drain_at is not None:
            self.goaway()

    def _on_peer_goaway(self, payload: bytes) -> None:
        if len(payload) < 8:
            raise H2Error(ErrorCode.FRAME_SIZE_ERROR, "frame-size", f"GOAWAY of {len(payload)} bytes")
        last_id = read_u32(payload)[0] & MAX_ID
        code = read_u32(payload, 4)[0]
        self.goaway_debug = payload[8:]
        warning = last_id == MAX_ID and code == ErrorCode.NO_ERROR
        self._goaway_got = not (warning and self.terms.opens_after_warning) or self._goaway_got
        if self.role is H2Role.CLIENT:
            for stream in [one for one in self._streams.values() if one.id > last_id]:
                del self._streams[stream.id]
                stream._give_up()
                self._ignore(stream.id, stream._room)
                stream.sink.on_reset(ErrorCode.REFUSED_STREAM)
        self._on_goaway(last_id, code)

    def tick(self, now: float) -> None:
        """What only time can settle; ``now`` as of ``clock``. Four times a second is often enough.

        Raises:
            H2Error: as ``receive``.
        """
        if self._failed or self._started is None:
            return
        try:
            self._raise_doom()
            self._check_greeting(now)
            self._check_head(now)
            if now - self._watched >= _WATCH_SECONDS:
                self._watched = now
                if self._streams:
                    self._watch_stalls(now)
            if self._lingering:
                self._running(now)
        except H2Error as error:
            self._fail(error)
            raise
        if self._drain_at is not None and now >= self._drain_at:
            self._finish_drain()

    def _check_greeting(self, now: float) -> None:
        if self._started is None or (self._got_settings and self._settings_sent is None):
            return
        terms = self.terms
        if not self._got_settings and now - self._started >= terms.preface_seconds:
            raise H2Error(ErrorCode.PROTOCOL_ERROR, "preface", f"none within {terms.preface_seconds:g} s")
        if self._settings_sent is not None and now - self._settings_sent >= terms.settings_seconds:
            detail = f"not acknowledged within {terms.settings_seconds:g} s"
            raise H2Error(ErrorCode.SETTINGS_TIMEOUT, "settings-timeout", detail)

    def _check_head(self, now: float) -> None:
        """End a connection whose peer takes too long over a header block."""
        partial = self._partial
        if not self._block_id and not (len(partial) > 3 and partial[3] == HEADERS and self._got_settings):
            self._head_since = None
            return
        block = self._last_id, self._block_id
        if self._head_since is None or self._head_seen != block:
            self._head_since, self._head_seen = now, block
        elif now - self._head_since >= self.terms.head_seconds:
            raise calm("slow-head", f"not complete within {self.terms.head_seconds:g} s")

    def _watch_stalls(self, now: float) -> None:
        """Reset streams whose queued bytes the peer has not let move for too long."""
        terms = self.terms
        stalled = [
            stream for stream in self._streams.values() if stream.queued and self._is_stalled(stream, now)
        ]
        if not stalled:
            return
        if len(stalled) == len(self._streams):
            raise calm("stalled", f"no stream moved within {terms.stall_seconds:g} s")
        for stream in stalled:
            self._note("stalled")
            self._break_stream(stream, ErrorCode.CANCEL)

    def _is_stalled(self, stream: H2Stream, now: float) -> bool:
        if not stream._waiting_since or stream._moved - stream._mark >= self.terms.stall_bytes:
            stream._waiting_since, stream._mark = now, stream._moved
            return False
        return now - stream._waiting_since >= self.terms.stall_seconds

    def lost(self) -> None:
        """The connection is over: every live stream's sink hears ``on_reset(LOST)``. Idempotent."""
        self.is_lost = self._failed = True
        streams = list(self._streams.values())
        self._streams.clear()
        for stream in streams:
            stream._give_up()
        self._control, self._ready = [], []
        self._room_owed = 0
        self.behind = False
        self._turns.clear()
        self._lingering.clear()
        self._partial.clear()
        # Of one that is leaving, the owner is done with it.
        tell_reset((one.sink for one in streams if not one._flags & LEAVING), ErrorCode.LOST)
