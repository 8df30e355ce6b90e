"""``/api/v1/hosts``: the machines that run sandboxes, for their owner and for themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from wellhead.control.access import By, Key, need_admin, need_host
from wellhead.control.docs import links
from wellhead.control.fleet import Fleet
from wellhead.control.host_watch import Report
from wellhead.control.problems import CodedDetail, said
from wellhead.control.sandbox_bodies import TemplateName
from wellhead.control.shown import host_record
from wellhead.control.store.hosts import TOKEN_KEPT, Machine
from wellhead.control.store.sandbox_tables import HostRow
from wellhead.errors import NotFound
from wellhead.model.access import Secret
from wellhead.model.names import Public
from wellhead.model.placement import Resources
from wellhead.model.reconciling import Said
from wellhead.model.sandbox_records import HOST_NAME_MAX, Host
from wellhead.model.sandboxes import HostId, HostStatus, SandboxId, SandboxStatus
from wellhead.settings import ServerSettings

TEMPLATES_MAX = 1000
SANDBOXES_MAX = 2000  # in a report
REPORT_BYTES = 2 << 20  # of one with as many
JOIN = "/hosts/join"
_MIB_MAX = 2**40

HostPath = Annotated[str, Path(max_length=64)]
HostTitle = Annotated[str, StringConstraints(min_length=1, max_length=HOST_NAME_MAX)]


class NewHost(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: HostTitle | None = Field(None, description="For people; absent: what it says itself, or its id.")


class HostChange(BaseModel):
    """What is absent, or null, stays."""

    model_config = ConfigDict(extra="forbid")

    name: HostTitle | None = None
    draining: Annotated[bool, Field(strict=True)] | None = Field(
        None, description="Whether it keeps what it has and takes nothing new."
    )


@dataclass(frozen=True, slots=True)
class CreatedHost:
    """The token is nowhere but here: `wellhead host join --token` uses it up."""

    host: Host
    token: str
    expires_at: datetime


class _Machine(BaseModel):
    model_config = ConfigDict(extra="ignore")  # a newer host may say more

    vcpus: float = Field(gt=0, le=65536, allow_inf_nan=False)
    memory_mb: int = Field(ge=1, le=_MIB_MAX)
    disk_mb: int = Field(ge=1, le=_MIB_MAX)
    sandboxes_max: int | None = Field(None, ge=1, le=_MIB_MAX)
    templates: Annotated[list[TemplateName], Field(max_length=TEMPLATES_MAX)]
    agent: str = Field("", max_length=1000, description="What its program is.")

    def machine(self) -> Machine:
        return Machine(
            self.vcpus,
            self.memory_mb,
            self.disk_mb,
            tuple(self.templates),
            self.sandboxes_max,
            self.agent,
        )


class Joining(_Machine):
    """What a host says when it comes for the first time."""

    token: str = Field(max_length=256)
    name: HostTitle | None = Field(None, description="In place of the one that its record has.")
    machine_name: HostTitle | None = Field(None, description="For a record that has none.")
    runtime: str = Field(max_length=32)


@dataclass(frozen=True, slots=True)
class Joined:
    """The key is nowhere but here. ``edge``: the authority that the host dials."""

    host_id: HostId
    key: str = field(repr=False)
    edge: str


class ReportedSandbox(BaseModel):
    model_config = ConfigDict(extra="ignore")

    id: str = Field(max_length=64)
    status: SandboxStatus
    reason: str | None = Field(None, description="Why it is over.")
    last_active_at: float | None = Field(
        None, ge=0, le=253402300799, allow_inf_nan=False, description="Seconds since 1970."
    )


class HostReport(_Machine):
    boot: str = Field(max_length=64, description="Another after each start of its program.")
    sandboxes: Annotated[list[ReportedSandbox], Field(max_length=SANDBOXES_MAX)]
    leaving: bool = Field(False, description="The host's program ends now, and its sandboxes go on.")

    def report(self) -> Report:
        return Report(
            self.boot,
            self.machine(),
            {SandboxId(each.id): Said(each.status, each.reason) for each in self.sandboxes},
            {
                SandboxId(each.id): datetime.fromtimestamp(each.last_active_at, UTC)
                for each in self.sandboxes
                if each.last_active_at is not None
            },
            self.leaving,
        )


@dataclass(frozen=True, slots=True)
class ReportAnswer:
    """``destroy``: what the host has and should not; ``draining``: whether it is to take nothing new."""

    destroy: list[SandboxId]
    draining: bool


@dataclass(frozen=True, slots=True)
class StillHasSandboxes:
    """As clients read it that were written for another server."""

    error: CodedDetail
    sandbox_ids: list[str]


_made = links("host_id", "$response.body#/host/id", "get_host", "update_host", "delete_host")


def router(fleet: Fleet, public: Public, settings: ServerSettings) -> APIRouter:
    routes = APIRouter(prefix="/hosts", tags=["hosts"])
    store = fleet.store

    async def represent(*rows: HostRow) -> list[Host]:
        held = await store.sandboxes.held([row.id for row in rows])
        return [host_record(row, held.get(row.id, Resources())) for row in rows]

    @routes.get("", operation_id="list_hosts")
    async def list_hosts(key: Key) -> list[Host]:
        """The organization's hosts, oldest first."""
        need_admin(key)
        return await represent(*await store.hosts.page(key.organization_id))

    @routes.post("", status_code=201, operation_id="create_host", responses=_made)
    async def create_host(key: Key, by: By, new: NewHost) -> CreatedHost:
        """Make a host's record and the token by which it joins: good once, within an hour."""
        need_admin(key)
        row, token = await store.hosts.create(
            key.organization_id, new.name, settings.hosts_per_organization, by
        )
        (host,) = await represent(row)
        return CreatedHost(host, token.reveal(), row.created_at + TOKEN_KEPT)

    @routes.post("/join", status_code=201, operation_id="join_host")
    async def join_host(request: Request, joining: Joining) -> Joined:
        """Come as a host, by a token, which is used up. The key is shown in this answer and never again."""
        row, key = await store.hosts.join(
            Secret(joining.token),
            joining.name,
            joining.machine_name,
            joining.runtime,
            joining.machine(),
            request.state.address,
        )
        return Joined(HostId(row.id), key.reveal(), public.api_url.removeprefix("https://"))

    @routes.get("/{host_id:id}", operation_id="get_host")
    async def get_host(key: Key, host_id: HostPath) -> Host:
        need_admin(key)
        (host,) = await represent(await store.hosts.one(key.organization_id, host_id))
        return host

    @routes.patch("/{host_id:id}", operation_id="update_host")
    async def update_host(key: Key, by: By, host_id: HostPath, change: HostChange) -> Host:
        """Change its name, or whether it takes sandboxes: what is absent stays."""
        need_admin(key)
        row = await store.hosts.change(key.organization_id, host_id, by, change.name, change.draining)
        (host,) = await represent(row)
        return host

    @routes.delete(
        "/{host_id:id}",
        status_code=204,
        operation_id="delete_host",
        responses={409: {"model": StillHasSandboxes, "description": "It has sandboxes"}},
    )
    async def delete_host(
        key: Key,
        by: By,
        host_id: HostPath,
        force: Annotated[bool, Query(description="With its sandboxes and snapshots.")] = False,
    ) -> Response:
        """Forget a host: its key and its sessions end. 409 while it has sandboxes."""
        need_admin(key)
        row = await store.hosts.one(key.organization_id, host_id)
        there = [sandbox.id for sandbox in await store.sandboxes.live_of_host(HostId(row.id))]
        if there and not force:
            why = f"host {row.id} has {len(there)} sandboxes: destroy them first, or use force"
            return said(409, StillHasSandboxes(CodedDetail("host_has_sandboxes", why), there))
        await fleet.delete_host(key.organization_id, host_id, by)
        return Response(status_code=204)

    @routes.post("/{host_id:id}/report", operation_id="report_host")
    async def report_host(request: Request, key: Key, host_id: HostPath, report: HostReport) -> ReportAnswer:
        """Say what a host is and has: for the host itself, every few seconds and after each change."""
        need_host(key, host_id)
        view = store.directory.host(HostId(host_id))
        if view is None or view.organization_id != key.organization_id:
            raise NotFound(404, "no such host")
        destroy = await fleet.watch.report(view.id, report.report(), request.state.address)
        row = store.directory.host(view.id)
        return ReportAnswer(destroy, row is not None and row.status is HostStatus.DRAINING)

    return routes
