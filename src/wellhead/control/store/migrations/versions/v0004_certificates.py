"""Tunnels' certificates, and the orders for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_OF_TUNNELS = ("cert_pem", "cert_fingerprint_sha256", "cert_expires_at", "cert_renew_at")


def upgrade() -> None:
    op.add_column("tunnels", sa.Column("cert_pem", sa.Text()))
    op.add_column("tunnels", sa.Column("cert_fingerprint_sha256", sa.String(64)))
    op.add_column("tunnels", sa.Column("cert_expires_at", sa.DateTime(timezone=True)))
    op.add_column("tunnels", sa.Column("cert_renew_at", sa.DateTime(timezone=True)))
    op.create_table(
        "certificates",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("organization_id", sa.String(36), nullable=False),
        sa.Column("tunnel_id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("hostname", sa.String(253), nullable=False),
        sa.Column("issuer", sa.String(32), nullable=False),
        sa.Column("serial", sa.String(40), nullable=False),
        sa.Column("fingerprint_sha256", sa.String(64), nullable=False),
        sa.Column("csr_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("key_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("leaf_pem", sa.Text(), nullable=False),
        sa.Column("chain_pem", sa.Text(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("renew_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
    )
    op.create_index("certificates_in_order", "certificates", ["organization_id", "created_at", "id"])
    for column in ("tunnel_id", "name", "key_digest"):
        op.create_index(f"ix_certificates_{column}", "certificates", [column])
    op.create_table(
        "certificate_orders",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("hostname", sa.String(253), nullable=False),
        sa.Column("issuer", sa.String(32), nullable=False),
        sa.Column("organization_id", sa.String(36)),
        sa.Column("outcome", sa.String(32), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_certificate_orders_at", "certificate_orders", ["at"])
    op.create_index("certificate_orders_of_hostname", "certificate_orders", ["hostname", "id"])


def downgrade() -> None:
    op.drop_table("certificate_orders")
    op.drop_table("certificates")
    for column in _OF_TUNNELS:
        op.drop_column("tunnels", column)
