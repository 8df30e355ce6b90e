"""How many bytes the edge holds for others, and whether it may take on more.

Windows bound what one stream holds, and a session's bound what one tunnel does; this bounds what all of
them do together, so that a crowd of slow readers costs newcomers a 503 and not everybody the process.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

EASE = 0.9  # of the bound: what is shed below it is taken again


class Holder(Protocol):
    """A visitor's connection or an agent's session."""

    @property
    def held(self) -> int:
        """Bytes that came in and have not left."""


class Pressure:
    """``high`` says that new requests are to be refused; true from the bound until EASE of it."""

    __slots__ = ("_bound", "held", "high")

    def __init__(self, max_bytes: int) -> None:
        self._bound = max_bytes
        self.held = 0  # bytes, at the last count
        self.high = False

    def count(self, *groups: Iterable[Holder]) -> None:
        """Look at everything that holds bytes; asked at each sweep."""
        self.held = sum(holder.held for group in groups for holder in group)
        self.high = self.held >= self._bound * (EASE if self.high else 1)
