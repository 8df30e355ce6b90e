"""A certificate with its key, read from files and looked through before anybody is shown it."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from wellhead import issued, private
from wellhead.errors import LocalStateError
from wellhead.net.tls import load_pem, server_context

SKEW: Final = dt.timedelta(minutes=5)  # how far the issuer's clock may be ahead of ours
MAX_CHAIN_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class KeyPair:
    """``names`` are the certificate's DNS names, lower case, wildcards among them. Times are UTC."""

    names: frozenset[str]
    begins: dt.datetime
    ends: dt.datetime
    fingerprint: str  # SHA-256 of the certificate, hexadecimal
    source: Path  # where it was read, for people
    _pem: bytes = field(repr=False)

    @property
    def life(self) -> dt.timedelta:
        return self.ends - self.begins

    def out_of_time(self, now: dt.datetime) -> str:
        """Why it is not good now, "" where it is."""
        if self.ends <= now:
            return f"{self.source} ended on {self.ends:%Y-%m-%d %H:%M} UTC"
        if self.begins > now + SKEW:
            return f"{self.source} begins on {self.begins:%Y-%m-%d %H:%M} UTC only"
        return ""

    def context(self, alpn: Sequence[str]) -> ssl.SSLContext:
        """A new context for connections that are shown this certificate. It takes a millisecond."""
        context = server_context(alpn)
        load_pem(context, self._pem)
        return context


def read_operators(chain_file: Path, key_file: Path) -> KeyPair:
    """The pair of two files of the operator's; the key may be in the chain's file.

    Raises:
        LocalStateError: a file cannot be read, is open to others, or is refused by ``key_pair``.
    """
    try:
        with chain_file.open(encoding="utf-8") as file:
            chain_pem = file.read(MAX_CHAIN_BYTES)
    except OSError as error:
        raise LocalStateError(
            f"cannot read {chain_file}: {(error.strerror or str(error)).lower()}"
        ) from error
    except UnicodeDecodeError as error:
        raise LocalStateError(f"{chain_file} holds no certificate in PEM form") from error
    return key_pair(chain_pem, private.read_kept(key_file), source=chain_file, key_source=key_file)


def read_issued(entry: Path) -> KeyPair | None:
    """The pair in a directory that ``issued.put`` wrote, None where there is none.

    Raises:
        LocalStateError: as ``issued.get`` and ``key_pair``.
    """
    refused: LocalStateError | None = None
    # Between the reading of chain and key they may have been replaced: then all is read again.
    for _ in range(2):
        if (files := issued.get(entry)) is None:
            return None
        for key_pem in files.keys:
            try:
                return key_pair(
                    files.chain_pem, key_pem, source=entry / issued.CHAIN, key_source=entry / issued.KEY
                )
            except LocalStateError as error:
                refused = error
    assert refused is not None
    raise refused


def key_pair(chain_pem: str, key_pem: str, *, source: Path, key_source: Path) -> KeyPair:
    """Look through a certificate, its issuers behind it, and its key, whatever the time is.

    Raises:
        LocalStateError: not PEM, no name, another certificate's key, or not to OpenSSL's taste; the text
            names the file.
    """
    try:
        certificates = x509.load_pem_x509_certificates(chain_pem.encode())
        leaf = certificates[0]
        public = leaf.public_key()
        names = _names(leaf)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise LocalStateError(f"{source} holds no certificate in PEM form") from error
    key = _key(key_pem, key_source)
    if key.public_key() != public:
        raise LocalStateError(f"{key_source} is not the key of the first certificate in {source}")
    if not names:
        raise LocalStateError(f"{source} certifies no hostname: its subject alternative name has none")
    private_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates) + private_pem
    try:
        load_pem(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pem)
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).replace("_", " ").lower()
        raise LocalStateError(f"{source} cannot be served: {reason}") from error
    return KeyPair(
        names=names,
        begins=leaf.not_valid_before_utc,
        ends=leaf.not_valid_after_utc,
        fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
        source=source,
        _pem=pem,
    )


def _names(leaf: x509.Certificate) -> frozenset[str]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(name.lower().removesuffix(".") for name in found.get_values_for_type(x509.DNSName))


def _key(pem: str, source: Path) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(pem.encode(), password=None)
    except TypeError as error:
        raise LocalStateError(
            f"{source} is encrypted: the server needs the key without a passphrase"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise LocalStateError(f"{source} holds no readable private key") from error
