"""How long to wait before trying again.

Full jitter: a thousand agents that lost the same edge come back spread out, not in waves.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from wellhead.errors import WellheadError

FIRST_SECONDS = 1.0  # the first retry comes within it
BASE_SECONDS = 0.5
CAP_SECONDS = 10.0


class Backoff:
    """Pauses that grow while nothing succeeds. ``uniform(a, b)`` is where chance comes from."""

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform
        self._failures = 0

    def reset(self) -> None:
        """Something succeeded for long enough: begin anew."""
        self._failures = 0

    def spread(self, seconds: float) -> float:
        """A moment within ``seconds``: for a dial that is no retry."""
        return self._uniform(0.0, seconds)

    def pause(self, error: WellheadError | None = None) -> float:
        """Seconds to wait after one more failure; never less than the error itself asks for."""
        if self._failures == 0:
            pause = self._uniform(0.0, FIRST_SECONDS)
        else:
            pause = self._uniform(0.0, min(CAP_SECONDS, BASE_SECONDS * 2.0 ** min(self._failures, 16)))
        self._failures += 1
        asked = getattr(error, "retry_after_seconds", None)
        return pause if asked is None else asked + pause
