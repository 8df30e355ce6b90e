"""The agent's own certificate: a key that never leaves this machine, and what the server had signed for it.

``$WELLHEAD_HOME/tunnels/{name}/``, each file 0600 and replaced as a whole::

    tls-key.pem        EC P-256. It stays when the certificate is renewed, so that a renewal replaces one file
    tls-chain.pem      the certificate, then its issuers
    tls-request.pem    the request that is not answered yet: asked again it is the same one, and one order

A new key is made where there is none, where it cannot be read, and where its certificate was revoked.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from wellhead import private
from wellhead.errors import LocalStateError
from wellhead.logs import Log
from wellhead.model.names import check_name
from wellhead.net.keypair import KeyPair, key_pair

KEY: Final = "tls-key.pem"
CHAIN: Final = "tls-chain.pem"
REQUEST: Final = "tls-request.pem"
MAX_COMMON_NAME: Final = 64  # characters, X.520
_log = Log("wellhead.agent")


class Signed(Protocol):
    """What the server answers to a request; both PEM."""

    @property
    def cert_pem(self) -> str: ...
    @property
    def chain_pem(self) -> str: ...


Sign = Callable[[str], Awaitable[Signed]]
"""Has a request (PEM) signed. Raises ApiError, LinkError."""


class CertificateFiles:
    """The files of one tunnel's certificate for ``hostname``.

    Raises:
        InputError: not a tunnel's name.
    """

    def __init__(self, home: Path, name: str, hostname: str) -> None:
        self.directory = home / "tunnels" / check_name(name)
        self.hostname = hostname

    @property
    def signed_at(self) -> dt.datetime | None:
        """When the certificate was put here; None where there is none."""
        try:
            return dt.datetime.fromtimestamp((self.directory / CHAIN).stat().st_mtime, dt.UTC)
        except OSError:
            return None

    def load(self, now: dt.datetime) -> KeyPair | None:
        """The certificate that fits: its key, its name and its time. None where there is none at all.

        Raises:
            LocalStateError: there is one and it does not fit, or the files are unsafe; the text says why.
        """
        if not self.directory.exists() and not self.directory.is_symlink():
            return None
        private.check_directory(self.directory)
        chain_pem, key_pem = private.read(self.directory / CHAIN), private.read(self.directory / KEY)
        if chain_pem is None or key_pem is None:
            return None
        return self._pair(chain_pem, key_pem, now)

    def key(self) -> ec.EllipticCurvePrivateKey:
        """The key, which is made where there is none that can be used.

        Raises:
            LocalStateError: the directory is unsafe, or it cannot be written.
        """
        self._make_directory()
        text = private.read(self.directory / KEY)
        if text is not None:
            try:
                key = serialization.load_pem_private_key(text.encode(), password=None)
                if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
                    return key
                why = "it is not of the kind EC P-256"
            except (ValueError, TypeError) as error:
                why = str(error)
            _log.warning("the key cannot be used, a new one is made", file=self.directory / KEY, why=why)
        return self.new_key()

    def new_key(self) -> ec.EllipticCurvePrivateKey:
        """A new key in place of the old one, whose certificate is good for nothing from here on."""
        self._make_directory()
        self._drop(REQUEST)
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        private.write(self.directory / KEY, pem.decode())
        return key

    def request(self, key: ec.EllipticCurvePrivateKey) -> str:
        """The request (PEM) to be signed: the one that was not answered, or a new one."""
        kept = private.read(self.directory / REQUEST)
        if kept is not None and self._is_ours(kept, key):
            return kept
        pem = make_request(key, self.hostname)
        private.write(self.directory / REQUEST, pem)
        return pem

    def answered(self, signed: Signed, key: ec.EllipticCurvePrivateKey, now: dt.datetime) -> KeyPair:
        """Take the server's answer, and keep it where it fits.

        Raises:
            LocalStateError: it does not fit; what was there before is kept.
        """
        chain_pem = _joined(signed.cert_pem, signed.chain_pem)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._drop(REQUEST)  # whatever it is: this request has had its answer
        pair = self._pair(chain_pem, pem.decode(), now)
        try:
            private.write(self.directory / CHAIN, chain_pem)
        except LocalStateError as error:  # a full disk: it is shown all the same
            _log.error("certificate not kept", error=error)
        return pair

    def _pair(self, chain_pem: str, key_pem: str, now: dt.datetime) -> KeyPair:
        source = self.directory / CHAIN
        pair = key_pair(chain_pem, key_pem, source=source, key_source=self.directory / KEY)
        if self.hostname not in pair.names:
            names = ", ".join(sorted(pair.names))
            raise LocalStateError(f"{source} is a certificate for {names}, not for {self.hostname}")
        if why := pair.out_of_time(now):
            raise LocalStateError(why)
        return pair

    def _is_ours(self, pem: str, key: ec.EllipticCurvePrivateKey) -> bool:
        try:
            request = x509.load_pem_x509_csr(pem.encode())
            names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, x509.ExtensionNotFound):
            return False
        asked = names.get_values_for_type(x509.DNSName)
        return request.public_key() == key.public_key() and asked == [self.hostname]

    def _make_directory(self) -> None:
        for directory in (self.directory.parent.parent, self.directory.parent, self.directory):
            private.make_directory(directory)

    def _drop(self, name: str) -> None:
        (self.directory / name).unlink(missing_ok=True)


def make_request(key: ec.EllipticCurvePrivateKey, hostname: str) -> str:
    """A certificate signing request (PEM) for one hostname: as alternative name, and as common name too
    where it fits.
    """
    short = len(hostname) <= MAX_COMMON_NAME
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, hostname)] if short else []
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name(subject))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(hostname)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return request.public_bytes(serialization.Encoding.PEM).decode()


def _joined(*texts: str) -> str:
    return "".join(text if not text or text.endswith("\n") else text + "\n" for text in texts)
