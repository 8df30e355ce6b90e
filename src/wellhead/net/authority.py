"""The local certificate authority of a server without public certificates.

It signs a certificate per hostname, when somebody first asks for it: clients refuse a wildcard
``*.localhost``, because a wildcard must have two labels behind it. Whoever trusts ``ca.pem`` trusts what
this server says it is, and nothing leaves the machine.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import ssl
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wellhead import private
from wellhead.errors import InputError, LocalStateError
from wellhead.net.tls import ALPN_HTTP, ALPN_VISITORS, load_pem, server_context

CA_DAYS: Final = 3650
LEAF_DAYS: Final = 90  # clients refuse more than 397
RENEW_DAYS: Final = 60  # a context in use is made anew at this age
SKEW: Final = dt.timedelta(hours=1)  # how far a client's clock may be behind ours
CONTEXTS: Final = 256  # 21 KiB each
PASSING = 16  # contexts of names of which there is nothing


class LocalAuthority:
    """Makes or loads ``ca.pem`` and ``ca.key`` (0600) in a private directory and hands out server contexts.

    ``certificate`` is its own, that of ``ca.pem``. What it signs names the URL ``void_list``,
    if there is one, for the list of those which are void.

    Contexts are kept, the least recently used dropped beyond ``contexts``. Every leaf has the same P-256 key,
    which lives as long as this object and is never stored.

    Raises:
        LocalStateError: the directory or a file is unsafe, corrupt, expired, or the two do not belong
            together.
    """

    def __init__(
        self,
        directory: Path,
        *,
        addresses: Iterable[str] = (),
        contexts: int = CONTEXTS,
        void_list: str | None = None,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self.ca_file = directory / "ca.pem"
        self._contexts = contexts
        self._void_list = void_list
        self._clock = clock
        self._key, self.certificate = _load_or_make(directory, clock())
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._leaf_key_pem = _key_pem(self._leaf_key)
        own = [ipaddress.ip_address(text) for text in ("127.0.0.1", "::1", *addresses)]
        self._addresses: tuple[x509.GeneralName, ...] = (
            x509.DNSName("localhost"),
            *(x509.IPAddress(ip) for ip in dict.fromkeys(own)),
        )
        self._cache: OrderedDict[tuple[str | None, tuple[str, ...]], _Minted] = OrderedDict()
        self._passing: OrderedDict[tuple[str | None, tuple[str, ...]], _Minted] = OrderedDict()

    def leaf_context(
        self, hostname: str, alpn: Sequence[str] = (ALPN_HTTP,), *, keep: bool = True
    ) -> ssl.SSLContext:
        """The context for one hostname (lower case, A-labels, no dot at its end).

        It certifies whatever it is asked for: the caller knows which names are ours. Without ``keep`` a new
        context stays with the last few of its kind, and none that is kept makes room for it: a browser whose
        user lets a certificate pass comes back at once, and gives up where it is shown another.

        Raises:
            InputError: not a hostname.
        """
        return self._context(hostname, tuple(alpn), keep)

    def keeps(self, hostname: str) -> bool:
        """Whether it has a context for visitors of this hostname."""
        return (hostname, ALPN_VISITORS) in self._cache

    def address_context(self, alpn: Sequence[str] = (ALPN_HTTP,)) -> ssl.SSLContext:
        """The context for those who dial an address and so send no name: 127.0.0.1, ::1, localhost."""
        return self._context(None, tuple(alpn))

    def certify(
        self, key: CertificatePublicKeyTypes, names: Sequence[str], begins: dt.datetime, ends: dt.datetime
    ) -> x509.Certificate:
        """A server's certificate for a key of somebody else's, ending with our own at the latest.

        Raises:
            InputError: not a hostname.
        """
        checked = [x509.DNSName(_checked(name)) for name in names]
        return self._sign(key, checked, begins, min(ends, self.certificate.not_valid_after_utc))

    def revocation_list(
        self, void: Sequence[tuple[int, dt.datetime]], now: dt.datetime, next_at: dt.datetime
    ) -> x509.CertificateRevocationList:
        """Serial numbers and since when they are void. Source: RFC 5280 section 5."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now)
            .next_update(next_at)
            # It must grow from list to list, past restarts too.
            .add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        for serial, since in void:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(since)
            builder = builder.add_revoked_certificate(revoked.build())
        return builder.sign(self._key, hashes.SHA256())

    def _context(self, hostname: str | None, alpn: tuple[str, ...], keep: bool = True) -> ssl.SSLContext:
        key = (hostname, alpn)
        now = self._clock()
        lasting = keep or key in self._cache
        cache, most = (self._cache, self._contexts) if lasting else (self._passing, PASSING)
        minted = cache.get(key)
        if minted is not None and minted.begins <= now < minted.renew:
            cache.move_to_end(key)
            return minted.context
        names = self._addresses if hostname is None else (x509.DNSName(_checked(hostname)),)
        minted = self._mint(names, alpn, now)
        cache[key] = minted
        cache.move_to_end(key)
        if len(cache) > most:
            cache.popitem(last=False)
        return minted.context

    def _mint(self, names: Sequence[x509.GeneralName], alpn: tuple[str, ...], now: dt.datetime) -> _Minted:
        begins = now - SKEW
        ends = min(now + dt.timedelta(days=LEAF_DAYS), self.certificate.not_valid_after_utc)
        certificate = self._sign(self._leaf_key.public_key(), names, begins, ends)
        context = server_context(alpn)
        load_pem(context, certificate.public_bytes(serialization.Encoding.PEM) + self._leaf_key_pem)
        return _Minted(context, begins, min(now + dt.timedelta(days=RENEW_DAYS), ends - SKEW))

    def _sign(
        self,
        public: CertificatePublicKeyTypes,
        names: Sequence[x509.GeneralName],
        begins: dt.datetime,
        ends: dt.datetime,
    ) -> x509.Certificate:
        first = str(names[0].value)
        builder = (
            x509.CertificateBuilder()
            # A common name has at most 64 characters; clients read the alternative names only.
            .subject_name(_name(first if len(first) <= 64 else "Wellhead"))
            .issuer_name(self.certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if self._void_list is not None:
            place = x509.DistributionPoint(
                [x509.UniformResourceIdentifier(self._void_list)], None, None, None
            )
            builder = builder.add_extension(x509.CRLDistributionPoints([place]), critical=False)
        return builder.sign(self._key, hashes.SHA256())


class _Minted(NamedTuple):
    context: ssl.SSLContext
    begins: dt.datetime
    renew: dt.datetime


def _load_or_make(directory: Path, now: dt.datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    private.make_directory(directory)
    key_file, certificate_file = directory / "ca.key", directory / "ca.pem"
    key_pem, certificate_pem = private.read(key_file), _read_public(certificate_file)
    if key_pem is None:
        if certificate_pem is not None:
            raise LocalStateError(
                f"{key_file} is missing beside {certificate_file}: "
                "restore it, or move ca.pem away to begin anew"
            )
        # The key first: a crash between the two leaves a key that nobody trusts yet, and which is used then.
        key_pem = _new_key()
        private.write(key_file, key_pem)
    key = _read_key(key_file, key_pem)
    if certificate_pem is None:
        certificate_pem = _self_signed(key, now)
        private.write(certificate_file, certificate_pem)
    return key, _read_certificate(certificate_file, certificate_pem, key, now)


def _read_public(path: Path) -> str | None:
    """A file that others may read, and that is believed only as far as the key beside it agrees."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, encoding="ascii", errors="replace") as file:
            return file.read(64 * 1024)
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = "it is a symbolic link" if path.is_symlink() else (error.strerror or str(error)).lower()
        raise LocalStateError(f"cannot read {path}: {reason}") from error


def _new_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return _key_pem(key).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _self_signed(key: ec.EllipticCurvePrivateKey, now: dt.datetime) -> str:
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    # Its own words in the name: OpenSSL looks issuers up by name, and two servers' may be in one store.
    name = _name(f"Wellhead local CA {identifier.digest.hex()[:8]}")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + dt.timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _read_key(path: Path, pem: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise LocalStateError(f"{path} holds no readable private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise LocalStateError(f"{path} holds a key of another kind, not an elliptic curve key")
    return key


def _read_certificate(
    path: Path, pem: str, key: ec.EllipticCurvePrivateKey, now: dt.datetime
) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        public = certificate.public_key()
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, x509.ExtensionNotFound, UnsupportedAlgorithm) as error:
        raise LocalStateError(f"{path} holds no readable CA certificate") from error
    if not constraints.ca:
        raise LocalStateError(f"{path} is not the certificate of an authority")
    if public != key.public_key():
        raise LocalStateError(f"{path} does not belong to the key beside it")
    if certificate.not_valid_after_utc <= now + dt.timedelta(days=1):
        ended = certificate.not_valid_after_utc.date()
        raise LocalStateError(f"{path} ends on {ended}; move it and its key away to begin anew")
    return certificate


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Wellhead"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _checked(hostname: str) -> str:
    labels = hostname.split(".")
    plain = hostname.replace(".", "").replace("-", "").replace("_", "")
    if not (len(hostname) <= 253 and plain.isascii() and plain.isalnum() and hostname == hostname.lower()):
        raise InputError(f"{hostname!r} is not a hostname")
    if not all(0 < len(label) <= 63 for label in labels):
        raise InputError(f"{hostname!r} has a label that is empty or longer than 63 characters")
    return hostname
