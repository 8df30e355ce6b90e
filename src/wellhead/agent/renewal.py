"""A certificate for as long as the tunnel is answered for: found or signed first, renewed while it runs.

::

    signed ───── two thirds of its life, less up to a tenth ──> asked for anew ──> shown from then on
                                                                  └─ no: a pause, the old one stays

Connections go on with the certificate that they began with.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

from wellhead.agent.certificate import CertificateFiles, Sign
from wellhead.errors import LocalStateError, WellheadError
from wellhead.logs import Log
from wellhead.net.keypair import KeyPair

LEFT: Final = 1 / 3  # of its life, at which a certificate must have been renewed
JITTER: Final = 0.1  # of its life, by which renewals are earlier, each at its own time
GLANCE_SECONDS: Final = 60.0  # a machine that slept looks at its clock again after so long
FIRST_PAUSE_SECONDS: Final = 60.0  # after a renewal that failed; it doubles
LONGEST_PAUSE_SECONDS: Final = 3600.0
LAST_PAUSE_SECONDS: Final = 300.0  # between tries shortly before its end, and after it
PAUSES: Final = 20  # at least so many tries fit into what is left of a life, however short
_log = Log("wellhead.agent")


class Renewal:
    """Keeps the certificate of ``files`` fresh by ``sign``.

    ``clock`` gives UTC, ``sleep`` waits for seconds, and ``uniform(a, b)`` is where chance comes from.
    """

    def __init__(
        self,
        files: CertificateFiles,
        sign: Sign,
        *,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._files = files
        self._sign = sign
        self._clock = clock
        self._sleep = sleep
        self._uniform = uniform
        self._pair: KeyPair | None = None
        self._life = dt.timedelta()
        self._due = clock()

    async def first(self, *, fresh: bool = False, new_key: bool = False) -> KeyPair:
        """The certificate that is kept, or where none fits a new one.

        ``fresh``: whatever is kept, the server knows of no certificate; ``new_key``: it was revoked.

        Raises:
            ApiError, LinkError: the server does not sign it.
            LocalStateError: the directory is unsafe, or what the server signed does not fit.
        """
        pair = None if fresh or new_key else await asyncio.to_thread(self._kept)
        if pair is None:
            pair = await self._renew(new_key=new_key)
            _log.info("certificate signed", hostname=self._files.hostname, **_facts(pair, self._clock()))
        else:
            signed_at = await asyncio.to_thread(lambda: self._files.signed_at)
            self._take(pair, signed_at or pair.begins)
        return pair

    async def run(self, use: Callable[[KeyPair], None]) -> None:
        """Renew it whenever it is due, and hand it to ``use``. Ends by being cancelled only."""
        failures = 0
        while True:
            await self._wait()
            try:
                pair = await self._renew()
            except Exception as error:  # whatever it is: the old one is shown on, and it is tried again
                pause = self._pause(failures, error)
                failures += 1
                self._due = self._clock() + dt.timedelta(seconds=pause)
                self._complain(error, pause)
                continue
            failures = 0
            use(pair)
            _log.info("certificate renewed", hostname=self._files.hostname, **_facts(pair, self._clock()))

    def _kept(self) -> KeyPair | None:
        try:
            return self._files.load(self._clock())
        except LocalStateError as error:
            _log.warning("the certificate that is kept does not fit, a new one is signed", error=error)
            return None

    async def _renew(self, *, new_key: bool = False) -> KeyPair:
        files = self._files

        def prepare() -> str:
            return files.request(files.new_key() if new_key else files.key())

        signed = await self._sign(await asyncio.to_thread(prepare))
        pair = await asyncio.to_thread(lambda: files.answered(signed, files.key(), self._clock()))
        self._take(pair, self._clock())
        return pair

    def _take(self, pair: KeyPair, signed_at: dt.datetime) -> None:
        """Issuers date a certificate back, so that its life begins when it was signed."""
        self._pair = pair
        self._life = pair.ends - max(pair.begins, signed_at)
        self._due = pair.ends - self._life * (LEFT + self._uniform(0, JITTER))

    async def _wait(self) -> None:
        while (left := (self._due - self._clock()).total_seconds()) > 0:
            await self._sleep(min(left, GLANCE_SECONDS))

    def _pause(self, failures: int, error: Exception) -> float:
        """Seconds until the next try."""
        assert self._pair is not None
        left = max((self._pair.ends - self._clock()).total_seconds(), 0.0)
        shortest = min(self._life.total_seconds() / 100, LAST_PAUSE_SECONDS)
        longest = min(LONGEST_PAUSE_SECONDS, max(left / PAUSES, shortest, 1.0))
        pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(failures, 16), longest)
        asked = getattr(error, "retry_after_seconds", None) or 0.0
        return max(pause * self._uniform(0.8, 1.2), asked)

    def _complain(self, error: Exception, pause: float) -> None:
        assert self._pair is not None
        facts = _facts(self._pair, self._clock())
        if not isinstance(error, WellheadError):
            _log.error("renewal failed", error=error)  # a bug: with its traceback
        tell = _log.warning if facts["days_left"] > 0 else _log.error
        tell(
            "certificate not renewed", hostname=self._files.hostname, why=str(error),
            again_seconds=round(pause), **facts,
        )  # fmt: skip


def _facts(pair: KeyPair, now: dt.datetime) -> dict[str, Any]:
    """How long it is good for, for a log line."""
    return {"days_left": round((pair.ends - now) / dt.timedelta(days=1), 3)}
