"""Requests to be signed (PKCS #10, RFC 2986): which are taken. Strict, for what is signed is believed.

A request must ask for exactly the tunnel's hostname, as its one alternative name or, as OpenSSL makes it by
itself, as its common name alone. Source: inkbox-tunnels, "4.2 sign-csr".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Never

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from wellhead.errors import BadRequest
from wellhead.model.text import shown

_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.UnsupportedGeneralNameType,
    x509.DuplicateExtension,
    x509.InvalidVersion,
)
CSR_MAX: Final = 16 * 1024  # bytes of PEM
RSA_BITS: Final = (2048, 4096)
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384"}
_HASHES = ("sha256", "sha384", "sha512")
_EXPONENT_MIN = 65537
_BEGIN = "-----BEGIN"


@dataclass(frozen=True, slots=True)
class CheckedCsr:
    csr: x509.CertificateSigningRequest
    digest: bytes  # SHA-256 of its DER
    key_digest: bytes  # SHA-256 of its public key's DER


def check(pem: str, hostname: str) -> CheckedCsr:
    """A request that may be signed for this hostname.

    Raises:
        BadRequest: says which rule it breaks.
    """
    text = pem.encode(errors="replace")
    if (size := len(text)) > CSR_MAX:
        _refuse(f"has {size} bytes, at most {CSR_MAX} are allowed")
    if pem.count(_BEGIN) != 1:
        _refuse("must be one PEM block, -----BEGIN CERTIFICATE REQUEST-----")
    try:
        csr = x509.load_pem_x509_csr(text)
        key, extensions, subject = csr.public_key(), csr.extensions, csr.subject
        names = _names(extensions)
        _check_key(key)
        _check_signature(csr)
    except _UNREADABLE as error:
        raise BadRequest(400, "csr_pem cannot be read as a certificate signing request") from error
    _check_names(names, subject, hostname)
    _check_constraints(extensions)
    der = csr.public_bytes(Encoding.DER)
    return CheckedCsr(csr, hashlib.sha256(der).digest(), key_digest(key))


def key_digest(key: CertificatePublicKeyTypes) -> bytes:
    """SHA-256 of a public key's SubjectPublicKeyInfo, DER."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def _refuse(rule: str) -> Never:
    raise BadRequest(400, f"csr_pem {rule}")


def _names(extensions: x509.Extensions) -> list[x509.GeneralName] | None:
    try:
        return list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return None


def _check_key(key: CertificatePublicKeyTypes) -> None:
    match key:
        case ec.EllipticCurvePublicKey():
            if key.curve.name not in _CURVES:
                _refuse(f"has a key on the curve {key.curve.name}, P-256 or P-384 are allowed")
        case rsa.RSAPublicKey():
            least, most = RSA_BITS
            if not least <= key.key_size <= most:
                _refuse(f"has an RSA key of {key.key_size} bits, {least} to {most} are allowed")
            if key.public_numbers().e < _EXPONENT_MIN:
                _refuse(f"has an RSA key with the exponent {key.public_numbers().e}, 65537 is the least")
        case _:
            _refuse("has a key of another kind than EC (P-256, P-384) and RSA")


def _check_signature(csr: x509.CertificateSigningRequest) -> None:
    algorithm = csr.signature_hash_algorithm
    if algorithm is None or algorithm.name not in _HASHES:
        _refuse(
            f"is signed over {algorithm.name if algorithm else 'no hash'}, SHA-256, 384 or 512 are allowed"
        )
    try:
        valid = csr.is_signature_valid
    except InvalidSignature:
        valid = False
    if not valid:
        _refuse("is not signed by the key in it")


def _check_names(names: list[x509.GeneralName] | None, subject: x509.Name, hostname: str) -> None:
    common = [str(each.value) for each in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if wrong := [name for name in common if name.lower() != hostname]:
        _refuse(f"has the common name {shown(wrong[0])}, only {hostname} is allowed")
    if subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS):
        _refuse("has an e-mail address in its subject")
    if names is None:
        if not common:
            _refuse(f"names nothing: its alternative name must be {hostname}")
        return
    for name in names:
        if not isinstance(name, x509.DNSName):
            _refuse(f"has an alternative name that is no DNS name: only {hostname} is allowed")
        if name.value.lower() != hostname:
            _refuse(f"has the alternative name {shown(name.value)}, only {hostname} is allowed")
    if len(names) != 1:
        _refuse(f"has {len(names)} alternative names, {hostname} once is allowed")


def _check_constraints(extensions: x509.Extensions) -> None:
    for extension in extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints) and value.ca:
            _refuse("asks for an authority's certificate (CA:TRUE)")
        if isinstance(value, x509.KeyUsage) and (value.key_cert_sign or value.crl_sign):
            _refuse("asks for the right to sign certificates")
