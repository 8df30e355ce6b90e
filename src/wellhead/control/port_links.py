"""``/api/v1/sandboxes/{id}/links``: signed links to the ports of a sandbox.

Nothing is stored of a link but that it was made: it is good by its signature (``wellhead.model.links``).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from wellhead.control.access import By, Key, need_admin
from wellhead.control.sandbox_bodies import WHOLE, SandboxPath, checked
from wellhead.control.store.store import Store
from wellhead.errors import HostForbidden, Invalid
from wellhead.model.links import PARAMETER, LinkSigner, Pass
from wellhead.model.names import Public
from wellhead.model.ports import PORT_MAX
from wellhead.model.sandbox_records import PortLink
from wellhead.model.sandboxes import SandboxId
from wellhead.settings import ServerSettings
from wellhead.settings.sandboxes import LINK_SECONDS_MAX


class NewLink(BaseModel):
    model_config = ConfigDict(extra="forbid")

    port: Annotated[int, Field(ge=1, le=PORT_MAX), WHOLE] | None = Field(
        None, description="Null or absent: every port, and the URL has `{port}` in place of the number."
    )
    expires_in: Annotated[int, Field(ge=1, le=LINK_SECONDS_MAX), WHOLE] | None = Field(
        None, description="Seconds that it is good for; absent: as the setting `sandbox_link_seconds` says."
    )


def router(store: Store, signer: LinkSigner, public: Public, settings: ServerSettings) -> APIRouter:
    routes = APIRouter(prefix="/sandboxes", tags=["sandboxes"])

    @routes.post("/{sandbox_id:id}/links", status_code=201, operation_id="create_sandbox_link")
    async def create_sandbox_link(key: Key, by: By, sandbox_id: SandboxPath, new: NewLink) -> PortLink:
        """Make a link through which whoever has it sees a port, whatever its visibility, until it expires.

        It is shown in this answer and never again.
        """
        need_admin(key)
        sandbox = SandboxId(checked(sandbox_id))
        check_link(new, settings)
        expires = int(store.clock().timestamp()) + (new.expires_in or settings.sandbox_link_seconds)
        at = datetime.fromtimestamp(expires, UTC)
        row = await store.sandboxes.note_link(key.organization_id, sandbox, new.port or 0, at, by)
        token = signer.sign(Pass.LINK, sandbox, new.port or 0, row.links_epoch, expires)
        url = public.urls(f"{'{port}' if new.port is None else new.port}-{sandbox}")[0]
        return PortLink(f"{url}/?{PARAMETER}={token}", at, new.port)

    @routes.delete("/{sandbox_id:id}/links", status_code=204, operation_id="revoke_sandbox_links")
    async def revoke_sandbox_links(key: Key, by: By, sandbox_id: SandboxPath) -> None:
        """Void every link to its ports, and the cookies that links were exchanged for."""
        need_admin(key)
        await store.sandboxes.revoke_links(key.organization_id, checked(sandbox_id), by)

    return routes


def check_link(new: NewLink, settings: ServerSettings) -> None:
    """
    Raises:
        Invalid: it would be good for longer than it may be here.
        HostForbidden: nobody reaches that port.
    """
    most = settings.sandbox_link_max_seconds
    if new.expires_in is not None and new.expires_in > most:
        raise Invalid(422, f"expires_in {new.expires_in}: at most {most} allowed by sandbox_link_max_seconds")
    if new.port in settings.sandbox_denied_ports:
        raise HostForbidden(f"port {new.port} is one of sandbox_denied_ports, which nobody reaches")
