"""An authority that signs what a test lets it, for an agent whose time a test makes pass."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.kit.certs import HOUR, Root
from wellhead.agent.certificate import CertificateFiles

NAME = "my-agent.localhost"


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def files_in(home: Path) -> CertificateFiles:
    return CertificateFiles(home / "home", "my-agent", NAME)


@dataclass(frozen=True)
class Signed:
    cert_pem: str
    chain_pem: str


class Signer:
    """``failures`` are raised before anything is signed; ``asked`` is what was to be signed."""

    def __init__(self) -> None:
        self.root = Root()
        self.asked: list[str] = []
        self.failures: list[Exception] = []
        self.life = dt.timedelta(days=90)
        self.clock = now

    async def __call__(self, csr_pem: str) -> Signed:
        self.asked.append(csr_pem)
        if self.failures:
            raise self.failures.pop(0)
        return self.sign_now(csr_pem)

    def sign_now(self, csr_pem: str) -> Signed:
        request = x509.load_pem_x509_csr(csr_pem.encode())
        assert request.is_signature_valid
        later = self.clock() - now()
        pem = self.root.sign(request, begins=later - HOUR, ends=later + self.life)
        return Signed(pem, "")


def public_key(pem: str) -> bytes:
    """Of a request."""
    return (
        x509.load_pem_x509_csr(pem.encode())
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
