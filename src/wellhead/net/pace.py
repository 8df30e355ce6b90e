"""Dear jobs of a loop that has others to serve: one in a turn, and a share of its time beside other work.

A TLS handshake costs as much as dozens of requests. A thousand agents that come back at once would have the
loop for a second if each were served as it comes; here they take turns with the traffic.

::

    turn     | begin job end |  others  |  others  | begin job end |  others  | ...
                     t            together 3 t             t
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

SHARE: Final = 0.25  # of the loop's time that jobs get while others want it too
IDLE_TURNS: Final = 4  # turns in which others used less than their due had nothing else to do
MOST_OWED_SECONDS: Final = 0.01  # to others, whatever a job took

Job = Callable[[], bool]


class Pace:
    """Runs jobs in order, each in a turn of the loop of its own.

    A job is a call that makes a task, whose first step is what is dear, and gives True; or it gives False:
    there is nothing to do any more. After each, other work gets its time, or a few turns if it needs less.

    ``clock`` gives the seconds that this thread has computed.
    """

    def __init__(self, *, share: float = SHARE, clock: Callable[[], float] = time.thread_time) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._due = (1 - share) / share  # seconds of others for a second of jobs
        self._first: deque[Job] = deque()
        self._jobs: deque[Job] = deque()
        self._running = False
        self._owed = 0.0  # seconds that others get before the next job
        self._turns = 0  # since the last job
        self._since = 0.0  # clock when others' time was last counted

    def __len__(self) -> int:
        """Jobs that wait."""
        return len(self._first) + len(self._jobs)

    def put(self, job: Job, *, first: bool = False) -> None:
        """Have a job done when its turn comes; one that is ``first`` goes before all that are not."""
        (self._first if first else self._jobs).append(job)
        if not self._running:
            self._running = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        now = self._clock()
        self._owed -= now - self._since
        self._since = now
        self._turns += 1
        if self._owed > 0 and self._turns < IDLE_TURNS:
            self._loop.call_soon(self._turn)
            return
        # The loop runs in order what is asked of it at once: nothing comes between these three.
        self._loop.call_soon(self._begin)
        while len(self) and not (self._first or self._jobs).popleft()():
            pass
        self._loop.call_soon(self._end)

    def _begin(self) -> None:
        self._since = self._clock()

    def _end(self) -> None:
        now = self._clock()
        self._owed = min((now - self._since) * self._due, MOST_OWED_SECONDS)
        self._since = now
        self._turns = 0
        self._running = len(self) > 0
        if self._running:
            self._loop.call_soon(self._turn)
