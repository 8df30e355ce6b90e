"""A sign of life on stderr while something takes longer than a second, for whoever looks at a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

QUIET_SECONDS = 1.0
_FRAME_SECONDS = 0.1
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_PLAIN_FRAMES = "|/-\\"


@contextlib.contextmanager
def progress(
    what: str, *, stream: TextIO | None = None, quiet_seconds: float = QUIET_SECONDS
) -> Iterator[None]:
    """Show ``what`` and for how long already, from the first second to the end of the block.

    Nothing is shown where the stream (stderr) is no terminal, and nothing of it stays.
    """
    stream = stream if stream is not None else sys.stderr
    if stream is None or not stream.isatty():
        yield
        return
    over = threading.Event()
    thread = threading.Thread(
        target=_show, args=(what, stream, over, quiet_seconds), name="progress", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _show(what: str, stream: TextIO, over: threading.Event, quiet_seconds: float) -> None:
    began = time.monotonic()
    pause, number, width = quiet_seconds, 0, 0
    frames = _FRAMES if _draws(stream) else _PLAIN_FRAMES
    with contextlib.suppress(OSError, ValueError):  # the terminal went away
        while not over.wait(pause):
            text = f"{frames[number % len(frames)]} {what} ({time.monotonic() - began:.0f} s)"
            stream.write(f"{text}\r")  # the cursor waits at the beginning: what comes next takes the line
            stream.flush()
            pause, number, width = _FRAME_SECONDS, number + 1, len(text)
        if number:
            stream.write(f"{' ' * width}\r")
            stream.flush()


def _draws(stream: TextIO) -> bool:
    encoding = (stream.encoding or "ascii").lower().replace("-", "")
    return encoding == "utf8" and os.environ.get("TERM", "dumb") != "dumb"
