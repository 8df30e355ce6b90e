"""Connections that did not get as far as a request or a hello: each is counted, not each is logged.

Whoever floods a port must not flood the log as well, so of one reason there is a line a second, with
how many others of that reason had none since the line before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from wellhead.edge.metrics import Metrics
from wellhead.logs import Log

LINE_SECONDS = 1.0
QUIET = frozenset({"hello-closed"})  # port probes and health checks: counted, and logged at debug level

_log = Log("wellhead.edge")


class Refusals:
    """``clock`` gives loop seconds. Reasons are constant words of ours: there are few of them."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._told: dict[str, float] = {}  # reason -> when it was last logged
        self._untold: Counter[str] = Counter()

    def note(self, reason: str, peer: str) -> None:
        """One connection of ``peer`` was refused."""
        self._metrics.refused[reason] += 1
        now, told = self._clock(), self._told.get(reason)
        if told is not None and now - told < LINE_SECONDS:
            self._untold[reason] += 1
            return
        self._told[reason] = now
        say = _log.debug if reason in QUIET else _log.info
        say("connection refused", reason=reason, peer=peer or None, others=self._untold.pop(reason, 0))
