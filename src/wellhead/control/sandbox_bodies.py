"""What is asked of sandboxes, as the API reads it.

Source: wrenn-sandboxes, "4. Lifecycle and files API".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, TypeVar

from fastapi import Path
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from wellhead.control.store.sandbox_edits import Edit
from wellhead.control.store.sandboxes import Asked
from wellhead.errors import BadRequest, InputError, Invalid
from wellhead.model.ports import read_port
from wellhead.model.sandbox_records import (
    LABEL_NAME,
    LABEL_VALUE_MAX,
    LABELS_MAX,
    TIMEOUT_MAX,
    TIMEOUT_MIN,
)
from wellhead.model.sandboxes import HostId, check_template_name, read_host_id
from wellhead.model.text import shown
from wellhead.model.visibility import PORTS_MAX, PortAccess, Visibility
from wellhead.settings import ServerSettings
from wellhead.settings.sandboxes import DISK_MB_MAX, MEMORY_MB_MAX, VCPUS_MAX

TEMPLATE = "minimal-ubuntu"
LEGACY_TEMPLATE = "minimal"
T = TypeVar("T")
ENV_MAX = 256  # variables
ENV_VALUE_MAX = 8192  # characters
MEMORY_MB_MIN, DISK_MB_MIN = 64, 64
MEMORY_MB, DISK_MB = 512, 5120
_RESERVED = ("kernel_version", "vmm_version", "agent_version", "envd_version")  # labels that hosts write
_ID = "^cl-[0-9a-z]{25}$"
_ENV_NAME = "[A-Za-z_][A-Za-z0-9_]{0,127}"
_PORT = (
    "(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"  # 1 to 65535
)
_VISIBILITIES = [each.value for each in Visibility]


def _labels(labels: dict[str, str]) -> dict[str, str]:
    if len(labels) > LABELS_MAX:
        raise InputError(f"{len(labels)} labels, at most {LABELS_MAX} allowed")
    for name, value in labels.items():
        if re.fullmatch(LABEL_NAME, name) is None:
            raise InputError(
                f"label {shown(name)} is not 1 to 64 of A-Z a-z 0-9 . _ - that begin with A-Z a-z 0-9"
            )
        if name in _RESERVED:
            raise InputError(f"label {name} is reserved")
        if len(value) > LABEL_VALUE_MAX:
            raise InputError(f"label {name} of {len(value)} characters, at most {LABEL_VALUE_MAX} allowed")
    return labels


def _env(env: dict[str, str]) -> dict[str, str]:
    if len(env) > ENV_MAX:
        raise InputError(f"{len(env)} variables, at most {ENV_MAX} allowed")
    for name, value in env.items():
        if re.fullmatch(_ENV_NAME, name) is None:
            raise InputError(f"{shown(name)} is not the name of a variable")
        if len(value) > ENV_VALUE_MAX:
            raise InputError(f"variable {name} of {len(value)} characters, at most {ENV_VALUE_MAX} allowed")
    return env


def _whole(given: object) -> object:
    if isinstance(given, bool | str):
        raise InputError(f"{shown(str(given))} is not a whole number")
    return given


def _ports(ports: dict[str, T]) -> dict[str, T]:
    if len(ports) > PORTS_MAX:
        raise InputError(f"{len(ports)} ports, at most {PORTS_MAX} allowed")
    for port in ports:
        read_port(port)
    return ports


def _table(most: int, name: dict[str, object], value: dict[str, object]) -> WithJsonSchema:
    return WithJsonSchema(
        {"type": "object", "maxProperties": most, "propertyNames": name, "additionalProperties": value}
    )


def _text(most: int) -> dict[str, object]:
    return {"type": "string", "maxLength": most}


Labels = Annotated[
    dict[str, str],
    AfterValidator(_labels),
    _table(LABELS_MAX, {"pattern": f"^{LABEL_NAME}$", "not": {"enum": [*_RESERVED]}}, _text(LABEL_VALUE_MAX)),
]
Env = Annotated[
    dict[str, str],
    AfterValidator(_env),
    _table(ENV_MAX, {"pattern": f"^{_ENV_NAME}$"}, _text(ENV_VALUE_MAX)),
]
Ports = Annotated[
    dict[str, Visibility],
    AfterValidator(_ports),
    _table(PORTS_MAX, {"pattern": f"^{_PORT}$"}, {"enum": _VISIBILITIES}),
]
ChangedPorts = Annotated[
    dict[str, Visibility | None],
    AfterValidator(_ports),
    _table(PORTS_MAX, {"pattern": f"^{_PORT}$"}, {"enum": [*_VISIBILITIES, None]}),
]
Flag = Annotated[bool, Field(strict=True)]
TemplateName = Annotated[
    str,
    AfterValidator(check_template_name),
    WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"}),
]
WHOLE = BeforeValidator(_whole)  # behind the bounds, which the document would lose otherwise
Timeout = Annotated[int, Field(ge=0, le=TIMEOUT_MAX), WHOLE]
HostName = Annotated[
    str,
    AfterValidator(read_host_id),
    WithJsonSchema({"type": "string", "pattern": "^host-[0-9][0-9a-z]{24}$"}),
]
SandboxPath = Annotated[str, Path(json_schema_extra={"pattern": _ID})]


class NewSandbox(BaseModel):
    model_config = ConfigDict(extra="forbid")

    template: TemplateName | None = Field(
        None, description=f"What it begins as; absent: `{TEMPLATE}`, or `{LEGACY_TEMPLATE}` under `/legacy`."
    )
    vcpus: Annotated[int, Field(ge=1, le=VCPUS_MAX), WHOLE] | None = Field(None, description="Absent: 1.")
    memory_mb: Annotated[int, Field(ge=MEMORY_MB_MIN, le=MEMORY_MB_MAX), WHOLE] | None = Field(
        None, description=f"Absent: {MEMORY_MB}."
    )
    disk_size_mb: Annotated[int, Field(ge=DISK_MB_MIN, le=DISK_MB_MAX), WHOLE] | None = Field(
        None, description=f"Absent: {DISK_MB}."
    )
    timeout_sec: Timeout | None = Field(
        None,
        description="Seconds without use after which it is paused, 0 or absent: never."
        f" Less than {TIMEOUT_MIN} is taken as {TIMEOUT_MIN}.",
    )
    metadata: Labels | None = Field(None, description="Labels.")
    envs: Env | None = Field(None, description="The environment of everything that is run in it.")
    host_id: HostName | None = Field(None, description="At this host; absent: at the one that suits best.")

    visibility: Visibility | None = Field(
        None, description="Who may see its ports; absent: as the setting `sandbox_visibility` says."
    )
    port_visibility: Ports | None = Field(None, description="Of ports that differ, by their numbers.")
    auto_resume: Flag | None = Field(
        None, description="Whether a request for a port resumes it where it is paused; absent: it does not."
    )

    def asked(self, *, legacy: bool, visibility: Visibility) -> Asked:
        """What is to be made; ``visibility`` where it says nothing of that."""
        return Asked(
            template=self.template or (LEGACY_TEMPLATE if legacy else TEMPLATE),
            vcpus=self.vcpus or 1,
            memory_mb=self.memory_mb or MEMORY_MB,
            disk_mb=self.disk_size_mb or DISK_MB,
            timeout_sec=_clamped(self.timeout_sec) or 0,
            metadata=self.metadata or {},
            host=None if self.host_id is None else HostId(self.host_id),
            access=PortAccess(
                self.visibility or visibility,
                tuple((int(port), each) for port, each in (self.port_visibility or {}).items()),
                auto_resume=self.auto_resume or False,
            ),
        )


class SandboxChange(BaseModel):
    """What is absent, or null, stays."""

    model_config = ConfigDict(extra="forbid")

    timeout_sec: Timeout | None = None
    metadata: Labels | None = None
    visibility: Visibility | None = None
    port_visibility: ChangedPorts | None = Field(
        None, description="Ports that are named get theirs; of null: the sandbox's again. Others stay."
    )
    auto_resume: Flag | None = None

    def edit(self) -> Edit:
        return Edit(
            timeout_sec=_clamped(self.timeout_sec),
            metadata=self.metadata,
            visibility=self.visibility,
            ports={int(port): each for port, each in (self.port_visibility or {}).items()},
            auto_resume=self.auto_resume,
        )


def checked(sandbox_id: str) -> str:
    """
    Raises:
        BadRequest: it has not the form of an id.
    """
    if re.fullmatch(_ID, sandbox_id) is None:
        raise BadRequest(400, f"{shown(sandbox_id)} is not the id of a sandbox")
    return sandbox_id


def check_size(asked: Asked, settings: ServerSettings) -> None:
    """
    Raises:
        Invalid: more is asked for than a sandbox may have here.
    """
    for field, given, most in (
        ("vcpus", asked.vcpus, settings.max_sandbox_vcpus),
        ("memory_mb", asked.memory_mb, settings.max_sandbox_memory_mb),
        ("disk_size_mb", asked.disk_mb, settings.max_sandbox_disk_mb),
    ):
        if given > most:
            setting = f"max_sandbox_{field.replace('_size', '')}"
            raise Invalid(422, f"{field} {given}: at most {most} allowed by {setting}")


def check_ports(access: Mapping[str, Visibility | None] | None, settings: ServerSettings) -> None:
    """
    Raises:
        Invalid: one of them is for no visitor here.
    """
    for port, visibility in (access or {}).items():
        if visibility is not None and int(port) in settings.sandbox_denied_ports:
            raise Invalid(422, f"port_visibility {port}: one of sandbox_denied_ports, which nobody reaches")


def _clamped(timeout: int | None) -> int | None:
    return max(timeout, TIMEOUT_MIN) if timeout else timeout
