"""Calls about tunnels, and their certificates' requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from wellhead.client.calls import Call, Page, in_path, place
from wellhead.errors import ApiError, TunnelCSRStateConflict, TunnelStateConflict, TunnelTLSModeMismatch
from wellhead.model.access import Secret
from wellhead.model.certificates import SignedCertificate
from wellhead.model.records import TlsMode, Tunnel, TunnelStatus

SIGN_SECONDS = 180.0  # an authority may ask for proofs before it signs
UNCHANGED: Any = type("Unchanged", (), {"__repr__": lambda self: "UNCHANGED"})()
"""Of an update: this field stays as it is (None clears it)."""


@dataclass(frozen=True, slots=True)
class CreatedTunnel:
    """A new tunnel and its connect secret, which the server shows this once."""

    tunnel: Tunnel
    connect_secret: Secret


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
    query = place(limit, cursor) | _filters(prefix, status, tls_mode, connected)
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


_tunnel = TypeAdapter(Tunnel)
_signed = TypeAdapter(SignedCertificate)
_created = TypeAdapter(_Created)
_rotated = TypeAdapter(_Rotated)
_listed = TypeAdapter(_Listed)


def _item(tunnel_id: str) -> str:
    return f"/tunnels/{in_path(tunnel_id)}"


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


def _why_not_signed(detail: str) -> type[ApiError]:
    """Source: inkbox-tunnels, "2.2 Errors"."""
    of_the_mode = any(word in detail.lower() for word in ("edge", "tls_mode", "passthrough"))
    return TunnelTLSModeMismatch if of_the_mode else TunnelCSRStateConflict
