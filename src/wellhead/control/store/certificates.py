"""Tunnels' certificates at rest: which were issued, which are void, and which names are held for them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from sqlalchemy import Select, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from wellhead.control.renewal_plan import Life, is_wish
from wellhead.control.store import audit, rows
from wellhead.control.store.database import Database
from wellhead.control.store.duty import SteadyClock
from wellhead.control.store.tables import CertificateRow, TunnelRow
from wellhead.errors import Conflict, NameUnavailable, NotFound
from wellhead.logs import Log
from wellhead.model.certificates import Issued
from wellhead.model.records import SERVER, Actor, OrganizationId, TunnelId, TunnelStatus
from wellhead.model.text import shown

LOCAL = "local"  # the issuer whose certificates we can declare void ourselves
Hold = Literal["public", "every", "off"]

_log = Log("wellhead.control")


@dataclass(frozen=True, slots=True)
class Request:
    """A checked request to be signed, as far as the records know it."""

    organization_id: OrganizationId
    tunnel_id: TunnelId
    hostname: str
    csr_digest: bytes
    key_digest: bytes


class Running(NamedTuple):
    """A certificate that a tunnel has now."""

    id: str
    not_before: datetime
    expires_at: datetime


class Certificates:
    """``tell`` is told of each tunnel whose record changed, once that is durable.

    ``hold`` says for which certificates a released name is kept from other organizations: those of public
    issuers, which go on being believed; every one, void or not; or none. That they are over is told by
    ``steady``: a wall clock that jumps ahead frees no name.
    """

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        steady: SteadyClock,
        tell: Callable[[TunnelRow], None],
    ) -> None:
        self.hold: Hold = "public"
        self.revision = 0  # another number as soon as a certificate was declared void
        self._database = database
        self._clock = clock
        self._steady = steady
        self._tell = tell

    async def fresh(self, tunnel_id: TunnelId, csr_digest: bytes) -> CertificateRow | None:
        """What this very request was given before, as long as it need not be renewed."""
        query = (
            select(CertificateRow)
            .where(
                CertificateRow.tunnel_id == tunnel_id,
                CertificateRow.csr_digest == csr_digest,
                CertificateRow.revoked_at.is_(None),
                CertificateRow.renew_at > self._clock(),
            )
            .order_by(CertificateRow.created_at.desc())
            .limit(1)
        )
        async with self._database.reading() as session:
            found: CertificateRow | None = await session.scalar(query)
        return found

    async def last(self, tunnel_id: TunnelId) -> CertificateRow | None:
        """The newest one of a tunnel, whatever became of it."""
        query = select(CertificateRow).where(CertificateRow.tunnel_id == tunnel_id)
        newest = query.order_by(CertificateRow.created_at.desc(), CertificateRow.id.desc()).limit(1)
        async with self._database.reading() as session:
            found: CertificateRow | None = await session.scalar(newest)
        return found

    async def is_foreign_key(self, key_digest: bytes, organization_id: OrganizationId) -> bool:
        """Whether another organization had a certificate for this key."""
        query = select(CertificateRow.id).where(
            CertificateRow.key_digest == key_digest, CertificateRow.organization_id != organization_id
        )
        async with self._database.reading() as session:
            return await session.scalar(query.limit(1)) is not None

    async def add(
        self, request: Request, issuer: str, issued: Issued, *, by: Actor = SERVER
    ) -> CertificateRow:
        """Keep what was issued; a tunnel that waited for it is active from now on.

        Raises:
            Conflict: the tunnel was deleted meanwhile. What was issued is kept all the same, for it is valid.
        """
        now = self._clock()
        certificate = _row(request, issuer, issued, now)
        async with self._database.writing() as session:
            row = await session.get(TunnelRow, request.tunnel_id)
            gone = row is None or row.status is TunnelStatus.DELETED
            if row is not None:
                rows.note(session, row, now, by, "certificate.issue", None, _facts(certificate))
                if not gone:
                    _take(row, certificate, now)
                    if row.status is TunnelStatus.AWAITING_CERT:
                        rows.change(session, row, TunnelStatus.ACTIVE, now, by, "tunnel.activate")
                elif issuer == LOCAL:
                    _revoke(session, certificate, now, by)
            session.add(certificate)
        if row is None or gone:
            self.revision += 1
            raise Conflict(409, "the tunnel was deleted while its certificate was made")
        self._tell(row)
        _log.info(
            "certificate issued", tunnel=row.id, hostname=request.hostname, issuer=issuer,
            serial=issued.serial, expires_at=issued.expires_at.isoformat(),
        )  # fmt: skip
        return certificate

    async def page(
        self,
        organization_id: OrganizationId,
        tunnels: Collection[str] | None = None,
        limit: int | None = None,
        after: tuple[datetime, str] | None = None,
    ) -> list[CertificateRow]:
        """The organization's certificates, oldest first, those of these tunnels alone, after a place.

        The rows are without PEM.
        """
        query = _listed(organization_id, tunnels).order_by(CertificateRow.created_at, CertificateRow.id)
        if after is not None:
            at, certificate_id = after
            query = query.where(
                or_(
                    CertificateRow.created_at > at,
                    (CertificateRow.created_at == at) & (CertificateRow.id > certificate_id),
                )
            )
        async with self._database.reading() as session:
            return list(await session.scalars(query.limit(limit)))

    async def newest(
        self, organization_id: OrganizationId, tunnels: Collection[str] | None, limit: int
    ) -> list[CertificateRow]:
        """The last ``limit`` of what ``page`` would give without one."""
        query = _listed(organization_id, tunnels).order_by(
            CertificateRow.created_at.desc(), CertificateRow.id.desc()
        )
        async with self._database.reading() as session:
            return list(await session.scalars(query.limit(limit)))[::-1]

    async def one(self, organization_id: OrganizationId, certificate_id: str) -> CertificateRow:
        """
        Raises:
            NotFound: none of that id in this organization.
        """
        async with self._database.reading() as session:
            return await _one(session, organization_id, certificate_id)

    async def renew(
        self, organization_id: OrganizationId, certificate_id: str, *, by: Actor = SERVER
    ) -> CertificateRow:
        """Have the tunnel's agent ask for the next one when it looks. Twice is as once.

        Raises:
            NotFound: none of that id in this organization.
            Conflict: it is not the tunnel's newest one, so that there is nothing to renew.
        """
        now = self._clock()
        async with self._database.writing() as session:
            certificate = await _one(session, organization_id, certificate_id)
            row = await session.get(TunnelRow, certificate.tunnel_id)
            if row is None or row.cert_fingerprint_sha256 != certificate.fingerprint_sha256:
                raise Conflict(
                    409, "the certificate was replaced, or its tunnel deleted: renew the newest one"
                )
            if certificate.renew_at > now:
                row.cert_renew_at = certificate.renew_at = row.updated_at = now
                rows.note(session, row, now, by, "certificate.renew", None, {"serial": certificate.serial})
        self._tell(row)
        return certificate

    async def to_renew(self, issuer: str) -> list[Running]:
        """What the tunnels of an issuer have now, as far as it is not over."""
        shown = TunnelRow.cert_fingerprint_sha256 == CertificateRow.fingerprint_sha256
        query = (
            select(CertificateRow.id, CertificateRow.not_before, CertificateRow.expires_at)
            .join(TunnelRow, (TunnelRow.id == CertificateRow.tunnel_id) & shown)
            .where(
                CertificateRow.issuer == issuer,
                CertificateRow.revoked_at.is_(None),
                CertificateRow.expires_at > self._clock(),
                TunnelRow.status == TunnelStatus.ACTIVE,
            )
        )
        async with self._database.reading() as session:
            return [Running(*found) for found in await session.execute(query)]

    async def leaf(self, certificate_id: str) -> str:
        """A certificate's PEM, "" where there is none of that id."""
        query = select(CertificateRow.leaf_pem).where(CertificateRow.id == certificate_id)
        async with self._database.reading() as session:
            return await session.scalar(query) or ""

    async def suggest(self, certificate_id: str, when: datetime) -> None:
        """Have a tunnel's agent renew it when its authority would have it, where that is earlier."""
        now = self._clock()
        async with self._database.writing() as session:
            certificate = await session.get(CertificateRow, certificate_id)
            if certificate is None:
                return
            life = Life(certificate.not_before, certificate.expires_at)
            row = await session.get(TunnelRow, certificate.tunnel_id)
            shown = row is not None and row.cert_fingerprint_sha256 == certificate.fingerprint_sha256
            if row is None or not shown or not is_wish(certificate.renew_at, life, when, now):
                return
            row.cert_renew_at = certificate.renew_at = certificate.suggested_at = when
            row.updated_at = now
            facts = {"serial": certificate.serial, "renew_at": when.isoformat()}
            rows.note(session, row, now, SERVER, "certificate.renew", None, facts)
        self._tell(row)
        _log.info("renewal suggested", hostname=certificate.hostname, renew_at=when.isoformat())

    async def void(self) -> list[tuple[int, datetime]]:
        """The local issuer's certificates that are void before their time: serial number, since when."""
        query = select(CertificateRow).where(
            CertificateRow.issuer == LOCAL,
            CertificateRow.revoked_at.is_not(None),
            CertificateRow.expires_at > self._clock(),
        )
        async with self._database.reading() as session:
            found = list(await session.scalars(query.order_by(CertificateRow.revoked_at)))
        return [(int(row.serial, 16), row.revoked_at) for row in found if row.revoked_at is not None]

    async def left_over(self, issuer: str) -> list[CertificateRow]:
        """An issuer's certificates that are believed still, though their tunnels are gone for good."""
        alive = select(TunnelRow.id).where(TunnelRow.status != TunnelStatus.DELETED)
        query = select(CertificateRow).where(
            CertificateRow.issuer == issuer,
            CertificateRow.revoked_at.is_(None),
            CertificateRow.expires_at > self._clock(),
            CertificateRow.tunnel_id.not_in(alive),
        )
        async with self._database.reading() as session:
            return list(await session.scalars(query.order_by(CertificateRow.created_at)))

    async def revoked(self, certificate: CertificateRow) -> None:
        """Note that the issuer declared it void."""
        now = self._clock()
        async with self._database.writing() as session:
            row = await session.get_one(CertificateRow, certificate.id)
            _revoke(session, row, now, SERVER)

    # Within a transaction of the tunnels' records

    async def release(self, session: AsyncSession, row: TunnelRow, now: datetime, by: Actor) -> None:
        """Declare void what we can of a tunnel that ends."""
        query = select(CertificateRow).where(
            CertificateRow.tunnel_id == row.id,
            CertificateRow.issuer == LOCAL,
            CertificateRow.revoked_at.is_(None),
            CertificateRow.expires_at > now,
        )
        for certificate in await session.scalars(query):
            _revoke(session, certificate, now, by)

    async def check_free(self, session: AsyncSession, name: str, organization_id: OrganizationId) -> None:
        """
        Raises:
            NameUnavailable: another organization had it, and a certificate that is still believed.
        """
        if self.hold == "off":
            return
        query = select(CertificateRow.expires_at).where(
            CertificateRow.name == name,
            CertificateRow.organization_id != organization_id,
        )
        if (now := self._steady.certain()) is not None:
            query = query.where(CertificateRow.expires_at > now)
        if self.hold == "public":
            query = query.where(or_(CertificateRow.issuer != LOCAL, CertificateRow.revoked_at.is_(None)))
        last = await session.scalar(query.order_by(CertificateRow.expires_at.desc()).limit(1))
        if last is not None:
            late = "" if last > self._clock() else "; that it is over is believed some minutes later"
            raise NameUnavailable(
                409,
                f"tunnel name {shown(name)} is held until {last:%Y-%m-%d %H:%M} UTC, when the last"
                f" certificate that was issued for it expires{late}",
            )


def _row(request: Request, issuer: str, issued: Issued, now: datetime) -> CertificateRow:
    return CertificateRow(
        id=str(uuid.uuid4()),
        organization_id=request.organization_id,
        tunnel_id=request.tunnel_id,
        name=request.hostname.partition(".")[0],
        hostname=request.hostname,
        issuer=issuer,
        serial=issued.serial,
        fingerprint_sha256=issued.fingerprint_sha256,
        csr_digest=request.csr_digest,
        key_digest=request.key_digest,
        leaf_pem=issued.leaf_pem,
        chain_pem=issued.chain_pem,
        not_before=issued.not_before,
        expires_at=issued.expires_at,
        renew_at=issued.renew_at,
        created_at=now,
    )


def _take(row: TunnelRow, certificate: CertificateRow, now: datetime) -> None:
    row.cert_pem = certificate.leaf_pem
    row.cert_fingerprint_sha256 = certificate.fingerprint_sha256
    row.cert_expires_at, row.cert_renew_at = certificate.expires_at, certificate.renew_at
    row.updated_at = now


def _revoke(session: AsyncSession, certificate: CertificateRow, now: datetime, by: Actor) -> None:
    certificate.revoked_at = now
    target = audit.Target(certificate.tunnel_id, certificate.name)
    serial = {"serial": certificate.serial}
    audit.note(session, certificate.organization_id, now, by, "certificate.revoke", target, None, serial)


def _facts(certificate: CertificateRow) -> dict[str, object]:
    return {
        "hostname": certificate.hostname,
        "issuer": certificate.issuer,
        "serial": certificate.serial,
        "expires_at": certificate.expires_at.isoformat(),
    }


def _of(organization_id: OrganizationId) -> Select[CertificateRow]:
    return select(CertificateRow).where(CertificateRow.organization_id == organization_id)


def _listed(organization_id: OrganizationId, tunnels: Collection[str] | None) -> Select[CertificateRow]:
    query = _of(organization_id).options(
        defer(CertificateRow.leaf_pem, raiseload=True), defer(CertificateRow.chain_pem, raiseload=True)
    )
    return query if tunnels is None else query.where(CertificateRow.tunnel_id.in_(tunnels))


async def _one(session: AsyncSession, organization_id: OrganizationId, certificate_id: str) -> CertificateRow:
    row: CertificateRow | None = await session.scalar(
        _of(organization_id).where(CertificateRow.id == certificate_id)
    )
    if row is None:
        raise NotFound(404, "no such certificate")
    return row
