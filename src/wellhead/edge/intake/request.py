"""One HTTP request on the HTTP/2 carrier: an envelope that answers an intake, and a reply that is posted.

::

    visitor ── Exchange ── IntakeRequest ═══ the answer of an intake ═══> agent
                                  <═══ the body of POST /_system/response ═══

Bytes go through as they come, both ways; whoever is slow holds up his own stream. The post is acknowledged
as soon as its body has ended: agents wait for that, and it says nothing of the visitor.

Source: docs/reference/h2-carrier.md, "Requests".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from wellhead.edge.intake.answers import DONE
from wellhead.edge.intake.bridge import Bridge
from wellhead.edge.intake.seat import Pending
from wellhead.wire.h2 import H2Stream
from wellhead.wire.h2_frames import ErrorCode
from wellhead.wire.hpack import Fields
from wellhead.wire.intake import ReplyRead
from wellhead.wire.streams import Buffer, HeadKind, Reason, Sink

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_REPLY, _INTERIM = HeadKind.REPLY, HeadKind.INTERIM  # bound once, for the path of every request
_BODYLESS = frozenset((204, 304))
# What agents say where the application did not answer, with its status.
FAILURES = {
    "upstream-unreachable": (502, Reason.UPSTREAM_UNREACHABLE),
    "upstream-error": (502, Reason.UPSTREAM_FAILED),
    "response-deadline-exceeded": (504, Reason.TIMEOUT),
    "agent-overloaded": (503, Reason.OVERLOADED),
}


class Home(Protocol):
    """The agent's session, as far as its requests know it."""

    max_body_bytes: int
    answer_seconds: float  # for an agent's answer, from the end of the request
    now: float  # loop time, of a moment ago
    pending: dict[bytes, Pending]  # what agents took and have not answered, by id
    running: set[IntakeRequest | Bridge]  # what this session was asked for and is not over

    def soon(self, call: Callable[[], None], /) -> object:
        """Have it called when nobody is in the middle of opening a stream."""

    @property
    def held_up(self) -> bool:
        """No body may be sent now: a message that has to go in one piece waits for room."""

    def later(self, call: Callable[[], None], /) -> None:
        """Have it called when bodies may be sent."""

    def unwait(self, request: IntakeRequest, /) -> None:
        """It waits for an intake no longer, if it did."""


class IntakeRequest:
    """The stream of an exchange (``wire.streams.Stream``), and the sink of the agent's post (``H2Sink``).

    ``lead`` and ``common`` are the envelope (see ``envelope_block``). ``whole``: there is no body.
    """

    # Defaults of the class, not of each object: most requests never touch most of them.
    answer_by = 0.0
    _expects = False
    _handed = False
    _slot: H2Stream | None = None  # the intake that its body goes out on
    _early: list[Buffer] | None = None  # what has to wait, None: nothing has to
    _early_end = False
    _size = 0  # of the body so far
    # of the reply
    _post: H2Stream | None = None
    _read: ReplyRead | None = None  # its head, while that was not told
    _first = b""  # body bytes, too few to tell the head by
    _bodyless = False
    _over = False  # nothing more is told to the visitor's side

    def __init__(
        self, home: Home, sink: Sink, request_id: bytes, lead: bytes, common: Fields, method: bytes,
        *, whole: bool,
    ) -> None:  # fmt: skip
        self.sink = sink
        self.request_id = request_id
        self.method = method
        self._home = home
        self._lead = lead
        self._common = common
        self._uploaded = whole

    def expect(self) -> None:
        """The visitor waits for a 100 before it sends its body."""
        self._expects = True

    # To the agent

    def handed(self, intake: H2Stream) -> None:
        """There is an intake for it."""
        home, whole = self._home, self._uploaded
        intake.headers(self._common, whole, None, self._lead)
        self._handed = True
        home.pending[self.request_id] = self
        if whole:  # fast path: the intake is answered
            self.answer_by = home.now + home.answer_seconds
            return
        self._slot = intake
        intake.sink = _Upload(self, intake)
        if self._expects:
            home.soon(self._say_continue)
        if self._early is not None:
            self._go_on()

    def _say_continue(self) -> None:
        """An agent of this carrier cannot."""
        if not (self._over or self._uploaded):
            self.sink.on_head(_INTERIM, _CONTINUE, b"", False)

    @property
    def queued(self) -> int:
        return self._slot.queued if self._slot is not None else 0

    def head(self, kind: HeadKind, head: bytes, data: Buffer = b"", end: bool = False) -> bool:
        """Trailers of the request do not go through an envelope: it ends, that is all."""
        return self.send(data, end)

    def send(self, data: Buffer, end: bool = False) -> bool:
        if self._uploaded or (self._over and self._slot is None):
            return True
        self._size += len(data)
        if self._size > self._home.max_body_bytes:
            self._cut_slot()
            self.failed(Reason.TOO_LARGE)
            return True
        slot = self._slot
        if slot is None or self._early is not None or (data and self._home.held_up):
            return self._wait(data, end)
        flowing = slot.data(data, end)
        if end:
            self._complete()
        return flowing

    def _wait(self, data: Buffer, end: bool) -> bool:
        if self._early is None:
            self._early = []
            if self._slot is not None:
                self._home.later(self._go_on)
        if data:
            self._early.append(data)
        self._early_end = end
        return end

    def _go_on(self) -> None:
        """What waited goes out."""
        early, slot = self._early, self._slot
        if early is None or slot is None:
            return
        if early and self._home.held_up:
            self._home.later(self._go_on)
            return
        self._early = None
        flowing = True
        for piece in early:
            flowing = slot.data(piece)
        if self._early_end:
            slot.data(b"", True)
            self._complete()
        elif flowing and not self._over:
            self.sink.on_writable()

    def _complete(self) -> None:
        """The whole request is on its way."""
        self._uploaded = True
        self._slot = None
        self.answer_by = self._home.now + self._home.answer_seconds

    def _cut_slot(self) -> None:
        """What was handed over is not whole: no agent does anything about it."""
        slot, self._slot = self._slot, None
        self._early = None
        if slot is not None:
            slot.reset(ErrorCode.CANCEL)

    def slot_writable(self) -> None:
        if not self._over and self._early is None:
            self.sink.on_writable()

    def slot_lost(self, code: int) -> None:
        """The agent does not want the rest of the request."""
        self._slot = None
        if self._post is None:
            self.failed(Reason.SESSION_LOST if code == ErrorCode.LOST else Reason.UPSTREAM_FAILED)

    # From the visitor's side

    def reset(self, reason: int) -> None:
        self._cut_slot()
        if not self._over:
            self._finish()
        if self._post is not None:  # of a whole reply too, whose last bytes nobody took
            self._post.consumed(self._post.held)

    def consumed(self, count: int) -> None:
        if self._post is not None:
            self._post.consumed(count)

    # From the session

    def failed(self, reason: Reason) -> None:
        """There will be no answer, or not all of it."""
        if not self._over:
            self._cut_slot()
            self._finish()
            if self._post is not None:
                self._post.consumed(self._post.held)
            self.sink.on_reset(reason)

    def replied(self, read: ReplyRead, stream: H2Stream, end: bool) -> IntakeRequest:
        """The agent's post, whose sink this becomes."""
        self._post = stream
        failure = FAILURES.get(read.reason) if read.reason else None
        if failure is not None and failure[0] == read.status:
            if end:
                stream.headers(DONE, True)
            self.failed(failure[1])  # said in the house's own words, as on the native carrier
            return self
        self._bodyless = self.method == b"HEAD" or read.status in _BODYLESS
        if end or self._bodyless:
            if end:
                stream.headers(DONE, True)
            self._finish()
            self.sink.on_head(_REPLY, read.settled(b""), b"", True)
        else:
            # Its first bytes are most often in the same read, and go to the visitor in one write with it.
            self._read = read
        return self

    @property
    def head_waits(self) -> bool:
        """The reply's head is here and was not told: ``tell_head`` when all that came was read."""
        return self._read is not None

    def tell_head(self) -> None:
        """No body bytes came beside the head."""
        read = self._read
        if read is not None and not (self._over or read.may_be_gzip):
            self._read = None
            self.sink.on_head(_REPLY, read.head, b"", False)

    # H2Sink: the agent's post

    def on_headers(self, fields: Fields, end: bool) -> None:
        """Trailers end it; they do not travel."""
        self.on_data(b"", end)

    def on_data(self, data: Buffer, end: bool) -> None:
        post = self._post
        assert post is not None
        if end:
            post.headers(DONE, True)
        if self._over:
            post.consumed(len(data))
            return
        read = self._read
        if read is None:
            if end:
                self._finish()
            self.sink.on_data(data, end)
            return
        if read.may_be_gzip and len(self._first) + len(data) < 2 and not end:
            self._first += data
            return
        if self._first:
            data = self._first + data
        self._read = None
        if end:
            self._finish()
        self.sink.on_head(_REPLY, read.settled(bytes(data[:2])), data, end)

    def on_reset(self, code: int) -> None:
        if not self._over:
            self._finish()
            self.sink.on_reset(Reason.SESSION_LOST if code == ErrorCode.LOST else Reason.UPSTREAM_FAILED)

    def on_writable(self) -> None:
        """Nothing but heads goes out on it."""

    # Ends

    def _finish(self) -> None:
        """Nothing more is told to the visitor's side, but for what the caller says next."""
        self._over = True
        home = self._home
        home.running.discard(self)
        if self._post is None:
            home.pending.pop(self.request_id, None)
            if not self._handed:
                home.unwait(self)


class _Upload:
    """What hears of an intake that a request's body goes out on."""

    __slots__ = ("_intake", "_request")

    def __init__(self, request: IntakeRequest, intake: H2Stream) -> None:
        self._request = request
        self._intake = intake

    def on_headers(self, fields: Fields, end: bool) -> None:
        """Trailers: nothing is asked by them."""

    def on_data(self, data: Buffer, end: bool) -> None:
        self._intake.consumed(len(data))

    def on_reset(self, code: int) -> None:
        self._request.slot_lost(code)

    def on_writable(self) -> None:
        self._request.slot_writable()
