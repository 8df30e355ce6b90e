from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from wellhead.net.pace import IDLE_TURNS, Pace

JUMPING_CLOCK = True

DEAR, CHEAP = 0.0004, 0.0001  # seconds


class Work:
    """A loop's time, told by hand: what its jobs and its other work took, in order."""

    def __init__(self, share: float = 0.25) -> None:
        self.loop = asyncio.get_running_loop()
        self.now = 0.0
        self.order: list[str] = []
        self.pace = Pace(share=share, clock=lambda: self.now)
        self._tasks: list[asyncio.Task[None]] = []

    def job(self, name: str, seconds: float = DEAR) -> Callable[[], bool]:
        async def dear() -> None:
            self.take(name, seconds)

        def start() -> bool:
            self._tasks.append(self.loop.create_task(dear()))
            return True

        return start

    def take(self, name: str, seconds: float) -> None:
        self.now += seconds
        self.order.append(name)

    async def turns(self, count: int, others: float = 0.0) -> None:
        """So many turns, in each of which other work takes so long; 0: there is none."""
        for _ in range(count):
            if others:
                self.take(".", others)
            await asyncio.sleep(0)

    async def until_done(self) -> int:
        """The turns it took without other work."""
        for turn in range(1000):
            if not len(self.pace) and all(task.done() for task in self._tasks):
                return turn
            await asyncio.sleep(0)
        raise AssertionError("jobs are left")


async def test_jobs_are_done_in_order_and_never_two_in_a_turn() -> None:
    work = Work()
    for name in "abc":
        work.pace.put(work.job(name))
    done: list[int] = []
    while len(done) < 20:
        before = len(work.order)
        await work.turns(1)
        done.append(len(work.order) - before)
    assert work.order == ["a", "b", "c"]
    assert max(done) == 1


async def test_beside_other_work_jobs_get_their_share_and_no_more() -> None:
    work = Work(share=0.25)
    for _ in range(100):
        work.pace.put(work.job("j"))
    await work.turns(200, others=2 * DEAR)
    jobs = work.order.count("j") * DEAR
    others = work.order.count(".") * 2 * DEAR
    assert 0.1 <= jobs / (jobs + others) <= 0.25


async def test_each_job_waits_until_others_had_what_is_due_to_them() -> None:
    work = Work(share=0.5)
    for name in "ab":
        work.pace.put(work.job(name, 3 * CHEAP))
    await work.turns(20, others=CHEAP)
    between = work.order[work.order.index("a") + 1 : work.order.index("b")]
    assert 3 <= len(between) <= 5


async def test_without_other_work_jobs_follow_each_other_within_a_few_turns() -> None:
    work = Work()
    for _ in range(100):
        work.pace.put(work.job("j"))
    assert await work.until_done() <= 100 * (IDLE_TURNS + 2)


async def test_a_job_of_many_seconds_does_not_hold_up_the_next_for_as_long() -> None:
    work = Work()
    work.pace.put(work.job("long", 60.0))
    work.pace.put(work.job("next"))
    await work.turns(IDLE_TURNS + 6, others=CHEAP)
    assert "next" in work.order


async def test_what_is_first_goes_before_the_others_and_in_order() -> None:
    work = Work()
    for name in ("a", "b"):
        work.pace.put(work.job(name))
    for name in ("x", "y"):
        work.pace.put(work.job(name), first=True)
    await work.until_done()
    assert work.order == ["x", "y", "a", "b"]


async def test_a_job_that_has_nothing_to_do_any_more_costs_no_turn() -> None:
    work = Work()
    for _ in range(1000):
        work.pace.put(lambda: False)
    work.pace.put(work.job("last"))
    assert await work.until_done() <= 4
    assert work.order == ["last"]


async def test_the_pace_rests_and_wakes_again() -> None:
    work = Work()
    for name in "ab":
        work.pace.put(work.job(name))
        await work.until_done()
        await work.turns(2 * IDLE_TURNS)
    assert work.order == ["a", "b"]


@pytest.mark.parametrize("share", [0.1, 0.5])
async def test_other_work_is_held_up_by_one_job_at_most(share: float) -> None:
    work = Work(share)
    for _ in range(30):
        work.pace.put(work.job("j"))
    await work.turns(200, others=CHEAP)
    assert "jj" not in "".join(work.order)
