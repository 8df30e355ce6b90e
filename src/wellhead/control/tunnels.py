"""``/api/v1/tunnels``. Source: inkbox-tunnels-0.3, "1. Control plane in 0.3.0"."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from wellhead.control.access import Key, need_admin, need_tunnel
from wellhead.control.store.snapshot import Presence
from wellhead.control.store.store import UNCHANGED, Store
from wellhead.control.store.tables import TunnelRow
from wellhead.errors import Conflict, InputError, Invalid
from wellhead.model import access
from wellhead.model.names import Public, check_name
from wellhead.model.records import (
    DESCRIPTION_MAX,
    METADATA_MAX,
    OrganizationId,
    TlsMode,
    Tunnel,
    TunnelId,
)
from wellhead.model.text import shown


def _small(metadata: dict[str, object]) -> dict[str, object]:
    size = len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode())
    if size > METADATA_MAX:
        raise InputError(f"metadata of {size} bytes, at most {METADATA_MAX} allowed")
    return metadata


def _short(description: str) -> str:
    if len(description) > DESCRIPTION_MAX:
        raise InputError(f"description of {len(description)} characters, at most {DESCRIPTION_MAX} allowed")
    return description


Name = Annotated[str, AfterValidator(check_name)]
Description = Annotated[str, AfterValidator(_short)]
Metadata = Annotated[dict[str, object], AfterValidator(_small)]


class NewTunnel(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tunnel_name: Name = Field(description="3 to 63 of a-z, 0-9 and -; unique on this server.")
    tls_mode: TlsMode = Field(TlsMode.EDGE, description="Where a visitor's TLS ends.")
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
class TunnelList:
    tunnels: list[Tunnel]


def router(store: Store, public: Public, is_reserved: Callable[[str], bool]) -> APIRouter:
    """The routes. ``is_reserved`` says of a well-formed name whether it is kept from tunnels."""
    routes = APIRouter(prefix="/tunnels", tags=["tunnels"])

    def represent(row: TunnelRow) -> Tunnel:
        return tunnel_record(row, store.directory.presence(TunnelId(row.id)), public)

    @routes.get("/", operation_id="list_tunnels")
    @routes.get("", include_in_schema=False)
    async def list_tunnels(
        key: Key, name: Annotated[str | None, Query(description="Only the tunnel of this name.")] = None
    ) -> TunnelList:
        """The organization's tunnels, oldest first."""
        rows = await store.tunnels(key.organization_id, name)
        return TunnelList([represent(row) for row in rows if access.may_use_tunnel(key.scopes, row.id)])

    @routes.post("/", status_code=201, operation_id="create_tunnel")
    @routes.post("", status_code=201, include_in_schema=False)
    async def create_tunnel(key: Key, new: NewTunnel) -> CreatedTunnel:
        """Make a tunnel. The connect secret is shown in this answer and never again."""
        need_admin(key)
        if new.tls_mode is not TlsMode.EDGE:
            raise Invalid(422, f'this server makes no {new.tls_mode.value} tunnels: tls_mode must be "edge"')
        if is_reserved(new.tunnel_name):
            raise Conflict(409, f"tunnel name {shown(new.tunnel_name)} is reserved")
        row, secret = await store.create_tunnel(
            OrganizationId(key.organization_id), new.tunnel_name, new.tls_mode, new.description, new.metadata
        )
        return CreatedTunnel(represent(row), secret.reveal())

    @routes.get("/{tunnel_id}", operation_id="get_tunnel")
    async def get_tunnel(key: Key, tunnel_id: str) -> Tunnel:
        need_tunnel(key, tunnel_id)
        return represent(await store.tunnel(key.organization_id, tunnel_id))

    @routes.patch("/{tunnel_id}", operation_id="update_tunnel")
    async def update_tunnel(key: Key, tunnel_id: str, change: TunnelChange) -> Tunnel:
        """Change description and metadata: what is absent stays, null clears."""
        need_tunnel(key, tunnel_id)
        need_admin(key)
        given = change.model_fields_set
        row = await store.update_tunnel(
            key.organization_id,
            tunnel_id,
            description=change.description if "description" in given else UNCHANGED,
            metadata=(change.metadata or {}) if "metadata" in given else UNCHANGED,
        )
        return represent(row)

    @routes.delete("/{tunnel_id}", operation_id="delete_tunnel")
    async def delete_tunnel(key: Key, tunnel_id: str) -> Tunnel:
        """Stop the tunnel's traffic at once; until ``restore_deadline_at`` it may be restored."""
        need_tunnel(key, tunnel_id)
        need_admin(key)
        return represent(await store.delete_tunnel(key.organization_id, tunnel_id))

    @routes.post("/{tunnel_id}/restore", operation_id="restore_tunnel")
    async def restore_tunnel(key: Key, tunnel_id: str) -> Tunnel:
        """Take a delete back."""
        need_tunnel(key, tunnel_id)
        need_admin(key)
        return represent(await store.restore_tunnel(key.organization_id, tunnel_id))

    return routes


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
        public_urls=public.urls(row.name),
        description=row.description,
        metadata=row.metadata_,
        currently_connected=presence.connected,
        last_connected_at=presence.last_connected_at,
        last_disconnected_at=presence.last_disconnected_at,
        last_connected_ip_addr=presence.last_ip,
        restore_deadline_at=row.restore_deadline_at,
    )
