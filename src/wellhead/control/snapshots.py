"""``/api/v1/snapshots``: the templates that sandboxes begin as."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from wellhead.control.access import By, Key, need_admin
from wellhead.control.fleet import Fleet
from wellhead.control.sandbox_bodies import TemplateName, checked
from wellhead.control.shown import base_record, snapshot_record
from wellhead.model.sandbox_records import SandboxTemplate, TemplateKind


class NewSnapshot(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sandbox_id: Annotated[str, WithJsonSchema({"type": "string", "pattern": "^cl-[0-9a-z]{25}$"})] = Field(
        description="Of which it is made: one that runs or is paused."
    )
    name: TemplateName | None = Field(None, description="Absent: one that nothing has yet.")


def router(fleet: Fleet) -> APIRouter:
    routes = APIRouter(prefix="/snapshots", tags=["sandboxes"])

    @routes.post("", status_code=201, operation_id="create_snapshot")
    async def create_snapshot(
        request: Request,
        key: Key,
        by: By,
        new: NewSnapshot,
        overwrite: Annotated[bool, Query(description="In place of the snapshot that has the name.")] = False,
    ) -> SandboxTemplate:
        """Make a template of what a sandbox has written. It goes on as it was; by `/legacy` it is paused."""
        need_admin(key)
        row = await fleet.snapshot(
            key.organization_id,
            checked(new.sandbox_id),
            new.name,
            by,
            overwrite=overwrite,
            paused=request.state.legacy,
        )
        return snapshot_record(row)

    @routes.get("", operation_id="list_snapshots")
    async def list_snapshots(
        key: Key,
        kind: Annotated[
            TemplateKind | None, Query(alias="type", description="Only those of this kind.")
        ] = None,
    ) -> list[SandboxTemplate]:
        """The templates that the organization can use: those of its hosts, then its snapshots."""
        need_admin(key)
        listed: list[SandboxTemplate] = []
        if kind is not TemplateKind.SNAPSHOT:
            listed += map(base_record, sorted(await fleet.store.snapshots.bases(key.organization_id)))
        if kind is not TemplateKind.BASE:
            listed += map(snapshot_record, await fleet.store.snapshots.page(key.organization_id))
        return listed

    @routes.delete("/{name}", status_code=204, operation_id="delete_snapshot")
    async def delete_snapshot(key: Key, by: By, name: Annotated[str, Path(max_length=64)]) -> None:
        """Delete a snapshot. 403 for what is none, 409 while its host is away."""
        need_admin(key)
        await fleet.delete_snapshot(key.organization_id, name, by)

    return routes
