"""Somebody at a terminal in a sandbox, while something else goes on there: a key, its echo, a pause."""

from __future__ import annotations

import statistics
import threading
import time
from typing import Self

from wellhead.client.sandboxes import Sandbox

PAUSE_SECONDS = 0.05
PATIENCE_SECONDS = 20.0


class Typist:
    """Types until the block is left. ``seconds``: how long each echo took, as the client sees it."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.seconds: list[float] = []
        self._terminal = sandbox.terminal(["sh", "-c", "stty raw -echo && echo ready && exec cat"])
        self._enough = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._type)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def __enter__(self) -> Self:
        self._until(b"ready\n")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()
        self._terminal.kill()
        self._terminal.detach()
        if self._error is not None:
            raise AssertionError(f"typed {len(self.seconds)} keys") from self._error

    def _type(self) -> None:
        try:
            while not self._enough.wait(PAUSE_SECONDS):
                began = time.monotonic()
                self._terminal.send(b"x")
                self._until(b"x")
                self.seconds.append(time.monotonic() - began)
        except BaseException as error:  # told by the thread that waits for it
            self._error = error

    def _until(self, end: bytes) -> None:
        seen = b""
        while not seen.endswith(end):
            piece = self._terminal.read(PATIENCE_SECONDS)
            assert piece, "the terminal ended"
            seen += piece
