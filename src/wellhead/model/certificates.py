"""Certificates as records: what an issuer gives."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and those it stands on. Both texts are PEM and end with a newline; times are UTC."""

    leaf_pem: str
    chain_pem: str  # the issuers, nearest first, without the leaf
    fingerprint_sha256: str  # of the leaf's DER: 64 hexadecimal digits, lower case
    not_before: datetime
    expires_at: datetime
    serial: str  # hexadecimal digits, lower case, no leading zero
