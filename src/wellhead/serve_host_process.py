"""The host on the server's own machine, as the server that started it sees it: begun, kept alive, ended.

It is a process of its own (``serve_host``), a host like any other: it joins with a token that the control
plane left for it, and dials the edge. Its sandboxes live longer than it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from wellhead.logs import Log
from wellhead.net.backoff import Backoff
from wellhead.serve_process import LogLevel, log_level
from wellhead.settings import HostProgramSettings, ServerSettings
from wellhead.settings.host import HostSettings

MODULE = "wellhead.serve_host"
TOKEN_FILE = "host-token"  # in the server's directory: what the host joins with, once
LOCAL_HOST = "host"  # its own directory, in the server's
LOCAL_HOST_NAME = "local"
START_SECONDS = 60.0  # its first start builds templates
STOP_SECONDS = 15.0  # for what runs on its sessions, and to say that it leaves
STEADY_SECONDS = 10.0
WAIT_SECONDS = 5.0  # a thread that waits for its end looks up so often

_log = Log("wellhead.serve")


class HostTerms(BaseModel):
    """What the host's process is told at its start, on standard input. It holds no secret."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    settings: HostProgramSettings
    state: Path
    token_file: Path
    url: str
    ca_file: Path | None
    log_level: LogLevel

    @classmethod
    def of(cls, settings: ServerSettings, url: str, ca_file: Path | None) -> Self:
        """For the host beside a server at ``url``."""
        own = {key: getattr(settings, key) for key in HostSettings.model_fields}
        directory = settings.data_dir
        return cls(
            settings=HostProgramSettings(**own), state=directory / LOCAL_HOST,
            token_file=directory / TOKEN_FILE, url=url, ca_file=ca_file, log_level=log_level(),
        )  # fmt: skip


class HostProcess:
    """``restarts`` counts how often it was begun again."""

    def __init__(self, terms: HostTerms) -> None:
        self.restarts = 0
        self._terms = terms
        self._process: subprocess.Popen[bytes] | None = None
        self._backoff = Backoff()
        self._ready = asyncio.Event()
        self._keeper = asyncio.create_task(self._keep(), name="host")

    async def online(self, stop: asyncio.Event) -> bool:
        """Wait until it may be asked for sandboxes, for at most START_SECONDS; False where it is not."""
        waiting = [asyncio.create_task(event.wait()) for event in (self._ready, stop)]
        first = asyncio.FIRST_COMPLETED
        await asyncio.wait([*waiting, self._keeper], timeout=START_SECONDS, return_when=first)
        for each in waiting:
            each.cancel()
        return self._ready.is_set()

    async def close(self) -> None:
        """Let it finish what it is asked, and see it end. Idempotent."""
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            _log.warning("host did not end, killed", pid=process.pid)
            process.kill()
            await asyncio.to_thread(process.wait)

    async def _keep(self) -> None:
        while True:
            began = time.monotonic()
            try:
                code = await self._once()
            except OSError as error:  # no descriptor, process or memory to be had just now
                code = str(error)
            if time.monotonic() - began >= STEADY_SECONDS:
                self._backoff.reset()
            pause = self._backoff.pause()
            self.restarts += 1
            _log.error("host ended", status=code, again_in_seconds=pause)
            await asyncio.sleep(pause)

    async def _once(self) -> int | str:
        """From its start to its end: the exit status."""
        loop = asyncio.get_running_loop()
        # Its output would not do to hear it by: what it starts may hold that when it is gone.
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                process = self._process = _begin(theirs, self._terms)
            loop.add_reader(ours, self._heard, ours)
            try:
                while process.poll() is None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        await asyncio.to_thread(process.wait, WAIT_SECONDS)
            finally:
                loop.remove_reader(ours)
        return process.returncode

    def _heard(self, ours: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(ours)
        if ours.recv(1):  # else it ended, or nobody is left who could say it
            self._ready.set()


def _begin(ready: socket.socket, terms: HostTerms) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", MODULE, str(ready.fileno())],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        pass_fds=(ready.fileno(),),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in a terminal is for the server, which drains first
    )
    assert process.stdin is not None
    with contextlib.suppress(OSError), process.stdin:
        process.stdin.write(terms.model_dump_json().encode())
    return process
