"""Certificates, contexts and ClientHellos for tests, made at run time."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from wellhead.net.authority import LocalAuthority
from wellhead.net.tls import ClientContext, client_context


def authority(directory: Path, *, days_ago: int = 0, contexts: int = 256) -> LocalAuthority:
    """A CA in a new folder of ``directory``, whose clock is ``days_ago`` behind."""
    return LocalAuthority(
        directory / f"ca-{days_ago}",
        contexts=contexts,
        clock=lambda: dt.datetime.now(dt.UTC) - dt.timedelta(days=days_ago),
    )


def trusting(ca: LocalAuthority, alpn: Sequence[str] = ()) -> ClientContext:
    """A client's context that trusts this CA alone."""
    return client_context(ca_file=ca.ca_file, alpn=alpn)


def client_hello(
    name: str | None = "a.localhost", alpn: Sequence[str] = (), *, only: ssl.TLSVersion | None = None
) -> bytes:
    """The first bytes of a real client: one record with a ClientHello."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if only is not None:
        context.minimum_version = context.maximum_version = only
    outgoing = ssl.MemoryBIO()
    try:
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def padded(hello: bytes, size: int) -> bytes:
    """The same hello with one more extension, so that its handshake message has ``size`` bytes."""
    body = bytearray(hello[5:])
    at = 4 + 2 + 32
    at += 1 + body[at]  # session
    at += 2 + int.from_bytes(body[at : at + 2], "big")  # ciphers
    at += 1 + body[at]  # compressions
    body += b"\xff\x77" + (size - len(body) - 4).to_bytes(2, "big")
    body += bytes(size - len(body))
    body[at : at + 2] = (len(body) - at - 2).to_bytes(2, "big")
    body[1:4] = (len(body) - 4).to_bytes(3, "big")
    return hello[:3] + (len(body) & 0xFFFF).to_bytes(2, "big") + bytes(body)


def in_records(hello: bytes, size: int) -> bytes:
    """The same handshake message in records of at most ``size`` bytes."""
    body = hello[5:]
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(hello[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def self_signed(name: str, *addresses: str) -> tuple[bytes, bytes]:
    """A key and a certificate for a name and addresses, PEM; the certificate is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName(name), *(x509.IPAddress(ip_address(address)) for address in addresses)]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return key_pem, certificate.public_bytes(serialization.Encoding.PEM)
