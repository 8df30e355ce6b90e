"""Looks after sandboxes that nobody asks about: the ones without activity, and the dead."""

from __future__ import annotations

import asyncio

from wellhead.host.sandboxes import Sandboxes
from wellhead.logs import Log

LOOK_SECONDS = 1.0  # how late a pause may be, and how long a dead sandbox goes unseen

_log = Log("wellhead.host")


class Caretaker:
    def __init__(self, sandboxes: Sandboxes) -> None:
        self._sandboxes = sandboxes

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except Exception as error:
                _log.error("looking after sandboxes failed", error=error)

    async def look(self) -> None:
        """Once. What it begins goes on: ``Sandboxes.settle``."""
        self._sandboxes.expire()
        await self._sandboxes.bury()
