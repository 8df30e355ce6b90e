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
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec

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
LOOK_SECONDS: Final = 900.0  # how often the server is asked when it wants a renewal
PAUSES: Final = 20  # at least so many tries fit into what is left of a life, however short
_log = Log("wellhead.agent")


class Standing(NamedTuple):
    """What the server knows of a certificate."""

    renew_at: dt.datetime | None = None  # when it wants it renewed
    revoked: bool = False


Look = Callable[[str], Awaitable[Standing]]
"""Asks about the certificate of a fingerprint (SHA-256, hexadecimal). Raises ApiError, LinkError."""
OnCertificate = Callable[[dt.datetime, Exception | None], None]
"""Told when a certificate ends: a new one, or with an error the one that could not be renewed."""


class Renewal:
    """Keeps the certificate of ``files`` fresh by ``sign``; ``look`` asks what the server knows of it.

    ``clock`` gives UTC, ``sleep`` waits for seconds, and ``uniform(a, b)`` is where chance comes from.
    """

    def __init__(
        self,
        files: CertificateFiles,
        sign: Sign,
        look: Look,
        *,
        on_certificate: OnCertificate | None = None,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._files = files
        self._sign = sign
        self._look = look
        self._on_certificate = on_certificate
        self._clock = clock
        self._sleep = sleep
        self._uniform = uniform
        self._pair: KeyPair | None = None
        self._life = dt.timedelta()
        self._due = clock()

    async def first(self, *, fresh: bool = False) -> KeyPair:
        """The certificate that is kept, or where none fits a new one.

        ``fresh``: the server says that the tunnel has none: one that is kept was another tunnel's.

        Raises:
            ApiError, LinkError: the server does not sign it.
            LocalStateError: the directory is unsafe, or what the server signed does not fit.
        """
        pair = await asyncio.to_thread(self._kept)
        void = pair is not None and (fresh or (await self._standing(pair)).revoked)
        if void:
            _log.warning("the certificate that is kept is void, a new one is signed with a new key")
        if pair is None or void:
            pair = await self._renew(new_key=void)
            _log.info("certificate signed", hostname=self._files.hostname, **_facts(pair, self._clock()))
        else:
            signed_at = await asyncio.to_thread(lambda: self._files.signed_at)
            self._take(pair, signed_at or pair.begins)
        return pair

    async def run(self, use: Callable[[KeyPair], None]) -> None:
        """Renew it whenever it is due, and hand it to ``use``. Ends by being cancelled only."""
        failures = 0
        signed: KeyPair | None = None  # and not yet taken into use
        while True:
            await self._wait()
            try:
                signed = signed or await self._renew()
                use(signed)
            except Exception as error:  # whatever it is: the old one is shown on, and it is tried again
                pause = self._pause(failures, error)
                failures += 1
                self._due = self._clock() + dt.timedelta(seconds=pause)
                self._complain(error, pause)
                continue
            failures = 0
            pair, signed = signed, None
            self._take(pair, self._clock())  # the next time was that of another try
            self._tell(pair, None)
            _log.info("certificate renewed", hostname=self._files.hostname, **_facts(pair, self._clock()))

    def _kept(self) -> KeyPair | None:
        try:
            return self._files.load(self._clock())
        except LocalStateError as error:
            _log.warning("the certificate that is kept does not fit, a new one is signed", error=error)
            return None

    async def _renew(self, *, new_key: bool = False) -> KeyPair:
        files = self._files

        def prepare() -> tuple[ec.EllipticCurvePrivateKey, str]:
            key = files.new_key() if new_key else files.key()
            return key, files.request(key)

        key, request = await asyncio.to_thread(prepare)
        signed = await self._sign(request)
        # By this key, whatever another agent of the tunnel's has put beside it meanwhile.
        pair = await asyncio.to_thread(lambda: files.answered(signed, key, self._clock()))
        self._take(pair, self._clock())
        return pair

    def _take(self, pair: KeyPair, signed_at: dt.datetime) -> None:
        """Issuers date a certificate back, so that its life begins when it was signed."""
        self._pair = pair
        self._life = pair.ends - max(pair.begins, signed_at)
        self._due = pair.ends - self._life * (LEFT + self._uniform(0, JITTER))

    async def _wait(self) -> None:
        """Until it is due, or until the server wants it renewed."""
        assert self._pair is not None
        looked = self._clock()
        while (left := (self._due - self._clock()).total_seconds()) > 0:
            await self._sleep(min(left, GLANCE_SECONDS))
            if (self._clock() - looked).total_seconds() >= LOOK_SECONDS:
                looked = self._clock()
                standing = await self._standing(self._pair)
                if standing.renew_at is not None:
                    self._due = min(self._due, standing.renew_at)

    async def _standing(self, pair: KeyPair) -> Standing:
        try:
            return await self._look(pair.fingerprint)
        except Exception as error:  # it is not what the tunnel waits for, nor what may end the renewals
            if isinstance(error, WellheadError):
                _log.debug("the certificate cannot be asked about", why=str(error))
            else:
                _log.error("the certificate cannot be asked about", error=error)
            return Standing()

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
        self._tell(self._pair, error)

    def _tell(self, pair: KeyPair, error: Exception | None) -> None:
        if self._on_certificate is not None:
            try:
                self._on_certificate(pair.ends, error)
            except Exception as failure:
                _log.error("on_certificate failed", error=failure)


def _facts(pair: KeyPair, now: dt.datetime) -> dict[str, Any]:
    """How long it is good for, for a log line."""
    return {"days_left": round((pair.ends - now) / dt.timedelta(days=1), 3)}
