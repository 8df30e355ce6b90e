"""TLS-ALPN-01: the challenge, of which ``acme`` 5 has no class any more, and the certificate that answers it.

Source: RFC 8737.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any, Final

import josepy as jose
from acme import challenges
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from wellhead.control.acme_account import pem_of

IDENTIFIER: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")  # id-pe-acmeIdentifier
_OCTETS_32: Final = b"\x04\x20"  # DER: OCTET STRING of 32 bytes
_LIFE: Final = dt.timedelta(days=1)


@challenges.ChallengeResponse.register
class TlsAlpn01Response(challenges.KeyAuthorizationChallengeResponse):
    typ = "tls-alpn-01"


@challenges.Challenge.register
class TlsAlpn01(challenges.KeyAuthorizationChallenge):
    """``validation`` is the key authorization, which ``answering_pair`` makes a certificate of."""

    response_cls = TlsAlpn01Response
    typ = response_cls.typ

    def validation(self, account_key: jose.JWK, **_: Any) -> str:
        return self.key_authorization(account_key)


def answering_pair(hostname: str, key_authorization: str, now: dt.datetime | None = None) -> tuple[str, str]:
    """A certificate, signed by itself, and its key, both PEM: what the edge shows to ``acme-tls/1``.

    Source: RFC 8737 section 3.
    """
    now = now or dt.datetime.now(dt.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    digest = hashlib.sha256(key_authorization.encode()).digest()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LIFE)
        .not_valid_after(now + _LIFE)
        # Without a subject the names must be critical (RFC 5280 section 4.2.1.6).
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(hostname)]), critical=True)
        .add_extension(x509.UnrecognizedExtension(IDENTIFIER, _OCTETS_32 + digest), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM).decode(), pem_of(key)
