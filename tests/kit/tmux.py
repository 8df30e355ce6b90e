"""A person's terminal: keys are typed, and the screen is read."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

SECONDS = 40.0  # for what is to be seen, on a busy machine


class Tmux:
    """A window of 100 columns and 30 rows with a plain ``sh`` in it, on a server of its own."""

    def __init__(self, directory: Path, env: Mapping[str, str]) -> None:
        self._socket = directory / "tmux"
        self._env = {**env, "TERM": "screen", "LC_ALL": "C.UTF-8"}
        self._run("new-session", "-d", "-x", "100", "-y", "30", "sh")

    def type(self, line: str) -> None:
        """A line, and Enter."""
        self._run("send-keys", "-l", line)
        self.press("Enter")

    def press(self, *keys: str) -> None:
        """Keys by their names: ``C-p``."""
        self._run("send-keys", *keys)

    def resize(self, columns: int, rows: int) -> None:
        self._run("resize-window", "-x", str(columns), "-y", str(rows))

    @property
    def text(self) -> str:
        """All that was on the screen, from the first line on; lines that were too long are one."""
        return self._run("capture-pane", "-p", "-J", "-S", "-")

    def see(self, text: str) -> str:
        """Wait until a line ends so; all that was shown until then.

        Raises:
            AssertionError: none does.
        """
        deadline = time.monotonic() + SECONDS
        while True:
            shown = self.text
            if any(line.rstrip().endswith(text) for line in shown.splitlines()):
                return shown
            assert time.monotonic() < deadline, f"no {text!r} in:\n{shown}"
            time.sleep(0.1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._run("kill-server")

    def _run(self, *arguments: str) -> str:
        command = ["tmux", "-u", "-S", str(self._socket), "-f", "/dev/null", *arguments]
        ended = subprocess.run(
            command, env=self._env, capture_output=True, text=True, timeout=20, check=False
        )
        assert ended.returncode == 0, f"{shlex.join(command)}: {ended.stderr}"
        return ended.stdout
