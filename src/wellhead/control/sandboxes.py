"""``/api/v1/sandboxes``, which is also ``/api/v1/capsules``.

Source: wrenn-sandboxes, "4. Lifecycle and files API".
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from wellhead.control.access import By, Key, need_admin
from wellhead.control.docs import links
from wellhead.control.fleet import Fleet
from wellhead.control.sandbox_bodies import (
    NewSandbox,
    SandboxChange,
    SandboxPath,
    check_ports,
    check_size,
    checked,
)
from wellhead.control.shown import sandbox_record
from wellhead.control.store.creation import Once
from wellhead.control.store.sandbox_tables import SandboxRow
from wellhead.control.store.sandboxes import Filter
from wellhead.control.tunnels import IdempotencyKey
from wellhead.model.names import Public
from wellhead.model.sandbox_records import Sandbox
from wellhead.model.sandboxes import SandboxStatus
from wellhead.settings import ServerSettings

LIST_MAX = 1000  # sandboxes

_made = links(
    "sandbox_id",
    "$response.body#/id",
    "get_sandbox",
    "update_sandbox",
    "ping_sandbox",
    "pause_sandbox",
    "resume_sandbox",
    "create_sandbox_link",
    "revoke_sandbox_links",
    "destroy_sandbox",
)


def router(fleet: Fleet, public: Public, settings: ServerSettings) -> APIRouter:
    """The routes. They wait for the host."""
    routes = APIRouter(prefix="/sandboxes", tags=["sandboxes"])

    def shown(row: SandboxRow) -> Sandbox:
        return sandbox_record(row, public)

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
        return [shown(row) for row in rows]

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
        asked = new.asked(legacy=request.state.legacy, visibility=settings.new_sandbox_visibility)
        check_size(asked, settings)
        check_ports(new.port_visibility, settings)
        once = None if idempotency_key is None else Once.of(idempotency_key, new.model_dump(mode="json"))
        row, replayed = await fleet.create(key.organization_id, asked, once, new.envs or {}, by)
        if replayed:
            response.headers["Idempotency-Replayed"] = "true"
        return shown(row)

    @routes.get("/{sandbox_id:id}", operation_id="get_sandbox")
    async def get_sandbox(key: Key, sandbox_id: SandboxPath) -> Sandbox:
        """A sandbox, also one that is over."""
        need_admin(key)
        return shown(await fleet.store.sandboxes.one(key.organization_id, checked(sandbox_id)))

    @routes.patch("/{sandbox_id:id}", operation_id="update_sandbox")
    async def update_sandbox(key: Key, by: By, sandbox_id: SandboxPath, change: SandboxChange) -> Sandbox:
        """Change its timeout, its labels, who may see its ports: what is absent stays."""
        need_admin(key)
        check_ports(change.port_visibility, settings)
        return shown(await fleet.change(key.organization_id, checked(sandbox_id), by, change.edit()))

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
        return shown(await fleet.pause(key.organization_id, checked(sandbox_id), by))

    @routes.post("/{sandbox_id:id}/resume", operation_id="resume_sandbox")
    async def resume_sandbox(key: Key, by: By, sandbox_id: SandboxPath) -> Sandbox:
        """Let it go on. 409 where it is not paused."""
        need_admin(key)
        return shown(await fleet.resume(key.organization_id, checked(sandbox_id), by))

    return routes
