"""The tables of hosts and sandboxes."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Boolean, Float, ForeignKey, Index, Integer, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import JSON

from wellhead.control.store.tables import Base, UtcTime, Word
from wellhead.model.sandboxes import HostStatus, SandboxStatus
from wellhead.model.visibility import Visibility


class HostRow(Base):
    __tablename__ = "hosts"
    __table_args__ = (Index("hosts_in_order", "organization_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    organization_id: Mapped[str] = mapped_column(String(36), ForeignKey("organizations.id"))
    name: Mapped[str] = mapped_column(String(255))
    status: Mapped[HostStatus] = mapped_column(Word(HostStatus))  # never DRAINING: that is beside it
    draining: Mapped[bool] = mapped_column(Boolean, default=False)
    key_id: Mapped[str | None] = mapped_column(String(36))  # of the API key that it joined by
    runtime: Mapped[str | None] = mapped_column(String(32))
    vcpus: Mapped[float | None] = mapped_column(Float)
    memory_mb: Mapped[int | None] = mapped_column(Integer)
    disk_mb: Mapped[int | None] = mapped_column(Integer)
    sandboxes_max: Mapped[int | None] = mapped_column(Integer)
    templates: Mapped[list[str]] = mapped_column(JSON, default=list)
    agent: Mapped[str | None] = mapped_column(String(200))
    address: Mapped[str | None] = mapped_column(String(45))
    boot: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    updated_at: Mapped[datetime] = mapped_column(UtcTime)
    last_seen_at: Mapped[datetime | None] = mapped_column(UtcTime)


class HostTokenRow(Base):
    """Good once, by which it is deleted. Only the digest is kept."""

    __tablename__ = "host_tokens"

    digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    host_id: Mapped[str] = mapped_column(String(36), ForeignKey("hosts.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    expires_at: Mapped[datetime] = mapped_column(UtcTime, index=True)


class SandboxRow(Base):
    """``host_id`` refers to nothing: the record outlives the host's."""

    __tablename__ = "sandboxes"
    __table_args__ = (
        Index("sandboxes_in_order", "organization_id", "created_at", "id", "status"),
        Index("sandboxes_of_host", "host_id", "status"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    organization_id: Mapped[str] = mapped_column(String(36), ForeignKey("organizations.id"))
    host_id: Mapped[str] = mapped_column(String(36))
    template: Mapped[str] = mapped_column(String(64))
    status: Mapped[SandboxStatus] = mapped_column(Word(SandboxStatus))
    vcpus: Mapped[int] = mapped_column(Integer)
    memory_mb: Mapped[int] = mapped_column(Integer)
    disk_size_mb: Mapped[int] = mapped_column(Integer)
    timeout_sec: Mapped[int] = mapped_column(Integer)
    guest_ip: Mapped[str | None] = mapped_column(String(45))
    host_ip: Mapped[str | None] = mapped_column(String(45))
    reason: Mapped[str | None] = mapped_column(String(1000))
    metadata_: Mapped[dict[str, str]] = mapped_column("metadata", JSON)
    visibility: Mapped[Visibility] = mapped_column(Word(Visibility), default=Visibility.PRIVATE)
    port_visibility: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)  # of those that differ
    links_epoch: Mapped[int] = mapped_column(Integer, default=0)
    auto_resume: Mapped[bool] = mapped_column(Boolean, default=False)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcTime)
    last_active_at: Mapped[datetime | None] = mapped_column(UtcTime)
    last_updated: Mapped[datetime] = mapped_column(UtcTime)


class SandboxOnceRow(Base):
    """A create of a sandbox that was asked for under an idempotency key."""

    __tablename__ = "sandbox_idempotency_keys"

    organization_id: Mapped[str] = mapped_column(String(36), ForeignKey("organizations.id"), primary_key=True)
    key_digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    request_digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    sandbox_id: Mapped[str] = mapped_column(String(36), ForeignKey("sandboxes.id"))
    created_at: Mapped[datetime] = mapped_column(UtcTime, index=True)


class SnapshotRow(Base):
    """A template that was made of a sandbox, at one host."""

    __tablename__ = "snapshots"

    organization_id: Mapped[str] = mapped_column(String(36), ForeignKey("organizations.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    host_id: Mapped[str] = mapped_column(String(36), index=True)
    sandbox_id: Mapped[str] = mapped_column(String(36))
    base: Mapped[str] = mapped_column(String(64))
    vcpus: Mapped[int] = mapped_column(Integer)
    memory_mb: Mapped[int] = mapped_column(Integer)
    size_bytes: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(UtcTime)


class RunRow(Base):
    """A time in which a sandbox ran, without a pause: what use is counted by."""

    __tablename__ = "sandbox_runs"
    __table_args__ = (
        Index("sandbox_runs_of_organization", "organization_id", "ended_at"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    organization_id: Mapped[str] = mapped_column(String(36))
    sandbox_id: Mapped[str] = mapped_column(String(36), index=True)
    vcpus: Mapped[int] = mapped_column(Integer)
    memory_mb: Mapped[int] = mapped_column(Integer)
    began_at: Mapped[datetime] = mapped_column(UtcTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcTime, index=True)
