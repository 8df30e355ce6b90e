"""Certificates of passthrough tunnels: having them signed, and looking at them.

Source: inkbox-tunnels, "4.2 sign-csr".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from wellhead.control import paging, problems
from wellhead.control.access import By, Key, need_admin, need_tunnel
from wellhead.control.csr import CSR_MAX
from wellhead.control.local_issuer import Revocations
from wellhead.control.signing import Signing
from wellhead.control.store.store import Store
from wellhead.control.store.tables import CertificateRow
from wellhead.control.tunnels import reach
from wellhead.errors import Forbidden, NotFound, RateLimited
from wellhead.model import access
from wellhead.model.certificates import (
    CertificateRecord,
    CertificateStatus,
    ServerCertificate,
    SignedCertificate,
)
from wellhead.model.names import VOID_LIST
from wellhead.model.records import ApiKey, OrganizationId, TunnelId

_DAY = timedelta(days=1)
_BAD_REQUEST: dict[int | str, dict[str, Any]] = {
    400: {"model": problems.Problem, "description": "The signing request breaks a rule"}
}


Limit = Annotated[
    int | None,
    Query(
        ge=1,
        le=paging.LIMIT_MAX,
        description=f"At most so many; without it and without a cursor, the newest {paging.LIMIT_MAX}.",
    ),
]


class SignCsr(BaseModel):
    model_config = ConfigDict(extra="forbid")

    csr_pem: str = Field(
        description=f"A certificate signing request (PKCS #10), PEM, at most {CSR_MAX} bytes: for the"
        " tunnel's hostname and nothing else, with a P-256, P-384 or RSA key of 2048 to 4096 bits."
    )


@dataclass(frozen=True, slots=True)
class CertificateList:
    certificates: list[CertificateRecord]
    next_cursor: str | None = None


class ServerNames(Protocol):
    """Certificates of the server's own names, from a public issuer."""

    def certificates(self) -> list[ServerCertificate]: ...

    def renew(self, name: str) -> timedelta | None:
        """Order it anew now; how long to wait where it is too young for that.

        Raises:
            KeyError: there is none of that name.
        """


class NoServerNames:
    """Of a server that is its own authority, or has its certificates from files."""

    def certificates(self) -> list[ServerCertificate]:
        return []

    def renew(self, name: str) -> timedelta | None:
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class ServerCertificateList:
    certificates: list[ServerCertificate]


class RenewName(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=255, description="Of the certificate: a hostname, or `*.example.org`.")


class CrlResponse(Response):
    media_type = "application/pkix-crl"


def router(store: Store, signing: Signing) -> APIRouter:
    routes = APIRouter(tags=["certificates"])

    def represent(row: CertificateRow) -> CertificateRecord:
        return certificate_record(row, store.clock())

    @routes.post("/tunnels/{tunnel_id}/sign-csr", operation_id="sign_csr", responses=_BAD_REQUEST)
    async def sign_csr(key: Key, by: By, tunnel_id: str, request: SignCsr) -> SignedCertificate:
        """Have a passthrough tunnel's certificate signed. It may take minutes: wait for 180 s.

        The same request sent again waits for the same order, and gets the same certificate until it is to be
        renewed. A tunnel that waited for its first certificate is active from then on.
        """
        need_tunnel(key, tunnel_id)
        row = await signing.sign(key.organization_id, tunnel_id, request.csr_pem, by=by)
        return SignedCertificate(row.leaf_pem, row.chain_pem, row.fingerprint_sha256, row.expires_at)

    @routes.get("/certificates", operation_id="list_certificates")
    async def list_certificates(
        key: Key,
        tunnel_id: Annotated[str | None, Query(description="Only those of this tunnel.")] = None,
        limit: Limit = None,
        cursor: paging.At = None,
    ) -> CertificateList:
        """Certificates that were issued for the tunnels that the key may see, oldest first."""
        owner, chosen = key.organization_id, _chosen(key, tunnel_id)
        if limit is None and cursor is None:
            newest = await store.certificates.newest(owner, chosen, paging.LIMIT_MAX)
            return CertificateList([represent(row) for row in newest])
        after = None if cursor is None else paging.read_place(cursor)
        limit = limit or paging.LIMIT_MAX
        rows = await store.certificates.page(owner, chosen, limit + 1, after)
        shown, following = paging.cut(rows, limit)
        return CertificateList([represent(row) for row in shown], following)

    @routes.get("/certificates/{certificate_id}", operation_id="get_certificate")
    async def get_certificate(key: Key, certificate_id: str) -> CertificateRecord:
        row = await store.certificates.one(key.organization_id, certificate_id)
        _need_certificate(key, row)
        return represent(row)

    @routes.post("/certificates/{certificate_id}/renew", operation_id="renew_certificate")
    async def renew_certificate(key: Key, by: By, certificate_id: str) -> CertificateRecord:
        """Have the tunnel's agent get the next certificate now, in place of at ``renew_at``.

        The key is the agent's: it is told by ``renew_at``, here and as ``cert_renew_at`` of the tunnel, and
        makes the request when it looks there next.
        """
        _need_certificate(key, await store.certificates.one(key.organization_id, certificate_id))
        need_admin(key)
        return represent(await store.certificates.renew(key.organization_id, certificate_id, by=by))

    return routes


def server_router(store: Store, names: ServerNames) -> APIRouter:
    """For keys that may administer the organization which the server was set up with, and for no others': of
    other organizations' tunnels nothing is told.
    """
    routes = APIRouter(prefix="/server-certificates", tags=["certificates"])

    def theirs(name: str, key: ApiKey) -> bool:
        view = store.directory.tunnel(name.partition(".")[0])
        return view is None or view.organization_id == key.organization_id

    async def need_owner(key: ApiKey) -> None:
        need_admin(key)
        if key.organization_id != await store.keys.owner():
            raise Forbidden(
                403, "the server's own certificates are for the organization that it was set up with"
            )

    @routes.get("", operation_id="list_server_certificates")
    async def list_server_certificates(key: Key) -> ServerCertificateList:
        """Certificates that the server has from a public issuer, and what came of the last tries."""
        await need_owner(key)
        return ServerCertificateList([each for each in names.certificates() if theirs(each.name, key)])

    @routes.post("/renew", operation_id="renew_server_certificate", status_code=202)
    async def renew_server_certificate(key: Key, renew: RenewName) -> ServerCertificate:
        """Order one anew now; the one before serves on until the next is there, whatever happens."""
        await need_owner(key)
        found = {each.name: each for each in names.certificates() if theirs(each.name, key)}
        if renew.name not in found:
            raise NotFound(404, "no such certificate")
        if (wait := names.renew(renew.name)) is not None:
            raise RateLimited(
                429,
                f"the certificate for {renew.name} was issued a short while ago",
                retry_after_seconds=wait.total_seconds(),
                reason="csr-rate",
            )
        return found[renew.name]

    return routes


def revocations_router(revocations: Revocations) -> APIRouter:
    """For everybody: which of the local authority's certificates are void."""
    routes = APIRouter(tags=["certificates"])

    @routes.get(VOID_LIST, operation_id="revocation_list", response_class=CrlResponse)
    async def revocation_list() -> Response:
        """The revocation list of the server's local authority (RFC 5280 section 5), DER."""
        return CrlResponse(await revocations.der())

    return routes


def _chosen(key: ApiKey, tunnel_id: str | None) -> list[str] | None:
    seen = reach(key)
    if seen is None:
        return None if tunnel_id is None else [tunnel_id]
    return [each for each in seen if tunnel_id in (None, each)]


def _need_certificate(key: ApiKey, row: CertificateRow) -> None:
    """
    Raises:
        NotFound: the key's scopes do not reach its tunnel; said as of one that does not exist.
    """
    if not access.may_use_tunnel(key.scopes, row.tunnel_id):
        raise NotFound(404, "no such certificate")


def certificate_record(row: CertificateRow, now: datetime) -> CertificateRecord:
    """The record as the API gives it."""
    status = CertificateStatus.ISSUED if now < row.expires_at else CertificateStatus.EXPIRED
    return CertificateRecord(
        id=row.id,
        organization_id=OrganizationId(row.organization_id),
        tunnel_id=TunnelId(row.tunnel_id),
        hostname=row.hostname,
        issuer=row.issuer,
        status=CertificateStatus.REVOKED if row.revoked_at is not None else status,
        serial=row.serial,
        fingerprint_sha256=row.fingerprint_sha256,
        issued_at=row.created_at,
        not_before=row.not_before,
        expires_at=row.expires_at,
        days_left=max(0.0, round((row.expires_at - now) / _DAY, 3)),
        renew_at=row.renew_at,
        revoked_at=row.revoked_at,
    )
