"""What an envelope began, as the session and the agent know it; and how failures are put into words."""

from __future__ import annotations

from typing import Protocol

from wellhead.agent.intake.call import Call, Opener
from wellhead.agent.intake.reply import Post, ReplyHeads
from wellhead.agent.intake.terms import IntakeLimits
from wellhead.wire.intake import Caller
from wellhead.wire.streams import Reason, Stream, StreamKind

_WORDS = {
    Reason.UPSTREAM_UNREACHABLE: (502, b"upstream-unreachable"),
    Reason.UPSTREAM_FAILED: (502, b"upstream-error"),
    Reason.PROTOCOL: (502, b"upstream-error"),
    Reason.TIMEOUT: (504, b"response-deadline-exceeded"),
    Reason.OVERLOADED: (503, b"agent-overloaded"),
    Reason.REFUSED: (502, b"request-refused"),
    Reason.CANCELLED: (502, b"request-cancelled"),
}


class Home(Opener, Protocol):
    """The session, as its exchanges know it."""

    limits: IntakeLimits
    caller: Caller
    heads: ReplyHeads
    is_ours: bool  # the edge is one of ours
    deadline_seconds: float | None
    owed: int  # exchanges of which a stream to the edge is still to be opened

    @property
    def now(self) -> float:
        """Loop time."""

    def enter(self, exchange: Exchange) -> None:
        """Watch over its time, and over its connection."""

    def forget(self, exchange: Exchange) -> None:
        """It is over."""

    def accept(self, exchange: Exchange, kind: StreamKind, envelope: bytes, end: bool) -> None:
        """Hand it to the agent as a stream that the edge opened."""

    def mask(self) -> bytes:
        """Four bytes for a frame of a client's."""


class Exchange(Stream, Protocol):
    """One envelope and what comes of it: the stream that the agent is given."""

    home: Home
    due: float  # loop time at which ``late`` is called; 0: never

    def late(self) -> None:
        """``due`` has come."""

    def lost(self) -> None:
        """The connection is over."""


class Silent:
    """The replier of a failure: nothing depends on it."""

    def posted(self) -> None: ...
    def not_wanted(self) -> None: ...
    def on_writable(self) -> None: ...


_SILENT = Silent()


def answer(home: Home, request_id: bytes, status: int, reason: bytes) -> Call:
    """Reply with a failure of ours: a status, a constant word, and the word as text."""
    text = reason.replace(b"-", b" ")
    post = Post(home, home.heads.failure(status, reason, len(text), request_id), _SILENT)
    post.post(text, True)
    return post


def answer_reset(home: Home, request_id: bytes, reason: int) -> Call:
    """Reply with what a reset of this reason means to the visitor."""
    return answer(home, request_id, *_WORDS.get(Reason(reason), (500, b"internal-error")))
