from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from wellhead.net.pace import Pace

JUMPING_CLOCK = True

DEAR, CHEAP = 0.0004, 0.0001  # seconds


class Work:
    """A loop's time, told by hand: what its jobs and its other work took, in order."""

    def __init__(self, share: float = 0.25) -> None:
        self.now = 0.0
        self.order = ""
        self.pace = Pace(share=share, clock=lambda: self.now)

    def job(self, name: str, seconds: float = DEAR) -> Callable[[], None]:
        return lambda: self.take(name, seconds)

    def take(self, name: str, seconds: float) -> None:
        self.now += seconds
        self.order += name

    async def turns(self, count: int, others: float = 0.0) -> None:
        """So many turns, in each of which other work takes so long; 0: there is none."""
        for _ in range(count):
            if others:
                self.take(".", others)
            await asyncio.sleep(0)


async def test_jobs_are_done_in_order_and_never_two_in_a_turn() -> None:
    work = Work()
    for name in "abc":
        work.pace.put(work.job(name))
    seen = []
    for _ in range(6):
        await work.turns(1)
        seen.append(work.order)
    assert seen == ["a", "ab", "abc", "abc", "abc", "abc"]


async def test_a_crowd_in_one_line_does_not_make_another_line_wait_for_all_of_it() -> None:
    work = Work()
    for _ in range(6):
        work.pace.put(work.job("a"), "agents")
    await work.turns(2)
    for name in "vw":
        work.pace.put(work.job(name), "visitors")
    assert len(work.pace) == 6
    await work.turns(8)
    assert work.order == "aaavawaa"


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
async def test_beside_other_work_jobs_get_their_share_and_no_more(share: float) -> None:
    work = Work(share)
    for _ in range(1000):
        work.pace.put(work.job("j"))
    await work.turns(1000, others=DEAR / 2)
    jobs, others = work.order.count("j") * DEAR, work.order.count(".") * DEAR / 2
    assert share * 0.8 < jobs / (jobs + others) < share * 1.05
    assert "jj" not in work.order


async def test_each_job_waits_until_others_had_what_is_due_to_them() -> None:
    work = Work(share=0.5)
    for name in "ab":
        work.pace.put(work.job(name, 3 * CHEAP))
    await work.turns(20, others=CHEAP)
    assert "a...b" in work.order


async def test_jobs_catch_up_where_a_turn_was_long() -> None:
    work = Work()
    for _ in range(1000):
        work.pace.put(work.job("j"))
    await work.turns(20, others=0.02)
    jobs, others = work.order.count("j") * DEAR, work.order.count(".") * 0.02
    assert 0.15 < jobs / (jobs + others) < 0.25


async def test_others_that_want_little_do_not_make_jobs_wait() -> None:
    work = Work()
    for _ in range(20):
        work.pace.put(work.job("j"))
    await work.turns(20, others=DEAR / 10)
    assert work.order == 20 * ".j"


async def test_a_job_of_many_seconds_does_not_hold_up_the_next_for_as_long() -> None:
    work = Work()
    work.pace.put(work.job("l", 60.0))
    work.pace.put(work.job("n"))
    await work.turns(3, others=20.0)
    assert work.order == ".l.n."


async def test_a_job_that_fails_is_reported_and_the_next_is_done() -> None:
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
    work = Work()

    def fail() -> None:
        raise ValueError("a bug")

    work.pace.put(fail)
    work.pace.put(work.job("n"))
    await work.turns(3)
    assert work.order == "n" and len(reports) == 1


async def test_the_pace_rests_and_wakes_again() -> None:
    work = Work()
    for name in "ab":
        work.pace.put(work.job(name))
        assert len(work.pace) == 1
        await work.turns(5)
        assert len(work.pace) == 0
    assert work.order == "ab"
