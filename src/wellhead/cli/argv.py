"""A credential on the command line is blanked, as ``ps`` shows every user's to every user."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path

from wellhead.model.text import CREDENTIAL

# Places in /proc/PID/stat behind the program's name, which may hold spaces: proc_pid_stat(5), 48 and 49.
_ARG_START, _ARG_END = 45, 46


def hide_credentials() -> None:
    """Write ``x`` over what looks like one of our credentials, in this process's own memory.

    Until here it could be read, and not every system lets us: a variable or the profile never shows it.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        facts = Path("/proc/self/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        start, words = int(facts[_ARG_START]), Path("/proc/self/cmdline").read_bytes()
        if not start or int(facts[_ARG_END]) - start != len(words):
            return
        for found in CREDENTIAL.finditer(words.decode("latin-1")):
            ctypes.memset(start + found.end(1), ord("x"), found.end() - found.end(1))
