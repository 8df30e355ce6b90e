"""Lines to a stream that may be slow, from a loop that may not wait.

A terminal that was stopped with Ctrl-S, a pipe nobody reads or a full disk must not stop the traffic:
lines go through a thread, and what piles up beyond a bound, or cannot be written, is dropped and counted.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import IO, AnyStr, Generic

MAX_WAITING = 256  # batches
JOIN_SECONDS = 0.01  # what comes within this time is written together


class LineWriter(Generic[AnyStr]):
    """Writes batches of lines to ``stream`` from a thread of its own. ``lost`` counts lines dropped."""

    def __init__(self, stream: IO[AnyStr]) -> None:
        self.lost = 0
        self._stream: IO[AnyStr] = stream
        self._queue: queue.Queue[tuple[AnyStr, int] | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
        self._thread.start()

    def put(self, text: AnyStr, lines: int = 1) -> bool:
        """Queue text that ends in a line end; False where it was dropped because too much waits."""
        try:
            self._queue.put_nowait((text, lines))
        except queue.Full:
            self.lost += lines
            return False
        return True

    def close(self, timeout_seconds: float = 1.0) -> None:
        """Write what waits, for at most this long."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=timeout_seconds)
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while (batch := self._queue.get()) is not None:
            # Woken for each line, this thread would take the interpreter from the loop each time.
            time.sleep(JOIN_SECONDS)
            batches = [batch]
            with contextlib.suppress(queue.Empty):
                while (batch := self._queue.get_nowait()) is not None:
                    batches.append(batch)
            self._write(batches)
            if batch is None:
                return

    def _write(self, batches: list[tuple[AnyStr, int]]) -> None:
        texts = [text for text, _ in batches]
        try:
            self._stream.write(texts[0][:0].join(texts))  # one write: a terminal's stream flushes at each
            self._stream.flush()
        except (OSError, ValueError):  # the reader went away, the disk is full: nobody waits for a line
            self.lost += sum(lines for _, lines in batches)
