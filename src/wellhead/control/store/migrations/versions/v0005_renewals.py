"""Renewals that were due, and when authorities would have certificates renewed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("certificates", sa.Column("suggested_at", sa.DateTime(timezone=True)))
    op.add_column(
        "certificate_orders", sa.Column("renewal", sa.Boolean(), nullable=False, server_default=sa.false())
    )


def downgrade() -> None:
    op.drop_column("certificate_orders", "renewal")
    op.drop_column("certificates", "suggested_at")
