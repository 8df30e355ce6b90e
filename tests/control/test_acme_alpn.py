"""The certificate that answers TLS-ALPN-01 (RFC 8737 section 3)."""

from __future__ import annotations

import hashlib

from acme import challenges
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from wellhead.control.acme_alpn import IDENTIFIER, TlsAlpn01, answering_pair


def test_it_carries_the_digest_critically_for_one_name_and_is_signed_by_itself() -> None:
    certificate_pem, key_pem = answering_pair("a.example.org", "token.thumbprint")
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    found = certificate.extensions.get_extension_for_oid(IDENTIFIER)
    assert found.critical and isinstance(found.value, x509.UnrecognizedExtension)
    assert found.value.value == b"\x04\x20" + hashlib.sha256(b"token.thumbprint").digest()
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(names.value) == [x509.DNSName("a.example.org")]
    key = load_pem_private_key(key_pem.encode(), password=None)
    assert key.public_key() == certificate.public_key()
    certificate.verify_directly_issued_by(certificate)


def test_the_library_knows_the_challenge_by_our_class() -> None:
    offered = {"type": "tls-alpn-01", "token": "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"}
    found = challenges.Challenge.from_json(offered)
    assert isinstance(found, TlsAlpn01) and found.encode("token") == offered["token"]
