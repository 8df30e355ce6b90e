"""One access line per exchange, written in batches.

An exchange appends one tuple; lines are formatted and written together a little later, and counted
in the same pass. Formatting each line through ``logging`` would cost more than the request itself.
A log that cannot take the lines (full disk, closed pipe) loses them with a counter, never a request.
"""

from __future__ import annotations

import asyncio
import time
from typing import IO, NamedTuple

from wellhead.edge.metrics import Metrics
from wellhead.logs import escape

FLUSH_SECONDS = 0.1
MAX_TARGET = 2048  # bytes of a request target in a line


class Line(NamedTuple):
    """What one exchange was. Times are loop seconds; bytes are body bytes."""

    place: str  # "tunnel", "control" or "none"
    name: str  # the tunnel's name
    peer: str
    method: bytes
    target: bytes
    status: int  # what the visitor was told, 0 if nothing
    whole: bool  # False: the reply was cut off
    bytes_in: int
    bytes_out: int
    began: float
    first_byte: float  # 0 if none
    ended: float
    request_id: bytes
    reason: str  # why it failed, a constant word, else empty


class AccessLog:
    """Collects the lines of an edge; ``stream`` None counts without writing."""

    def __init__(self, metrics: Metrics, stream: IO[bytes] | None, loop: asyncio.AbstractEventLoop) -> None:
        self._metrics = metrics
        self._stream = stream
        self._loop = loop
        self._lines: list[Line] = []
        self.add = self._lines.append  # bound once: this is on the hot path
        self._timer: asyncio.TimerHandle | None = loop.call_later(FLUSH_SECONDS, self._tick)

    def close(self) -> None:
        """Write what is left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.flush()

    def flush(self) -> None:
        lines = self._lines[:]
        self._lines.clear()
        if not lines:
            return
        self._count(lines)
        if self._stream is not None:
            wall = time.time() - self._loop.time()
            text = "".join([_format(line, wall) for line in lines])
            try:
                self._stream.write(text.encode("utf-8", "backslashreplace"))
                self._stream.flush()
            except (OSError, ValueError):
                self._metrics.lines_dropped += len(lines)

    def _tick(self) -> None:
        self._timer = self._loop.call_later(FLUSH_SECONDS, self._tick)
        self.flush()

    def _count(self, lines: list[Line]) -> None:
        metrics = self._metrics
        for line in lines:
            metrics.exchanges[line.place, line.status // 100 if line.whole else 0] += 1
            metrics.bytes_in += line.bytes_in
            metrics.bytes_out += line.bytes_out
            if line.first_byte:
                metrics.first_byte(line.first_byte - line.began)
            if line.reason:
                metrics.refused[line.reason] += 1


def _format(line: Line, wall: float) -> str:
    first = (line.first_byte - line.began) * 1000 if line.first_byte else -1
    began = line.began + wall
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(began))
    target = line.target[:MAX_TARGET].decode("latin-1")
    if not (target.isascii() and target.isprintable()):
        target = escape(target)
    return (
        f"{stamp}.{int(began * 1000) % 1000:03d}Z access {line.place}={line.name or '-'} peer={line.peer}"
        f" method={line.method.decode('latin-1')} target={target} status={line.status}"
        f" in={line.bytes_in} out={line.bytes_out} first_ms={first:.1f}"
        f" ms={(line.ended - line.began) * 1000:.1f} id={line.request_id.decode('latin-1')}"
        f"{'' if line.whole else ' cut=yes'}{' reason=' + line.reason if line.reason else ''}\n"
    )
