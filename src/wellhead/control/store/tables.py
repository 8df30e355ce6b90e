"""The tables. What is here and what the migrations make must agree: a test compares them."""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Boolean, DateTime, ForeignKey, Index, Integer, LargeBinary, String, Text, text
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import JSON, TypeDecorator

from wellhead.model.records import TlsMode, TunnelStatus


class Base(DeclarativeBase):
    pass


class UtcTime(TypeDecorator[datetime]):
    """An aware time. SQLite keeps no zone, so what is written there is UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value


class Word(TypeDecorator[Any]):
    """An enum by its wire value, so that a later member needs no migration."""

    impl = String(32)
    cache_ok = True

    def __init__(self, words: type[enum.Enum]) -> None:
        super().__init__()
        self.words = words

    def process_bind_param(self, value: enum.Enum | None, dialect: Dialect) -> str | None:
        return None if value is None else str(value.value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> enum.Enum | None:
        return None if value is None else self.words(value)


class OrganizationRow(Base):
    __tablename__ = "organizations"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(UtcTime)


class ApiKeyRow(Base):
    """The handle is the key's public half; of the whole key only the digest is kept."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    organization_id: Mapped[str] = mapped_column(String(36), ForeignKey("organizations.id"), index=True)
    handle: Mapped[str] = mapped_column(String(8), unique=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    last4: Mapped[str] = mapped_column(String(4))
    scopes: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcTime)
    label: Mapped[str] = mapped_column(String(255), server_default="")
    last_used_at: Mapped[datetime | None] = mapped_column(UtcTime)
    description: Mapped[str | None] = mapped_column(String(1000))
    created_by: Mapped[str | None] = mapped_column(String(36))  # a key's id, which may be forgotten since


class TunnelRow(Base):
    __tablename__ = "tunnels"
    __table_args__ = (
        # A name is free again when its last owner's record is deleted.
        Index(
            "tunnels_live_name",
            "name",
            unique=True,
            sqlite_where=text("status != 'deleted'"),
            postgresql_where=text("status != 'deleted'"),
        ),
        Index("tunnels_in_order", "organization_id", "created_at", "id", "status"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    organization_id: Mapped[str] = mapped_column(String(36), ForeignKey("organizations.id"))
    name: Mapped[str] = mapped_column(String(63))
    tls_mode: Mapped[TlsMode] = mapped_column(Word(TlsMode))
    status: Mapped[TunnelStatus] = mapped_column(Word(TunnelStatus))
    secret_digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    description: Mapped[str | None] = mapped_column(String(1000))
    metadata_: Mapped[dict[str, object]] = mapped_column("metadata", JSON)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    updated_at: Mapped[datetime] = mapped_column(UtcTime)
    restore_deadline_at: Mapped[datetime | None] = mapped_column(UtcTime)
    currently_connected: Mapped[bool] = mapped_column(Boolean)
    last_connected_at: Mapped[datetime | None] = mapped_column(UtcTime)
    last_disconnected_at: Mapped[datetime | None] = mapped_column(UtcTime)
    last_connected_ip_addr: Mapped[str | None] = mapped_column(String(45))
    agent_version: Mapped[str | None] = mapped_column(String(200))
    cert_pem: Mapped[str | None] = mapped_column(Text)  # of the last certificate that was issued for it
    cert_fingerprint_sha256: Mapped[str | None] = mapped_column(String(64))
    cert_expires_at: Mapped[datetime | None] = mapped_column(UtcTime)
    cert_renew_at: Mapped[datetime | None] = mapped_column(UtcTime)
    display_name: Mapped[str | None] = mapped_column(String(255))  # of its identity


class CertificateRow(Base):
    """Refers to nothing: a name is held for a certificate that outlives its tunnel's record. No keys."""

    __tablename__ = "certificates"
    __table_args__ = (Index("certificates_in_order", "organization_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    organization_id: Mapped[str] = mapped_column(String(36))
    tunnel_id: Mapped[str] = mapped_column(String(36), index=True)
    name: Mapped[str] = mapped_column(String(63), index=True)  # the tunnel's
    hostname: Mapped[str] = mapped_column(String(253))
    issuer: Mapped[str] = mapped_column(String(32))
    serial: Mapped[str] = mapped_column(String(40))
    fingerprint_sha256: Mapped[str] = mapped_column(String(64))
    csr_digest: Mapped[bytes] = mapped_column(LargeBinary(32))  # SHA-256 of the request's DER
    key_digest: Mapped[bytes] = mapped_column(LargeBinary(32), index=True)  # SHA-256 of the public key's DER
    leaf_pem: Mapped[str] = mapped_column(Text)
    chain_pem: Mapped[str] = mapped_column(Text)
    not_before: Mapped[datetime] = mapped_column(UtcTime)
    expires_at: Mapped[datetime] = mapped_column(UtcTime)
    renew_at: Mapped[datetime] = mapped_column(UtcTime)
    suggested_at: Mapped[datetime | None] = mapped_column(UtcTime)  # when its authority would have it renewed
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcTime)


class Outcome(enum.Enum):
    """What came of an order; one under way when the server ended stays UNKNOWN."""

    UNKNOWN = "unknown"
    ISSUED = "issued"
    REFUSED = "refused"
    AWAY = "away"  # the issuer was not reached


class OrderRow(Base):
    """A certificate that an issuer was asked for: what budgets and pauses are counted by."""

    __tablename__ = "certificate_orders"
    __table_args__ = (
        Index("certificate_orders_of_hostname", "hostname", "id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcTime, index=True)
    hostname: Mapped[str] = mapped_column(String(253))
    issuer: Mapped[str] = mapped_column(String(32))
    organization_id: Mapped[str | None] = mapped_column(String(36))  # None: the server's own name
    outcome: Mapped[Outcome] = mapped_column(Word(Outcome))
    renewal: Mapped[bool] = mapped_column(Boolean, default=False)  # of one that was due: no budget counts it


class IdempotencyRow(Base):
    """A create that was asked for under an idempotency key: what was asked, and what came of it."""

    __tablename__ = "idempotency_keys"

    organization_id: Mapped[str] = mapped_column(String(36), ForeignKey("organizations.id"), primary_key=True)
    key_digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    request_digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    tunnel_id: Mapped[str] = mapped_column(String(36), ForeignKey("tunnels.id"))
    secret_digest: Mapped[bytes] = mapped_column(LargeBinary(32))  # of the secret that was answered
    created_at: Mapped[datetime] = mapped_column(UtcTime, index=True)


class AuditRow(Base):
    """Refers to nothing: an entry outlives what it tells of."""

    __tablename__ = "audit"
    __table_args__ = (Index("audit_of_organization", "organization_id", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    organization_id: Mapped[str] = mapped_column(String(36))
    at: Mapped[datetime] = mapped_column(UtcTime)
    key_id: Mapped[str | None] = mapped_column(String(36))
    key_last4: Mapped[str | None] = mapped_column(String(4))
    address: Mapped[str | None] = mapped_column(String(45))
    action: Mapped[str] = mapped_column(String(64))
    target_id: Mapped[str] = mapped_column(String(36))
    target_name: Mapped[str | None] = mapped_column(String(255))
    before: Mapped[dict[str, object] | None] = mapped_column(JSON(none_as_null=True))
    after: Mapped[dict[str, object] | None] = mapped_column(JSON(none_as_null=True))
