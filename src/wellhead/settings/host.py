"""Settings of a host: how it runs sandboxes, and what they may take."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)


def _network(text: str) -> str:
    network = ipaddress.IPv4Network(text)
    if not network.is_private or network.prefixlen > 24:
        raise ValueError(f"{text} must be a private IPv4 network of at least 256 addresses")
    return text


class HostSettings(BaseModel):
    """The same for ``wellhead host run`` and for the host inside ``wellhead up --with-host``."""

    host_runtime: Literal["auto", "namespace", "process"] = Field(
        "auto",
        description="How sandboxes are run: `namespace`, isolated, as root on Linux; `process`, not isolated"
        " at all; `auto`: the first where it can be.",
    )
    host_egress: Literal["internet", "none"] = Field(
        "internet",
        description="What a sandbox may reach: `internet`, but nothing of this machine and its networks; or"
        " `none`.",
    )
    host_egress_private: bool = Field(
        False, description="Whether a sandbox may also reach private networks beyond this machine."
    )
    host_egress_bytes_per_second: PositiveInt = Field(
        209715200, description="Most bytes a second that leave a sandbox."
    )
    host_egress_burst_bytes: PositiveInt = Field(
        104857600, description="Bytes that may leave a sandbox at once before that bound holds."
    )
    host_network: Annotated[str, AfterValidator(_network)] = Field(
        "10.12.0.0/16", description="Private network of which each sandbox gets two addresses."
    )
    host_max_sandboxes: PositiveInt = Field(200, description="Most sandboxes on a host.")
    host_memory_mb: NonNegativeInt = Field(
        0, description="Memory for all sandboxes of a host; 0: three quarters of the machine's."
    )
    host_max_vcpus: PositiveInt = Field(8, description="Most CPUs of one sandbox.")
    host_max_memory_mb: PositiveInt = Field(16384, description="Most memory of one sandbox.")
    host_max_disk_mb: PositiveInt = Field(51200, description="Largest disk of one sandbox.")
    host_pids_max: Annotated[int, Field(ge=16)] = Field(
        1024, description="Most processes and threads of one sandbox."
    )
    host_upload_bytes: PositiveInt = Field(
        104857600, description="Longest file that `files/write` takes; beyond: 413."
    )
    host_stream_upload_bytes: PositiveInt = Field(
        10737418240, description="Longest file that `files/stream/write` takes; beyond: 413."
    )
    host_exec_output_bytes: PositiveInt = Field(
        16777216, description="Most output of a command that is answered in one piece; beyond: an error."
    )
    host_exec_outputs_bytes: PositiveInt = Field(
        268435456,
        description="Most output of all such commands together that a host holds; beyond: 503.",
    )
    host_port_connections: PositiveInt = Field(
        512, description="Most connections of a host to the ports of one sandbox; beyond: 503."
    )
    host_port_retry_seconds: NonNegativeFloat = Field(
        2.0,
        description="How long a port that refuses is tried again, where a server may be starting on it: after"
        " a sandbox or something in it began, and where one was there before.",
    )
    host_port_dial_seconds: PositiveFloat = Field(
        10.0, description="Longest wait for a port to accept a connection; beyond: 504."
    )
    host_port_reply_seconds: PositiveFloat = Field(
        120.0, description="Longest wait for the reply head of a port; beyond: 504."
    )
    host_port_idle_seconds: PositiveFloat = Field(
        30.0, description="How long an unused connection to a port is kept."
    )
    host_port_host_header: Literal["rewrite", "preserve"] = Field(
        "rewrite",
        description="What `Host` says to a server in a sandbox: `rewrite`, `localhost:{port}`; or `preserve`,"
        " the port's public name.",
    )
    host_keep_sandboxes: bool = Field(
        True, description="Whether sandboxes go on when the host's program ends, for its next start to find."
    )
    host_report_seconds: PositiveFloat = Field(
        10.0, description="How often a host reports what it runs, beside each change."
    )


class LocalHostSettings(HostSettings):
    """The host on the server's own machine."""

    with_host: bool = Field(False, description="Run a host for sandboxes on this machine, `--with-host`.")
