"""Dear jobs of a loop that has others to serve: a share of its time beside other work.

A TLS handshake costs as much as dozens of requests. A thousand agents that come back at once would have the
loop for a second if each were served as it comes; here they take turns with the traffic: one in a turn, more
where a turn was so long that others had far more than their due. Jobs of several lines, agents' and
visitors', are done from each line in turn: no crowd in one makes the other wait for the whole of it.

::

    turn     |  job  |  others  |  others  |  job  |  others  | ...
                t       together 3 t          t
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

SHARE: Final = 0.25  # of the loop's time that jobs get while others want it too
IDLE: Final = 0.25  # others that take less of a turn than this part of the job before it do not want it
MOST_OWED_SECONDS: Final = 0.01  # to others, whatever a job took
LONG_SECONDS: Final = 0.005  # what others have of a turn beyond their due before a second job is done in it
MOST_SAVED_SECONDS: Final = 0.03  # beyond that, what jobs may catch up with

Job = Callable[[], None]


class Pace:
    """Runs jobs, each line's in order and the lines' alternately; after each, other work gets its time.

    ``clock`` gives the seconds that this thread has computed.
    """

    def __init__(self, *, share: float = SHARE, clock: Callable[[], float] = time.thread_time) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._due = (1 - share) / share  # seconds of others for a second of jobs
        self._lines: dict[str, deque[Job]] = {}  # those that wait, whose turn it is first
        self._running = False
        self._took = 0.0  # seconds of the last job
        self._owed = 0.0  # seconds that others get before the next job
        self._since = 0.0  # clock when others' time was last counted

    def __len__(self) -> int:
        """Jobs that wait."""
        return sum(map(len, self._lines.values()))

    def put(self, job: Job, line: str = "") -> None:
        """Have a job done when its turn comes, after those before it in its line."""
        self._lines.setdefault(line, deque()).append(job)
        if not self._running:
            self._running = True
            self._since = self._clock()  # what was before it held up nobody
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        now = self._clock()
        others = now - self._since
        self._owed -= others
        try:
            if self._owed <= 0 or others < self._took * IDLE:
                saved = min(-self._owed - LONG_SECONDS, MOST_SAVED_SECONDS)
                self._do(now)
                while self._lines and (saved := saved - self._took * self._due) >= 0:
                    self._do(self._clock())
        finally:
            self._since = self._clock()
            self._running = bool(self._lines)
            if self._running:
                self._loop.call_soon(self._turn)

    def _do(self, now: float) -> None:
        line = next(iter(self._lines))
        jobs = self._lines.pop(line)
        job = jobs.popleft()
        if jobs:
            self._lines[line] = jobs  # behind the others
        try:
            job()
        finally:
            self._took = self._clock() - now
            self._owed = min(self._took * self._due, MOST_OWED_SECONDS)
