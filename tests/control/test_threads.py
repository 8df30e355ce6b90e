from __future__ import annotations

import asyncio
import threading

import pytest

from wellhead.control.threads import Threads


async def test_what_a_call_gives_or_raises_comes_back() -> None:
    threads = Threads(1, "test")
    assert await threads.run(lambda: threading.current_thread().daemon)
    with pytest.raises(KeyError):
        await threads.run(lambda: dict[str, int]()["nothing"])


async def test_a_call_that_nobody_waits_for_any_more_keeps_its_place_until_it_ends() -> None:
    threads, may_end, began = Threads(1, "test"), threading.Event(), threading.Event()

    def block() -> None:
        began.set()
        may_end.wait(10)

    given_up = asyncio.create_task(threads.run(block))
    await asyncio.to_thread(began.wait, 10)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    second = asyncio.create_task(threads.run(lambda: "second"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not second.done()
    may_end.set()
    async with asyncio.timeout(10):
        assert await second == "second"
