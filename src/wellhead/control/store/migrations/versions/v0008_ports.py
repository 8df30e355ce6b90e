"""Who may see the ports of sandboxes, links to them, and whether a request resumes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    # Nobody could see a port until now: of the sandboxes that are there nothing is opened by itself.
    for column in (
        sa.Column("visibility", sa.String(32), nullable=False, server_default="private"),
        sa.Column("port_visibility", sa.JSON(), nullable=False, server_default="{}"),
        sa.Column("links_epoch", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("auto_resume", sa.Boolean(), nullable=False, server_default=sa.false()),
    ):
        op.add_column("sandboxes", column)


def downgrade() -> None:
    for name in ("auto_resume", "links_epoch", "port_visibility", "visibility"):
        op.drop_column("sandboxes", name)
