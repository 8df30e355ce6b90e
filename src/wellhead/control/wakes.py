"""Sandboxes that visitors wait for: each is resumed once, however many wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from wellhead.errors import WellheadError
from wellhead.logs import Log
from wellhead.model.sandboxes import SandboxId

PAUSE_SECONDS = 1.0  # before the next try after a failure, doubled by each that follows
PAUSE_MAX_SECONDS = 10.0
QUIET_SECONDS = 60.0  # after which a failure is forgotten

_log = Log("wellhead.control")


@dataclass(frozen=True, slots=True)
class _Failed:
    times: int
    again_at: float  # monotonic


class Wakes:
    """``resume`` resumes a sandbox where it is paused and may be; it raises where that fails."""

    def __init__(
        self,
        resume: Callable[[SandboxId], Awaitable[None]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resume = resume
        self._monotonic = monotonic
        self._waking: dict[SandboxId, asyncio.Task[None]] = {}
        self._failed: dict[SandboxId, _Failed] = {}
        self._closed = False

    def wake(self, sandbox: SandboxId) -> None:
        """A visitor waits for it. Who comes while it is being resumed waits for the same."""
        if sandbox not in self._waking and not self._closed:
            self._waking[sandbox] = asyncio.create_task(self._wake(sandbox), name=f"wake {sandbox}")

    async def aclose(self) -> None:
        """Give up what is under way, and begin nothing more."""
        self._closed = True
        waking = list(self._waking.values())
        for each in waking:
            each.cancel()
        await asyncio.gather(*waking, return_exceptions=True)

    async def _wake(self, sandbox: SandboxId) -> None:
        failed = self._failed.get(sandbox)
        try:
            if failed is not None:
                await asyncio.sleep(failed.again_at - self._monotonic())
            await self._resume(sandbox)
            self._failed.pop(sandbox, None)
        except WellheadError as error:
            pause = self._note_failure(sandbox)
            _log.warning("sandbox not resumed", sandbox=sandbox, error=str(error), again_in_seconds=pause)
        except Exception as error:  # a bug here must not be an exception that nobody looks at
            self._note_failure(sandbox)
            _log.error("sandbox not resumed", error, sandbox=sandbox)
        finally:
            del self._waking[sandbox]

    def _note_failure(self, sandbox: SandboxId) -> float:
        now = self._monotonic()
        for other, failed in list(self._failed.items()):
            if now - failed.again_at >= QUIET_SECONDS:
                del self._failed[other]
        times = self._failed[sandbox].times + 1 if sandbox in self._failed else 1
        pause = min(PAUSE_SECONDS * (1 << min(times - 1, 8)), PAUSE_MAX_SECONDS)
        self._failed[sandbox] = _Failed(times, now + pause)
        return pause
