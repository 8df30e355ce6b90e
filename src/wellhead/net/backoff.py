"""How long to wait before trying again.

A thousand agents lose the same edge in the same moment. Whenever it comes back, few of them may ask within
its first second, and the last must not be late: so the first two pauses spread them out, and the longer
ones that follow keep them spread. Pauses by full jitter (anything up to a bound that doubles) do one or the
other: up to 10 s, one in a hundred is back after 9 s; up to 5 s, 36 % are there within the first second.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from wellhead.errors import WellheadError

PAUSES_SECONDS = ((0.0, 1.0), (0.0, 4.0), (3.0, 5.0))
"""Shortest and longest of the first pause, of the second, and of all that follow."""

Pauses = tuple[tuple[float, float], ...]


class Backoff:
    """Pauses that grow while nothing succeeds. ``uniform(a, b)`` is where chance comes from."""

    def __init__(
        self, uniform: Callable[[float, float], float] = random.uniform, pauses: Pauses = PAUSES_SECONDS
    ) -> None:
        self._uniform = uniform
        self._pauses = pauses
        self._failures = 0

    def reset(self) -> None:
        """Something succeeded for long enough: begin anew."""
        self._failures = 0

    def spread(self, seconds: float) -> float:
        """A moment within ``seconds``: for a dial that is no retry."""
        return self._uniform(0.0, seconds)

    def pause(self, error: WellheadError | None = None) -> float:
        """Seconds to wait after one more failure; never less than the error itself asks for."""
        pause = self._uniform(*self._pauses[min(self._failures, len(self._pauses) - 1)])
        self._failures += 1
        asked = getattr(error, "retry_after_seconds", None)
        return pause if asked is None else asked + pause
