"""What a command says on stdout, whoever listens or has stopped to."""

from __future__ import annotations

import os
import sys


def tell(text: str = "") -> None:
    """Print a line at once. A reader that went away is no error: what comes later goes nowhere."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        hush()


def hush() -> None:
    """Let stdout lead nowhere, so that neither a later line nor the flush at exit fails."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def wants_colour() -> bool:
    """Whether stdout is a terminal that shows colours and its user wants them (https://no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
    return sys.stdout.isatty() and not plain
