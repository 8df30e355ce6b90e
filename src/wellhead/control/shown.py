"""Rows of hosts, sandboxes and templates as the API gives them."""

from __future__ import annotations

from wellhead.control.store.hosts import status_of
from wellhead.control.store.sandbox_edits import port_access
from wellhead.control.store.sandbox_tables import HostRow, SandboxRow, SnapshotRow
from wellhead.model.names import Public
from wellhead.model.placement import Resources
from wellhead.model.records import OrganizationId
from wellhead.model.sandbox_records import Host, Sandbox, SandboxTemplate, TemplateKind
from wellhead.model.sandboxes import HostId, SandboxId


def sandbox_record(row: SandboxRow, public: Public) -> Sandbox:
    access, urls = port_access(row), public.urls(f"{{port}}-{row.id}")
    return Sandbox(
        id=SandboxId(row.id),
        organization_id=OrganizationId(row.organization_id),
        status=row.status,
        template=row.template,
        vcpus=row.vcpus,
        memory_mb=row.memory_mb,
        disk_size_mb=row.disk_size_mb,
        timeout_sec=row.timeout_sec,
        created_at=row.created_at,
        last_updated=row.last_updated,
        host_id=HostId(row.host_id),
        guest_ip=row.guest_ip,
        host_ip=row.host_ip,
        started_at=row.started_at,
        last_active_at=row.last_active_at,
        reason=row.reason,
        metadata=dict(row.metadata_),
        visibility=access.default,
        port_visibility=dict(access.ports),
        auto_resume=access.auto_resume,
        url=urls[0],
        plain_url=urls[1] if len(urls) > 1 else None,
    )


def host_record(row: HostRow, held: Resources) -> Host:
    return Host(
        id=HostId(row.id),
        organization_id=OrganizationId(row.organization_id),
        name=row.name,
        status=status_of(row),
        created_at=row.created_at,
        updated_at=row.updated_at,
        runtime=row.runtime,
        vcpus=row.vcpus,
        memory_mb=row.memory_mb,
        disk_mb=row.disk_mb,
        sandboxes_max=row.sandboxes_max,
        templates=list(row.templates),
        agent=row.agent,
        address=row.address,
        last_seen_at=row.last_seen_at,
        sandboxes=round(held.sandboxes),
        vcpus_reserved=round(held.vcpus),
        memory_mb_reserved=round(held.memory_mb),
        disk_mb_reserved=round(held.disk_mb),
    )


def snapshot_record(row: SnapshotRow) -> SandboxTemplate:
    return SandboxTemplate(
        name=row.name,
        type=TemplateKind.SNAPSHOT,
        platform=False,
        protected=False,
        vcpus=row.vcpus,
        memory_mb=row.memory_mb,
        size_bytes=row.size_bytes,
        created_at=row.created_at,
        base=row.base,
        host_id=HostId(row.host_id),
    )


def base_record(name: str) -> SandboxTemplate:
    """Of a template that hosts were given."""
    return SandboxTemplate(name, TemplateKind.BASE, platform=True, protected=True)
