"""The REST API as data: each function describes one call and how its answer is read. Nothing is sent here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import TypeAdapter

from wellhead.errors import (
    ApiError,
    Conflict,
    InputError,
    TunnelCSRStateConflict,
    TunnelStateConflict,
    TunnelTLSModeMismatch,
)
from wellhead.model.access import Scope, Secret
from wellhead.model.certificates import CertificateRecord, ServerCertificate, SignedCertificate
from wellhead.model.records import AuditEntry, KeyRecord, TlsMode, Tunnel, TunnelStatus
from wellhead.model.text import shown

T = TypeVar("T")
SIGN_SECONDS = 180.0  # an authority may ask for proofs before it signs
UNCHANGED: Any = type("Unchanged", (), {"__repr__": lambda self: "UNCHANGED"})()
"""Of an update: this field stays as it is (None clears it)."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and how its JSON answer becomes a record."""

    method: str
    path: str  # under /api/v1
    read: Callable[[object], T]
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, object] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False  # carried out twice it does no more than carried out once
    seconds: float | None = None  # to wait for the answer, and with another attempt; None: the client's own
    conflict: Callable[[str], type[ApiError]] = lambda detail: Conflict  # what a 409 with this detail is


@dataclass(frozen=True, slots=True)
class CreatedTunnel:
    """A new tunnel and its connect secret, which the server shows this once."""

    tunnel: Tunnel
    connect_secret: Secret


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new API key, which the server shows this once, and what stays known of it."""

    record: KeyRecord
    api_key: Secret


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list; ``next_cursor`` begins the next one, None after the last."""

    items: list[T]
    next_cursor: str | None


# Tunnels


def list_tunnels(
    *,
    prefix: str | None = None,
    status: TunnelStatus | None = None,
    tls_mode: TlsMode | None = None,
    connected: bool | None = None,
) -> Call[list[Tunnel]]:
    """Every tunnel that the key may see and the filters let through, oldest first, all at once.

    ``prefix`` keeps those whose name begins so.
    """
    query = _filters(prefix, status, tls_mode, connected)
    return Call("GET", "/tunnels/", _read_list, query=query, repeatable=True)


def page_of_tunnels(
    *,
    limit: int = 100,
    cursor: str | None = None,
    prefix: str | None = None,
    status: TunnelStatus | None = None,
    tls_mode: TlsMode | None = None,
    connected: bool | None = None,
) -> Call[Page[Tunnel]]:
    """As ``list``, at most ``limit`` (1 to 1000) at a time; ``cursor`` is ``next_cursor`` of the page before.

    Raises:
        Invalid: no such limit.
        NotFound: the cursor is no place in this list.
    """
    query = _place(limit, cursor) | _filters(prefix, status, tls_mode, connected)
    return Call("GET", "/tunnels/", _read_page, query=query, repeatable=True)


def find_tunnel(name: str) -> Call[Tunnel | None]:
    """The tunnel of this name, or None where the key sees none."""
    return Call("GET", "/tunnels/", _read_first, query={"name": name}, repeatable=True)


def get_tunnel(tunnel_id: str) -> Call[Tunnel]:
    """
    Raises:
        NotFound: no tunnel of this id that the key may see.
    """
    return Call("GET", _item(tunnel_id), _tunnel.validate_python, repeatable=True)


def create_tunnel(
    name: str,
    *,
    tls_mode: TlsMode = TlsMode.EDGE,
    description: str | None = None,
    metadata: Mapping[str, object] | None = None,
    idempotency_key: str | None = None,
) -> Call[CreatedTunnel]:
    """Make a tunnel.

    With an ``idempotency_key`` (any text that is used for this create alone) it is tried again when the
    answer is lost, and may be repeated for a day: it finds the tunnel that it made, and gives it a fresh
    secret as long as no agent has connected.

    Raises:
        Conflict: the name is taken or reserved, or the idempotency key was used for something else.
        Invalid: the name breaks a rule, or another field does.
    """
    body: dict[str, object] = {"tunnel_name": name, "tls_mode": tls_mode.value}
    if description is not None:
        body["description"] = description
    if metadata is not None:
        body["metadata"] = dict(metadata)
    headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
    repeatable = idempotency_key is not None
    return Call("POST", "/tunnels/", _read_created, body=body, headers=headers, repeatable=repeatable)


def update_tunnel(
    tunnel_id: str,
    *,
    description: str | None = UNCHANGED,
    metadata: Mapping[str, object] | None = UNCHANGED,
) -> Call[Tunnel]:
    """Change what is given; None clears.

    Raises:
        NotFound: no tunnel of this id that the key may see.
        Invalid: a value breaks a rule.
    """
    given = {"description": description, "metadata": metadata}
    body: dict[str, object] = {key: item for key, item in given.items() if item is not UNCHANGED}
    return Call("PATCH", _item(tunnel_id), _tunnel.validate_python, body=body, repeatable=True)


def delete_tunnel(tunnel_id: str) -> Call[Tunnel]:
    """Stop a tunnel's traffic; until ``restore_deadline_at`` of the answer it may be restored.

    Raises:
        NotFound: no tunnel of this id that the key may see.
    """
    return Call("DELETE", _item(tunnel_id), _tunnel.validate_python, repeatable=True)


def restore_tunnel(tunnel_id: str) -> Call[Tunnel]:
    """Take a delete back.

    Raises:
        NotFound: no tunnel of this id that the key may see.
        TunnelStateConflict: it is not pending removal, or the time for it is over.
    """
    path = f"{_item(tunnel_id)}/restore"
    return Call("POST", path, _tunnel.validate_python, conflict=lambda detail: TunnelStateConflict)


def force_delete_tunnel(tunnel_id: str) -> Call[Tunnel]:
    """End a tunnel that is pending removal now: it cannot be restored.

    Its name is free, unless a certificate for it is still believed: then it is held for the organization.

    Raises:
        NotFound: no tunnel of this id that the key may see.
        TunnelStateConflict: it is not pending removal.
    """
    path = f"{_item(tunnel_id)}/force"
    return Call("DELETE", path, _tunnel.validate_python, conflict=lambda detail: TunnelStateConflict)


def rotate_secret(tunnel_id: str, *, hard: bool = False) -> Call[Secret]:
    """A new connect secret in place of the old one, which fails at the next hello.

    Sessions that are live stay, unless ``hard`` ends them too.

    Raises:
        NotFound: no tunnel of this id that the key may see.
    """
    query = {"hard": "true"} if hard else {}
    return Call("POST", f"{_item(tunnel_id)}/rotate-secret", _read_rotated, query=query)


def sign_csr(tunnel_id: str, csr_pem: str) -> Call[SignedCertificate]:
    """Have a passthrough tunnel's certificate signed; it may take minutes.

    ``csr_pem`` is a request (PKCS #10) for the tunnel's ``public_host`` alone. Sent again it is the same
    order, and the same certificate until that is to be renewed.

    Raises:
        NotFound: no tunnel of this id that the key may see.
        BadRequest: the request breaks a rule.
        TunnelTLSModeMismatch: TLS of the tunnel's visitors ends at the edge.
        TunnelCSRStateConflict: the tunnel is to be removed.
        RateLimited: too many were asked for, or the name's last orders failed.
        Unavailable: the issuer refuses, is away, or is not ready yet.
    """
    return Call(
        "POST",
        f"{_item(tunnel_id)}/sign-csr",
        _signed.validate_python,
        body={"csr_pem": csr_pem},
        repeatable=True,
        seconds=SIGN_SECONDS,
        conflict=_why_not_signed,
    )


# Certificates


def list_certificates(*, tunnel_id: str | None = None) -> Call[list[CertificateRecord]]:
    """The newest 1000 certificates that were issued for the tunnels that the key may see, oldest first."""
    query = {} if tunnel_id is None else {"tunnel_id": tunnel_id}
    return Call("GET", "/certificates/", _read_certificates, query=query, repeatable=True)


def get_certificate(certificate_id: str) -> Call[CertificateRecord]:
    """
    Raises:
        NotFound: no certificate of this id that the key may see.
    """
    return Call("GET", f"/certificates/{_id(certificate_id)}", _certificate.validate_python, repeatable=True)


def renew_certificate(certificate_id: str) -> Call[CertificateRecord]:
    """Have the tunnel's agent get the next certificate when it looks next, in place of at ``renew_at``.

    Raises:
        NotFound: no certificate of this id that the key may see.
        Conflict: it was replaced, or its tunnel is gone.
        Forbidden: the key's scope is not admin.
    """
    path = f"/certificates/{_id(certificate_id)}/renew"
    return Call("POST", path, _certificate.validate_python, repeatable=True)


def list_server_certificates() -> Call[list[ServerCertificate]]:
    """Certificates that the server itself has from a public issuer, and what came of the last tries.

    Raises:
        Forbidden: the key's scope is not admin.
    """
    return Call("GET", "/server-certificates/", _read_server_certificates, repeatable=True)


def renew_server_certificate(name: str) -> Call[ServerCertificate]:
    """Have one ordered anew now; the one before serves on until then.

    Raises:
        NotFound: the server has none of that name.
        RateLimited: it was issued a short while ago.
        Forbidden: the key's scope is not admin.
    """
    path = "/server-certificates/renew"
    return Call("POST", path, _server_certificate.validate_python, body={"name": name}, repeatable=True)


# Keys


def list_keys() -> Call[list[KeyRecord]]:
    """Every key of the organization, oldest first; revoked and expired ones too.

    Raises:
        Forbidden: the key's scope is not admin.
    """
    return Call("GET", "/keys/", _read_keys, repeatable=True)


def get_key(key_id: str) -> Call[KeyRecord]:
    """
    Raises:
        NotFound: no key of this id in the organization.
        Forbidden: the key's scope is not admin.
    """
    return Call("GET", f"/keys/{_id(key_id)}", _key.validate_python, repeatable=True)


def create_key(
    label: str, *, scopes: Sequence[Scope | str], expires_at: datetime | None = None
) -> Call[CreatedKey]:
    """Make a key that may do what ``scopes`` say: ``admin``, ``tunnel:ID``.

    Raises:
        InputError: not a scope, or a time without a time zone.
        Forbidden: the key's scope is not admin.
        Invalid: a field breaks a rule.
    """
    scopes = [scopes] if isinstance(scopes, str) else scopes  # a text is a sequence too
    wanted = [str(scope if isinstance(scope, Scope) else Scope.parse(scope)) for scope in scopes]
    body: dict[str, object] = {"label": label, "scopes": wanted}
    if expires_at is not None:
        if expires_at.tzinfo is None:
            raise InputError(f"expires_at {expires_at.isoformat()} has no time zone")
        body["expires_at"] = expires_at.isoformat()
    return Call("POST", "/keys/", _read_created_key, body=body)


def revoke_key(key_id: str) -> Call[KeyRecord]:
    """End a key and the sessions that it let in.

    Raises:
        NotFound: no key of this id in the organization.
        Conflict: it is the last admin key.
        Forbidden: the key's scope is not admin.
    """
    return Call("DELETE", f"/keys/{_id(key_id)}", _key.validate_python, repeatable=True)


# Audit


def list_audit(
    *, limit: int = 100, cursor: str | None = None, action: str | None = None, target_id: str | None = None
) -> Call[Page[AuditEntry]]:
    """Who changed what, newest first, at most ``limit`` (1 to 1000) entries at a time.

    ``action`` and ``target_id`` keep only those of one kind, such as ``tunnel.create``, or of one record.

    Raises:
        Forbidden: the key's scope is not admin.
        Invalid: no such limit.
        NotFound: the cursor is no place in this list.
    """
    query = _place(limit, cursor)
    query |= {k: v for k, v in {"action": action, "target_id": target_id}.items() if v is not None}
    return Call("GET", "/audit/", _read_audit, query=query, repeatable=True)


# What is asked, and what is answered


@dataclass(frozen=True, slots=True)
class _Created:
    tunnel: Tunnel
    connect_secret: str


@dataclass(frozen=True, slots=True)
class _Rotated:
    connect_secret: str


@dataclass(frozen=True, slots=True)
class _Listed:
    tunnels: list[Tunnel]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class _CreatedKey:
    api_key: str
    record: KeyRecord


@dataclass(frozen=True, slots=True)
class _Keys:
    keys: list[KeyRecord]


@dataclass(frozen=True, slots=True)
class _Audit:
    entries: list[AuditEntry]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class _Certificates:
    certificates: list[CertificateRecord]


@dataclass(frozen=True, slots=True)
class _ServerCertificates:
    certificates: list[ServerCertificate]


_tunnel = TypeAdapter(Tunnel)
_server_certificate = TypeAdapter(ServerCertificate)
_server_certificates = TypeAdapter(_ServerCertificates)
_signed = TypeAdapter(SignedCertificate)
_certificate = TypeAdapter(CertificateRecord)
_certificates = TypeAdapter(_Certificates)
_created = TypeAdapter(_Created)
_rotated = TypeAdapter(_Rotated)
_listed = TypeAdapter(_Listed)
_key = TypeAdapter(KeyRecord)
_created_key = TypeAdapter(_CreatedKey)
_keys = TypeAdapter(_Keys)
_audit = TypeAdapter(_Audit)


def _item(tunnel_id: str) -> str:
    return f"/tunnels/{_id(tunnel_id)}"


def _id(given: str) -> str:
    """
    Raises:
        InputError: it would be another path.
    """
    if given in ("", ".", ".."):
        raise InputError(f"an id is needed, not {shown(given)}")
    return quote(given, safe="")


def _place(limit: int, cursor: str | None) -> dict[str, str]:
    return {"limit": str(limit)} | ({} if cursor is None else {"cursor": cursor})


def _filters(
    prefix: str | None, status: TunnelStatus | None, tls_mode: TlsMode | None, connected: bool | None
) -> dict[str, str]:
    given = {
        "prefix": prefix,
        "status": None if status is None else status.value,
        "tls_mode": None if tls_mode is None else tls_mode.value,
        "connected": None if connected is None else str(connected).lower(),
    }
    return {name: text for name, text in given.items() if text is not None}


def _read_list(answer: object) -> list[Tunnel]:
    return _listed.validate_python(answer).tunnels


def _read_page(answer: object) -> Page[Tunnel]:
    listed = _listed.validate_python(answer)
    return Page(listed.tunnels, listed.next_cursor)


def _read_first(answer: object) -> Tunnel | None:
    return next(iter(_read_list(answer)), None)


def _read_created(answer: object) -> CreatedTunnel:
    created = _created.validate_python(answer)
    return CreatedTunnel(created.tunnel, Secret(created.connect_secret))


def _read_rotated(answer: object) -> Secret:
    return Secret(_rotated.validate_python(answer).connect_secret)


def _read_certificates(answer: object) -> list[CertificateRecord]:
    return _certificates.validate_python(answer).certificates


def _read_server_certificates(answer: object) -> list[ServerCertificate]:
    return _server_certificates.validate_python(answer).certificates


def _why_not_signed(detail: str) -> type[ApiError]:
    """Source: inkbox-tunnels, "2.2 Errors"."""
    of_the_mode = any(word in detail.lower() for word in ("edge", "tls_mode", "passthrough"))
    return TunnelTLSModeMismatch if of_the_mode else TunnelCSRStateConflict


def _read_keys(answer: object) -> list[KeyRecord]:
    return _keys.validate_python(answer).keys


def _read_created_key(answer: object) -> CreatedKey:
    created = _created_key.validate_python(answer)
    return CreatedKey(created.record, Secret(created.api_key))


def _read_audit(answer: object) -> Page[AuditEntry]:
    audit = _audit.validate_python(answer)
    return Page(audit.entries, audit.next_cursor)
