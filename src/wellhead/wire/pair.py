"""Two stream ends joined in one process, without a wire.

The edge hands one end to a program that lives beside it (the control plane's upstream) and keeps the
other, so that it opens every stream the same way. What one end sends, the other end's sink hears at
once; back-pressure works as on a carrier, by a fixed window of bytes not yet consumed.
"""

from __future__ import annotations

from wellhead.errors import StateError
from wellhead.wire.streams import Buffer, HeadKind, NoSink, Sink

WINDOW = 256 * 1024  # bytes sent and not yet consumed by the other end


_UNSET = NoSink()


class PairStream:
    """One end; made by ``join`` only. Fits ``wire.streams.Stream``."""

    __slots__ = ("_blocked", "_ended", "_other", "_outstanding", "_over", "sink")

    def __init__(self) -> None:
        self.sink: Sink = _UNSET
        self._other: PairStream = self
        self._outstanding = 0  # bytes sent, not yet consumed by the other end
        self._blocked = False
        self._ended = False
        self._over = False

    @property
    def queued(self) -> int:
        """What is sent is heard at once."""
        return 0

    def head(self, kind: HeadKind, head: bytes, data: Buffer = b"", end: bool = False) -> bool:
        """Raises:
        StateError: after the end.
        """
        if self._over:
            return True
        if self._ended:
            raise StateError("head sent on a stream after its end")
        self._account(len(data), end)
        self._other.sink.on_head(kind, head, data, end)
        return self._may_go_on()

    def send(self, data: Buffer, end: bool = False) -> bool:
        """Raises:
        StateError: bytes after the end.
        """
        if self._over:
            return True
        if self._ended:
            if data:
                raise StateError(f"{len(data)} bytes sent on a stream after its end")
            return True
        self._account(len(data), end)
        self._other.sink.on_data(data, end)
        return self._may_go_on()

    def reset(self, reason: int) -> None:
        """Give the stream up; the other end hears of it, unless both have ended."""
        other = self._other
        if self._over:
            return
        self._over = other._over = True
        if not (self._ended and other._ended):
            other.sink.on_reset(reason)

    def consumed(self, count: int) -> None:
        """Raises:
        StateError: more bytes than are held.
        """
        sender = self._other
        if self._over:
            return
        if count > sender._outstanding:
            raise StateError(f"{count} bytes consumed, {sender._outstanding} are held")
        sender._outstanding -= count
        if sender._blocked and sender._outstanding <= WINDOW // 2:
            sender._blocked = False
            sender.sink.on_writable()

    def _account(self, count: int, end: bool) -> None:
        self._outstanding += count
        self._ended = end

    def _may_go_on(self) -> bool:
        if self._over or self._outstanding < WINDOW:
            return True
        self._blocked = True
        return False


def join(opened_with: int = 0, ended: bool = False) -> tuple[PairStream, PairStream]:
    """Two ends of one stream, the opener's first: what one sends the other's sink hears.

    ``opened_with`` bytes travel beside the envelope, and ``ended`` tells that they are all.
    """
    near, far = PairStream(), PairStream()
    near._other, far._other = far, near
    near._account(opened_with, ended)
    return near, far
