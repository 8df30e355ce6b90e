"""Visitors of names that no tunnel has: they get a page that says so, as long as there are not too many.

Such a page needs a handshake and, where certificates are made here, a certificate of its own: whoever
makes up names by the thousand would have the server sign all day and forget the contexts of its tunnels.
"""

from __future__ import annotations

from collections.abc import Callable


class UnknownNames:
    """``per_minute`` handshakes, all at once if need be; ``clock`` gives seconds."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._apart = 60.0 / per_minute  # seconds
        self._clock = clock
        self._whole = 0.0  # when a minute's worth is there again

    def take(self) -> bool:
        """Whether there may be one more now; it is counted then."""
        now = self._clock()
        whole = max(self._whole, now) + self._apart
        if whole - now > 60.0 + self._apart / 2:  # half a step: sums of floats are not exact
            return False
        self._whole = whole
        return True
