"""What the operator settles for every sandbox of a host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class RuntimeTerms:
    """
    ``egress``: ``internet`` or ``none``; never this machine, its sandboxes and link-local addresses, and
    private networks only where ``egress_private`` or ``allowed_networks`` says so. ``network``: a private
    IPv4 network of which a sandbox gets two addresses. ``name_servers``: empty for the machine's own.
    ``cgroup_parent``: the name under which control groups are made. ``first_id``: the lowest number of a
    sandbox's users, as the machine sees them, each sandbox having 65536; 0 for those of the machine itself.
    ``files_max``: open files of one process.
    """

    egress: Literal["internet", "none"] = "internet"
    egress_private: bool = False
    allowed_networks: Sequence[str] = ()
    network: str = "10.12.0.0/16"
    name_servers: Sequence[str] = ()
    egress_bytes_per_second: int = 209_715_200
    egress_burst_bytes: int = 104_857_600
    cgroup_parent: str = "wellhead"
    first_id: int = 1 << 24
    files_max: int = 65536
