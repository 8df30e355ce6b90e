"""A line per finished request, for a person who watches; never at the cost of the traffic.

``add`` is called on the hot path: it appends, or beyond the rate counts. Formatting happens a few times
a second, for at most ``lines_per_second`` requests; the rest is one ``… and N more`` line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from wellhead.model.text import escape, mask_query

FLUSH_SECONDS = 0.1
LINES_PER_SECOND = 200
_TARGET_MAX = 200  # characters shown

_RESET, _DIM = "\x1b[0m", "\x1b[2m"
_COLOURS = {1: "\x1b[36m", 2: "\x1b[32m", 3: "\x1b[36m", 4: "\x1b[33m", 5: "\x1b[31m", 0: "\x1b[31m"}


class Finished(Protocol):
    """What a line needs to know of an exchange."""

    @property
    def peer(self) -> str: ...  # the visitor's IP address
    @property
    def method(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def status(self) -> int: ...  # 0 where no reply came
    @property
    def bytes_in(self) -> int: ...
    @property
    def bytes_out(self) -> int: ...
    @property
    def total_ms(self) -> float: ...
    @property
    def failure(self) -> str: ...  # empty, or why it ended early


class ExchangeLines:
    """Batches lines and hands them to ``write``, which takes text and says whether it could.

    ``with_peer``: each says whom it was for; may be set at any time.
    """

    def __init__(
        self, write: Callable[[str], bool], *, colour: bool, lines_per_second: int = LINES_PER_SECOND
    ) -> None:
        self.with_peer = False
        self._write = write
        self._colour = colour
        self._per_flush = max(1, int(lines_per_second * FLUSH_SECONDS))
        self._batch: list[Finished] = []
        self._more = 0
        self._flush_due = False

    def add(self, exchange: Finished) -> None:
        if len(self._batch) < self._per_flush:
            self._batch.append(exchange)
        else:
            self._more += 1
        if not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what was gathered. Called by itself; once more at the end by the owner."""
        self._flush_due = False
        batch, self._batch = self._batch, []
        more, self._more = self._more, 0
        lines = [format_line(exchange, colour=self._colour, with_peer=self.with_peer) for exchange in batch]
        if more:
            lines.append(f"… and {more} more")
        if lines and not self._write("\n".join(lines) + "\n"):
            self._more += len(batch) + more


def format_line(exchange: Finished, *, colour: bool, with_peer: bool = False) -> str:
    """``GET    /path 200 12 ms 1.2 kB``; method and path are printable whatever the visitor sent.

    ``with_peer``: and then ``from 192.0.2.7``, where that is known.

    Of a connection that is handed on as it is, ``TCP    192.0.2.7 --- 3.2 s 1.2 MB``.

    A line is read over shoulders and kept in journals: secrets in its query are masked.
    """
    target = escape(mask_query(exchange.target or exchange.peer))
    if len(target) > _TARGET_MAX:
        target = target[: _TARGET_MAX - 1] + "…"
    status = str(exchange.status) if exchange.status else "---"
    head = f"{escape(exchange.method) or 'TCP':<6} {target}"
    tail = f"{milliseconds(exchange.total_ms)} {size(exchange.bytes_out)}"
    if exchange.bytes_in:
        tail += f" (in {size(exchange.bytes_in)})"
    if with_peer and exchange.target and exchange.peer:
        tail += f" from {escape(exchange.peer)}"
    if exchange.failure:
        tail += f" {exchange.failure}"
    if not colour:
        return f"{head} {status} {tail}"
    paint = _COLOURS.get(exchange.status // 100, _DIM)
    return f"{head} {paint}{status}{_RESET} {_DIM}{tail}{_RESET}"


def milliseconds(value: float) -> str:
    """``0.4 ms``, ``12 ms``, ``3.2 s``: three digits at most."""
    if value < 10:
        return f"{value:.1f} ms"
    return f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.1f} s"


def size(count: int) -> str:
    """``312 B``, ``4.1 kB``, ``1.1 GB``: decimal units."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"
