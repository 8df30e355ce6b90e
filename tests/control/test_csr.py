"""Which requests are signed: for the tunnel's name and nothing else, by a key that is worth it."""

from __future__ import annotations

import base64
import ipaddress
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.kit.csr import pem_for
from wellhead.control.csr import CSR_MAX, check
from wellhead.errors import BadRequest

HOST = "my-agent.example.org"
AUTHORITY = x509.BasicConstraints(ca=True, path_length=0)
SIGNER = x509.KeyUsage(
    digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
    key_agreement=False, key_cert_sign=True, crl_sign=False, encipher_only=False, decipher_only=False,
)  # fmt: skip
RSA_2048 = rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    "pem",
    [
        pem_for(HOST),
        pem_for(HOST, common=HOST),
        pem_for(common=HOST),
        pem_for(HOST.upper(), common="My-Agent.example.org"),
        pem_for(HOST, key=RSA_2048),
        pem_for(HOST, key=ec.generate_private_key(ec.SECP384R1()), over=hashes.SHA384()),
        pem_for(HOST, extensions=[x509.BasicConstraints(ca=False, path_length=None)]),
        pem_for(HOST, extensions=[x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])]),
    ],
)
def test_a_pem_for_the_tunnels_name_is_taken(pem: str) -> None:
    checked = check(pem, HOST)
    assert checked.csr.is_signature_valid and len(checked.digest) == len(checked.key_digest) == 32
    assert check(pem + "\n", HOST).digest == checked.digest, "the request counts, not its spelling"


@pytest.mark.parametrize(
    ("pem", "says"),
    [
        (pem_for("other.example.org"), "only my-agent.example.org"),
        (pem_for(HOST, "other.example.org"), "only my-agent.example.org"),
        (pem_for(HOST, HOST), "2 alternative names"),
        (pem_for(HOST + "."), "only my-agent.example.org"),
        (pem_for("*.example.org"), "alternative name"),
        (pem_for(HOST, "*." + HOST), "alternative name"),
        (pem_for(HOST, x509.IPAddress(ipaddress.ip_address("192.0.2.7"))), "no DNS name"),
        (pem_for(HOST, x509.RFC822Name("me@example.org")), "no DNS name"),
        (pem_for(HOST, x509.UniformResourceIdentifier("https://example.org/")), "no DNS name"),
        (pem_for(HOST, common="other.example.org"), "common name"),
        (pem_for(HOST, common=[HOST, "other.example.org"]), "common name"),
        (pem_for(HOST, email="me@example.org"), "e-mail"),
        (pem_for(), "names nothing"),
        (pem_for(common="*.example.org"), "common name"),
        (pem_for(HOST, extensions=[AUTHORITY]), "CA:TRUE"),
        (pem_for(HOST, extensions=[SIGNER]), "sign certificates"),
        (pem_for(HOST, key=rsa.generate_private_key(65537, 1024)), "1024 bits"),
        (pem_for(HOST, key=rsa.generate_private_key(3, 2048)), "exponent 3"),
        (pem_for(HOST, key=ec.generate_private_key(ec.SECP192R1())), "secp192r1"),
        (pem_for(HOST, key=ec.generate_private_key(ec.SECP521R1())), "secp521r1"),
        (pem_for(HOST, over=hashes.SHA224()), "sha224"),
        ("", "one PEM block"),
        ("no PEM", "one PEM block"),
        (pem_for(HOST) * 2, "one PEM block"),
        (pem_for(HOST).replace("CERTIFICATE REQUEST", "CERTIFICATE"), "cannot be read"),
        ("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "cannot be read"),
        ("-----BEGIN \ud800", "cannot be read"),
        ("\u00fc" * 9000, f"at most {CSR_MAX}"),
        (pem_for(HOST) + "#" * CSR_MAX, f"at most {CSR_MAX}"),
    ],
)
def test_any_other_request_is_refused_by_the_rule_it_breaks(pem: str, says: str) -> None:
    with pytest.raises(BadRequest, match=says.replace("*", r"\*")) as refused:
        check(pem, HOST)
    assert refused.value.status == 400 and refused.value.detail.startswith("csr_pem ")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\x06\x03\x55\x1d\x13", b"\x06\x03\x55\x1d\x11"),  # a second extension of alternative names
        (b"\x02\x01\x00", b"\x02\x01\x01"),  # a version that there is not
    ],
)
def test_a_request_that_is_only_nearly_one_cannot_be_read(old: bytes, new: bytes) -> None:
    pem = pem_for(HOST, extensions=[x509.BasicConstraints(ca=False, path_length=None)])
    der = x509.load_pem_x509_csr(pem.encode()).public_bytes(Encoding.DER)
    assert old in der
    with pytest.raises(BadRequest, match="cannot be read"):
        check(_pem(der.replace(old, new, 1)), HOST)


def test_a_huge_rsa_key_is_refused() -> None:
    # Made to look so: to make one takes a minute. Its signature is not even looked at.
    with pytest.raises(BadRequest, match="4104 bits"):
        check(_with_modulus(pem_for(HOST, key=RSA_2048), 4104), HOST)


def test_a_signature_of_another_key_is_refused() -> None:
    mine, theirs = (x509.load_pem_x509_csr(pem_for(HOST).encode()) for _ in range(2))
    der = mine.public_bytes(Encoding.DER)
    assert len(mine.signature) >= 68
    forged = bytearray(der)
    forged[-1] ^= 1
    for wrong in (bytes(forged), der.replace(mine.tbs_certrequest_bytes, _same_length(mine, theirs))):
        with pytest.raises(BadRequest, match=r"not signed by the key|cannot be read"):
            check(_pem(wrong), HOST)


def test_a_sha1_signature_is_refused(tmp_path: Path) -> None:
    made = subprocess.run(
        ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", str(tmp_path / "key"),
         "-sha1", "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    with pytest.raises(BadRequest, match="sha1"):
        check(made.stdout, HOST)


def _same_length(mine: x509.CertificateSigningRequest, theirs: x509.CertificateSigningRequest) -> bytes:
    assert len(mine.tbs_certrequest_bytes) == len(theirs.tbs_certrequest_bytes)
    return theirs.tbs_certrequest_bytes


def _pem(der: bytes) -> str:
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n"


def _with_modulus(pem: str, bits: int) -> str:
    """The same request with an RSA key of so many bits in place of its own, and so with a wrong signature."""
    csr = x509.load_pem_x509_csr(pem.encode())
    key = rsa.RSAPublicNumbers(65537, (1 << bits) - 1).public_key()
    old = csr.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    new = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    info = csr.tbs_certrequest_bytes
    whole = csr.public_bytes(Encoding.DER)[4:].replace(info, _sequence(info[4:].replace(old, new)))
    return _pem(_sequence(whole))


def _sequence(body: bytes) -> bytes:
    return b"\x30\x82" + len(body).to_bytes(2, "big") + body
