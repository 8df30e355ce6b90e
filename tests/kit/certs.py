"""Certificates, contexts and ClientHellos for tests, made at run time."""

from __future__ import annotations

import contextlib
import datetime as dt
import ssl
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PrivateKeyTypes
from cryptography.x509.oid import NameOID

from wellhead.net.authority import LocalAuthority
from wellhead.net.tls import ClientContext, client_context

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)


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
    return key_pem(key).encode(), certificate.public_bytes(serialization.Encoding.PEM)


class Root:
    """An authority of a test's own, whose certificates are for whatever names and times the test wants."""

    def __init__(self, name: str = "Test Root") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._serial = 0
        self.pem = self._sign(self._subject, self._key.public_key(), (), -DAY, 3650 * DAY)

    def pair(
        self,
        *names: str,
        begins: dt.timedelta = dt.timedelta(hours=-1),
        ends: dt.timedelta = dt.timedelta(days=90),
    ) -> tuple[str, str]:
        """Certificate and key, PEM; the times are from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64] if names else "nobody")])
        return self._sign(subject, key.public_key(), names, begins, ends), key_pem(key)

    def sign(
        self, request: x509.CertificateSigningRequest, *, begins: dt.timedelta, ends: dt.timedelta
    ) -> str:
        """A certificate for the names of a request, PEM; the times are from now."""
        asked = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = asked.get_values_for_type(x509.DNSName)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
        return self._sign(subject, request.public_key(), names, begins, ends)

    def put(self, directory: Path, stem: str, pair: tuple[str, str]) -> tuple[Path, Path]:
        """Write a pair as the operator's files, each replaced as a whole."""
        files = directory / f"{stem}.pem", directory / f"{stem}.key"
        for path, text in zip(files, pair, strict=True):
            fresh = path.with_suffix(path.suffix + ".new")
            fresh.touch(0o600)
            fresh.write_text(text)
            fresh.replace(path)
        return files

    def trust(self, alpn: Sequence[str] = ()) -> ssl.SSLContext:
        """A client's context that trusts this authority alone."""
        context = ssl.create_default_context(cadata=self.pem)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    def _sign(
        self,
        subject: x509.Name,
        key: CertificatePublicKeyTypes,
        names: Sequence[str],
        begins: dt.timedelta,
        ends: dt.timedelta,
    ) -> str:
        now = dt.datetime.now(dt.UTC)
        self._serial += 1
        constraints = x509.BasicConstraints(ca=subject == self._subject, path_length=None)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key)
            .serial_number(self._serial)
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(constraints, critical=True)
        )
        if names:
            found = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(found, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def key_pem(key: PrivateKeyTypes, passphrase: bytes = b"") -> str:
    """A private key as a file has it, encrypted where there is a passphrase."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    ).decode()


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None) -> ssl.SSLObject:
    """A handshake in memory; the client's end of it, once both are through.

    Raises:
        ssl.SSLError: one of them refuses.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname=name)
    for side in (theirs, ours, theirs, ours):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return theirs


def shown(tls: ssl.SSLObject | ssl.SSLSocket) -> x509.Certificate:
    """The certificate that a client was shown."""
    der = tls.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def names_of(certificate: x509.Certificate) -> list[str]:
    """Its alternative names."""
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in found]
