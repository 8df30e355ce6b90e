"""How fast things go between the edge and a visitor: a body that comes, and bytes that leave.

Both are judged at the house's sweeps, whatever version of HTTP is spoken.
"""

from __future__ import annotations

from typing import Protocol


class Terms(Protocol):
    """The least speed of a body."""

    @property
    def body_idle_seconds(self) -> float: ...
    @property
    def body_min_bytes_per_second(self) -> float: ...
    @property
    def body_grace_seconds(self) -> float: ...


class BodyPace:
    """``taken``: payload bytes since the clock was last started."""

    __slots__ = ("_began", "_heard", "taken")

    def __init__(self, now: float) -> None:
        self.restart(now)

    def restart(self, now: float) -> None:
        """Start the clock anew: until now it was not the visitor that we waited for."""
        self._began = self._heard = now
        self.taken = 0

    def took(self, count: int, now: float) -> None:
        """So many bytes came."""
        self._heard = now
        self.taken += count

    def is_slow(self, terms: Terms, now: float) -> bool:
        """Whether the visitor said nothing for too long, or too little in all."""
        lasted = now - self._began
        return now - self._heard >= terms.body_idle_seconds or (
            lasted >= terms.body_grace_seconds and self.taken < terms.body_min_bytes_per_second * lasted
        )


class Unsent(Protocol):
    """A transport, as far as what it still holds is concerned."""

    def get_write_buffer_size(self) -> int: ...


class Outflow:
    """What a visitor has not yet taken of what was written to it."""

    __slots__ = ("_since", "_unsent")

    def __init__(self) -> None:
        self._unsent = 0  # bytes at the last sweep
        self._since = 0.0  # loop time at which they were last seen to change

    @property
    def unsent(self) -> int:
        """Bytes at the last sweep."""
        return self._unsent

    def is_stalled(self, transport: Unsent, now: float, seconds: float) -> bool:
        """Whether the visitor has taken nothing for so long while bytes waited; asked at each sweep."""
        unsent = transport.get_write_buffer_size()
        if unsent != self._unsent:
            self._unsent, self._since = unsent, now
        return bool(unsent) and now - self._since >= seconds
