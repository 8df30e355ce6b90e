"""What a host asks of the control plane: to be let in, and to be heard."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from wellhead.client.calls import Call, in_path
from wellhead.host.capacity import Capacity
from wellhead.model.access import Secret
from wellhead.model.sandboxes import HostId
from wellhead.version import VERSION

AGENT = f"wellhead-host/{VERSION}"
REPORT_SECONDS = 10.0  # for its answer


class Joined(BaseModel):
    """``edge``: the authority to dial; None: that of the URL."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    host_id: str
    key: str = Field(repr=False)
    edge: str | None = None


class Wishes(BaseModel):
    """What the control plane wants after a report: sandboxes to be ended, and whether no new ones come."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    destroy: list[str] = []
    draining: bool = False


def join(
    token: Secret, name: str | None, runtime: str, capacity: Capacity, templates: Sequence[str]
) -> Call[Joined]:
    """Become a host. ``name`` None: the one that its record has, or else the machine's.

    Raises:
        Unauthorized: the token is not good, or not any more.
    """
    body = {
        "token": token.reveal(), "name": name, "machine_name": socket.gethostname() or None,
        "runtime": runtime, "vcpus": capacity.vcpus, "memory_mb": capacity.memory_mb,
        "disk_mb": capacity.disk_mb, "templates": list(templates), "agent": AGENT,
    }  # fmt: skip
    return Call("POST", "/hosts/join", Joined.model_validate, body=body)


def report(host: HostId, told: dict[str, Any]) -> Call[Wishes]:
    """Tell how the host is.

    Raises:
        Unauthorized, NotFound: there is no such host any more.
    """
    return Call(
        "POST", f"/hosts/{in_path(host)}/report", Wishes.model_validate, body=told, repeatable=True,
        seconds=REPORT_SECONDS,
    )  # fmt: skip
