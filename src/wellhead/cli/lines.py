"""Lines to a stream that may be slow, from a loop that may not wait.

A terminal that was stopped with Ctrl-S, or a pipe nobody reads, must not stop the tunnel: lines go
through a thread, and what piles up beyond a bound is dropped and counted.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TextIO

MAX_WAITING = 256  # batches


class LineWriter:
    """Writes batches of lines to ``stream`` from a thread of its own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._queue: queue.Queue[str | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
        self._thread.start()

    def put(self, text: str) -> bool:
        """Queue text that ends in a line end; False where it was dropped because too much waits."""
        try:
            self._queue.put_nowait(text)
        except queue.Full:
            return False
        return True

    def close(self, timeout_seconds: float = 1.0) -> None:
        """Write what waits, for at most this long."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=timeout_seconds)
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while (text := self._queue.get()) is not None:
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):  # the reader went away: the tunnel goes on without an audience
                continue
