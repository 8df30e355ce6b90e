"""Who signs certificates: one face for the local authority and for public ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from wellhead.errors import IssuerError
from wellhead.model.certificates import Issued


class Issuer(Protocol):
    """``name`` is a constant word for records and logs: "local", "acme"."""

    @property
    def name(self) -> str: ...

    def renewal_id(self, leaf_pem: str) -> str | None:
        """How a certificate of this issuer is named when another replaces it; None where it is not."""

    async def issue(
        self, csr: x509.CertificateSigningRequest, names: Sequence[str], replaces: str | None = None
    ) -> Issued:
        """A certificate for the request's key and exactly these hostnames. The request was checked.

        ``replaces``: the ``renewal_id`` of the one before, so that the issuer knows a renewal.

        Raises:
            IssuerError: the authority refuses, or is away.
        """

    async def revoke(self, leaf_pem: str) -> None:
        """Declare a certificate of this issuer void. Twice is as once.

        Raises:
            IssuerError: the authority refuses, or is away.
        """


def issued(chain_pem: str) -> Issued:
    """What an authority's answer holds: the leaf first, then its issuers.

    Raises:
        IssuerError: not PEM, or no certificate in it.
    """
    try:
        leaf, *rest = x509.load_pem_x509_certificates(chain_pem.encode())
    except ValueError as error:
        raise IssuerError("the issuer's answer holds no certificate", reason="bad-answer") from error
    return Issued(
        leaf_pem=_pem(leaf),
        chain_pem="".join(map(_pem, rest)),
        fingerprint_sha256=leaf.fingerprint(hashes.SHA256()).hex(),
        not_before=leaf.not_valid_before_utc,
        expires_at=leaf.not_valid_after_utc,
        serial=f"{leaf.serial_number:x}",
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
