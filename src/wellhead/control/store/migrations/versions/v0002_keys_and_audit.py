"""Labels of keys, agents' versions, idempotency keys and the audit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # Columns that may be null or have a default: SQLite adds them in place, however many rows there are.
    op.add_column("api_keys", sa.Column("label", sa.String(255), nullable=False, server_default=""))
    op.add_column("tunnels", sa.Column("agent_version", sa.String(200)))
    op.create_table(
        "idempotency_keys",
        sa.Column("organization_id", sa.String(36), sa.ForeignKey("organizations.id"), primary_key=True),
        sa.Column("key_digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("request_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("tunnel_id", sa.String(36), sa.ForeignKey("tunnels.id"), nullable=False),
        sa.Column("secret_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("key_id", sa.String(36)),
        sa.Column("key_last4", sa.String(4)),
        sa.Column("address", sa.String(45)),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("target_id", sa.String(36), nullable=False),
        sa.Column("target_name", sa.String(255)),
        sa.Column("before", sa.JSON()),
        sa.Column("after", sa.JSON()),
        sqlite_autoincrement=True,
    )
    op.create_index("audit_of_organization", "audit", ["organization_id", "id"])


def downgrade() -> None:
    op.drop_table("audit")
    op.drop_table("idempotency_keys")
    op.drop_column("tunnels", "agent_version")
    op.drop_column("api_keys", "label")
