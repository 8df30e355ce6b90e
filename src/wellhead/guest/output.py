"""What one process writes: a ring of its last bytes, and the viewers who follow it, each at its own place.

A viewer is a number. One that is slow holds nothing and nobody up: what it misses is overwritten, and it is
told how much. Where a viewer paces, the process is not read any further than ``ahead`` bytes before the
fastest of those; and one that takes nothing for ``patience_seconds`` paces no longer, until it takes
something.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from wellhead.guest.ring import MARKS_MAX, Piece, Ring

_PIECE = 64 * 1024  # bytes that a viewer takes at once


class Output:
    """Appended to by whoever reads the process. ``on_room`` is called when it is no longer full."""

    def __init__(self, kept: int, *, ahead: int, patience_seconds: float | None = None) -> None:
        self.ring = Ring(kept)
        self.over = False
        self.on_room: Callable[[], None] = _nothing
        self._ahead = ahead
        self._patience = patience_seconds
        self._viewers: set[Viewer] = set()
        self._stopped = False
        self._giving_up: asyncio.TimerHandle | None = None

    def is_full(self) -> bool:
        """Whether the process is to be read no further for now."""
        paces = [viewer.at for viewer in self._viewers if viewer.paces and not viewer.stuck]
        if not paces:
            return False
        fastest = max(paces)
        ring = self.ring
        return ring.end - fastest >= self._ahead or ring.changes(fastest) >= MARKS_MAX // 2

    @property
    def kept(self) -> int:
        """Bytes that the ring holds."""
        return self.ring.end - self.ring.start

    @property
    def viewers(self) -> int:
        return len(self._viewers)

    def append(self, data: bytes, channel: int = 0) -> None:
        self.ring.append(data, channel)
        self._wake()
        if not self._stopped and self.is_full():
            self._stopped = True
            if self._patience is not None:
                loop = asyncio.get_running_loop()
                self._giving_up = loop.call_later(self._patience, self._give_up)

    def end(self) -> None:
        """Nothing will follow."""
        self.over = True
        if self._giving_up is not None:
            self._giving_up.cancel()
        self._wake()

    def view(self, after: int | None, *, paces: bool) -> Viewer:
        """A viewer from this number on, or from what comes next; ``missed`` is what it asked for in vain."""
        ring = self.ring
        at = ring.end if after is None else max(after, ring.start)
        viewer = Viewer(self, at, paces=paces)
        viewer.missed = 0 if after is None else at - after
        self._viewers.add(viewer)
        return viewer

    def moved(self, viewer: Viewer) -> None:
        """A viewer took something."""
        viewer.stuck = False
        self._look_for_room()

    def left(self, viewer: Viewer) -> None:
        self._viewers.discard(viewer)
        self._look_for_room()

    def _look_for_room(self) -> None:
        if self._stopped and not self.is_full():
            self._stopped = False
            if self._giving_up is not None:
                self._giving_up.cancel()
            self.on_room()

    def _give_up(self) -> None:
        for viewer in self._viewers:
            viewer.stuck = True
        self._look_for_room()

    def _wake(self) -> None:
        for viewer in self._viewers:
            viewer.wake()


class Viewer:
    """One who follows an output. ``at``: number of the next byte for it."""

    def __init__(self, output: Output, at: int, *, paces: bool) -> None:
        self.at = at
        self.paces = paces
        self.stuck = False  # took nothing for so long that nobody waits for it
        self.missed = 0
        self._output = output
        self._news: asyncio.Future[None] | None = None

    async def next(self) -> Piece | int | None:
        """A piece of the output; how many bytes are lost to this viewer; None when nothing will follow."""
        ring = self._output.ring
        while self.at == ring.end:
            if self._output.over:
                return None
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        if self.at < ring.start:
            lost = ring.start - self.at
            self.at = ring.start
            return lost
        piece = ring.read(self.at, _PIECE)
        self.at += len(piece.data)
        self._output.moved(self)
        return piece

    def wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def leave(self) -> None:
        self._output.left(self)


def _nothing() -> None:
    pass
