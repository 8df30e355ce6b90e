"""Threads for code that blocks, so that it never stands on the loop.

They are daemons: a handler that never comes back must not keep its program from ending, as the threads of
``concurrent.futures`` would.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from wellhead.errors import StateError, VisitorGone

MOST = 256  # threads: calls above that wait for one

T = TypeVar("T")

_Call = Callable[[], None]


class Threads:
    """Runs calls, each in a thread of its own as long as there are no more than ``most``."""

    def __init__(self, name: str, most: int = MOST) -> None:
        self._name = name
        self._most = most
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._count = 0
        self._unused = 0  # threads without a call

    async def run(self, call: Callable[[], T]) -> T:
        """What ``call`` returns. Cancelling it leaves the thread to itself."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        context = contextvars.copy_context()

        def tell(result: T | None, error: BaseException | None) -> None:
            self._unused += 1
            if outcome.done():
                return
            if error is not None:
                outcome.set_exception(error)
            else:
                outcome.set_result(result)  # type: ignore[arg-type]  # None only where T is

        def work() -> None:
            result: T | None = None
            error: BaseException | None = None
            try:
                if not outcome.done():  # else nobody waits for it any more
                    result = context.run(call)
            except BaseException as raised:
                error = raised
                if isinstance(raised, StopIteration) or not isinstance(raised, Exception):
                    error = RuntimeError(f"a handler raised {raised!r}")  # those would end the loop
                    error.__cause__ = raised
            with contextlib.suppress(RuntimeError):  # the loop is over
                loop.call_soon_threadsafe(tell, result, error)

        self._put(work)
        return await outcome

    def close(self) -> None:
        """No more calls; those that run are left to themselves."""
        for _ in range(self._count):
            self._calls.put(None)
        self._count = self._unused = 0

    def _put(self, work: _Call) -> None:
        if self._unused:
            self._unused -= 1
        elif self._count < self._most:
            self._count += 1
            threading.Thread(target=self._main, name=f"{self._name}-{self._count}", daemon=True).start()
        else:
            self._unused -= 1  # it is paid back when its turn has come and gone
        self._calls.put(work)

    def _main(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


def awaited(loop: asyncio.AbstractEventLoop, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Have what ``make`` gives awaited in the loop, and wait for it; for calls that run in a thread.

    Raises:
        StateError: this is the loop's own thread.
        VisitorGone: the loop is over, and with it everybody who could hear of it.
    """
    if asyncio._get_running_loop() is loop:
        raise StateError("what is for threads was called in the listener's loop, and would wait for itself")
    outcome: Future[T] = Future()

    def begin() -> None:  # not before: a coroutine of a loop that closes meanwhile would never be awaited
        task = loop.create_task(make())
        task.add_done_callback(tell)

    def tell(task: asyncio.Task[T]) -> None:
        if task.cancelled():
            outcome.cancel()
        elif (error := task.exception()) is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(task.result())

    try:
        loop.call_soon_threadsafe(begin)
    except RuntimeError as error:
        raise VisitorGone("the listener is closed") from error
    return outcome.result()
