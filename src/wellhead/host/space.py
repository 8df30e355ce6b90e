"""How much of a disk something takes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def bytes_on_disk(path: Path) -> int:
    """What is allocated for a directory and all that is in it; what vanishes meanwhile is not counted."""
    total = 0
    waiting = [os.fspath(path)]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
    return total
