"""An event loop whose clock jumps: where it would wait for a timer, it is that late at once."""

from __future__ import annotations

import asyncio
import selectors


class _NeverWaiting(selectors.DefaultSelector):
    """Reports what is ready, and how long it would otherwise have waited."""

    waited = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout is not None and timeout > 0:
            self.waited += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """For tests without sockets: an hour of timers passes in no time."""

    def __init__(self) -> None:
        self._never_waiting = _NeverWaiting()
        super().__init__(self._never_waiting)

    def time(self) -> float:
        return super().time() + self._never_waiting.waited
