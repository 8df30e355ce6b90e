"""The terminal that this program has: raw while it shows another one, and as it was afterwards."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import termios
import tty
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

_SIZE = struct.Struct("HHHH")
_MODE = re.compile(rb"\x1b\[\?([0-9;]{1,40})([hl])")
_TAIL = 48  # bytes that a sequence may have been cut in
# What a program switches on for itself, and would be in everybody's way when it is no longer shown.
_OFF_WHEN_LEFT = {b"1", b"47", b"1047", b"1049", b"9", b"1000", b"1002", b"1003", b"1004", b"1005"} | {
    b"1006",
    b"1015",
    b"2004",
}
_CURSOR = b"25"


def size(fd: int = 1) -> tuple[int, int]:
    """Columns and rows; 80 and 24 where the terminal does not know."""
    try:
        rows, columns, _, _ = _SIZE.unpack(fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(_SIZE.size)))
    except OSError:
        rows = columns = 0
    return (min(columns, 1000), min(rows, 500)) if rows and columns else (80, 24)


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class Modes:
    """What the programs that were shown have switched on, by what they wrote."""

    def __init__(self) -> None:
        self._on: set[bytes] = set()
        self._hidden = False
        self._tail = b""

    def saw(self, data: bytes) -> None:
        text = self._tail + data
        end = 0
        for found in _MODE.finditer(text):
            end = found.end()
            for mode in found[1].split(b";"):
                if mode == _CURSOR:
                    self._hidden = found[2] == b"l"
                elif mode in _OFF_WHEN_LEFT:
                    (self._on.add if found[2] == b"h" else self._on.discard)(mode)
        self._tail = text[max(end, len(text) - _TAIL) :]

    def undo(self) -> bytes:
        """What makes the terminal one for a shell again."""
        off = b"".join(b"\x1b[?%sl" % mode for mode in sorted(self._on, key=int))
        return off + (b"\x1b[?25h" if self._hidden else b"") + (b"\x1b[0m" if off else b"")


class Raw:
    """Every key comes as it is typed, for as long as the block lasts.

    ``woken`` is called, at any moment, when the size changed or it is asked to end; it may only do little.
    """

    def __init__(self, woken: Callable[[], None]) -> None:
        self._woken = woken
        self.resized = False
        self.ended_by: int | None = None  # a signal
        self._before: list[Any] = []
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(0)
        for number in (signal.SIGWINCH, signal.SIGCONT, signal.SIGTERM, signal.SIGHUP):
            self._handlers[number] = signal.signal(number, self._heard)
        tty.setraw(0, termios.TCSADRAIN)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        # Gone with its window perhaps.
        try:
            termios.tcsetattr(0, termios.TCSADRAIN, self._before)
        except (termios.error, OSError):
            pass

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGCONT:
            tty.setraw(0, termios.TCSANOW)
        if number in (signal.SIGWINCH, signal.SIGCONT):
            self.resized = True
        else:
            self.ended_by = number
        self._woken()
