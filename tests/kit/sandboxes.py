"""Records of hosts and sandboxes, as the edge has them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from wellhead.model import access
from wellhead.model.access import ADMIN, Scope, ScopeKind, Secret
from wellhead.model.records import ApiKey, KeyId, OrganizationId
from wellhead.model.sandboxes import (
    HostId,
    HostStatus,
    HostView,
    SandboxId,
    SandboxStatus,
    SandboxView,
    new_host_id,
    new_sandbox_id,
)
from wellhead.model.snapshot import Snapshot
from wellhead.model.visibility import PortAccess, Visibility

ORGANIZATION = OrganizationId("org")
PRIVATE, TEAM, PUBLIC = map(PortAccess, Visibility)


class SandboxRecords(Snapshot):
    """An edge's copy that a test writes; ``uses`` are the keys that let somebody in."""

    def __init__(self) -> None:
        super().__init__(lambda tunnel: None)
        self.uses: list[KeyId] = []
        self.on_used(self.uses.append)

    def new_host(self, organization: OrganizationId = ORGANIZATION) -> tuple[HostId, Secret]:
        """A host and its key."""
        host = new_host_id()
        self.put_host(HostView(host, organization, HostStatus.ONLINE))
        return host, self.new_key(Scope(ScopeKind.HOST, host), organization)

    def new_key(
        self,
        scope: Scope = ADMIN,
        organization: OrganizationId = ORGANIZATION,
        expires_at: datetime | None = None,
    ) -> Secret:
        secret = access.mint(access.API_KEY)
        key = ApiKey(
            id=KeyId(str(uuid4())), organization_id=organization, scopes=(scope,), prefix="", last4="",
            label="", created_at=datetime.now(UTC), expires_at=expires_at,
        )  # fmt: skip
        self.put_key(key, access.handle_of(secret), access.digest(secret))
        return secret

    def revoke(self, secret: Secret) -> None:
        key = self.key(secret)
        assert key is not None
        self.drop_key(key.id, access.handle_of(secret))

    def new_sandbox(
        self,
        host: HostId,
        status: SandboxStatus = SandboxStatus.RUNNING,
        organization: OrganizationId = ORGANIZATION,
        access: PortAccess = PRIVATE,
    ) -> SandboxId:
        sandbox = new_sandbox_id()
        self.put_sandbox(SandboxView(sandbox, organization, host, status, access))
        return sandbox

    def change(
        self, sandbox: SandboxId, *, status: SandboxStatus | None = None, access: PortAccess | None = None
    ) -> None:
        """A sandbox's record becomes another."""
        view = self.sandbox(sandbox)
        assert view is not None
        self.put_sandbox(replace(view, status=status or view.status, access=access or view.access))
