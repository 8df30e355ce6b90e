"""Which host a new sandbox goes to, and what hosts hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from wellhead.control.store.hosts import online_hosts, status_of
from wellhead.control.store.sandbox_tables import HostRow, SandboxRow, SnapshotRow
from wellhead.errors import HostBusy, HostState, NotFound
from wellhead.model.placement import Candidate, Resources, choose, reserved
from wellhead.model.records import OrganizationId
from wellhead.model.sandboxes import LIVE, HostId, HostStatus
from wellhead.model.text import shown


async def place(
    session: AsyncSession,
    organization_id: OrganizationId,
    template: str,
    wanted: Resources,
    asked: HostId | None,
) -> HostId:
    """The host of the organization that has the template and suits best; ``asked``: only that one.

    Raises:
        NotFound: no host of the organization has that template, or it has no such host.
        HostState: the host that is asked for is away, or takes nothing new.
        HostBusy: none that has it is online and has room.
    """
    if asked is not None:
        await _check_host(session, organization_id, asked)
    hosts = await online_hosts(session, organization_id)
    snapshot = await session.get(SnapshotRow, (organization_id, template))
    if snapshot is not None:
        having = [host for host in hosts if host.id == snapshot.host_id]
    else:
        having = [host for host in hosts if template in host.templates]
    if asked is not None:
        having = [host for host in having if host.id == asked]
    if not having and snapshot is None and not await _is_known(session, organization_id, template):
        raise NotFound(404, f"no template {shown(template)}")
    taken = await held(session, [host.id for host in having])
    candidates = [
        Candidate(HostId(host.id), _capacity(host), taken.get(host.id, Resources())) for host in having
    ]
    if (found := choose(candidates, wanted)) is None:
        raise HostBusy(
            f"no host that is online, takes sandboxes and has template {shown(template)} has room for"
            f" {wanted.vcpus} vcpus, {wanted.memory_mb} MiB of memory and {wanted.disk_mb} MiB of disk"
        )
    return found


async def _check_host(session: AsyncSession, organization_id: OrganizationId, host_id: HostId) -> None:
    host = await session.get(HostRow, host_id)
    if host is None or host.organization_id != organization_id:
        raise NotFound(404, "no such host")
    if (status := status_of(host)) is not HostStatus.ONLINE:
        raise HostState(f"host {host_id} is {status.value}, it must be online to take a sandbox")


def _capacity(host: HostRow) -> Resources:
    most = math.inf if host.sandboxes_max is None else host.sandboxes_max
    return Resources(host.vcpus or 0, host.memory_mb or 0, host.disk_mb or 0, most)


async def _is_known(session: AsyncSession, organization_id: OrganizationId, template: str) -> bool:
    """Whether some host has it, or there is none yet that could."""
    query = select(HostRow.templates).where(
        HostRow.organization_id == organization_id, HostRow.status != HostStatus.PENDING
    )
    found = list(await session.scalars(query))
    return not found or any(template in templates for templates in found)


async def held(session: AsyncSession, hosts: Sequence[str]) -> dict[str, Resources]:
    """What hosts hold of live sandboxes."""
    row = SandboxRow
    query: Select[*tuple[Any, ...]] = (
        select(
            row.host_id,
            row.status,
            func.count(),
            func.sum(row.vcpus),
            func.sum(row.memory_mb),
            func.sum(row.disk_size_mb),
        )
        .where(row.host_id.in_(hosts), row.status.in_(LIVE))
        .group_by(row.host_id, row.status)
    )
    found: dict[str, Resources] = {}
    for host, status, number, vcpus, memory, disk in await session.execute(query):
        taken = reserved(status, Resources(vcpus, memory, disk, number))
        found[host] = found.get(host, Resources()) + taken
    return found
