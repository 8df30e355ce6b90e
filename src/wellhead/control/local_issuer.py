"""The embedded issuer: signs with the server's own authority, and publishes what is void."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

from wellhead.control.issuing import issued
from wellhead.control.store.certificates import LOCAL, Certificates
from wellhead.errors import IssuerError
from wellhead.model.certificates import Issued
from wellhead.model.snapshot import utc_now

SKEW_MAX = timedelta(hours=1)  # how far a visitor's clock may be behind ours
LIST_LIFE = timedelta(days=7)  # of a revocation list, for those who keep it


class Authority(Protocol):
    """A key and its certificate, of which whoever holds them makes no more than signatures."""

    @property
    def certificate(self) -> x509.Certificate: ...

    def certify(
        self, key: CertificatePublicKeyTypes, names: Sequence[str], begins: datetime, ends: datetime
    ) -> x509.Certificate:
        """A server's certificate for these hostnames, ending with the authority's own at the latest.

        Raises:
            InputError: not a hostname.
        """

    def revocation_list(
        self, void: Sequence[tuple[int, datetime]], now: datetime, next_at: datetime
    ) -> x509.CertificateRevocationList:
        """The list of these serial numbers and since when they are void (RFC 5280 section 5)."""


class LocalIssuer:
    """``life`` is that of each certificate. What is revoked is told by the records alone."""

    name = LOCAL

    def __init__(
        self, authority: Authority, life: timedelta, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._authority = authority
        self._life = life
        self._clock = clock

    def renewal_id(self, leaf_pem: str) -> str | None:
        """None: all certificates are alike to it."""
        return None

    async def issue(
        self, csr: x509.CertificateSigningRequest, names: Sequence[str], replaces: str | None = None
    ) -> Issued:
        """
        Raises:
            IssuerError: the authority's own certificate is over.
        """
        now = self._clock()
        own = self._authority.certificate
        if own.not_valid_after_utc <= now:
            raise IssuerError("the local authority's certificate is over", reason="expired")
        begins, ends = now - min(SKEW_MAX, self._life / 10), now + self._life
        leaf = self._authority.certify(csr.public_key(), names, begins, ends)
        return issued("".join(each.public_bytes(Encoding.PEM).decode() for each in (leaf, own)))

    async def revoke(self, leaf_pem: str) -> None:
        """Nothing to do: the list is made of the records."""


class Revocations:
    """The local authority's list of certificates that are void, DER."""

    def __init__(
        self, authority: Authority, certificates: Certificates, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._authority = authority
        self._certificates = certificates
        self._clock = clock
        self._made: tuple[int, datetime, bytes] | None = None  # for strangers ask as often as they like

    async def der(self) -> bytes:
        """
        Raises:
            Unavailable: the database does not answer.
        """
        revision, now = self._certificates.revision, self._clock()
        if self._made is not None and self._made[0] == revision and now < self._made[1]:
            return self._made[2]
        void = await self._certificates.void()
        made = self._authority.revocation_list(void, now, now + LIST_LIFE).public_bytes(Encoding.DER)
        self._made = revision, now + LIST_LIFE / 2, made
        return made
