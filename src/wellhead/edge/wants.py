"""Names for which a certificate is wanted: told to the control plane, but not each time somebody asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

APART_SECONDS: Final = 60.0  # between two tellings of one name
AT_ONCE: Final = 100  # names told in that time


class Wants:
    """``tell`` is given a hostname of ours; ``clock`` gives seconds."""

    def __init__(self, tell: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._tell = tell
        self._clock = clock
        self._told: dict[str, float] = {}  # hostname -> when, oldest first

    def want(self, hostname: str) -> bool:
        """Whether it was told now."""
        now = self._clock()
        while self._told and next(iter(self._told.values())) <= now - APART_SECONDS:
            del self._told[next(iter(self._told))]
        if hostname in self._told or len(self._told) >= AT_ONCE:
            return False
        self._told[hostname] = now
        self._tell(hostname)
        return True
