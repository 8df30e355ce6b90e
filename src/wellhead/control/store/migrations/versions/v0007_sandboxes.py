"""Hosts, sandboxes, their templates and their use."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "hosts",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("organization_id", sa.String(36), sa.ForeignKey("organizations.id"), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.Column("key_id", sa.String(36)),
        sa.Column("runtime", sa.String(32)),
        sa.Column("vcpus", sa.Float()),
        sa.Column("memory_mb", sa.Integer()),
        sa.Column("disk_mb", sa.Integer()),
        sa.Column("sandboxes_max", sa.Integer()),
        sa.Column("templates", sa.JSON(), nullable=False),
        sa.Column("agent", sa.String(200)),
        sa.Column("address", sa.String(45)),
        sa.Column("boot", sa.String(64)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True)),
    )
    op.create_index("hosts_in_order", "hosts", ["organization_id", "created_at", "id"])
    op.create_table(
        "host_tokens",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("host_id", sa.String(36), sa.ForeignKey("hosts.id"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
    )
    for column in ("host_id", "expires_at"):
        op.create_index(f"ix_host_tokens_{column}", "host_tokens", [column])
    _create_sandboxes()
    op.create_table(
        "snapshots",
        sa.Column("organization_id", sa.String(36), sa.ForeignKey("organizations.id"), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("host_id", sa.String(36), nullable=False),
        sa.Column("sandbox_id", sa.String(36), nullable=False),
        sa.Column("base", sa.String(64), nullable=False),
        sa.Column("vcpus", sa.Integer(), nullable=False),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_snapshots_host_id", "snapshots", ["host_id"])
    op.create_table(
        "sandbox_runs",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("sandbox_id", sa.String(36), nullable=False),
        sa.Column("vcpus", sa.Integer(), nullable=False),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sqlite_autoincrement=True,
    )
    for column in ("sandbox_id", "ended_at"):
        op.create_index(f"ix_sandbox_runs_{column}", "sandbox_runs", [column])
    op.create_index("sandbox_runs_of_organization", "sandbox_runs", ["organization_id", "ended_at"])


def _create_sandboxes() -> None:
    op.create_table(
        "sandboxes",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("organization_id", sa.String(36), sa.ForeignKey("organizations.id"), nullable=False),
        sa.Column("host_id", sa.String(36), nullable=False),
        sa.Column("template", sa.String(64), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("vcpus", sa.Integer(), nullable=False),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("disk_size_mb", sa.Integer(), nullable=False),
        sa.Column("timeout_sec", sa.Integer(), nullable=False),
        sa.Column("guest_ip", sa.String(45)),
        sa.Column("host_ip", sa.String(45)),
        sa.Column("reason", sa.String(1000)),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("last_active_at", sa.DateTime(timezone=True)),
        sa.Column("last_updated", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("sandboxes_in_order", "sandboxes", ["organization_id", "created_at", "id", "status"])
    op.create_index("sandboxes_of_host", "sandboxes", ["host_id", "status"])
    op.create_table(
        "sandbox_idempotency_keys",
        sa.Column("organization_id", sa.String(36), sa.ForeignKey("organizations.id"), primary_key=True),
        sa.Column("key_digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("request_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("sandbox_id", sa.String(36), sa.ForeignKey("sandboxes.id"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_sandbox_idempotency_keys_created_at", "sandbox_idempotency_keys", ["created_at"])


def downgrade() -> None:
    for table in (
        "sandbox_runs",
        "snapshots",
        "sandbox_idempotency_keys",
        "sandboxes",
        "host_tokens",
        "hosts",
    ):
        op.drop_table(table)
