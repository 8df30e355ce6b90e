"""``/api/v1/tunnels``. Source: inkbox-tunnels-0.3, "1. Control plane in 0.3.0"."""

from __future__ import annotations

import enum
import json
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from wellhead.control import paging
from wellhead.control.access import By, Key, need_admin, need_tunnel
from wellhead.control.docs import links
from wellhead.control.listing import JSONBytes, Listing
from wellhead.control.store.creation import Once, Terms
from wellhead.control.store.rows import UNCHANGED, Filter
from wellhead.control.store.store import Store
from wellhead.control.store.tables import TunnelRow
from wellhead.errors import InputError, NameUnavailable
from wellhead.model import access
from wellhead.model.names import NAME_MAX, NAME_MIN, Public, check_name
from wellhead.model.records import (
    DESCRIPTION_MAX,
    METADATA_MAX,
    ApiKey,
    OrganizationId,
    TlsMode,
    Tunnel,
    TunnelId,
    TunnelStatus,
)
from wellhead.model.snapshot import Presence
from wellhead.model.text import shown
from wellhead.settings import ServerSettings


def _small(metadata: dict[str, object]) -> dict[str, object]:
    size = len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode())
    if size > METADATA_MAX:
        raise InputError(f"metadata of {size} bytes, at most {METADATA_MAX} allowed")
    return metadata


def _short(description: str) -> str:
    if len(description) > DESCRIPTION_MAX:
        raise InputError(f"description of {len(description)} characters, at most {DESCRIPTION_MAX} allowed")
    return description


Name = Annotated[
    str,
    AfterValidator(check_name),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": NAME_MIN,
            "maxLength": NAME_MAX,
            "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$",
        }
    ),
]
Description = Annotated[
    str, AfterValidator(_short), WithJsonSchema({"type": "string", "maxLength": DESCRIPTION_MAX})
]
Metadata = Annotated[dict[str, object], AfterValidator(_small)]


class NewTunnel(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tunnel_name: Name = Field(description="3 to 63 of a-z, 0-9 and -; unique on this server.")
    tls_mode: TlsMode = Field(
        TlsMode.EDGE, description="Where a visitor's TLS ends: at the edge, or (`passthrough`) at the agent."
    )
    description: Description | None = None
    metadata: Metadata | None = Field(None, description="At most 4096 bytes of JSON.")


class TunnelChange(BaseModel):
    """What is absent stays; null clears."""

    model_config = ConfigDict(extra="forbid")

    description: Description | None = None
    metadata: Metadata | None = None


@dataclass(frozen=True, slots=True)
class CreatedTunnel:
    """The secret is nowhere but here."""

    tunnel: Tunnel
    connect_secret: str


@dataclass(frozen=True, slots=True)
class RotatedSecret:
    """The secret is nowhere but here."""

    connect_secret: str


@dataclass(frozen=True, slots=True)
class TunnelList:
    tunnels: list[Tunnel]
    next_cursor: str | None = None


class Listed(enum.Enum):
    """The statuses of tunnels that a list shows: what is deleted is not there."""

    AWAITING_CERT = "awaiting_cert"
    ACTIVE = "active"
    PENDING_REMOVAL = "delete_pending"


IdempotencyKey = Annotated[
    str | None,
    Header(max_length=255, pattern="^[!-~]+$", description="A text that is used for this create alone."),
]


_made = links(
    "tunnel_id",
    "$response.body#/tunnel/id",
    "get_tunnel",
    "update_tunnel",
    "rotate_secret",
    "delete_tunnel",
    "restore_tunnel",
    "force_delete_tunnel",
)


def router(store: Store, public: Public, settings: ServerSettings) -> APIRouter:
    routes = APIRouter(prefix="/tunnels", tags=["tunnels"])
    listing = Listing(store.directory, public)

    def represent(row: TunnelRow) -> Tunnel:
        return tunnel_record(row, store.directory.presence(TunnelId(row.id)), public)

    @routes.get("", operation_id="list_tunnels", response_model=TunnelList)
    async def list_tunnels(
        key: Key,
        name: Annotated[str | None, Query(description="Only the tunnel of this name.")] = None,
        prefix: Annotated[
            str | None, Query(max_length=NAME_MAX, description="Only those whose name begins so.")
        ] = None,
        status: Annotated[Listed | None, Query(description="Only those of this status.")] = None,
        tls_mode: Annotated[TlsMode | None, Query(description="Only those of this mode.")] = None,
        connected: Annotated[bool | None, Query(description="Only those with, or without, an agent.")] = None,
        limit: paging.Limit = None,
        cursor: paging.At = None,
    ) -> Response:
        """The organization's tunnels, oldest first: all that the key may see and the filters let through."""
        chosen = Filter(
            ids=reach(key),
            name=name,
            prefix=prefix,
            status=None if status is None else TunnelStatus(status.value),
            tls_mode=tls_mode,
            connected=connected,
            after=None if cursor is None else paging.read_place(cursor),
        )
        async with aclosing(
            store.each_listed(key.organization_id, chosen, None if limit is None else limit + 1)
        ) as batches:
            return JSONBytes(await listing.text(batches, limit))

    @routes.post("", status_code=201, operation_id="create_tunnel", responses=_made)
    async def create_tunnel(
        key: Key, by: By, new: NewTunnel, response: Response, idempotency_key: IdempotencyKey = None
    ) -> CreatedTunnel:
        """Make a tunnel. The connect secret is shown in this answer and never again.

        With an Idempotency-Key a create whose answer was lost can be repeated for 24 hours: it finds the
        same tunnel and gives it a fresh secret (the lost one is dead), as long as no agent has connected.
        """
        need_admin(key)
        check_not_reserved(new.tunnel_name, settings)
        made = await store.create_once(
            key.organization_id,
            new.tunnel_name,
            new.tls_mode,
            new.description,
            new.metadata,
            terms=terms_of(idempotency_key, new, settings),
            by=by,
        )
        if made.replayed:
            response.headers["Idempotency-Replayed"] = "true"
        return CreatedTunnel(represent(made.row), made.secret.reveal())

    @routes.get("/{tunnel_id}", operation_id="get_tunnel")
    async def get_tunnel(key: Key, tunnel_id: str) -> Tunnel:
        need_tunnel(key, tunnel_id)
        return represent(await store.tunnel(key.organization_id, tunnel_id))

    @routes.patch("/{tunnel_id}", operation_id="update_tunnel")
    async def update_tunnel(key: Key, by: By, tunnel_id: str, change: TunnelChange) -> Tunnel:
        """Change description and metadata: what is absent stays, null clears."""
        need_tunnel(key, tunnel_id)
        need_admin(key)
        given = change.model_fields_set
        row = await store.update_tunnel(
            key.organization_id,
            tunnel_id,
            description=change.description if "description" in given else UNCHANGED,
            metadata=(change.metadata or {}) if "metadata" in given else UNCHANGED,
            by=by,
        )
        return represent(row)

    @routes.delete("/{tunnel_id}", operation_id="delete_tunnel")
    async def delete_tunnel(key: Key, by: By, tunnel_id: str) -> Tunnel:
        """Stop the tunnel's traffic at once; until ``restore_deadline_at`` it may be restored."""
        need_tunnel(key, tunnel_id)
        need_admin(key)
        return represent(await store.delete_tunnel(key.organization_id, tunnel_id, by=by))

    @routes.post("/{tunnel_id}/restore", operation_id="restore_tunnel")
    async def restore_tunnel(key: Key, by: By, tunnel_id: str) -> Tunnel:
        """Take a delete back."""
        need_tunnel(key, tunnel_id)
        need_admin(key)
        return represent(await store.restore_tunnel(key.organization_id, tunnel_id, by=by))

    @routes.delete("/{tunnel_id}/force", operation_id="force_delete_tunnel")
    async def force_delete_tunnel(key: Key, by: By, tunnel_id: str) -> Tunnel:
        """End a tunnel that is pending removal now: it cannot be restored.

        Its name is free, unless a certificate for it is still believed: then it is held for the organization.
        """
        need_tunnel(key, tunnel_id)
        need_admin(key)
        return represent(await store.force_delete_tunnel(key.organization_id, tunnel_id, by=by))

    @routes.post("/{tunnel_id}/rotate-secret", operation_id="rotate_secret")
    async def rotate_secret(
        key: Key,
        by: By,
        tunnel_id: str,
        hard: Annotated[bool, Query(description="End live sessions too.")] = False,
    ) -> RotatedSecret:
        """A new connect secret, shown in this answer and never again. The old one fails at the next hello."""
        need_tunnel(key, tunnel_id)
        need_admin(key)
        secret = await store.rotate_secret(key.organization_id, tunnel_id, hard=hard, by=by)
        return RotatedSecret(secret.reveal())

    return routes


def check_not_reserved(name: str, settings: ServerSettings) -> None:
    """
    Raises:
        NameUnavailable: a well-formed name that is kept from tunnels.
    """
    if settings.is_reserved(name):
        raise NameUnavailable(409, f"tunnel name {shown(name)} is reserved")


def reach(key: ApiKey) -> list[str] | None:
    """The ids of the tunnels that a key may see; None: all of its organization."""
    if access.is_admin(key.scopes):
        return None
    return [scope.resource for scope in key.scopes if scope.resource is not None]


def terms_of(idempotency_key: str | None, new: BaseModel, settings: ServerSettings) -> Terms:
    """Of a create under this header, that asks for this."""
    once = None if idempotency_key is None else Once.of(idempotency_key, new.model_dump(mode="json"))
    return Terms(once, settings.tunnels_per_organization)


def tunnel_record(row: TunnelRow, presence: Presence, public: Public) -> Tunnel:
    """The record as the API gives it: the row, who is connected now, and where it is to be found."""
    return Tunnel(
        id=TunnelId(row.id),
        organization_id=OrganizationId(row.organization_id),
        tunnel_name=row.name,
        tls_mode=row.tls_mode,
        status=row.status,
        created_at=row.created_at,
        updated_at=row.updated_at,
        public_host=public.hostname(row.name),
        zone=public.zone,
        public_urls=public.urls(row.name, plain=row.tls_mode is TlsMode.EDGE),
        description=row.description,
        metadata=row.metadata_,
        currently_connected=presence.connected,
        last_connected_at=presence.last_connected_at,
        last_disconnected_at=presence.last_disconnected_at,
        last_connected_ip_addr=presence.last_ip,
        agent_version=presence.agent,
        agent_identity_id=TunnelId(row.id),
        restore_deadline_at=row.restore_deadline_at,
        cert_pem=row.cert_pem,
        cert_fingerprint_sha256=row.cert_fingerprint_sha256,
        cert_expires_at=row.cert_expires_at,
        cert_renew_at=row.cert_renew_at,
    )
