"""When keys were last used, and the order of a list of tunnels."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("last_used_at", sa.DateTime(timezone=True)))
    # With the status in it, how many live ones there are is told without a look at their rows.
    op.create_index("tunnels_in_order", "tunnels", ["organization_id", "created_at", "id", "status"])
    op.drop_index("ix_tunnels_organization_id", "tunnels")


def downgrade() -> None:
    op.create_index("ix_tunnels_organization_id", "tunnels", ["organization_id"])
    op.drop_index("tunnels_in_order", "tunnels")
    op.drop_column("api_keys", "last_used_at")
