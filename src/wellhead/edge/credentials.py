"""Agents' credentials, judged for both carriers: a network that shows too many bad ones is put off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from wellhead.edge.directory import Admission, Directory
from wellhead.errors import Draining, QuotaExceeded, RecordsAway, SecretRejected
from wellhead.model.access import Secret
from wellhead.model.names import address_group, is_loopback

RECORDS_SECONDS = 5.0  # for the control plane to come back, before an unknown agent asks again
T = TypeVar("T")
REMEMBERED = 4096  # networks with rejected credentials; beyond, the one that was quiet longest is forgotten


class Credentials:
    """``rejections_per_minute`` of one network, then its hellos are put off. ``clock``: loop seconds.

    ``draining``: nobody is let in any more.
    """

    def __init__(
        self,
        directory: Directory,
        clock: Callable[[], float],
        *,
        rejections_per_minute: int,
        loopback_exempt: bool,
    ) -> None:
        self.draining = False
        self._directory = directory
        self._clock = clock
        self._most = rejections_per_minute
        self._loopback_exempt = loopback_exempt
        self._failures: dict[str, list[float]] = {}  # network -> times of rejections, youngest last

    async def admit(self, tunnel: str, secret: Secret, peer: str, agent: str) -> Admission:
        """As ``Directory.admit``.

        Raises:
            Draining, QuotaExceeded, RecordsAway: not now.
            SecretRejected, TunnelRemoved: as ``Directory.admit``.
        """
        return await self.judge(peer, lambda: self._directory.admit(tunnel, secret, peer, agent))

    async def judge(self, peer: str, ask: Callable[[], Awaitable[T]]) -> T:
        """What the records say of a credential, unless its network is put off: SecretRejected is counted.

        Raises:
            Draining, QuotaExceeded, RecordsAway: not now.
        """
        self._check_draining()
        self._check_failures(peer)
        try:
            admission = await ask()
        except SecretRejected as error:
            self._failed(peer)
            if not self._directory.is_current():  # the tunnel or its new secret may be told in a moment
                raise RecordsAway(str(error), retry_after_seconds=RECORDS_SECONDS) from error
            raise
        self._check_draining()
        return admission

    def _check_draining(self) -> None:
        if self.draining:
            raise Draining("the edge is draining", retry_after_seconds=0.5)

    def _failed(self, peer: str) -> None:
        group = address_group(peer)
        self._failures[group] = [*self._failures.pop(group, ()), self._clock()]
        if len(self._failures) > REMEMBERED:
            del self._failures[next(iter(self._failures))]

    def _check_failures(self, peer: str) -> None:
        if self._loopback_exempt and is_loopback(peer):
            return
        group = address_group(peer)
        horizon = self._clock() - 60
        recent = [at for at in self._failures.pop(group, ()) if at > horizon]
        if recent:
            self._failures[group] = recent
        if len(recent) >= self._most:
            raise QuotaExceeded(
                f"{len(recent)} rejected credentials within a minute, at most {self._most}",
                retry_after_seconds=60.0,
            )
