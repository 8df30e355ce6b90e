"""The control plane's process, as the server that started it sees it: begun, watched, begun again, ended.

It has the database and the REST API to itself, so that nothing of them holds up the loop that carries the
traffic. The two know each other by one socket pair, the records' feed (``wellhead.wire.feed``), and each
sees by its end that the other is gone, however it went.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from wellhead.edge.follower import Follower, Link
from wellhead.errors import LinkError, LocalStateError
from wellhead.logs import Log
from wellhead.model.names import Public
from wellhead.net.backoff import Backoff
from wellhead.settings import ServerSettings
from wellhead.version import VERSION
from wellhead.wire.feed import Whole

MODULE = "wellhead.serve_control"
UNSHOWN_KEY_FILE = "admin-key.unshown"  # beside the first key, until somebody was shown that
NICE = 5  # a third of the weight of a process of traffic, where both want the same CPU
STOP_SECONDS = 10.0  # to write what is waiting; a locked database takes BUSY_SECONDS of them
EXIT_SECONDS = 2.0  # between the end of the feed and the end of the process
STEADY_SECONDS = 10.0  # alive for so long, its next start is tried at once again

_log = Log("wellhead.serve")


LogLevel = Literal["debug", "info", "warning", "error"]


def log_level() -> LogLevel:
    """As this process logs, so are those to log that it begins."""
    level = logging.getLogger("wellhead").getEffectiveLevel()
    names: tuple[LogLevel, ...] = ("error", "warning", "info", "debug")
    return next((name for name in names if getattr(logging, name.upper()) <= level), "debug")


class Terms(BaseModel):
    """What a control plane is told at its start, on standard input. It holds no secret."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    settings: ServerSettings
    public: Public
    socket_path: str  # where to serve REST
    log_level: LogLevel
    nice: int  # its priority, once it serves
    resumed: bool  # the edge has been there already, and agents with it

    @classmethod
    def of(cls, settings: ServerSettings, public: Public, socket_path: str) -> Self:
        """For a first start."""
        return cls(
            version=VERSION, settings=settings, public=public, socket_path=socket_path,
            log_level=log_level(), nice=min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICE), resumed=False,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    link: Link
    born: float  # monotonic

    async def ended(self, seconds: float) -> str:
        """How it ended; killed where it did not within ``seconds``."""
        try:
            await asyncio.to_thread(self.process.wait, seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)
            return f"did not end within {seconds:g} s, killed"
        code = self.process.returncode
        return f"exit status {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


class ControlProcess:
    """``restarts`` counts how often it was begun again."""

    def __init__(self, terms: Terms, follower: Follower) -> None:
        self.restarts = 0
        self._terms = terms
        self._follower = follower
        self._child: _Child | None = None
        self._backoff = Backoff()
        self._closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin it; ``whole`` waits until it is there."""
        self._child = await self._begin(self._terms)

    async def whole(self) -> Whole:
        """Wait until the follower has all records and REST is served; from then on it is kept alive.

        Raises:
            LocalStateError: it cannot serve.
        """
        assert self._child is not None
        child = self._child
        try:
            told = await asyncio.shield(child.link.whole)  # who stops waiting for it does not undo it
        except LinkError as error:
            how = await child.ended(EXIT_SECONDS)
            raise LocalStateError(f"the control plane did not start: {how}") from error
        self._keeper = asyncio.create_task(self._keep(child), name="control plane")
        return told

    async def close(self) -> None:
        """Let it write what is waiting, and see it end. Idempotent."""
        if not self._closing.done():
            self._closing.set_result(None)
        if self._keeper is not None:
            await self._keeper
        child, self._child = self._child, None
        if child is not None:
            child.link.stop()
            how = await child.ended(STOP_SECONDS)
            child.link.close()
            await child.link.lost
            if child.process.returncode:
                _log.warning("control plane ended badly", pid=child.process.pid, how=how)

    async def _keep(self, child: _Child) -> None:
        while await self._before_closing(child.link.lost):
            how = await child.ended(EXIT_SECONDS)
            lived = time.monotonic() - child.born
            if lived >= STEADY_SECONDS:
                self._backoff.reset()
            pause = self._backoff.pause()
            _log.error(
                "control plane ended", pid=child.process.pid, how=how, lived_seconds=lived,
                again_in_seconds=pause,
            )  # fmt: skip
            if (begun := await self._begin_again(pause)) is None:
                return
            child = begun
            if await self._before_closing(child.link.whole):
                _tell(child)

    async def _begin_again(self, pause: float) -> _Child | None:
        """The next one, begun after ``pause`` seconds; None where the end is asked for before."""
        while True:
            await asyncio.wait((self._closing,), timeout=pause)
            if self._closing.done():
                return None
            self.restarts += 1
            try:
                self._child = await self._begin(self._terms.model_copy(update={"resumed": True}))
            except OSError as error:  # no descriptor, process or memory to be had just now
                pause = self._backoff.pause()
                _log.error("control plane cannot be begun", reason=str(error), again_in_seconds=pause)
            else:
                return self._child

    async def _before_closing(self, awaited: asyncio.Future[Any]) -> bool:
        """Wait for it; False where the end was asked for before. What it raises stays in it."""
        await asyncio.wait((awaited, self._closing), return_when=asyncio.FIRST_COMPLETED)
        return not self._closing.done()

    async def _begin(self, terms: Terms) -> _Child:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = _begin(theirs, terms)
            except BaseException:
                ours.close()
                raise
        loop = asyncio.get_running_loop()
        _, link = await loop.create_unix_connection(self._follower.link, sock=ours)
        return _Child(process, link, time.monotonic())


def _tell(child: _Child) -> None:
    if (error := child.link.whole.exception()) is not None:
        _log.error("control plane did not start", pid=child.process.pid, reason=str(error))
    else:
        _log.info("control plane is back", pid=child.process.pid)


def _begin(feed: socket.socket, terms: Terms) -> subprocess.Popen[bytes]:
    # A session of its own: Ctrl-C in a terminal is for the server, which drains first.
    process = subprocess.Popen(
        # -P, and the path as it is here: what lies in the working directory is no part of the program.
        [sys.executable, "-P", "-m", MODULE, str(feed.fileno())],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        pass_fds=(feed.fileno(),),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    if terms.resumed:  # there is traffic already
        with contextlib.suppress(OSError):  # it may be gone again
            os.setpriority(os.PRIO_PROCESS, process.pid, terms.nice)
    assert process.stdin is not None
    with contextlib.suppress(OSError), process.stdin:
        process.stdin.write(terms.model_dump_json().encode())
    return process
