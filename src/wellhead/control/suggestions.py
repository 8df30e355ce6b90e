"""When the authority would have tunnels' certificates renewed (RFC 9773): asked, and told to agents.

The keys are the agents', which look at ``cert_renew_at`` of their tunnel: that is what is moved.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections.abc import Callable
from typing import Final, Protocol

from wellhead.control.renewal import ASK_WITHIN, LOOK_SECONDS
from wellhead.control.store.certificates import Certificates
from wellhead.errors import IssuerError
from wellhead.logs import Log
from wellhead.model.snapshot import utc_now

PAUSE: Final = dt.timedelta(hours=1)  # before an authority that did not answer is asked again

_log = Log("wellhead.control")


class Authority(Protocol):
    """Who is asked: an ACME issuer."""

    @property
    def name(self) -> str: ...

    async def renewal_time(self, leaf_pem: str) -> tuple[dt.datetime | None, dt.datetime]:
        """When it would have the certificate renewed, None where it does not say; when to ask again."""


class Suggestions:
    """Asks about each certificate that a tunnel has, one after the other."""

    def __init__(
        self,
        authority: Authority,
        certificates: Certificates,
        *,
        clock: Callable[[], dt.datetime] = utc_now,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._authority = authority
        self._certificates = certificates
        self._clock = clock
        self._chance = chance
        self._ask_at: dict[str, dt.datetime] = {}  # by certificate

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
            except Exception as error:  # whatever it is: the next look is a new one
                _log.warning("renewals not asked about", error=str(error))
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Ask about those whose turn it is.

        Raises:
            Unavailable: the database does not answer.
        """
        now = self._clock()
        found = await self._certificates.to_renew(self._authority.name)
        known, self._ask_at = self._ask_at, {}
        for each in found:
            # Not all at once after a restart, and soon beside the time that it lives.
            first = now + min(ASK_WITHIN, (each.expires_at - each.not_before) / 50) * self._chance()
            self._ask_at[each.id] = known.get(each.id, first)
        for certificate_id in [each for each, when in self._ask_at.items() if when <= now]:
            await self._ask(certificate_id, now)

    async def _ask(self, certificate_id: str, now: dt.datetime) -> None:
        self._ask_at[certificate_id] = now + PAUSE
        leaf_pem = await self._certificates.leaf(certificate_id)
        try:
            suggested, again = await self._authority.renewal_time(leaf_pem)
        except IssuerError as error:
            asked = dt.timedelta(seconds=error.retry_after_seconds or 0.0)
            self._ask_at[certificate_id] = now + max(asked, PAUSE)
            _log.warning("renewal information missing", certificate=certificate_id, reason=str(error))
            return
        self._ask_at[certificate_id] = max(again, now + dt.timedelta(seconds=LOOK_SECONDS))
        if suggested is not None:
            await self._certificates.suggest(certificate_id, suggested)
