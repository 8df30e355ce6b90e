"""When a call that failed is made again: how often, how soon, and for how long in all."""

from __future__ import annotations

import random
from dataclasses import dataclass

from wellhead.errors import ApiError, DialError, LinkError, RateLimited, Retry, WellheadError

MAX_ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 0.1
_STATUSES = (502, 503)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a client waits: for a connection, for an answer, and with another attempt."""

    connect_seconds: float = 10.0
    reply_seconds: float = 30.0
    retry_seconds: float = 10.0  # no attempt begins later than this after the first; 0: there is one only


class Attempts:
    """The attempts of one call, counted.

    Any call is made again where it did not begin: the connection failed, or the answer was 429. One that may
    be repeated is also after a connection that broke off, and after 502 and 503. ``Retry-After`` is followed.
    Every other failure is final.
    """

    def __init__(self, repeatable: bool, retry_seconds: float, now: float) -> None:
        """``now`` in seconds of a monotonic clock, when the first attempt begins."""
        self._left = MAX_ATTEMPTS - 1
        self._repeatable = repeatable
        self._pause = FIRST_PAUSE_SECONDS
        self._deadline = now + retry_seconds

    def pause(self, error: WellheadError, now: float) -> float | None:
        """Seconds until the next attempt; None where the error is final."""
        if not self._left or error.retry is Retry.NEVER or not self._passing(error):
            return None
        self._left -= 1
        asked = error.retry_after_seconds if isinstance(error, ApiError) else None
        pause = asked if asked is not None else random.uniform(self._pause / 2, self._pause)
        self._pause *= 4
        return pause if now + pause < self._deadline else None

    def _passing(self, error: WellheadError) -> bool:
        if isinstance(error, DialError | RateLimited):
            return True
        if isinstance(error, ApiError):
            return self._repeatable and error.status in _STATUSES
        return self._repeatable and isinstance(error, LinkError)
