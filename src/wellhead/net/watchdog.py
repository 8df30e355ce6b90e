"""Watches the event loop: how late it is, and where it stands when it stands still.

Everything that a server promises about time it promises on one loop, so whatever holds that loop up is
worth a line that names it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType

from wellhead.logs import Log

BEAT_SECONDS = 0.25
FRAMES = 12  # innermost calls that a line shows

_log = Log("wellhead.loop")


class Watchdog:
    """Of the loop and the thread it is made in.

    ``on_lag(seconds)`` is told, four times a second, how late the loop was. A loop that did not turn for
    ``stall_seconds`` (0: for none) is logged with its stack, once, and when it turns again with how
    long it stood.
    """

    def __init__(self, stall_seconds: float, on_lag: Callable[[float], None] = lambda seconds: None) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_lag = on_lag
        self._stall_seconds = stall_seconds
        self._watched = threading.get_ident()
        self._beaten = time.monotonic()
        self._due = self._loop.time() + BEAT_SECONDS
        self._timer = self._loop.call_at(self._due, self._beat)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="loop watchdog", daemon=True)
        if stall_seconds:
            self._thread.start()

    def close(self) -> None:
        """Watch no more."""
        self._timer.cancel()
        self._over.set()
        if self._stall_seconds:
            self._thread.join()

    def _beat(self) -> None:
        now = self._loop.time()
        self._beaten = time.monotonic()
        self._on_lag(max(0.0, now - self._due))
        self._due = now + BEAT_SECONDS
        self._timer = self._loop.call_at(self._due, self._beat)

    def _watch(self) -> None:
        """In a thread of its own. A whole process that was stopped is no loop that stands still."""
        standing = 0.0  # since when, 0: the loop turns
        before = time.monotonic()
        while not self._over.wait(BEAT_SECONDS):
            now, beaten = time.monotonic(), self._beaten
            slept, before = now - before, now
            if standing and beaten > standing:
                _log.warning("loop turns again", stood_seconds=round(beaten - standing, 1))
                standing = 0.0
            elif not standing and now - beaten >= self._stall_seconds and slept < self._stall_seconds:
                standing = beaten
                frame = sys._current_frames().get(self._watched)
                _log.warning("loop stands still", seconds=round(now - beaten, 1), stack=_stack(frame))


def _stack(frame: FrameType | None) -> str:
    """The innermost calls as one line, outermost first: names of code, no values."""
    calls = traceback.extract_stack(frame, limit=None)[-FRAMES:] if frame is not None else []
    return " > ".join(f"{call.filename.rpartition('/')[2]}:{call.lineno} {call.name}" for call in calls)
