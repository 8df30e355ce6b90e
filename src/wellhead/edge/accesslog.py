"""One access line per exchange, written in batches.

An exchange appends one tuple; lines are formatted and written together a little later, and counted
in the same pass. Formatting each line through ``logging`` would cost more than the request itself.
A log that cannot take the lines (full disk, closed pipe) loses them with a counter, never a request.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from typing import IO, Literal

from wellhead.edge.metrics import CUT, RAW, Metrics
from wellhead.lines import LineWriter
from wellhead.logs import escape
from wellhead.model.text import mask_query
from wellhead.visitors.access import Fields

Query = Literal["masked", "whole", "off"]  # what a line shows of the query in a target

FLUSH_SECONDS = 0.1
MAX_TARGET = 2048  # bytes of a request target in a line
_plain = re.compile(rb"[\x21-\x5b\x5d-\x7e]{1,%d}" % MAX_TARGET).fullmatch


_LINE = (
    b"%b.%03dZ access %b=%b peer=%b method=%b target=%b status=%d in=%d out=%d first_ms=%.1f ms=%.1f"
    b" id=%b%b%b%b\n"
)


class AccessLog:
    """Collects the lines of an edge; ``stream`` None counts without writing."""

    def __init__(
        self,
        metrics: Metrics,
        stream: IO[bytes] | None,
        loop: asyncio.AbstractEventLoop,
        query: Query = "masked",
    ) -> None:
        self._metrics = metrics
        self._writer = LineWriter(stream) if stream is not None else None
        self._loop = loop
        self._query = query
        self._lines: list[Fields] = []
        self._second = -1  # the second that the stamp is of
        self._stamp = b""
        self.add = self._lines.append  # bound once: this is on the hot path
        self._timer: asyncio.TimerHandle | None = loop.call_later(FLUSH_SECONDS, self._tick)

    def close(self) -> None:
        """Write what is left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.flush()
        if self._writer is not None:
            self._writer.close()
            self._metrics.lines_dropped = self._writer.lost

    def flush(self) -> None:
        lines = self._lines[:]
        self._lines.clear()
        if not lines:
            return
        self._count(lines)
        writer = self._writer
        if writer is not None:
            wall = time.time() - self._loop.time()
            writer.put(b"".join([self._format(*line, wall) for line in lines]), len(lines))
            self._metrics.lines_dropped = writer.lost

    def _tick(self) -> None:
        self._timer = self._loop.call_later(FLUSH_SECONDS, self._tick)
        self.flush()

    def _count(self, lines: list[Fields]) -> None:
        """Column by column: a loop over the lines would cost more than all else here."""
        metrics = self._metrics
        places, _, _, _, _, statuses, wholes, sizes_in, sizes_out, began, first, _, _, reasons, carriers = (
            zip(*lines, strict=True)
        )
        for (place, status, whole), count in Counter(zip(places, statuses, wholes, strict=True)).items():
            metrics.exchanges[place, (status // 100 or RAW) if whole else CUT] += count
        metrics.bytes_in += sum(sizes_in)
        metrics.bytes_out += sum(sizes_out)
        metrics.first_bytes([at - start for start, at in zip(began, first, strict=True) if at])
        for carrier, count in Counter(carriers).items():
            if carrier:
                metrics.carried[carrier] += count
        for reason, count in Counter(reasons).items():
            if reason:
                metrics.refused[reason] += count

    def _format(
        self, place: str, name: str, peer: str, method: bytes, target: bytes, status: int, whole: bool,
        bytes_in: int, bytes_out: int, began: float, first_byte: float, ended: float,
        request_id: bytes, reason: str, carrier: str, wall: float,
    ) -> bytes:  # fmt: skip
        at = began + wall
        second = int(at)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        if b"?" in target and self._query != "whole":
            target = self._without_secrets(target)
        if not _plain(target) or b"wh" in target:  # a credential pasted into an address is masked
            target = escape(target[:MAX_TARGET].decode("latin-1")).encode()
        return _LINE % (
            self._stamp, (at - second) * 1000, place.encode(), name.encode() or b"-", peer.encode(), method,
            target, status, bytes_in, bytes_out, (first_byte - began) * 1000 if first_byte else -1,
            (ended - began) * 1000, request_id, b" carrier=" + carrier.encode() if carrier else b"",
            b"" if whole else b" cut=yes",
            b" reason=" + reason.encode() if reason else b"",
        )  # fmt: skip

    def _without_secrets(self, target: bytes) -> bytes:
        """A tenant's tokens are no business of who reads the log of the edge."""
        if self._query == "off":
            return target.partition(b"?")[0]
        return mask_query(target.decode("latin-1")).encode("latin-1")
