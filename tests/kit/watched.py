"""What changes while a test waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PATIENCE = 20.0  # seconds a test waits for anything


class Watched:
    """A thing that sets ``changed`` whenever there is something new to see of it."""

    changed: asyncio.Event

    async def until(self, what: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Until ``what()``, asked at each change."""
        async with asyncio.timeout(seconds):
            while not what():
                self.changed.clear()
                await self.changed.wait()
