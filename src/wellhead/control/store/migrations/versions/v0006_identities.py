"""What identities have beside their tunnels, and what is told of keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("tunnels", sa.Column("display_name", sa.String(255)))
    op.add_column("api_keys", sa.Column("description", sa.String(1000)))
    op.add_column("api_keys", sa.Column("created_by", sa.String(36)))


def downgrade() -> None:
    op.drop_column("api_keys", "created_by")
    op.drop_column("api_keys", "description")
    op.drop_column("tunnels", "display_name")
