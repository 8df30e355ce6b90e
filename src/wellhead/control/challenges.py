"""What the edge answers for a certificate authority, as the control plane asks it to.

The edge alone is reached at the names that we show to be ours, and no tenant ever sees such a question.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from wellhead.errors import IssuerError, LinkError
from wellhead.wire.feed import AlpnChallenge, ChallengeOver, HttpChallenge

Tell = Callable[[HttpChallenge | AlpnChallenge | ChallengeOver], Awaitable[None]]


class Challenges(Protocol):
    """Each returns when the edge has it: who asks from then on is answered.

    Raises:
        IssuerError: the edge does not hear it.
    """

    async def put_http(self, hostname: str, token: str, answer: str) -> None:
        """Answer ``http://HOSTNAME/.well-known/acme-challenge/TOKEN`` with ``answer``.

        Source: RFC 8555 section 8.3.
        """

    async def put_alpn(self, hostname: str, certificate_pem: str, key_pem: str) -> None:
        """Show this certificate to whoever offers ``acme-tls/1`` alone for the hostname.

        Source: RFC 8737 section 3.
        """

    async def remove(self, hostname: str, token: str = "") -> None:
        """Forget the answer to ``token``; without one, the certificate for ``acme-tls/1``. Idempotent."""


class EdgesChallenges:
    """Has the edge answer; ``tell`` is the feed's. Where the edge does not hear it, that is IssuerError."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    async def put_http(self, hostname: str, token: str, answer: str) -> None:
        await self._ask(HttpChallenge(hostname, token, answer))

    async def put_alpn(self, hostname: str, certificate_pem: str, key_pem: str) -> None:
        await self._ask(AlpnChallenge(hostname, certificate_pem, key_pem))

    async def remove(self, hostname: str, token: str = "") -> None:
        await self._ask(ChallengeOver(hostname, token))

    async def _ask(self, message: HttpChallenge | AlpnChallenge | ChallengeOver) -> None:
        try:
            await self._tell(message)
        except LinkError as error:
            what = f"the edge does not answer for {message.hostname}: {error}"
            raise IssuerError(what, reason="edge-away") from error
