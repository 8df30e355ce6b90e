"""Certificates as records: what an issuer gives, and what is kept of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from wellhead.model.records import OrganizationId, TunnelId


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and those it stands on. Both texts are PEM and end with a newline; times are UTC."""

    leaf_pem: str
    chain_pem: str  # the issuers, nearest first, without the leaf
    fingerprint_sha256: str  # of the leaf's DER: 64 hexadecimal digits, lower case
    not_before: datetime
    expires_at: datetime
    serial: str  # hexadecimal digits, lower case, no leading zero

    @property
    def renew_at(self) -> datetime:
        """When a third of its life is left."""
        return self.expires_at - (self.expires_at - self.not_before) / 3


@dataclass(frozen=True, slots=True)
class SignedCertificate:
    """What an agent gets for its request. Both texts are PEM and end with a newline.

    Source: inkbox-tunnels, "2.3 Objects", SignedCert.
    """

    cert_pem: str
    chain_pem: str  # the issuers, nearest first, without the leaf
    cert_fingerprint_sha256: str  # 64 hexadecimal digits
    cert_expires_at: datetime


class CertificateStatus(enum.Enum):
    ISSUED = "issued"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """A certificate that the server itself has from a public issuer, and what came of the last tries."""

    name: str  # of the certificate: a hostname, or "*.example.org"
    expires_at: datetime | None  # None: there is none yet
    days_left: float | None
    failures: int  # orders in a row that failed
    reason: str  # of the last failure, as a sentence


@dataclass(frozen=True, slots=True)
class CertificateRecord:
    """A tunnel's certificate as the REST API gives it; the keys are with the tunnel's agents alone."""

    id: str
    organization_id: OrganizationId
    tunnel_id: TunnelId
    hostname: str
    issuer: str  # "local", "acme"
    status: CertificateStatus
    serial: str  # hexadecimal digits
    fingerprint_sha256: str
    issued_at: datetime
    not_before: datetime
    expires_at: datetime
    days_left: float  # 0 where it is over
    renew_at: datetime  # when the agent is to have the next one
    revoked_at: datetime | None = None
