"""What may be asked for: a sandbox, and how long it may be without activity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wellhead.errors import HostInvalid
from wellhead.host.capacity import Bounds
from wellhead.model.sandboxes import SandboxId

TIMEOUT_MAX_SECONDS = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A sandbox that is to be made. ``timeout_seconds``: see ``Entry``."""

    id: SandboxId
    template: str
    vcpus: float = 1.0
    memory_mb: int = 512
    disk_mb: int = 5120
    timeout_seconds: float = 0.0
    env: Mapping[str, str] = field(default_factory=dict)

    def check(self, bounds: Bounds) -> None:
        """
        Raises:
            HostInvalid: a value is out of its bounds.
        """
        bounds.check(self.vcpus, self.memory_mb, self.disk_mb)
        check_timeout(self.timeout_seconds)


def check_timeout(seconds: float) -> None:
    """
    Raises:
        HostInvalid: neither 0 nor as long as it may be.
    """
    if not 0 <= seconds <= TIMEOUT_MAX_SECONDS:
        raise HostInvalid(f"timeout_seconds must be 0 (never) to {TIMEOUT_MAX_SECONDS:g}, not {seconds:g}")
