"""Hosts and their sandboxes, as the server keeps them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt

from wellhead.settings.values import Ports

VCPUS_MAX = 256
MEMORY_MB_MAX = 4 * 1024 * 1024
DISK_MB_MAX = 64 * 1024 * 1024
LINK_SECONDS_MAX = 10 * 365 * 24 * 3600


class SandboxSettings(BaseModel):
    """How many there may be and how large, and how long hosts are waited for."""

    sandboxes_per_organization: PositiveInt = Field(
        1000, description="Most sandboxes of an organization, running or paused; beyond: 429."
    )
    hosts_per_organization: PositiveInt = Field(
        100, description="Most hosts of an organization; beyond: 429."
    )
    snapshots_per_organization: PositiveInt = Field(
        1000, description="Most templates made of sandboxes of an organization; beyond: 429."
    )
    max_sandbox_vcpus: PositiveInt = Field(
        8, le=VCPUS_MAX, description="Most virtual CPUs of a sandbox; beyond: 422."
    )
    max_sandbox_memory_mb: PositiveInt = Field(
        16384, ge=128, le=MEMORY_MB_MAX, description="Most memory of a sandbox, in MiB; beyond: 422."
    )
    max_sandbox_disk_mb: PositiveInt = Field(
        51200, ge=64, le=DISK_MB_MAX, description="Most disk of a sandbox, in MiB; beyond: 422."
    )
    host_call_seconds: PositiveFloat = Field(
        60.0, description="Longest time for a host to create, pause, resume or destroy a sandbox."
    )
    host_snapshot_seconds: PositiveFloat = Field(
        600.0, description="Longest time for a host to make a template of a sandbox."
    )
    host_away_seconds: PositiveFloat = Field(
        15.0, description="How long a host may be without a session before it is unreachable."
    )
    host_silent_seconds: PositiveFloat = Field(
        90.0, description="How long a host may go without a report before it is unreachable."
    )
    sandbox_visibility: Literal["auto", "private", "team", "public"] = Field(
        "auto",
        description="Who may see the ports of a new sandbox that says nothing of it: `private`, who shows an"
        " admin key or a signed link; `team`, also who shows any key of the organization; `public`, everybody"
        " who knows the name; `auto`: `public` with `--with-host`, else `private`.",
    )
    sandbox_denied_ports: Ports = Field(
        (49983,), description="Ports of sandboxes that no visitor reaches, comma-separated: 403."
    )
    sandbox_link_seconds: PositiveInt = Field(
        3600,
        le=LINK_SECONDS_MAX,
        description="How long a link to a port of a sandbox is good, where that is not said.",
    )
    sandbox_link_max_seconds: PositiveInt = Field(
        2592000, le=LINK_SECONDS_MAX, description="Longest time that a link may be asked for; beyond: 422."
    )
    exchanges_per_sandbox: PositiveInt = Field(
        1000, description="Most exchanges with the ports of one sandbox at once; beyond: 503."
    )
    sandbox_path_form: bool = Field(
        False,
        description="Serve sandboxes' ports also below `https://proxy.{domain}/{sandbox}/{port}/`, for"
        " programs that cannot use a name for each: keys in a header only, no page runs scripts.",
    )
    sandbox_resume_seconds: PositiveFloat = Field(
        20.0,
        le=100,
        description="Longest time that a request waits for a paused sandbox that is resumed for it; beyond:"
        " 503.",
    )
    sandbox_resume_waiting: PositiveInt = Field(
        1000,
        description="Most requests that wait for paused sandboxes, all together; of one, half of them;"
        " beyond: 503.",
    )

    def link_problems(self) -> list[str]:
        """What does not fit together of links, as a sentence."""
        if self.sandbox_link_seconds <= self.sandbox_link_max_seconds:
            return []
        return [
            f"sandbox_link_seconds: {self.sandbox_link_seconds} is more than sandbox_link_max_seconds,"
            f" {self.sandbox_link_max_seconds}"
        ]
