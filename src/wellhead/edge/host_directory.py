"""What the edge asks of the records about hosts and sandboxes: answered from memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from wellhead.model.access import Secret
from wellhead.model.records import ApiKey, KeyId
from wellhead.model.sandboxes import HostId, HostView, SandboxId, SandboxView


class HostDirectory(Protocol):
    def host(self, host_id: HostId) -> HostView | None:
        """The host of this id."""

    def sandbox(self, sandbox_id: SandboxId) -> SandboxView | None:
        """The sandbox of this id, whatever its status."""

    def key(self, secret: Secret) -> ApiKey | None:
        """The live API key that this secret is, or None; in the same time whether it exists or not."""

    def used(self, key_id: KeyId) -> None:
        """Note that a key let somebody in."""

    def is_current(self) -> bool:
        """Whether what is not here does not exist; False while the control plane is away."""

    def on_sandbox(self, call: Callable[[SandboxId], None]) -> None:
        """Have ``call`` told, at once, of each sandbox whose record changed or is gone."""

    def on_host_removed(self, call: Callable[[HostId], None]) -> None:
        """Have ``call`` told, at once, of each host whose record is gone."""

    def on_revoked(self, call: Callable[[KeyId], None]) -> None:
        """Have ``call`` told, at once, of each API key that is good no more."""

    async def admit_host(self, host: str, secret: Secret) -> tuple[HostView, KeyId]:
        """Check a host's key.

        Raises:
            SecretRejected: no such host, or the key is not its own.
        """
