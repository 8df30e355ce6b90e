"""Where the server is, and where it says what it does."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from wellhead.model.names import is_reserved
from wellhead.settings.values import (
    AccessLog,
    Address,
    AddressOrOff,
    Directory,
    Domain,
    Hostname,
    Names,
    home,
)


class PlaceSettings(BaseModel):
    """Addresses, names and logs."""

    data_dir: Directory = Field(
        default_factory=lambda: home() / "server",
        description="Where database, local CA and admin key live; made with mode 0700.",
    )
    domain: Domain = Field("localhost", description="Tunnels are names under this domain.")
    zone: Hostname | None = Field(
        None, description="The hostname or IP address that agents dial; default: the domain."
    )
    https: Address = Field("127.0.0.1:8443", description="Where visitors and agents connect with TLS.")
    http: AddressOrOff = Field(
        "127.0.0.1:8080", description="Where visitors connect without TLS; `off` for nowhere."
    )
    reserved_names: Names = Field(
        (),
        description="Names that no tunnel may have, beside the built-in ones; comma separated in a variable.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe lines that are logged."
    )
    access_log: AccessLog = Field(
        "stderr", description="Where the line per exchange goes: `stderr`, `off`, or a file's path."
    )
    access_log_query: Literal["masked", "whole", "off"] = Field(
        "masked",
        description="The query in that line: `masked` (values of `token`, `code`, … hidden), `whole`, `off`.",
    )

    @property
    def agent_zone(self) -> str:
        """The hostname that agents dial."""
        return self.zone if self.zone is not None else self.domain

    def is_reserved(self, name: str) -> bool:
        """Whether a well-formed tunnel name is kept from tunnels."""
        # Agents and the API are at the zone: a tunnel of its name, or over it, would be there too.
        above, under, _ = self.agent_zone.rpartition("." + self.domain)
        return is_reserved(name, (*self.reserved_names, above.rpartition(".")[2] if under else ""))
