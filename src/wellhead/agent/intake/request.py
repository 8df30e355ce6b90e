"""An HTTP request on the HTTP/2 carrier: the stream that the upstream is given.

::

    intake   DATA ──> on_data ─> upstream ─> head, send ──> POST /_system/response/{id}

Bodies pass as they come, both ways. Only a reply of unknown length to an edge that is not ours is held until
its length is known: such an edge has to be told.

Source: docs/reference/h2-carrier.md, "Envelopes" and "Replies".
"""

from __future__ import annotations

import re
from typing import Protocol

from wellhead.agent.intake.exchange import Home, answer, answer_reset
from wellhead.agent.intake.reply import Post
from wellhead.agent.intake.terms import ACK_SECONDS
from wellhead.errors import HttpError
from wellhead.wire.h2 import Fields, H2Stream
from wellhead.wire.h2_frames import ErrorCode
from wellhead.wire.streams import Buffer, HeadKind, NoSink, Reason, Sink

_length = re.compile(rb"HTTP/1\.1 [^\r]*+\r\nContent-Length: ([0-9]++)\r\n").match
_NO_SINK = NoSink()
_REPLY, _TRAILERS = HeadKind.REPLY, HeadKind.TRAILERS


class RequestStream:
    """Fits ``wire.streams.Stream``. ``intake``: its body comes there; None: it has none."""

    __slots__ = (
        "_gone", "_held", "_held_head", "_held_size", "_intake", "_over", "_post", "_received",
        "due", "home", "request_id", "sink",
    )  # fmt: skip

    def __init__(self, home: Home, request_id: bytes, intake: H2Stream | None = None) -> None:
        self.home = home
        self.request_id = request_id
        self.sink: Sink = _NO_SINK
        self.due = 0.0
        self._intake = intake
        self._post: Post | None = None
        self._held: list[Buffer] | None = None  # a body that is held until its length is known
        self._held_head = b""
        self._held_size = 0
        self._received = 0
        self._over = False  # for the upstream
        self._gone = False  # for the session
        home.owed += 1
        if intake is None:
            self._start_clock()

    # Stream

    @property
    def queued(self) -> int:
        return self._held_size if self._post is None else self._post.queued

    def head(self, kind: HeadKind, head: bytes, data: Buffer = b"", end: bool = False) -> bool:
        """Interim heads and trailers have no place here: those are dropped, these are an end."""
        if self._over:
            return True
        if kind is not _REPLY:
            return self.send(b"", True) if kind is _TRAILERS else True
        home = self.home
        if end:
            return self._begin(head, len(data), data, True, bodyless=not data and home.is_ours)
        declared = _length(head)
        length = None if declared is None else int(declared[1])
        if home.is_ours:
            return self._begin(head, length, data, False)
        if length is not None and length > home.limits.max_reply_bytes:
            self._fail(502, b"response-too-large", Reason.OVERLOADED)
            return True
        if length is not None:
            return self._begin(head, length, data, False)
        self._held, self._held_head = [], head
        return self._hold(data, False)

    def send(self, data: Buffer, end: bool = False) -> bool:
        if self._over:
            return True
        post = self._post
        if post is None:
            return self._hold(data, end)
        if end:
            self._said_all()
        return post.send(data, end)

    def reset(self, reason: int) -> None:
        if self._over:
            return
        self._over = True
        self._drop_upload()
        post = self._post
        if post is None:
            answer_reset(self.home, self.request_id, reason)
        elif post.ended:
            return  # the reply is whole: it goes on its way
        else:
            post.reset(ErrorCode.INTERNAL_ERROR)
        self._forget()

    def consumed(self, count: int) -> None:
        if self._intake is not None:
            self._intake.consumed(count)

    # The request's body

    def received(self, data: Buffer, end: bool) -> None:
        """From the intake."""
        if self._over:
            self.consumed(len(data))
            return
        self._received += len(data)
        if self._received > self.home.limits.max_request_bytes and not self.home.is_ours:
            self._fail(413, b"request-body-too-large", Reason.OVERLOADED)
            return
        if end:
            self._intake_ended()
        self.sink.on_data(data, end)

    def withdrawn(self) -> None:
        """The edge took the envelope back: its visitor has left."""
        self._intake = None
        self._cancel(Reason.CANCELLED)

    def _intake_ended(self) -> None:
        if self._post is None:
            self._start_clock()

    # The reply

    def posted(self) -> None:
        self._forget()

    def not_wanted(self) -> None:
        self._cancel(Reason.CANCELLED)

    def on_writable(self) -> None:
        if not self._over:
            self.sink.on_writable()

    # For the session

    def late(self) -> None:
        if self._post is None:
            self._fail(504, b"response-deadline-exceeded", Reason.TIMEOUT)
        elif self._post.queued:  # a slow visitor: how long it may take is the edge's affair
            self._said_all()
        else:
            self._post.reset()
            self._cancel(Reason.TIMEOUT)

    def lost(self) -> None:
        self._intake = None
        self._cancel(Reason.SESSION_LOST)

    # Inside

    def _start_clock(self) -> None:
        seconds = self.home.deadline_seconds
        self.due = 0.0 if seconds is None else self.home.now + seconds

    def _begin(
        self, head: bytes, length: int | None, data: Buffer, end: bool, *, bodyless: bool = False
    ) -> bool:
        home = self.home
        try:
            fields, more = home.heads.fields(head, self.request_id, length, bodyless)
        except HttpError:
            self._fail(502, b"upstream-error", Reason.PROTOCOL)
            return True
        self.due = 0.0
        home.owed -= 1
        post = self._post = Post(home, fields, self, more)
        if end:
            self._said_all()
        return post.post(data, end)

    def _said_all(self) -> None:
        self.due = self.home.now + ACK_SECONDS

    def _hold(self, data: Buffer, end: bool) -> bool:
        held = self._held
        if held is None:
            return True
        held.append(data)
        self._held_size += len(data)
        if self._held_size > self.home.limits.max_reply_bytes:
            self._fail(502, b"response-too-large", Reason.OVERLOADED)
        elif end:
            size, self._held, self._held_size = self._held_size, None, 0
            return self._begin(self._held_head, size, b"".join(held), True)
        return True

    def _fail(self, status: int, word: bytes, reason: Reason) -> None:
        """Answer in the upstream's place."""
        self._held = None
        self._drop_upload()
        answer(self.home, self.request_id, status, word)
        self._cancel(reason)

    def _cancel(self, reason: Reason) -> None:
        over, self._over = self._over, True
        self._drop_upload()
        if self._post is not None and not self._post.ended:
            self._post.reset()
        self._forget()
        if not over:
            self.sink.on_reset(reason)

    def _drop_upload(self) -> None:
        intake, self._intake = self._intake, None
        if intake is None:
            return
        if intake.over:  # all of it is here: a reset would credit nothing
            intake.consumed(intake.held)
        else:
            upload = intake.sink
            intake.reset(ErrorCode.CANCEL)
            if isinstance(upload, Upload):  # who resets hears nothing of it
                upload.leave()

    def _forget(self) -> None:
        if self._gone:
            return
        self._gone = True
        self.due = 0.0
        if self._post is None:
            self.home.owed -= 1
        if self._intake is not None and self._intake.over:
            self._drop_upload()
        self.home.forget(self)


class Slot(Protocol):
    def freed(self) -> None:
        """Its intake has ended."""


class Upload:
    """The sink of an intake on which a request's body comes; ``slot`` is told when it is free again."""

    __slots__ = ("_slot", "_stream")

    def __init__(self, stream: RequestStream, slot: Slot | None) -> None:
        self._stream = stream
        self._slot = slot

    def on_headers(self, fields: Fields, end: bool) -> None:
        self.on_data(b"", True)

    def on_data(self, data: Buffer, end: bool) -> None:
        if end:
            self.leave()
        self._stream.received(data, end)

    def on_reset(self, code: int) -> None:
        self.leave()
        self._stream.withdrawn()

    def on_writable(self) -> None:
        """Nothing is sent there."""

    def leave(self) -> None:
        """Nothing more comes: the slot asks for the next envelope."""
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.freed()
