"""Requests to be signed, good and bad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict, Unpack, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Asked(TypedDict, total=False):
    """What ``request_for`` can be told beside names."""

    common: str | Sequence[str]
    key: PrivateKey | None
    over: hashes.HashAlgorithm | None
    extensions: Sequence[x509.ExtensionType]
    email: str | None


def request_for(
    *names: str | x509.GeneralName,
    common: str | Sequence[str] = (),
    key: PrivateKey | None = None,
    over: hashes.HashAlgorithm | None = None,
    extensions: Sequence[x509.ExtensionType] = (),
    email: str | None = None,
) -> x509.CertificateSigningRequest:
    """A request for these alternative names, with a fresh P-256 key where none is given."""
    subject = [
        x509.NameAttribute(NameOID.COMMON_NAME, name)
        for name in ([common] if isinstance(common, str) else common)
    ]
    if email is not None:
        subject.append(x509.NameAttribute(NameOID.EMAIL_ADDRESS, email))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if names:
        general = [x509.DNSName(name) if isinstance(name, str) else name for name in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    key = key or ec.generate_private_key(ec.SECP256R1())
    return builder.sign(key, cast(hashes.SHA256, over or hashes.SHA256()))


def pem_for(*names: str | x509.GeneralName, **asked: Unpack[Asked]) -> str:
    """``request_for``, as PEM."""
    return request_for(*names, **asked).public_bytes(Encoding.PEM).decode()
