"""The server's settings: one record from which file key, variable, flag, help and reference page come.

A key ``head_seconds`` is ``head_seconds = 10`` in the TOML file, ``WELLHEAD_HEAD_SECONDS=10`` in the
environment, and an override by the command line. Precedence: command line, environment, file, default.
Unknown keys are refused.
"""

from __future__ import annotations

from wellhead.model.visibility import Visibility
from wellhead.settings.carrier import CarrierSettings
from wellhead.settings.certificates import CertificateSettings
from wellhead.settings.crowds import CrowdSettings
from wellhead.settings.host import HostSettings, LocalHostSettings
from wellhead.settings.http2 import Http2Settings
from wellhead.settings.reading import CLIENT_VARIABLES, PREFIX, read_toml
from wellhead.settings.record import Record
from wellhead.settings.records import RecordSettings
from wellhead.settings.sandboxes import SandboxSettings
from wellhead.settings.values import home
from wellhead.settings.visits import VisitSettings

__all__ = ["CLIENT_VARIABLES", "PREFIX", "HostProgramSettings", "ServerSettings", "home", "read_toml"]


class ServerSettings(
    # Fields stand in the order of their classes from the last to the first.
    LocalHostSettings,
    SandboxSettings,
    RecordSettings,
    CarrierSettings,
    Http2Settings,
    CrowdSettings,
    VisitSettings,
    CertificateSettings,
    Record,
):
    """What ``wellhead up`` can be told."""

    config_variable = "WELLHEAD_CONFIG"

    def problems(self) -> list[str]:
        return [*self.issuing_problems(), *self.link_problems()]

    @property
    def opens_ports(self) -> bool:
        """Whether the ports of new sandboxes are public without anybody having said so."""
        return self.sandbox_visibility == "auto" and self.with_host

    @property
    def new_sandbox_visibility(self) -> Visibility:
        """Of the ports of a sandbox whose create says nothing of it."""
        if self.sandbox_visibility == "auto":
            return Visibility.PUBLIC if self.opens_ports else Visibility.PRIVATE
        return Visibility(self.sandbox_visibility)


class HostProgramSettings(HostSettings, Record):
    """What ``wellhead host run`` can be told."""

    config_variable = "WELLHEAD_HOST_CONFIG"
    others = frozenset(ServerSettings.model_fields)
