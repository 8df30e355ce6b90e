"""The record of one request through the agent, for whoever wants to be told."""

from __future__ import annotations

from time import monotonic

from wellhead.wire.streams import StreamKind


class Exchange:
    """What became of one request or one upgraded conversation; told once, when it is over.

    It is filled in while it goes on, and what costs time is worked out by whoever asks: one of these is
    made for every request.
    """

    __slots__ = (
        "_began", "_ended", "_first", "_method", "_target",
        "bytes_in", "bytes_out", "failure", "kind", "peer", "status",
    )  # fmt: skip

    def __init__(self, kind: StreamKind, method: bytes, target: bytes, bytes_in: int, peer: str = "") -> None:
        self.kind = kind
        self.status = 0  # 0 where no reply came
        self.bytes_in = bytes_in  # body bytes from the visitor
        self.bytes_out = 0  # body bytes to the visitor
        self.peer = peer  # the visitor's IP address; empty where nobody told it
        self.failure = ""  # empty, or why it ended early: a Reason's name in lower case
        self._method = method
        self._target = target
        self._began = monotonic()  # not the loop's time: uvloop's clock counts milliseconds
        self._first = 0.0
        self._ended = 0.0

    @property
    def method(self) -> str:
        """Empty for TCP."""
        return self._method.decode("latin-1")

    @property
    def target(self) -> str:
        """As the visitor sent it; empty for TCP."""
        return self._target.decode("latin-1")

    @property
    def first_byte_ms(self) -> float | None:
        """Milliseconds until the reply's head; None where none came."""
        return (self._first - self._began) * 1000 if self._first else None

    @property
    def total_ms(self) -> float:
        """Milliseconds until it was over."""
        return (self._ended - self._began) * 1000

    def __repr__(self) -> str:
        return (
            f"Exchange({self.kind.name} {self.method} {self.target!r} status={self.status}"
            f" in={self.bytes_in} out={self.bytes_out} ms={self.total_ms:.1f} failure={self.failure!r})"
        )

    @classmethod
    def turned_away(cls, method: bytes, target: bytes, status: int, bytes_out: int, peer: str) -> Exchange:
        """Of a request that was answered before it came to an upstream."""
        exchange = cls(StreamKind.HTTP, method, target, 0, peer)
        exchange.replied(status, bytes_out)
        return exchange

    # For the connection that carries it

    def replied(self, status: int, bytes_out: int) -> None:
        """The reply's head is there, with its first body bytes."""
        self.status = status
        self.bytes_out = bytes_out
        self._first = monotonic()

    def over(self, failure: str) -> None:
        self.failure = failure
        self._ended = monotonic()
