"""Calls about an organization: its API keys, and who changed what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import TypeAdapter

from wellhead.client.calls import Call, Page, in_path, place
from wellhead.errors import InputError
from wellhead.model.access import Scope, Secret
from wellhead.model.records import AuditEntry, KeyRecord


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new API key, which the server shows this once, and what stays known of it."""

    record: KeyRecord
    api_key: Secret


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
    return Call("GET", f"/keys/{in_path(key_id)}", _key.validate_python, repeatable=True)


def create_key(
    label: str,
    *,
    scopes: Sequence[Scope | str] = (),
    identity: str | None = None,
    description: str | None = None,
    expires_at: datetime | None = None,
) -> Call[CreatedKey]:
    """Make a key that may do what ``scopes`` say: ``admin``, ``tunnel:ID``; or one for an ``identity``'s id.

    Raises:
        InputError: not a scope, not one of ``scopes`` and ``identity``, or a time without a time zone.
        Forbidden: the key's scope is not admin.
        NotFound: no tunnel or identity of such an id in the organization.
        Invalid: a field breaks a rule.
    """
    scopes = [scopes] if isinstance(scopes, str) else scopes  # a text is a sequence too
    wanted = [str(scope if isinstance(scope, Scope) else Scope.parse(scope)) for scope in scopes]
    if bool(wanted) == (identity is not None):
        raise InputError("a key is for scopes or for an identity: give one of them")
    body: dict[str, object] = {"label": label}
    body |= {"scopes": wanted} if identity is None else {"scoped_identity_id": identity}
    if description is not None:
        body["description"] = description
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
    return Call("DELETE", f"/keys/{in_path(key_id)}", _key.validate_python, repeatable=True)


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
    query = place(limit, cursor)
    query |= {k: v for k, v in {"action": action, "target_id": target_id}.items() if v is not None}
    return Call("GET", "/audit/", _read_audit, query=query, repeatable=True)


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


_key = TypeAdapter(KeyRecord)
_created_key = TypeAdapter(_CreatedKey)
_keys = TypeAdapter(_Keys)
_audit = TypeAdapter(_Audit)


def _read_keys(answer: object) -> list[KeyRecord]:
    return _keys.validate_python(answer).keys


def _read_created_key(answer: object) -> CreatedKey:
    created = _created_key.validate_python(answer)
    return CreatedKey(created.record, Secret(created.api_key))


def _read_audit(answer: object) -> Page[AuditEntry]:
    audit = _audit.validate_python(answer)
    return Page(audit.entries, audit.next_cursor)
