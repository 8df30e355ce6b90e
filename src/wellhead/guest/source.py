"""A descriptor that a process writes to, read into its output as long as that has room.

When the process is dead, others may hold the descriptor still. What the dead one wrote is all taken; for the
others there is a moment, and then a pipe is read on for nothing, so that they do not die of it either, and a
terminal is hung up.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable

from wellhead.guest.output import Output

MOMENT_SECONDS = 0.5
_CHUNK = 64 * 1024  # bytes read at once
_HELD_MAX = 1024 * 1024  # bytes that a pipe can hold at most, so that more is certainly not of the dead


class Source:
    """``on_over`` is called once, when nothing more of it will go into the output."""

    def __init__(
        self, fd: int, channel: int, output: Output, on_over: Callable[[], None], *, hang_up: bool
    ) -> None:
        self._fd = fd
        self._channel = channel
        self._output = output
        self._on_over = on_over
        self._hang_up = hang_up
        self._loop = asyncio.get_running_loop()
        self._rest: int | None = None  # bytes that may still be of the dead, once its moment has passed
        self.over = False
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._read)

    def resume(self) -> None:
        """There is room again."""
        if not self.over:
            self._loop.add_reader(self._fd, self._read)

    def settle(self) -> None:
        """The process is dead."""
        if not self.over:
            self._loop.call_later(MOMENT_SECONDS, self._moment_passed)

    def _read(self) -> None:
        data = self._take()
        if data is None:
            return
        if not data:
            self._close()
            self._end()
            return
        self._output.append(data, self._channel)
        if self._rest is not None:
            self._rest -= len(data)
            self._end_if_empty()
        if not self.over and self._output.is_full():
            self._loop.remove_reader(self._fd)

    def _take(self) -> bytes | None:
        """What there is, at most a chunk; None for nothing yet, empty at the end."""
        data = self._take_once()
        if data and self._hang_up:  # of a terminal 4 KiB come at once, whatever is asked for
            pieces, size = [data], len(data)
            while size < _CHUNK and (more := self._take_once()):
                pieces.append(more)
                size += len(more)
            return b"".join(pieces)
        return data

    def _take_once(self) -> bytes | None:
        try:
            return os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return None
        except OSError:  # EIO: nobody holds the other side of the terminal any more
            return b""

    def _moment_passed(self) -> None:
        if not self.over:
            self._rest = _HELD_MAX
            self._end_if_empty()

    def _end_if_empty(self) -> None:
        assert self._rest is not None
        if self._rest > 0 and _has_more(self._fd):
            return
        if self._hang_up:
            self._close()
        else:
            self._loop.add_reader(self._fd, self._throw_away)
        self._end()

    def _throw_away(self) -> None:
        if self._take() == b"":
            self._close()

    def _close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _end(self) -> None:
        self.over = True
        self._on_over()


def _has_more(fd: int) -> bool:
    watch = select.poll()
    watch.register(fd, select.POLLIN)
    return bool(watch.poll(0))
