"""How often a caller may ask for something."""

from __future__ import annotations

from collections.abc import Callable

CALLERS_MAX = 10_000  # remembered at once; the oldest are forgotten first


class Rate:
    """At most ``per_minute`` of something each minute for each caller, all at once if need be.

    ``monotonic`` tells seconds. Kept per caller is one number: the time at which its minute's worth would be
    whole again (the generic cell rate algorithm).
    """

    def __init__(self, per_minute: int, monotonic: Callable[[], float]) -> None:
        self._apart = 60.0 / per_minute  # seconds
        self._monotonic = monotonic
        self._whole: dict[str, float] = {}

    def wait(self, caller: str) -> float:
        """Seconds until the next one is allowed; 0 when it is now."""
        return max(0.0, self._whole.get(caller, 0.0) + self._apart - self._monotonic() - 60.0)

    def count(self, caller: str) -> None:
        """One more of this caller."""
        now = self._monotonic()
        # Removed first, so that the order of the dict is the order of the last use.
        whole = max(self._whole.pop(caller, now), now) + self._apart
        if len(self._whole) >= CALLERS_MAX:
            del self._whole[next(iter(self._whole))]
        self._whole[caller] = whole
