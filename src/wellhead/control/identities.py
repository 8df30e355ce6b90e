"""``/api/v1/identities``: tunnels by the handle of the agent that owns them.

Source: inkbox-tunnels, "2.4 Endpoints, Gen B"; docs/explain/decisions/0014-identities.md says what an
identity is here.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from wellhead.control import paging, problems
from wellhead.control.access import By, Key, need_admin
from wellhead.control.docs import links
from wellhead.control.listing import JSONBytes, Listing
from wellhead.control.store.rows import UNCHANGED, Changes, Filter
from wellhead.control.store.store import Store
from wellhead.control.store.tables import TunnelRow
from wellhead.control.tunnels import (
    Description,
    IdempotencyKey,
    Name,
    check_not_reserved,
    reach,
    terms_of,
    tunnel_record,
)
from wellhead.errors import InputError, NameUnavailable, NotFound
from wellhead.model import access
from wellhead.model.names import Public
from wellhead.model.records import (
    DISPLAY_NAME_MAX,
    ApiKey,
    Identity,
    OrganizationId,
    TlsMode,
    TunnelId,
)
from wellhead.settings import ServerSettings

# What official clients send of channels that there are none of here. They look at the answer for what came
# of it, and find null.
_CHANNELS = frozenset(
    """
    mailbox phone_number vault_secret_ids imessage_enabled contact_sharing_enabled claim_imessage_number
    imessage_number_id imessage_filter_mode
    """.split()
    + [
        f"{channel}_{mode}"
        for channel in ("mail", "phone", "slack")
        for mode in ("filter_mode", "inbound_filter_mode", "outbound_filter_mode")
    ]
)


def _display_name(text: str) -> str:
    if not 1 <= len(text) <= DISPLAY_NAME_MAX:
        raise InputError(f"display_name of {len(text)} characters, 1 to {DISPLAY_NAME_MAX} allowed")
    return text


def _bare(handle: object) -> object:
    return handle.removeprefix("@") if isinstance(handle, str) else handle


Handle = Annotated[Name, BeforeValidator(_bare)]
DisplayName = Annotated[
    str,
    AfterValidator(_display_name),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": DISPLAY_NAME_MAX}),
]


class _OfAnIdentity(BaseModel):
    """Takes what is said of channels for nothing; a field that nobody knows is refused."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_channels(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if name not in _CHANNELS}


class NewTunnelOfIdentity(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tls_mode: TlsMode = Field(
        TlsMode.EDGE, description="Where a visitor's TLS ends: at the edge, or (`passthrough`) at the agent."
    )


class NewIdentity(_OfAnIdentity):
    agent_handle: Handle = Field(description="The tunnel's name: 3 to 63 of a-z, 0-9 and -.")
    display_name: DisplayName | None = Field(None, description="For people; by itself the handle.")
    description: Description | None = None
    tunnel: NewTunnelOfIdentity | None = None


class IdentityChange(_OfAnIdentity):
    """What is absent stays; null clears."""

    display_name: DisplayName | None = None
    description: Description | None = None


@dataclass(frozen=True, slots=True)
class IdentityPage:
    identities: list[Identity]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class HandleUnavailable:
    """``blocking_namespace`` is always the tunnels': there is one namespace."""

    message: str
    code: Literal["agent_handle_unavailable"] = "agent_handle_unavailable"
    blocking_namespace: Literal["tunnels"] = "tunnels"


@dataclass(frozen=True, slots=True)
class HandleProblem:
    detail: HandleUnavailable | str


_made = links(
    "handle", "$response.body#/agent_handle", "get_identity", "update_identity", "delete_identity"
) | {409: {"model": HandleProblem, "description": "The handle is taken, held or reserved"}}


def router(store: Store, public: Public, settings: ServerSettings) -> APIRouter:
    routes = APIRouter(prefix="/identities", tags=["identities"])
    listing = Listing(store.directory, public)

    def represent(row: TunnelRow) -> Identity:
        return identity_record(row, store, public)

    @routes.get("", operation_id="list_identities", response_model=list[Identity] | IdentityPage)
    async def list_identities(key: Key, limit: paging.Limit = None, cursor: paging.At = None) -> Response:
        """The organization's identities, oldest first: all that the key may see.

        Without ``limit`` and ``cursor`` the answer is an array of all, else a page.
        """
        chosen = Filter(ids=reach(key), after=None if cursor is None else paging.read_place(cursor))
        most = None if limit is None else limit + 1
        async with aclosing(store.each_listed(key.organization_id, chosen, most)) as batches:
            paged = limit is not None or cursor is not None
            return JSONBytes(await listing.identities(batches, limit, paged=paged))

    @routes.post(
        "", status_code=201, operation_id="create_identity", responses=_made, response_model=Identity
    )
    async def create_identity(
        key: Key, by: By, new: NewIdentity, response: Response, idempotency_key: IdempotencyKey = None
    ) -> Identity | JSONResponse:
        """Make an identity and its tunnel, which is nobody's but an agent's with a key that reaches it.

        With an Idempotency-Key a create whose answer was lost can be repeated for 24 hours.
        """
        need_admin(key)
        try:
            check_not_reserved(new.agent_handle, settings)
            row, replayed = await store.identities.create(
                key.organization_id,
                new.agent_handle,
                TlsMode.EDGE if new.tunnel is None else new.tunnel.tls_mode,
                new.display_name,
                new.description,
                terms_of(idempotency_key, new, settings),
                by=by,
            )
        except NameUnavailable as error:
            return problems.said(409, HandleProblem(HandleUnavailable(error.detail)))
        if replayed:
            response.headers["Idempotency-Replayed"] = "true"
        return represent(row)

    @routes.get("/{handle}", operation_id="get_identity")
    async def get_identity(key: Key, handle: str) -> Identity:
        return represent(await _reached(store, key, handle))

    @routes.patch("/{handle}", operation_id="update_identity")
    async def update_identity(key: Key, by: By, handle: str, change: IdentityChange) -> Identity:
        """Change display name and description: what is absent stays, null clears."""
        row = await _reached(store, key, handle)
        need_admin(key)
        given = change.model_fields_set
        changes = Changes(
            description=change.description if "description" in given else UNCHANGED,
            display_name=change.display_name if "display_name" in given else UNCHANGED,
        )
        return represent(await store.identities.update(key.organization_id, row.name, changes, by=by))

    @routes.delete("/{handle}", status_code=204, operation_id="delete_identity")
    async def delete_identity(key: Key, by: By, handle: str) -> None:
        """End an identity and its tunnel at once and for good, and the keys that are scoped to it alone.

        Its handle is free, unless a certificate for it is still believed: then it is held for the
        organization.
        """
        row = await _reached(store, key, handle)
        need_admin(key)
        await store.identities.delete(key.organization_id, row.name, by=by)

    return routes


async def _reached(store: Store, key: ApiKey, handle: str) -> TunnelRow:
    """
    Raises:
        NotFound: none of that handle that the key's scopes reach.
    """
    row = await store.identities.one(key.organization_id, handle.removeprefix("@"))
    if not access.may_use_tunnel(key.scopes, row.id):
        raise NotFound(404, "no such identity")
    return row


def identity_record(row: TunnelRow, store: Store, public: Public) -> Identity:
    """The record as the API gives it."""
    tunnel_id = TunnelId(row.id)
    return Identity(
        id=tunnel_id,
        organization_id=OrganizationId(row.organization_id),
        agent_handle=row.name,
        display_name=row.display_name,
        description=row.description,
        created_at=row.created_at,
        updated_at=row.updated_at,
        tunnel=tunnel_record(row, store.directory.presence(tunnel_id), public),
    )
