"""A program at a terminal of its own: typed at, read, its window made larger."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

SECONDS = 30.0  # for what is to be seen, on a busy machine


class TerminalProgram:
    """``screen`` is all that it wrote, as bytes."""

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        *,
        columns: int = 100,
        rows: int = 30,
        cwd: Path | None = None,
    ) -> None:
        self._ours, self._theirs = os.openpty()
        self.resize(columns, rows)
        self.before = self.modes()
        self.screen = b""
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            env=dict(env),
            cwd=cwd,
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def type(self, keys: bytes) -> None:
        while keys:
            keys = keys[os.write(self._ours, keys[:1024]) :]

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def modes(self) -> list[Any]:
        """What the terminal does with keys and lines."""
        return termios.tcgetattr(self._theirs)

    def see(self, pattern: bytes, *, after: int = 0, seconds: float = SECONDS) -> int:
        """Wait until it wrote this, behind the first ``after`` bytes; where that ends.

        Raises:
            AssertionError: it did not.
        """
        deadline, expression = time.monotonic() + seconds, re.compile(pattern)
        with self._news:
            while (found := expression.search(self.screen, after)) is None:
                left = deadline - time.monotonic()
                assert left > 0, f"no {pattern!r} within {seconds:g} s in {self.screen[after:]!r}"
                self._news.wait(min(left, 0.5))
            return found.end()

    def ended(self, seconds: float = SECONDS) -> int:
        """Its exit code."""
        return self.process.wait(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        os.close(self._theirs)
        self._reader.join(10)
        os.close(self._ours)

    def _read(self) -> None:
        try:
            while data := os.read(self._ours, 65536):
                with self._news:
                    self.screen += data
                    self._news.notify_all()
        except OSError:  # nobody has the other end any more
            pass
