"""The guest's end of a terminal: its size, and input that waits for the program and is never dropped."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import sys
import termios

COLUMNS_MAX = 1000
ROWS_MAX = 500
_IUTF8 = 0o40000  # Linux; the module has no name for it


class Pty:
    """A new terminal. ``program_end`` is closed by whoever starts the program.

    ``output_end`` is for whoever reads, who closes it.
    """

    def __init__(self, columns: int, rows: int, owner: int) -> None:
        self.columns, self.rows = columns, rows
        self._fd, self.program_end = os.openpty()
        self.output_end = os.dup(self._fd)  # its own, so that each side can stop at its own time
        os.set_blocking(self._fd, False)
        with contextlib.suppress(OSError):
            os.fchown(self.program_end, owner, -1)
        if sys.platform == "linux":
            modes = termios.tcgetattr(self._fd)
            modes[0] |= _IUTF8  # the erase key takes a character, not a byte
            termios.tcsetattr(self._fd, termios.TCSANOW, modes)
        self._turn = asyncio.Lock()
        self._room: asyncio.Future[None] | None = None
        self._closed = False
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        if not self._closed:
            fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    async def write(self, data: bytes) -> None:
        """All of it, in the program's own time, and not mixed with what others write.

        Nothing once it is over.
        """
        async with self._turn:
            view = memoryview(data)
            while view and not self._closed:
                try:
                    view = view[os.write(self._fd, view) :]
                except BlockingIOError:
                    await self._has_room()
                except OSError:  # EIO: nobody will read it
                    return

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._wake()
            os.close(self._fd)

    async def _has_room(self) -> None:
        loop = asyncio.get_running_loop()
        self._room = loop.create_future()
        loop.add_writer(self._fd, self._wake)
        try:
            await self._room
        finally:
            self._wake()

    def _wake(self) -> None:
        if self._room is not None:
            asyncio.get_running_loop().remove_writer(self._fd)
            if not self._room.done():
                self._room.set_result(None)
            self._room = None
