"""The records: what an organization owns, and which changes of status are lawful.

Times are aware, UTC. Ids are lower-case UUID strings; ``NewType`` keeps one kind from passing for another.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, NewType

from wellhead.errors import InputError
from wellhead.model.access import Scope
from wellhead.model.text import shown

OrganizationId = NewType("OrganizationId", str)
KeyId = NewType("KeyId", str)
TunnelId = NewType("TunnelId", str)

METADATA_MAX = 4096  # bytes of compact JSON in UTF-8
DESCRIPTION_MAX = 1000  # characters
LABEL_MAX = 255  # characters of a key's label
DISPLAY_NAME_MAX = 255  # characters
BY_SERVER = "server"  # who made a key that no key made
AGENT_MAX = 200  # characters kept of what an agent says it is
RESTORE_GRACE = timedelta(hours=24)  # between a delete and the end of the record


class TlsMode(enum.Enum):
    """Where a visitor's TLS ends."""

    EDGE = "edge"
    PASSTHROUGH = "passthrough"

    @classmethod
    def read(cls, text: str) -> TlsMode:
        """
        Raises:
            InputError: no such mode.
        """
        try:
            return cls(text)
        except ValueError:
            raise InputError(f"tls_mode must be edge or passthrough, not {shown(text)}") from None


class TunnelStatus(enum.Enum):
    AWAITING_CERT = "awaiting_cert"
    ACTIVE = "active"
    PENDING_REMOVAL = "delete_pending"
    DELETED = "deleted"


TRANSITIONS: dict[TunnelStatus, frozenset[TunnelStatus]] = {
    TunnelStatus.AWAITING_CERT: frozenset(
        {TunnelStatus.ACTIVE, TunnelStatus.PENDING_REMOVAL, TunnelStatus.DELETED}
    ),
    TunnelStatus.ACTIVE: frozenset({TunnelStatus.PENDING_REMOVAL, TunnelStatus.DELETED}),
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
    label: str = ""
    prefix: str = ""  # how the key begins, up to the end of its public half
    description: str | None = None
    created_by: KeyId | None = None  # None: the server itself

    def live(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class KeyStatus(enum.Enum):
    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An API key as the REST API gives it.

    Source: inkbox-tunnels, "2.3 Objects", ApiKey record; ``scopes`` are ours.
    """

    id: KeyId
    organization_id: OrganizationId
    label: str
    scopes: list[str]  # "admin", "tunnel:{id}"
    status: KeyStatus
    display_prefix: str
    last4: str
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None  # by a request or an agent; a crash may lose its last minute
    description: str | None = None
    scoped_identity_id: TunnelId | None = None  # the identity, where the scopes are one tunnel's alone
    created_by: str = BY_SERVER  # id of the key that made it, or the server itself
    creator_type: Literal["human"] = "human"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks for a change: a key, and the address it is used from. The server itself has neither."""

    key_id: KeyId | None = None
    key_last4: str | None = None
    address: str | None = None


SERVER = Actor()


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change of the records, or one refused attempt: who, what, and the fields before and after.

    ``before`` and ``after`` hold the fields that changed; never a secret nor a digest of one.
    """

    id: str
    at: datetime
    actor: str  # "key", or "server" for what it does by itself
    key_id: KeyId | None
    key_last4: str | None
    address: str | None  # an IP address
    action: str  # "tunnel.create"
    target_id: str
    target_name: str | None
    before: dict[str, object] | None
    after: dict[str, object] | None


@dataclass(frozen=True, slots=True)
class TunnelView:
    """As much of a tunnel's record as traffic needs."""

    id: TunnelId
    name: str
    organization_id: OrganizationId
    status: TunnelStatus
    tls_mode: TlsMode


@dataclass(frozen=True, slots=True)
class Admission:
    """An agent's credential was good: for which tunnel, and which key it was (None: the connect secret)."""

    tunnel: TunnelView
    key_id: KeyId | None = None


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
    agent_version: str | None = None  # what the last agent said it is: "wellhead-python/0.1.0"
    agent_identity_id: TunnelId | None = None  # of its identity, which is this same record: its own id
    restore_deadline_at: datetime | None = None
    cert_pem: str | None = None
    cert_fingerprint_sha256: str | None = None
    cert_expires_at: datetime | None = None
    cert_renew_at: datetime | None = None  # when a passthrough tunnel's agent is to have the next one signed


@dataclass(frozen=True, slots=True)
class Identity:
    """A tunnel as the newer generation of clients sees it: an agent's, which owns it.

    It is the tunnel's own record: one id, one description, one life. An identity has no mailbox and no
    telephone here; the fields say so to clients that look for them.

    Source: inkbox-tunnels, "2.3 Objects", Identity.
    """

    id: TunnelId
    organization_id: OrganizationId
    agent_handle: str  # the tunnel's name
    display_name: str | None
    description: str | None
    created_at: datetime
    updated_at: datetime
    tunnel: Tunnel
    email_address: None = None
    mailbox: None = None
    phone_number: None = None
