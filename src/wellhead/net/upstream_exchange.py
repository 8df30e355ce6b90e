"""The record of one request through the agent, for whoever wants to be told."""

from __future__ import annotations

from typing import NamedTuple

from wellhead.wire.streams import StreamKind


class Exchange(NamedTuple):
    """What became of one request or one upgraded conversation; told once, when it is over."""

    kind: StreamKind
    method: str  # empty for TCP
    target: str  # as the visitor sent it; empty for TCP
    status: int  # 0 where no reply came
    bytes_in: int  # body bytes from the visitor
    bytes_out: int  # body bytes to the visitor
    first_byte_ms: float | None  # until the reply's head; None where none came
    total_ms: float
    failure: str  # empty, or why it ended early: the name of a Reason in lower case


class Draft:
    """An exchange in the making. Times are ``time.monotonic()``: uvloop's own clock counts milliseconds."""

    __slots__ = ("bytes_in", "bytes_out", "first_byte", "kind", "method", "started", "status", "target")

    def __init__(self, kind: StreamKind, method: bytes, target: bytes, started: float, bytes_in: int) -> None:
        self.kind = kind
        self.method = method
        self.target = target
        self.started = started
        self.bytes_in = bytes_in
        self.bytes_out = 0
        self.first_byte = 0.0
        self.status = 0

    def finished(self, now: float, failure: str) -> Exchange:
        return Exchange(
            self.kind,
            self.method.decode("latin-1"),
            self.target.decode("latin-1"),
            self.status,
            self.bytes_in,
            self.bytes_out,
            (self.first_byte - self.started) * 1000 if self.first_byte else None,
            (now - self.started) * 1000,
            failure,
        )
