"""What a stream offers, and what it tells: the one seam between carriers and programs.

A carrier (``wire.mux``, later ``wire.intake``) hands out objects that fit ``Stream``; a program
hangs a ``Sink`` on each. Calls go straight from the frame parser into the sink: no queue, no task.
``wire.pair`` is a third implementation that joins two programs in one process without a wire.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Protocol

from wellhead.errors import StateError

Buffer = bytes | memoryview
"""Bytes of a body. A memoryview is always over immutable bytes: it may be kept without a copy."""


class StreamKind(enum.IntEnum):
    """What a stream carries; the first byte of OPEN."""

    HTTP = 1  # envelope: a canonical request head; bodies are raw both ways
    WEBSOCKET = 2  # envelope: a canonical upgrade request head; after a 101 head, RFC 6455 bytes
    TCP = 3  # envelope: empty or JSON facts; bytes both ways, no head


class HeadKind(enum.IntEnum):
    """Which message head a HEAD frame carries."""

    INTERIM = 1  # a 1xx head; others follow
    REPLY = 2  # the reply: the head that answers
    TRAILERS = 3  # fields after the body; the stream half ends with them


class Reason(enum.IntEnum):
    """Why a stream was reset. Source: docs/reference/wire.md, "Reset reasons"."""

    CANCELLED = 1  # the opener no longer wants the answer (a visitor left)
    REFUSED = 2  # never handed to the application: safe to repeat elsewhere
    UPSTREAM_UNREACHABLE = 3  # dialling the upstream failed; nothing was sent to it
    UPSTREAM_FAILED = 4  # the upstream broke off or answered malformed bytes
    TIMEOUT = 5  # a deadline passed
    PROTOCOL = 6  # the peer broke the rules of this stream
    OVERLOADED = 7  # shed: a limit of the receiver is reached
    INTERNAL = 8  # a fault of the program that resets
    SESSION_LOST = 9  # never on the wire: the session ended under the stream
    REMOVED = 10  # never on the wire: and it ended because the tunnel was taken away
    TOO_LARGE = 11  # never on the wire: the body is more than the carrier takes
    HEAD_TOO_LARGE = 12  # never on the wire: the head is
    NO_SLOT = 13  # never on the wire: the agent asked for no more requests, and too many wait


class Sink(Protocol):
    """What a stream tells its owner. Called inside the carrier's ``receive``; must not block.

    After an ``end`` flag no more data or heads come; after ``on_reset`` nothing comes at all.
    """

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        """A message head, with the first body bytes that travelled beside it (perhaps none)."""

    def on_data(self, data: Buffer, end: bool) -> None:
        """Body bytes; ``data`` is empty where only the end came."""

    def on_reset(self, reason: int) -> None:
        """The stream is over; ``reason`` is a ``Reason`` or a number of a newer peer."""

    def on_writable(self) -> None:
        """After a ``send`` that returned False: the writer may go on."""


class NoSink:
    """Of a stream that nobody listens to yet: a wrong order of calls shows at once."""

    def on_head(self, kind: HeadKind, head: bytes, data: Buffer, end: bool) -> None:
        raise unheard()

    def on_data(self, data: Buffer, end: bool) -> None:
        raise unheard()

    def on_reset(self, reason: int) -> None:
        """Nobody to tell."""

    def on_writable(self) -> None:
        """Nobody to tell."""


def unheard() -> StateError:
    """The error of whoever opened a stream and did not say who listens."""
    return StateError("a stream was used before its sink was set")


class _Resettable(Protocol):
    def on_reset(self, reason: int, /) -> None: ...


def tell_reset(sinks: Iterable[_Resettable], reason: int) -> None:
    """Tell every sink, those too that come after one that fails; the first failure is raised in the end."""
    failure: Exception | None = None
    for sink in sinks:
        try:
            sink.on_reset(reason)
        except Exception as error:
            failure = failure or error
    if failure is not None:
        raise failure


class Stream(Protocol):
    """One flow-controlled, half-closable byte stream in a session."""

    sink: Sink

    @property
    def queued(self) -> int:
        """Body bytes that were sent and that the carrier has not handed on yet; a reset drops them."""

    def head(self, kind: HeadKind, head: bytes, data: Buffer = b"", end: bool = False) -> bool:
        """Send a message head with first body bytes. Returns as ``send`` does."""

    def send(self, data: Buffer, end: bool = False) -> bool:
        """Queue body bytes; False means: stop until ``on_writable`` (everything was taken)."""

    def reset(self, reason: int) -> None:
        """Give the stream up at once, both ways; what is queued is dropped. Idempotent."""

    def consumed(self, count: int) -> None:
        """Tell that ``count`` received bytes have left our hands: credit for the peer."""
