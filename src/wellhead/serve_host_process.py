"""The host on the server's own machine, as the server that started it sees it: begun, kept alive, ended.

It is a process of its own (``serve_host``), a host like any other: it joins with a token that the control
plane left for it, and dials the edge. Its sandboxes live longer than it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
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
READY = "ready"
START_SECONDS = 60.0  # its first start builds templates
STOP_SECONDS = 15.0  # for what runs on its sessions, and to say that it leaves
STEADY_SECONDS = 10.0

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
        self._process: Process | None = None
        self._backoff = Backoff()
        self._ready = asyncio.Event()
        self._keeper = asyncio.create_task(self._keep(), name="host")

    async def online(self, stop: asyncio.Event) -> bool:
        """Wait until it may be asked for sandboxes, for at most START_SECONDS; False where it is not."""
        waiting = [asyncio.create_task(event.wait()) for event in (self._ready, stop)]
        await asyncio.wait(
            [*waiting, self._keeper], timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        for each in waiting:
            each.cancel()
        return self._ready.is_set()

    async def close(self) -> None:
        """Let it finish what it is asked, and see it end. Idempotent."""
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            _log.warning("host did not end, killed", pid=process.pid)
            process.kill()
            await process.wait()

    async def _keep(self) -> None:
        while True:
            began = time.monotonic()
            process = self._process = await self._begin()
            assert process.stdout is not None
            async for line in process.stdout:
                if line.decode().strip() == READY:
                    self._ready.set()
            code = await process.wait()
            lived = time.monotonic() - began
            if lived >= STEADY_SECONDS:
                self._backoff.reset()
            pause = self._backoff.pause()
            self.restarts += 1
            _log.error("host ended", status=code, lived_seconds=lived, again_in_seconds=pause)
            await asyncio.sleep(pause)

    async def _begin(self) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", MODULE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=PIPE, stdout=PIPE,
            start_new_session=True,  # Ctrl-C in a terminal is for the server, which drains first
        )  # fmt: skip
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.write(self._terms.model_dump_json().encode())
            process.stdin.close()
        return process
