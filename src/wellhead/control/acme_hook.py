"""TXT records by a program of the operator's: ``PROGRAM add|remove NAME VALUE``, exit code 0 when it is done.

There is no shell. The program returns when the record can be seen everywhere, or is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Final

from wellhead.errors import IssuerError
from wellhead.model.text import escape

SAID_MAX: Final = 300  # bytes of a program's last words that a message repeats
_READ: Final = 4096
_SECRETS: Final = ("WELLHEAD_API_KEY", "WELLHEAD_TUNNEL_SECRET")


class Hook:
    """Records; the program is killed, with what it began, after ``wait_seconds``."""

    def __init__(self, program: Path, wait_seconds: float) -> None:
        self._program = program
        self._wait = wait_seconds

    async def add(self, name: str, value: str) -> None:
        """As ``Records`` says."""
        await self._run("add", name, value)

    async def remove(self, name: str, value: str) -> None:
        """As ``Records`` says."""
        await self._run("remove", name, value)

    async def _run(self, action: str, name: str, value: str) -> None:
        what = f"dns_command {self._program} {action} {name}"
        environment = {key: text for key, text in os.environ.items() if key not in _SECRETS}
        try:
            process = await asyncio.create_subprocess_exec(
                self._program, action, name, value,
                env=environment, start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            raise IssuerError(f"{what}: {(error.strerror or str(error)).lower()}", reason="dns") from error
        try:
            async with asyncio.timeout(self._wait):
                said = await _last_words(process)
                code = await process.wait()
        except TimeoutError as error:
            raise IssuerError(
                f"{what}: not done within {self._wait:g} s, killed", reason="dns-wait"
            ) from error
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it began and left behind, too
            await process.wait()
        if code:
            raise IssuerError(f"{what}: exit code {code}: {said or 'it said nothing'}", reason="dns")


async def _last_words(process: asyncio.subprocess.Process) -> str:
    """The end of what it wrote to standard error; all of it is read, so that it is not held up."""
    assert process.stderr is not None
    last = b""
    while piece := await process.stderr.read(_READ):
        last = (last + piece)[-SAID_MAX:]
    return escape(last.decode("utf-8", "replace").strip())
