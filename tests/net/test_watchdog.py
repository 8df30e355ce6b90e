"""Whoever holds the event loop up is named."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator

import pytest

from wellhead.net.watchdog import BEAT_SECONDS, Watchdog


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.came = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.getMessage()} {vars(record).get('fields', '')}")
        self.came.set()


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, logger = Lines(), logging.getLogger("wellhead.loop")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


def hold_up(lines: Lines) -> None:
    """Stands still until somebody says so."""
    assert lines.came.wait(10)
    lines.came.clear()


async def test_a_loop_that_stands_is_logged_with_where_it_stands_and_for_how_long(lines: Lines) -> None:
    watchdog = Watchdog(0.3)
    try:
        hold_up(lines)
        assert "loop stands still" in lines.lines[0] and "hold_up" in lines.lines[0]
        await asyncio.to_thread(lines.came.wait, 10)
        assert "loop turns again" in lines.lines[1] and len(lines.lines) == 2
    finally:
        watchdog.close()


async def test_how_late_the_loop_was_is_told(lines: Lines) -> None:
    lags: list[float] = []
    told = asyncio.Event()

    def note(seconds: float) -> None:
        lags.append(seconds)
        told.set()

    watchdog = Watchdog(60, note)
    try:
        until = time.monotonic() + BEAT_SECONDS + 0.2
        while time.monotonic() < until:
            pass
        await told.wait()
    finally:
        watchdog.close()
    assert lags[0] >= 0.15 and not lines.lines
    assert not any(thread.name == "loop watchdog" for thread in threading.enumerate())


async def test_where_no_stall_is_logged_the_lag_is_told_all_the_same(lines: Lines) -> None:
    told: asyncio.Queue[float] = asyncio.Queue()
    watchdog = Watchdog(0, told.put_nowait)
    async with asyncio.timeout(5):
        assert await told.get() >= 0
    assert not any(thread.name == "loop watchdog" for thread in threading.enumerate())
    watchdog.close()
    assert not lines.lines
