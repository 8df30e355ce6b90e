"""What is done with sandboxes: the record first, then the host, and back again where the host fails."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from wellhead.control.events import Event, EventActor, EventKind, Hub, Resource
from wellhead.control.host_calls import CallHost, HostCalls, Order
from wellhead.control.host_watch import HostWatch
from wellhead.control.store.creation import Once
from wellhead.control.store.sandbox_edits import Edit, ports_after
from wellhead.control.store.sandbox_tables import HostRow, SandboxRow, SnapshotRow
from wellhead.control.store.sandboxes import Asked, Bounds
from wellhead.control.store.store import Store
from wellhead.control.wakes import Wakes
from wellhead.errors import Conflict, HostError, HostForbidden, HostState, TemplateNameTaken
from wellhead.logs import Log
from wellhead.model.names import Public
from wellhead.model.records import SERVER, Actor, OrganizationId
from wellhead.model.sandboxes import HostId, SandboxId, SandboxStatus
from wellhead.model.text import shown
from wellhead.settings import ServerSettings

_S = SandboxStatus
_log = Log("wellhead.control")


class Fleet:
    """The hosts and their sandboxes, of all organizations. ``call``: how a host is asked.

    Who changes a sandbox has it alone; who comes meanwhile waits.
    """

    def __init__(self, store: Store, call: CallHost, settings: ServerSettings, public: Public) -> None:
        self.store = store
        self.hub = Hub(store.clock, public)
        self.watch = HostWatch(store, self.hub, settings, self.is_busy)
        self._calls = HostCalls(call, settings.host_call_seconds, settings.host_snapshot_seconds)
        self._settings = settings
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.wakes = Wakes(self._wake)
        self._naming: set[tuple[str, str]] = set()  # organization and name of snapshots being made

    async def aclose(self) -> None:
        """Let those go that listen to events, and those that are waited for."""
        await self.wakes.aclose()
        self.hub.close()

    def is_busy(self, sandbox_id: SandboxId) -> bool:
        """Whether somebody is changing it just now."""
        turn = self._turns.get(sandbox_id)
        return turn is not None and turn.locked()

    async def create(
        self,
        organization_id: OrganizationId,
        asked: Asked,
        once: Once | None,
        env: Mapping[str, str],
        by: Actor,
    ) -> tuple[SandboxRow, bool]:
        """A sandbox that runs; the second is whether an earlier create under the same key made it.

        Raises:
            ApiError: as ``Sandboxes.begin``.
            HostError: the same, or the host failed: then the record stays, in error.
        """
        bounds = Bounds(once, self._settings.sandboxes_per_organization)
        row, replayed = await self.store.sandboxes.begin(organization_id, asked, bounds, by)
        async with self._turn(row.id):
            if replayed:
                return await self.store.sandboxes.one(organization_id, row.id), True
            sandbox, host = SandboxId(row.id), HostId(row.host_id)
            order = Order(
                sandbox, row.template, row.vcpus, row.memory_mb, row.disk_size_mb, row.timeout_sec, env
            )
            try:
                address = await self._calls.create(host, order)
            except HostError as error:
                row = await self.store.sandboxes.move(organization_id, row.id, _S.ERROR, reason=str(error))
                self._failed(row, EventKind.CREATE, by, error)
                raise
            row = await self.store.sandboxes.move(organization_id, row.id, _S.RUNNING, address=address)
        self.hub.tell(row, EventKind.CREATE, by)
        _log.info("sandbox created", sandbox=row.id, host=row.host_id, template=row.template)
        return row, False

    async def destroy(self, organization_id: OrganizationId, sandbox_id: str, by: Actor) -> None:
        """End a sandbox. Twice is as once; a host that is away ends it when it is back.

        Raises:
            NotFound: none of that id in this organization.
        """
        async with self._turn(sandbox_id):
            row = await self.store.sandboxes.one(organization_id, sandbox_id)
            if row.status is _S.STOPPED:
                return
            if row.status is not _S.STOPPING:
                row = await self.store.sandboxes.move(
                    organization_id, sandbox_id, _S.STOPPING, by=by, action="sandbox.destroy"
                )
            await self._destroy_at(HostId(row.host_id), SandboxId(row.id))
            row = await self.store.sandboxes.move(organization_id, sandbox_id, _S.STOPPED)
        self.hub.tell(row, EventKind.DESTROY, by)
        _log.info("sandbox destroyed", sandbox=row.id, host=row.host_id)

    async def pause(self, organization_id: OrganizationId, sandbox_id: str, by: Actor) -> SandboxRow:
        """
        Raises:
            NotFound: none of that id in this organization.
            HostState: it does not run.
            HostError: the host failed.
        """
        async with self._turn(sandbox_id):
            return await self._pause(organization_id, sandbox_id, by)

    async def resume(self, organization_id: OrganizationId, sandbox_id: str, by: Actor) -> SandboxRow:
        """
        Raises:
            NotFound: none of that id in this organization.
            HostState: it is not paused.
            HostError: the host failed.
        """
        async with self._turn(sandbox_id):
            return await self._resume(organization_id, sandbox_id, by, "sandbox.resume")

    async def ping(self, organization_id: OrganizationId, sandbox_id: str) -> None:
        """Count it as used now.

        Raises:
            NotFound: none of that id in this organization.
            HostState: it does not run.
            HostError: the host failed.
        """
        row = await self._need(organization_id, sandbox_id, _S.RUNNING)
        sandbox, host = SandboxId(row.id), HostId(row.host_id)
        await self._calls.ping(host, sandbox)
        await self.store.sandboxes.active(host, {sandbox: self.store.clock()})

    async def change(
        self,
        organization_id: OrganizationId,
        sandbox_id: str,
        by: Actor,
        edit: Edit,
    ) -> SandboxRow:
        """Change a sandbox; its timeout is what the host minds.

        Raises:
            ApiError: as ``Sandboxes.change``.
            HostState: it is over.
            HostError: the host failed: then nothing is changed.
        """
        if edit.timeout_sec is None:
            return await self.store.sandboxes.change(organization_id, sandbox_id, by, edit)
        async with self._turn(sandbox_id):
            row = await self._need(organization_id, sandbox_id, _S.RUNNING, _S.PAUSED)
            ports_after(row, edit)  # nothing is said to the host that the record would not take
            await self._calls.set_timeout(HostId(row.host_id), SandboxId(row.id), edit.timeout_sec)
            return await self.store.sandboxes.change(organization_id, sandbox_id, by, edit)

    async def snapshot(
        self,
        organization_id: OrganizationId,
        sandbox_id: str,
        name: str | None,
        by: Actor,
        *,
        overwrite: bool,
        paused: bool,
    ) -> SnapshotRow:
        """Make a template of a sandbox, which goes on as it was; ``paused``: it is paused for good first.

        Raises:
            NotFound: none of that id in this organization.
            HostState: it neither runs nor is paused.
            TemplateNameTaken: the name is another template's.
            RateLimited: the organization has as many as it may.
            HostError: the host failed.
        """
        name = name or f"template-{secrets.token_hex(4)}"
        async with self._named(organization_id, name), self._turn(sandbox_id):
            row = await self._need(organization_id, sandbox_id, _S.RUNNING, _S.PAUSED)
            old = await self.store.snapshots.check_free(
                organization_id, name, overwrite=overwrite, most=self._settings.snapshots_per_organization
            )
            if paused and row.status is _S.RUNNING:
                row = await self._pause(organization_id, sandbox_id, by)
            was, host = row.status, HostId(row.host_id)
            async with self._during(row, _S.SNAPSHOTTING, EventKind.SNAPSHOT_CREATE, by):
                size = await self._calls.snapshot(host, SandboxId(row.id), name, overwrite=old is not None)
            row = await self.store.sandboxes.move(organization_id, sandbox_id, was)
            snapshot = await self.store.snapshots.put(row, name, size, by)
            if old is not None and old.host_id != host:
                await self._remove_at(HostId(old.host_id), name)
        self._tell_template(organization_id, EventKind.SNAPSHOT_CREATE, name, by)
        _log.info("snapshot made", sandbox=row.id, host=host, name=name, bytes=size)
        return snapshot

    async def delete_snapshot(self, organization_id: OrganizationId, name: str, by: Actor) -> None:
        """
        Raises:
            NotFound: none of that name in this organization.
            HostForbidden: it is a base template.
            Conflict: its host is away.
            HostError: the host failed.
        """
        row = await self.store.snapshots.find(organization_id, name)
        if row is None and name in await self.store.snapshots.bases(organization_id):
            raise HostForbidden(f"template {shown(name)} is a base, which hosts are given")
        row = row or await self.store.snapshots.one(organization_id, name)
        async with self._named(organization_id, name):
            host = HostId(row.host_id)
            if not self.watch.is_present(host):
                raise Conflict(409, f"the host of template {shown(name)} is away: delete it when it is back")
            await self._calls.remove_template(host, name)
            await self.store.snapshots.delete(row, by)
        self._tell_template(organization_id, EventKind.SNAPSHOT_DELETE, name, by)

    async def delete_host(self, organization_id: OrganizationId, host_id: str, by: Actor) -> HostRow:
        """Forget a host, and the sandboxes and snapshots that it has.

        Raises:
            NotFound: none of that id in this organization.
        """
        row = await self.store.hosts.one(organization_id, host_id)
        for sandbox in await self.store.sandboxes.live_of_host(HostId(row.id)):
            await self.destroy(organization_id, sandbox.id, by)
        await self.store.snapshots.delete_of_host(row.id)
        return await self.store.hosts.delete(organization_id, host_id, by)

    async def _pause(self, organization_id: OrganizationId, sandbox_id: str, by: Actor) -> SandboxRow:
        row = await self._need(organization_id, sandbox_id, _S.RUNNING)
        async with self._during(row, _S.PAUSING, EventKind.PAUSE, by):
            await self._calls.pause(HostId(row.host_id), SandboxId(row.id))
        row = await self.store.sandboxes.move(
            organization_id, sandbox_id, _S.PAUSED, by=by, action="sandbox.pause"
        )
        self.hub.tell(row, EventKind.PAUSE, by)
        return row

    async def _wake(self, sandbox_id: SandboxId) -> None:
        """Resume a sandbox that a visitor waits for, where it is paused and says that this resumes it."""
        async with self._turn(sandbox_id):
            view = self.store.directory.sandbox(sandbox_id)
            if view is not None and view.status is _S.PAUSED and view.access.auto_resume:
                action, why = "sandbox.auto_resume", {"reason": "auto_resumed"}
                await self._resume(view.organization_id, sandbox_id, SERVER, action, why)
                _log.info("sandbox resumed for a visitor", sandbox=sandbox_id, host=view.host_id)

    async def _resume(
        self,
        organization_id: OrganizationId,
        sandbox_id: str,
        by: Actor,
        action: str,
        why: Mapping[str, str] | None = None,
    ) -> SandboxRow:
        row = await self._need(organization_id, sandbox_id, _S.PAUSED)
        async with self._during(row, _S.RESUMING, EventKind.RESUME, by, why):
            await self._calls.resume(HostId(row.host_id), SandboxId(row.id))
        row = await self.store.sandboxes.move(organization_id, sandbox_id, _S.RUNNING, by=by, action=action)
        self.hub.tell(row, EventKind.RESUME, by, metadata=why)
        return row

    async def _need(
        self, organization_id: OrganizationId, sandbox_id: str, *statuses: SandboxStatus
    ) -> SandboxRow:
        row = await self.store.sandboxes.one(organization_id, sandbox_id)
        if row.status not in statuses:
            needed = " or ".join(status.value for status in statuses)
            raise HostState(f"sandbox {row.id} is {row.status.value}, it must be {needed} for this")
        return row

    @asynccontextmanager
    async def _turn(self, sandbox_id: str) -> AsyncIterator[None]:
        turn = self._turns.setdefault(sandbox_id, asyncio.Lock())
        async with turn:
            yield

    @asynccontextmanager
    async def _named(self, organization_id: OrganizationId, name: str) -> AsyncIterator[None]:
        """
        Raises:
            TemplateNameTaken: somebody else is making or deleting a template of this name.
        """
        if (organization_id, name) in self._naming:
            raise TemplateNameTaken(f"template {shown(name)} is being made or deleted just now")
        self._naming.add((organization_id, name))
        try:
            yield
        finally:
            self._naming.discard((organization_id, name))

    @asynccontextmanager
    async def _during(
        self,
        row: SandboxRow,
        status: SandboxStatus,
        event: EventKind,
        by: Actor,
        why: Mapping[str, str] | None = None,
    ) -> AsyncIterator[None]:
        """Have a sandbox in a passing status while its host does something; where that fails, as it was."""
        organization_id, before = OrganizationId(row.organization_id), row.status
        await self.store.sandboxes.move(organization_id, row.id, status)
        try:
            yield
        except BaseException as error:
            back = before if self.watch.is_present(HostId(row.host_id)) else _S.MISSING
            row = await self.store.sandboxes.move(organization_id, row.id, back)
            self._failed(row, event, by, error, why)
            raise

    async def _destroy_at(self, host: HostId, sandbox: SandboxId) -> None:
        """Where it is not done now, the host's next report names a sandbox that is over, and is told so."""
        if not self.watch.is_present(host):
            return
        try:
            await self._calls.destroy(host, sandbox)
        except HostError as error:
            _log.warning("sandbox not yet destroyed", sandbox=sandbox, host=host, error=str(error))

    async def _remove_at(self, host: HostId, name: str) -> None:
        """Free what nobody asks for any more; what stays is only disk."""
        try:
            await self._calls.remove_template(host, name)
        except HostError as error:
            _log.warning("old snapshot stays at its host", host=host, name=name, error=str(error))

    def _failed(
        self,
        row: SandboxRow,
        event: EventKind,
        by: Actor,
        error: BaseException,
        why: Mapping[str, str] | None = None,
    ) -> None:
        self.hub.tell(row, event, by, error=str(error) or type(error).__name__, metadata=why)
        _log.warning("host failed", sandbox=row.id, host=row.host_id, event=event.value, error=str(error))

    def _tell_template(
        self, organization_id: OrganizationId, event: EventKind, name: str, by: Actor = SERVER
    ) -> None:
        resource, actor = Resource(name, "template"), EventActor.of(by)
        told = Event(event, self.store.clock(), "success", resource, actor)
        self.hub.publish(organization_id, told)
