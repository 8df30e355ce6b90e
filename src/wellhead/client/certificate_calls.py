"""Calls about certificates: tunnels' and the server's own."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter

from wellhead.client.calls import Call, in_path
from wellhead.model.certificates import CertificateRecord, ServerCertificate


def list_certificates(*, tunnel_id: str | None = None) -> Call[list[CertificateRecord]]:
    """The newest 1000 certificates that were issued for the tunnels that the key may see, oldest first."""
    query = {} if tunnel_id is None else {"tunnel_id": tunnel_id}
    return Call("GET", "/certificates/", _read_certificates, query=query, repeatable=True)


def get_certificate(certificate_id: str) -> Call[CertificateRecord]:
    """
    Raises:
        NotFound: no certificate of this id that the key may see.
    """
    return Call(
        "GET", f"/certificates/{in_path(certificate_id)}", _certificate.validate_python, repeatable=True
    )


def renew_certificate(certificate_id: str) -> Call[CertificateRecord]:
    """Have the tunnel's agent get the next certificate when it looks next, in place of at ``renew_at``.

    Raises:
        NotFound: no certificate of this id that the key may see.
        Conflict: it was replaced, or its tunnel is gone.
        Forbidden: the key's scope is not admin.
    """
    path = f"/certificates/{in_path(certificate_id)}/renew"
    return Call("POST", path, _certificate.validate_python, repeatable=True)


def list_server_certificates() -> Call[list[ServerCertificate]]:
    """Certificates that the server itself has from a public issuer, and what came of the last tries.

    Raises:
        Forbidden: the key is no admin's of the organization that the server was set up with.
    """
    return Call("GET", "/server-certificates/", _read_server_certificates, repeatable=True)


def renew_server_certificate(name: str) -> Call[ServerCertificate]:
    """Have one ordered anew now; the one before serves on until then.

    Raises:
        NotFound: the server has none of that name.
        RateLimited: it was issued a short while ago.
        Forbidden: the key is no admin's of the organization that the server was set up with.
    """
    path = "/server-certificates/renew"
    return Call("POST", path, _server_certificate.validate_python, body={"name": name}, repeatable=True)


@dataclass(frozen=True, slots=True)
class _Certificates:
    certificates: list[CertificateRecord]


@dataclass(frozen=True, slots=True)
class _ServerCertificates:
    certificates: list[ServerCertificate]


_certificate = TypeAdapter(CertificateRecord)
_certificates = TypeAdapter(_Certificates)
_server_certificate = TypeAdapter(ServerCertificate)
_server_certificates = TypeAdapter(_ServerCertificates)


def _read_certificates(answer: object) -> list[CertificateRecord]:
    return _certificates.validate_python(answer).certificates


def _read_server_certificates(answer: object) -> list[ServerCertificate]:
    return _server_certificates.validate_python(answer).certificates
