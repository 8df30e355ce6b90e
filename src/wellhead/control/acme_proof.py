"""How we show that a name is ours: one face for the three challenges, and who answers which.

A proof is put where the authority looks for it, stays while the authority looks, and is then removed.

Source: RFC 8555 section 8, RFC 8737.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from wellhead.control.acme_alpn import answering_pair
from wellhead.control.challenges import Challenges


class Proof(NamedTuple):
    """``hostname`` is without ``*.``; ``answer`` is the key authorization."""

    hostname: str
    token: str
    answer: str


class Prover(Protocol):
    """``kind`` is the challenge's type: "http-01", "tls-alpn-01", "dns-01"."""

    @property
    def kind(self) -> str: ...

    async def put(self, proof: Proof) -> None:
        """Return when the authority would find it.

        Raises:
            IssuerError: it cannot be put there, or is not seen in time.
        """

    async def remove(self, proof: Proof) -> None:
        """Take away what ``put`` has put, or has begun to. Idempotent.

        Raises:
            IssuerError: it stays there.
        """


class HttpProver:
    kind = "http-01"

    def __init__(self, challenges: Challenges) -> None:
        self._challenges = challenges

    async def put(self, proof: Proof) -> None:
        await self._challenges.put_http(proof.hostname, proof.token, proof.answer)

    async def remove(self, proof: Proof) -> None:
        await self._challenges.remove(proof.hostname, proof.token)


class AlpnProver:
    kind = "tls-alpn-01"

    def __init__(self, challenges: Challenges) -> None:
        self._challenges = challenges

    async def put(self, proof: Proof) -> None:
        await self._challenges.put_alpn(proof.hostname, *answering_pair(proof.hostname, proof.answer))

    async def remove(self, proof: Proof) -> None:
        await self._challenges.remove(proof.hostname)


class Records(Protocol):
    """TXT records in the DNS. Several values may stand at one name: a wildcard's and its domain's do."""

    async def add(self, name: str, value: str) -> None:
        """Add one value; return when every server of the zone answers with it.

        Raises:
            IssuerError: refused, or not seen within ``dns_wait_seconds``.
        """

    async def remove(self, name: str, value: str) -> None:
        """Remove one value, whether or not it is there.

        Raises:
            IssuerError: refused, or the provider is away.
        """


class DnsProver:
    """``end_of`` gives the name that a name is an alias of: there the record is written."""

    kind = "dns-01"

    def __init__(self, records: Records, end_of: Callable[[str], Awaitable[str]] | None = None) -> None:
        self._records = records
        self._end_of = end_of
        self._places: dict[Proof, str] = {}  # where it was put, if it is put

    async def put(self, proof: Proof) -> None:
        name, value = _record(proof)
        if self._end_of is not None:
            name = self._places[proof] = await self._end_of(name)
        await self._records.add(name, value)

    async def remove(self, proof: Proof) -> None:
        name, value = _record(proof)
        await self._records.remove(self._places.pop(proof, name), value)


def _record(proof: Proof) -> tuple[str, str]:
    digest = hashlib.sha256(proof.answer.encode()).digest()
    return f"_acme-challenge.{proof.hostname}", base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
