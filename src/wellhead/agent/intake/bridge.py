"""A bridge: an extended CONNECT to the edge, with RFC 6455 frames in its DATA.

What a reader takes is credited as it is taken; of frames that are not whole, and of headers, at once.

Source: docs/reference/h2-carrier.md, "Bridges"; RFC 8441.
"""

from __future__ import annotations

from typing import Protocol

from wellhead.agent.intake.call import Call
from wellhead.wire.h2 import Fields
from wellhead.wire.streams import Buffer


class End(Protocol):
    """Whose bridge it is."""

    def bound(self) -> None:
        """The edge has joined it to its visitor."""

    def arrived(self, data: Buffer, end: bool) -> None:
        """Bytes, which count as held until ``Bridge.consumed``."""

    def broken(self) -> None:
        """The edge gave it up, or never took it."""

    def on_writable(self) -> None:
        """After a ``send`` that returned False: go on."""


class Bridge(Call):
    """See the module."""

    __slots__ = ("_end", "is_bound")

    def __init__(self, fields: Fields, end: End) -> None:
        super().__init__(fields)
        self.is_bound = False
        self._end = end

    @property
    def is_over(self) -> bool:
        """Both halves have ended, or it was given up."""
        return self._over or (self.stream is not None and self.stream.over)

    def consumed(self, count: int) -> None:
        """So many bytes have left our hands."""
        if self.stream is not None and count:
            self.stream.consumed(count)

    def let_go(self) -> None:
        """Nobody takes what is still here: the connection shall not lack it."""
        if self.stream is not None:
            self.stream.consumed(self.stream.held)

    def on_headers(self, fields: Fields, end: bool) -> None:
        status = fields[0][1]
        if self.is_bound:
            self._end.arrived(b"", True)  # trailers
        elif status == b"200" and not end:
            self.is_bound = True
            self._end.bound()
        elif status[:1] != b"1":
            self.reset()
            self._end.broken()

    def on_data(self, data: Buffer, end: bool) -> None:
        self._end.arrived(data, end)

    def on_reset(self, code: int) -> None:
        if not self._over:
            self._over = True
            self._end.broken()

    def on_writable(self) -> None:
        self._end.on_writable()

    def given_up(self) -> None:
        self.on_reset(0)
