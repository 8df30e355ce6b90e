"""The records: what an organization owns, and which changes of status are lawful.

Times are aware, UTC. Ids are lower-case UUID strings; ``NewType`` keeps one kind from passing for another.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NewType

from wellhead.model.access import Scope

OrganizationId = NewType("OrganizationId", str)
KeyId = NewType("KeyId", str)
TunnelId = NewType("TunnelId", str)

METADATA_MAX = 4096  # bytes of compact JSON in UTF-8
DESCRIPTION_MAX = 1000  # characters
RESTORE_GRACE = timedelta(hours=24)  # between a delete and the end of the record


class TlsMode(enum.Enum):
    """Where a visitor's TLS ends."""

    EDGE = "edge"
    PASSTHROUGH = "passthrough"


class TunnelStatus(enum.Enum):
    AWAITING_CERT = "awaiting_cert"
    ACTIVE = "active"
    PENDING_REMOVAL = "delete_pending"
    DELETED = "deleted"


TRANSITIONS: dict[TunnelStatus, frozenset[TunnelStatus]] = {
    TunnelStatus.AWAITING_CERT: frozenset({TunnelStatus.ACTIVE, TunnelStatus.PENDING_REMOVAL}),
    TunnelStatus.ACTIVE: frozenset({TunnelStatus.PENDING_REMOVAL}),
    TunnelStatus.PENDING_REMOVAL: frozenset(
        {TunnelStatus.AWAITING_CERT, TunnelStatus.ACTIVE, TunnelStatus.DELETED}
    ),
    TunnelStatus.DELETED: frozenset(),
}


def may_become(old: TunnelStatus, new: TunnelStatus) -> bool:
    """Whether a tunnel may go from one status to another; staying is no transition."""
    return new in TRANSITIONS[old]


@dataclass(frozen=True, slots=True)
class Organization:
    id: OrganizationId
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key once it was shown: not the key."""

    id: KeyId
    organization_id: OrganizationId
    last4: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def live(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class TunnelView:
    """As much of a tunnel's record as traffic needs."""

    id: TunnelId
    name: str
    organization_id: OrganizationId
    status: TunnelStatus
    tls_mode: TlsMode


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A tunnel as the REST API gives it: the record of every generation of SDK, and its public URLs.

    Source: inkbox-tunnels-0.3, "1.3 Tunnel object".
    """

    id: TunnelId
    organization_id: OrganizationId
    tunnel_name: str
    tls_mode: TlsMode
    status: TunnelStatus
    created_at: datetime
    updated_at: datetime
    public_host: str  # a hostname: an edge tunnel's port is in public_urls
    zone: str  # the hostname agents dial
    public_urls: list[str] = field(default_factory=list)
    description: str | None = None
    metadata: dict[str, object] = field(default_factory=dict)
    currently_connected: bool = False
    last_connected_at: datetime | None = None
    last_disconnected_at: datetime | None = None
    last_connected_ip_addr: str | None = None
    restore_deadline_at: datetime | None = None
    cert_pem: str | None = None
    cert_fingerprint_sha256: str | None = None
    cert_expires_at: datetime | None = None
    agent_identity_id: str | None = None
