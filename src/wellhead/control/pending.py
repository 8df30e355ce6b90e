"""What a restart finds of certificates that are not there yet: keys with their requests, and failures."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from wellhead import issued, private
from wellhead.control.acme_account import pem_of
from wellhead.errors import LocalStateError
from wellhead.logs import Log

REQUESTS: Final = "pending"
FAILURES: Final = "failures.json"

_log = Log("wellhead.control")


class Failed(NamedTuple):
    """Failures in a row, and when the next try may be."""

    in_a_row: int
    not_before: dt.datetime


class Pending:
    """
    Raises:
        LocalStateError: the directory is unsafe.
    """

    def __init__(self, directory: Path) -> None:
        self._requests = private.make_directory(private.make_directory(directory) / REQUESTS)
        self._failures = directory / FAILURES

    def request(self, names: Sequence[str]) -> tuple[str, x509.CertificateSigningRequest]:
        """The key, PEM, and the request of the certificate that is to come: made once, until ``forget``.

        Raises:
            LocalStateError: they cannot be written.
        """
        path = self._path(names[0])
        try:
            if (kept := private.read(path)) is not None:
                request = x509.load_pem_x509_csr(kept.encode())
                key = serialization.load_pem_private_key(kept.encode(), password=None)
                if key.public_key() == request.public_key() and names_of(request) == set(names):
                    return kept.partition("-----BEGIN CERTIFICATE REQUEST")[0], request
        except (LocalStateError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            _log.warning("request is made anew", name=names[0], reason=str(error))
        fresh = ec.generate_private_key(ec.SECP256R1())
        request = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([]))
            .add_extension(x509.SubjectAlternativeName(map(x509.DNSName, names)), critical=False)
            .sign(fresh, hashes.SHA256())
        )
        private.write(path, pem_of(fresh) + request.public_bytes(Encoding.PEM).decode())
        return pem_of(fresh), request

    def forget(self, name: str) -> None:
        """The certificate is there."""
        self._path(name).unlink(missing_ok=True)

    def failures(self) -> dict[str, Failed]:
        """By name; empty where they cannot be read."""
        try:
            found = json.loads(private.read(self._failures) or "{}")
            return {
                str(name): Failed(int(count), dt.datetime.fromisoformat(when))
                for name, (count, when) in found.items()
            }
        except (LocalStateError, ValueError, TypeError, AttributeError):
            return {}

    def keep_failures(self, failures: Mapping[str, Failed]) -> None:
        """They are the ones from now on."""
        found = {name: (failed.in_a_row, failed.not_before.isoformat()) for name, failed in failures.items()}
        try:
            private.write(self._failures, json.dumps(found, indent=2) + "\n")
        except LocalStateError as error:
            _log.warning("failures not kept", reason=str(error))

    def _path(self, name: str) -> Path:
        return self._requests / f"{issued.entry_of(self._requests, name).name}.pem"


def names_of(signed: x509.Certificate | x509.CertificateSigningRequest) -> set[str]:
    """The hostnames that a certificate or a request is for."""
    try:
        found = signed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return set()
    return set(found.get_values_for_type(x509.DNSName))
