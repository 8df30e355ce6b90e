"""What a command says on stdout, whoever listens or has stopped to."""

from __future__ import annotations

import codecs
import io
import os
import sys

_PLAIN = {"…": "..."}


def tell(text: str = "") -> None:
    """Print a line at once. A reader that went away is no error: what comes later goes nowhere."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        hush()


def put(data: bytes) -> bool:
    """Write bytes to stdout at once; False where nobody reads them any more."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
    except BrokenPipeError:
        hush()
        return False
    return True


def speak_plainly() -> None:
    """What the locale's encoding has no character for is written as an escape, and is no error."""
    codecs.register_error("wellhead", _plainly)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="wellhead")


def _plainly(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c) or c.encode("unicode_escape").decode("ascii") for c in missing), error.end


def hush() -> None:
    """Let stdout lead nowhere, so that neither a later line nor the flush at exit fails."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def wants_colour() -> bool:
    """Whether stdout is a terminal that shows colours and its user wants them (https://no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
    return sys.stdout.isatty() and not plain
