"""Sandboxes, hosts and templates as the REST API gives them.

Source: wrenn-sandboxes, "4. Lifecycle and files API", capsule object; what is more is ours.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime

from wellhead.model.records import OrganizationId
from wellhead.model.sandboxes import HostId, HostStatus, SandboxId, SandboxStatus
from wellhead.model.visibility import Visibility

LABELS_MAX = 20  # of a sandbox
LABEL_NAME = "[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}"
LABEL_VALUE_MAX = 64  # characters
HOST_NAME_MAX = 255  # characters
TIMEOUT_MIN = 60  # seconds; a shorter inactivity timeout is taken as this one
TIMEOUT_MAX = 30 * 24 * 3600  # seconds


@dataclass(frozen=True, slots=True)
class Sandbox:
    id: SandboxId
    organization_id: OrganizationId
    status: SandboxStatus
    template: str
    vcpus: int
    memory_mb: int
    disk_size_mb: int
    timeout_sec: int  # of inactivity, after which it is paused; 0: never
    created_at: datetime
    last_updated: datetime
    host_id: HostId | None = None
    guest_ip: str | None = None
    host_ip: str | None = None
    started_at: datetime | None = None
    last_active_at: datetime | None = None
    reason: str | None = None  # why it is in error, or was stopped by the server
    metadata: dict[str, str] = field(default_factory=dict)
    visibility: Visibility = Visibility.PRIVATE  # of every port that has none of its own
    port_visibility: dict[int, Visibility] = field(default_factory=dict)
    auto_resume: bool = False  # a request for a port resumes it where it is paused
    url: str | None = None  # of its ports, each in place of {port}
    plain_url: str | None = None  # the same without TLS; None: the server has no port for that

    def visibility_of(self, port: int) -> Visibility:
        return self.port_visibility.get(port, self.visibility)


@dataclass(frozen=True, slots=True)
class PortLink:
    """Who has the ``url`` may see the port until the link ends, or is revoked. It is shown once."""

    url: str = field(repr=False)
    expires_at: datetime
    port: int | None = None  # None: every one, and the URL has {port} in place of the number


@dataclass(frozen=True, slots=True)
class Host:
    id: HostId
    organization_id: OrganizationId
    name: str
    status: HostStatus
    created_at: datetime
    updated_at: datetime
    runtime: str | None = None  # None: it has not come yet
    vcpus: float | None = None
    memory_mb: int | None = None
    disk_mb: int | None = None
    sandboxes_max: int | None = None
    templates: list[str] = field(default_factory=list)
    agent: str | None = None  # what its program says it is: "wellhead-host/0.1.0"
    address: str | None = None  # an IP address, that it was last seen at
    last_seen_at: datetime | None = None
    sandboxes: int = 0  # that it has, running or paused
    vcpus_reserved: int = 0
    memory_mb_reserved: int = 0
    disk_mb_reserved: int = 0


class TemplateKind(enum.Enum):
    BASE = "base"
    SNAPSHOT = "snapshot"


@dataclass(frozen=True, slots=True)
class SandboxTemplate:
    """What sandboxes begin as: a snapshot of one, or a base that hosts were given."""

    name: str
    type: TemplateKind
    platform: bool  # it is a base: no snapshot of the organization's own
    protected: bool  # it cannot be deleted here
    vcpus: int | None = None  # of the sandbox that it is a snapshot of
    memory_mb: int | None = None
    size_bytes: int | None = None
    created_at: datetime | None = None
    base: str | None = None  # the template of that sandbox
    host_id: HostId | None = None  # where it is kept
