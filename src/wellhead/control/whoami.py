"""``/api/whoami``: what the key that asks is. Source: inkbox-tunnels, "2.4 Endpoints, Gen B"."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from fastapi import APIRouter

from wellhead.control.access import Key
from wellhead.control.keys import identity_of
from wellhead.control.store.store import Store
from wellhead.model import access
from wellhead.model.records import BY_SERVER, KeyId, OrganizationId, TunnelId


@dataclass(frozen=True, slots=True)
class WhoAmI:
    """Times are seconds since 1970, for that is what the clients of every generation read here."""

    organization_id: OrganizationId
    key_id: KeyId
    label: str
    scopes: list[str]  # "admin", "tunnel:{id}"
    created_at: float
    last_used_at: float | None
    expires_at: float | None
    auth_subtype: Literal["api_key.admin_scoped", "api_key.agent_scoped.claimed"]
    created_by: str
    description: str | None = None
    scoped_identity_id: TunnelId | None = None
    creator_type: Literal["human"] = "human"
    auth_type: Literal["api_key"] = "api_key"


def router(store: Store) -> APIRouter:
    routes = APIRouter(prefix="/whoami", tags=["keys"])

    @routes.get("", operation_id="whoami")
    async def whoami(key: Key) -> WhoAmI:
        """The key that is asking: its organization and its scopes."""
        row = await store.keys.one(key.organization_id, key.id)
        return WhoAmI(
            organization_id=key.organization_id,
            key_id=key.id,
            label=key.label,
            scopes=[str(scope) for scope in key.scopes],
            created_at=key.created_at.timestamp(),
            last_used_at=_seconds(store.uses.last(row)),
            expires_at=_seconds(key.expires_at),
            auth_subtype="api_key.admin_scoped"
            if access.is_admin(key.scopes)
            else "api_key.agent_scoped.claimed",
            created_by=key.created_by or BY_SERVER,
            description=key.description,
            scoped_identity_id=identity_of(key),
        )

    return routes


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()
