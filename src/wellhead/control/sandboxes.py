"""``/api/v1/sandboxes``, which is also ``/api/v1/capsules``.

Source: wrenn-sandboxes, "4. Lifecycle and files API".
"""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from wellhead.control.access import By, Key, need_admin
from wellhead.control.docs import links
from wellhead.control.fleet import Fleet
from wellhead.control.shown import sandbox_record
from wellhead.control.store.creation import Once
from wellhead.control.store.sandboxes import Asked, Filter
from wellhead.control.tunnels import IdempotencyKey
from wellhead.errors import BadRequest, InputError, Invalid
from wellhead.model.sandbox_records import (
    LABEL_NAME,
    LABEL_VALUE_MAX,
    LABELS_MAX,
    TIMEOUT_MAX,
    TIMEOUT_MIN,
    Sandbox,
)
from wellhead.model.sandboxes import HostId, SandboxStatus, check_template_name, read_host_id
from wellhead.model.text import shown
from wellhead.settings import ServerSettings
from wellhead.settings.sandboxes import DISK_MB_MAX, MEMORY_MB_MAX, VCPUS_MAX

TEMPLATE = "minimal-ubuntu"
LEGACY_TEMPLATE = "minimal"
LIST_MAX = 1000  # sandboxes
ENV_MAX = 256  # variables
ENV_VALUE_MAX = 8192  # characters
MEMORY_MB_MIN, DISK_MB_MIN = 64, 64
MEMORY_MB, DISK_MB = 512, 5120
_RESERVED = ("kernel_version", "vmm_version", "agent_version", "envd_version")  # labels that hosts write
_ID = "^cl-[0-9a-z]{25}$"
_ENV_NAME = "[A-Za-z_][A-Za-z0-9_]{0,127}"


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


def _texts(most: int, name: dict[str, object], value_max: int) -> WithJsonSchema:
    value = {"type": "string", "maxLength": value_max}
    return WithJsonSchema(
        {"type": "object", "maxProperties": most, "propertyNames": name, "additionalProperties": value}
    )


Labels = Annotated[
    dict[str, str],
    AfterValidator(_labels),
    _texts(LABELS_MAX, {"pattern": f"^{LABEL_NAME}$", "not": {"enum": [*_RESERVED]}}, LABEL_VALUE_MAX),
]
Env = Annotated[
    dict[str, str], AfterValidator(_env), _texts(ENV_MAX, {"pattern": f"^{_ENV_NAME}$"}, ENV_VALUE_MAX)
]
TemplateName = Annotated[
    str,
    AfterValidator(check_template_name),
    WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"}),
]
_WHOLE = BeforeValidator(_whole)  # behind the bounds, which the document would lose otherwise
Timeout = Annotated[int, Field(ge=0, le=TIMEOUT_MAX), _WHOLE]
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
    vcpus: Annotated[int, Field(ge=1, le=VCPUS_MAX), _WHOLE] | None = Field(None, description="Absent: 1.")
    memory_mb: Annotated[int, Field(ge=MEMORY_MB_MIN, le=MEMORY_MB_MAX), _WHOLE] | None = Field(
        None, description=f"Absent: {MEMORY_MB}."
    )
    disk_size_mb: Annotated[int, Field(ge=DISK_MB_MIN, le=DISK_MB_MAX), _WHOLE] | None = Field(
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

    def asked(self, *, legacy: bool) -> Asked:
        return Asked(
            template=self.template or (LEGACY_TEMPLATE if legacy else TEMPLATE),
            vcpus=self.vcpus or 1,
            memory_mb=self.memory_mb or MEMORY_MB,
            disk_mb=self.disk_size_mb or DISK_MB,
            timeout_sec=_clamped(self.timeout_sec) or 0,
            metadata=self.metadata or {},
            host=None if self.host_id is None else HostId(self.host_id),
        )


class SandboxChange(BaseModel):
    """What is absent, or null, stays."""

    model_config = ConfigDict(extra="forbid")

    timeout_sec: Timeout | None = None
    metadata: Labels | None = None


_made = links(
    "sandbox_id",
    "$response.body#/id",
    "get_sandbox",
    "update_sandbox",
    "ping_sandbox",
    "pause_sandbox",
    "resume_sandbox",
    "destroy_sandbox",
)


def router(fleet: Fleet, settings: ServerSettings) -> APIRouter:
    """The routes. They wait for the host."""
    routes = APIRouter(prefix="/sandboxes", tags=["sandboxes"])

    @routes.get("", operation_id="list_sandboxes")
    async def list_sandboxes(
        key: Key,
        status: Annotated[
            SandboxStatus | None, Query(description="Only those; absent: all but `stopped` and `error`.")
        ] = None,
        template: Annotated[str | None, Query(max_length=64, description="Only those of it.")] = None,
        host_id: Annotated[str | None, Query(max_length=64, description="Only those at it.")] = None,
        limit: Annotated[int, Query(ge=1, le=LIST_MAX, description="At most so many.")] = LIST_MAX,
    ) -> list[Sandbox]:
        """The organization's sandboxes, newest first."""
        need_admin(key)
        chosen = Filter(status, template, host_id)
        rows = await fleet.store.sandboxes.page(key.organization_id, chosen, limit)
        return [sandbox_record(row) for row in rows]

    @routes.post("", status_code=201, operation_id="create_sandbox", responses=_made)
    async def create_sandbox(
        request: Request,
        key: Key,
        by: By,
        new: NewSandbox,
        response: Response,
        idempotency_key: IdempotencyKey = None,
    ) -> Sandbox:
        """Make a sandbox; it runs when this answers.

        With an Idempotency-Key a create whose answer was lost can be repeated for 24 hours: it finds the
        same sandbox.
        """
        need_admin(key)
        asked = new.asked(legacy=request.state.legacy)
        check_size(asked, settings)
        once = None if idempotency_key is None else Once.of(idempotency_key, new.model_dump(mode="json"))
        row, replayed = await fleet.create(key.organization_id, asked, once, new.envs or {}, by)
        if replayed:
            response.headers["Idempotency-Replayed"] = "true"
        return sandbox_record(row)

    @routes.get("/{sandbox_id:id}", operation_id="get_sandbox")
    async def get_sandbox(key: Key, sandbox_id: SandboxPath) -> Sandbox:
        """A sandbox, also one that is over."""
        need_admin(key)
        return sandbox_record(await fleet.store.sandboxes.one(key.organization_id, checked(sandbox_id)))

    @routes.patch("/{sandbox_id:id}", operation_id="update_sandbox")
    async def update_sandbox(key: Key, by: By, sandbox_id: SandboxPath, change: SandboxChange) -> Sandbox:
        """Change its timeout and its labels: what is absent stays."""
        need_admin(key)
        row = await fleet.change(
            key.organization_id, checked(sandbox_id), by, _clamped(change.timeout_sec), change.metadata
        )
        return sandbox_record(row)

    @routes.delete("/{sandbox_id:id}", status_code=204, operation_id="destroy_sandbox")
    async def destroy_sandbox(key: Key, by: By, sandbox_id: SandboxPath) -> None:
        """End a sandbox and all that is in it. Twice is as once."""
        need_admin(key)
        await fleet.destroy(key.organization_id, checked(sandbox_id), by)

    @routes.post("/{sandbox_id:id}/ping", status_code=204, operation_id="ping_sandbox")
    async def ping_sandbox(key: Key, sandbox_id: SandboxPath) -> None:
        """Count it as used now: its timeout begins anew. 409 where it does not run."""
        need_admin(key)
        await fleet.ping(key.organization_id, checked(sandbox_id))

    @routes.post("/{sandbox_id:id}/pause", operation_id="pause_sandbox")
    async def pause_sandbox(key: Key, by: By, sandbox_id: SandboxPath) -> Sandbox:
        """Freeze every process of it; memory and sockets stay. 409 where it does not run."""
        need_admin(key)
        return sandbox_record(await fleet.pause(key.organization_id, checked(sandbox_id), by))

    @routes.post("/{sandbox_id:id}/resume", operation_id="resume_sandbox")
    async def resume_sandbox(key: Key, by: By, sandbox_id: SandboxPath) -> Sandbox:
        """Let it go on. 409 where it is not paused."""
        need_admin(key)
        return sandbox_record(await fleet.resume(key.organization_id, checked(sandbox_id), by))

    return routes


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


def _clamped(timeout: int | None) -> int | None:
    return max(timeout, TIMEOUT_MIN) if timeout else timeout
