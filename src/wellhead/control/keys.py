"""``/api/v1/keys`` and ``/api/v1/api-keys``: API keys, for keys that may administer their organization."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Self

from fastapi import APIRouter
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    WithJsonSchema,
    model_validator,
)

from wellhead.control import paging
from wellhead.control.access import By, Key, need_admin
from wellhead.control.docs import links
from wellhead.control.store.keys import key_of
from wellhead.control.store.store import Store
from wellhead.control.store.tables import ApiKeyRow
from wellhead.control.tunnels import Description
from wellhead.errors import Forbidden, InputError, Invalid, NotFound
from wellhead.model import access
from wellhead.model.access import Scope, ScopeKind
from wellhead.model.records import BY_SERVER, LABEL_MAX, Actor, ApiKey, KeyRecord, KeyStatus, TunnelId
from wellhead.model.text import shown

SCOPES_MAX = 100
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _label(label: str) -> str:
    if not 1 <= len(label) <= LABEL_MAX:
        raise InputError(f"label of {len(label)} characters, 1 to {LABEL_MAX} allowed")
    return label


def _few(scopes: object) -> object:
    """Before each is looked at: hundreds of refused ones would be hundreds of sentences."""
    if isinstance(scopes, list) and not 1 <= len(scopes) <= SCOPES_MAX:
        raise InputError(f"{len(scopes)} scopes, 1 to {SCOPES_MAX} allowed")
    return scopes


def _scopes(scopes: list[str]) -> list[str]:
    return list(dict.fromkeys(str(Scope.parse(scope)) for scope in scopes))


def _time(text: str) -> str:
    try:
        if _TIME.fullmatch(text):
            return datetime.fromisoformat(text.upper()).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        pass
    raise InputError(f"{shown(text)} is not a time such as 2030-01-02T03:04:05Z")


Label = Annotated[
    str,
    AfterValidator(_label),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": LABEL_MAX}),
]
_SCOPE = {"type": "string", "pattern": "^(admin|tunnel:[0-9a-f-]{36})$"}
Scopes = Annotated[
    list[str],
    BeforeValidator(_few),
    AfterValidator(_scopes),
    WithJsonSchema({"type": "array", "items": _SCOPE, "minItems": 1, "maxItems": SCOPES_MAX}),
]
Time = Annotated[str, AfterValidator(_time), WithJsonSchema({"type": "string", "format": "date-time"})]


def _kind(scopes: str, identity: str, *required: JsonValue) -> JsonValue:
    """A body whose two fields have these types, for the OpenAPI document."""
    fields: JsonValue = {"scopes": {"type": scopes}, "scoped_identity_id": {"type": identity}}
    return {"properties": fields, "required": [*required]}


_ONE = [_kind("array", "null", "scopes"), _kind("null", "string", "scoped_identity_id")]


class NewKey(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"anyOf": [*_ONE]})

    label: Label = Field(description="For people: what or who has this key.")
    description: Description | None = None
    scopes: Scopes | None = Field(None, description="`admin` or `tunnel:ID`, each.")
    scoped_identity_id: str | None = Field(
        None, description="In place of `scopes`: the one identity that it is for."
    )
    expires_at: Time | None = Field(None, description="When it ends by itself; absent: never.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.scopes is not None and self.scoped_identity_id is not None:
            raise InputError("scopes and scoped_identity_id exclude each other")
        return self

    def wanted(self) -> list[Scope]:
        """What it is to be scoped to; nothing where that is not said."""
        if self.scoped_identity_id is not None:
            return [Scope(ScopeKind.TUNNEL, self.scoped_identity_id)]
        return [Scope.parse(scope) for scope in self.scopes or ()]


class NewOfficialKey(NewKey):
    """As the newer generation of clients asks for one: without an identity it is refused by the status."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"anyOf": [*_ONE, _kind("null", "null")]})


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """The key is nowhere but here."""

    api_key: str
    record: KeyRecord


@dataclass(frozen=True, slots=True)
class KeyList:
    keys: list[KeyRecord]
    next_cursor: str | None = None


_made = links("key_id", "$response.body#/record/id", "get_key", "revoke_key")


def router(store: Store, most: int) -> APIRouter:
    """The routes. ``most``: live keys of an organization."""
    routes = APIRouter(prefix="/keys", tags=["keys"])

    def represent(row: ApiKeyRow) -> KeyRecord:
        return key_record(key_of(row), store.clock(), store.uses.last(row))

    @routes.get("", operation_id="list_keys")
    async def list_keys(key: Key, limit: paging.Limit = None, cursor: paging.At = None) -> KeyList:
        """The organization's keys, oldest first; revoked ones stay to be seen."""
        need_admin(key)
        after = None if cursor is None else paging.read_place(cursor)
        rows = await store.keys.page(key.organization_id, None if limit is None else limit + 1, after)
        shown, following = paging.cut(rows, limit)
        return KeyList([represent(row) for row in shown], following)

    @routes.post("", status_code=201, operation_id="create_key", responses=_made)
    async def create_key(key: Key, by: By, new: NewKey) -> CreatedKey:
        """Make a key. It is shown in this answer and never again."""
        need_admin(key)
        if not (scopes := new.wanted()):
            raise Invalid(422, "scopes is missing: admin or tunnel:ID")
        return await _create(store, new, scopes, most, by, key)

    @routes.get("/{key_id}", operation_id="get_key")
    async def get_key(key: Key, key_id: str) -> KeyRecord:
        need_admin(key)
        return represent(await store.keys.one(key.organization_id, key_id))

    @routes.delete("/{key_id}", operation_id="revoke_key")
    async def revoke_key(key: Key, by: By, key_id: str) -> KeyRecord:
        """End a key and the sessions that it let in. The organization's last admin key stays: 409."""
        need_admin(key)
        return represent(await store.keys.revoke(key.organization_id, key_id, by=by))

    return routes


def official_router(store: Store, most: int) -> APIRouter:
    """The path at which the newer generation of clients makes keys."""
    routes = APIRouter(prefix="/api-keys", tags=["keys"])

    @routes.post("", status_code=201, operation_id="create_api_key", responses=_made)
    async def create_api_key(key: Key, by: By, new: NewOfficialKey) -> CreatedKey:
        """Make a key for one identity. It is shown in this answer and never again.

        Clients that ask here without `scoped_identity_id` mean a key for everything, without saying so: one
        of that kind is made at `/keys`.
        """
        need_admin(key)
        scopes = new.wanted()
        if access.only_tunnel(scopes) is None:
            raise Forbidden(403, "a key makes keys for one identity here: scoped_identity_id is missing")
        return await _create(store, new, scopes, most, by, key)

    return routes


async def _create(
    store: Store, new: NewKey, scopes: list[Scope], most: int, by: Actor, key: ApiKey
) -> CreatedKey:
    try:
        record, secret = await store.keys.create(
            key.organization_id,
            scopes,
            None if new.expires_at is None else datetime.fromisoformat(new.expires_at),
            new.label,
            new.description,
            most=most,
            by=by,
        )
    except NotFound as error:
        if new.scoped_identity_id is None:
            raise
        raise NotFound(404, "no such identity") from error
    return CreatedKey(secret.reveal(), key_record(record, store.clock()))


def key_record(key: ApiKey, now: datetime, last_used_at: datetime | None = None) -> KeyRecord:
    """The record as the API gives it."""
    status = KeyStatus.ACTIVE if key.live(now) else KeyStatus.EXPIRED
    return KeyRecord(
        id=key.id,
        organization_id=key.organization_id,
        label=key.label,
        scopes=[str(scope) for scope in key.scopes],
        status=KeyStatus.REVOKED if key.revoked_at is not None else status,
        display_prefix=key.prefix,
        last4=key.last4,
        created_at=key.created_at,
        updated_at=key.revoked_at or key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        last_used_at=last_used_at,
        description=key.description,
        scoped_identity_id=identity_of(key),
        created_by=key.created_by or BY_SERVER,
    )


def identity_of(key: ApiKey) -> TunnelId | None:
    """The identity that a key is scoped to, where it is scoped to one alone."""
    tunnel_id = access.only_tunnel(key.scopes)
    return None if tunnel_id is None else TunnelId(tunnel_id)
