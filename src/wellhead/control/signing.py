"""Having tunnels' certificates signed: one order for a request, however often it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from wellhead.control import csr
from wellhead.control.csr import CheckedCsr
from wellhead.control.issuing import Issuer
from wellhead.control.renewal_plan import Life, is_due
from wellhead.control.store.certificates import LOCAL, Request
from wellhead.control.store.orders import Budget
from wellhead.control.store.store import Store
from wellhead.control.store.tables import CertificateRow, Outcome, TunnelRow
from wellhead.errors import ApiError, BadRequest, Conflict, IssuerError, RateLimited, Unavailable
from wellhead.logs import Log
from wellhead.model.certificates import Issued
from wellhead.model.names import Public
from wellhead.model.records import Actor, OrganizationId, TlsMode, TunnelId, TunnelStatus
from wellhead.settings import ServerSettings

SIGN_SECONDS: Final = 170.0  # clients wait 180 s
HOURS_A_WEEK: Final = 7  # full ones, of what a tunnel may ask for in an hour
LOOK_SECONDS: Final = 60.0  # between two looks for certificates that deleted tunnels leave
REFUSED_SECONDS: Final = 3600.0
_EDGE_MARGIN_SECONDS = 5.0  # before the edge gives the answer up
_RETRY_SECONDS = 30.0  # where an issuer does not say when

_log = Log("wellhead.control")


@dataclass(frozen=True, slots=True)
class SigningTerms:
    """``answer_seconds``: how long a caller waits. The order goes on; who asks again waits for the same."""

    answer_seconds: float
    budget: Budget

    @classmethod
    def of(cls, settings: ServerSettings, issuer: Issuer) -> SigningTerms:
        public = issuer.name != LOCAL  # our own authority has no limits, but the records have
        return cls(
            min(SIGN_SECONDS, max(settings.reply_seconds - _EDGE_MARGIN_SECONDS, 1.0)),
            Budget(
                hostname_per_hour=settings.csr_per_tunnel_per_hour,
                hostname_per_week=(
                    settings.issue_budget_per_name_per_week
                    if public
                    else HOURS_A_WEEK * settings.csr_per_tunnel_per_hour
                ),
                organization_per_week=settings.issue_budget_per_organization_per_week if public else None,
                per_week=settings.issue_budget_per_week if public else None,
            ),
        )


class Signing:
    """``ours`` gives the digests (``csr.key_digest``) of the server's own keys, which no tunnel may have."""

    def __init__(
        self,
        store: Store,
        issuer: Issuer,
        public: Public,
        terms: SigningTerms,
        ours: Callable[[], Collection[bytes]] = tuple,
    ) -> None:
        self.terms = terms
        self._store = store
        self._issuer = issuer
        self._public = public
        self._ours = ours
        self._refused: dict[str, float] = {}  # certificates that were not revoked: when to try again
        self._orders: dict[tuple[str, bytes], asyncio.Task[CertificateRow]] = {}

    async def sign(
        self, organization_id: OrganizationId, tunnel_id: str, csr_pem: str, *, by: Actor
    ) -> CertificateRow:
        """The certificate for a request; asked again for the same request, the same as long as it is fresh.

        Raises:
            NotFound: no such tunnel in this organization.
            Conflict: TLS of the tunnel's visitors ends at the edge, or it is to be removed.
            BadRequest: the request breaks a rule.
            RateLimited: too many were asked for, or the last orders for the name failed.
            Unavailable: the issuer refuses, is away, or takes longer than the caller should wait.
        """
        row = await self._store.tunnel(organization_id, tunnel_id)
        _check_tunnel(row)
        hostname = self._public.hostname(row.name)
        checked = csr.check(csr_pem, hostname)
        await self._check_key(checked, organization_id)
        request = Request(organization_id, TunnelId(row.id), hostname, checked.digest, checked.key_digest)
        place = (row.id, checked.digest)
        order = self._orders.get(place)
        if order is None:
            order = self._orders[place] = asyncio.create_task(
                self._order(checked.csr, request, by), name=f"certificate for {hostname}"
            )
            order.add_done_callback(lambda done: self._ended(place, done))
        try:
            async with asyncio.timeout(self.terms.answer_seconds):
                return await asyncio.shield(order)
        except TimeoutError:
            raise Unavailable(
                503,
                f"no certificate after {self.terms.answer_seconds:g} s; it is still being made:"
                " send the same request again",
                retry_after_seconds=_RETRY_SECONDS,
            ) from None
        except IssuerError as error:
            raise _for_the_caller(error) from error

    async def run(self) -> None:
        """Until cancelled: have the issuer declare void what deleted tunnels leave behind."""
        while True:
            try:
                await self.revoke_left_over()
            except Exception as error:  # whatever it is: the next look is a new one
                _log.warning("certificates not revoked", error=str(error))
            await asyncio.sleep(LOOK_SECONDS)

    async def revoke_left_over(self) -> None:
        """One look. What the issuer refuses is tried again REFUSED_SECONDS later.

        Raises:
            Unavailable: the database does not answer.
        """
        now = asyncio.get_running_loop().time()
        for certificate in await self._store.certificates.left_over(self._issuer.name):
            if self._refused.get(certificate.id, now) > now:
                continue
            try:
                await self._issuer.revoke(certificate.leaf_pem)
            except IssuerError as error:
                self._refused[certificate.id] = now + REFUSED_SECONDS
                _log.warning(
                    "certificate not revoked",
                    hostname=certificate.hostname,
                    reason=error.reason,
                    said=str(error),
                )
                continue
            self._refused.pop(certificate.id, None)
            await self._store.certificates.revoked(certificate)
            _log.info("certificate revoked", hostname=certificate.hostname, serial=certificate.serial)

    async def close(self) -> None:
        """Give up what is under way; who asks again orders anew."""
        orders = list(self._orders.values())
        for order in orders:
            order.cancel()
        await asyncio.gather(*orders, return_exceptions=True)

    async def _check_key(self, checked: CheckedCsr, organization_id: OrganizationId) -> None:
        certificates, digest = self._store.certificates, checked.key_digest
        if digest in self._ours() or await certificates.is_foreign_key(digest, organization_id):
            raise BadRequest(400, "csr_pem has a key that is somebody else's: make a new one")

    async def _order(
        self, request: x509.CertificateSigningRequest, asked: Request, by: Actor
    ) -> CertificateRow:
        # Here, for an order that ends just now leaves either itself or its certificate to be found.
        known = await self._store.certificates.fresh(asked.tunnel_id, asked.csr_digest)
        if known is not None:
            return known
        orders, issuer = self._store.orders, self._issuer
        replaces, renewal = await self._replaced(asked.tunnel_id)
        number = await orders.begin(
            asked.hostname, issuer.name, self.terms.budget, asked.organization_id, renewal=renewal
        )
        try:
            issued = await issuer.issue(request, [asked.hostname], replaces)
            _check_answer(issued, asked)
        except IssuerError as error:
            _log.warning(
                "certificate refused", hostname=asked.hostname, reason=error.reason, error=str(error)
            )
            await orders.end(number, Outcome.AWAY if error.reason == "away" else Outcome.REFUSED)
            raise
        certificate = await self._store.certificates.add(asked, issuer.name, issued, by=by)
        await orders.end(number, Outcome.ISSUED)
        return certificate

    async def _replaced(self, tunnel_id: TunnelId) -> tuple[str | None, bool]:
        """What the next order is a renewal of, in the issuer's words, and whether that one is due."""
        last = await self._store.certificates.last(tunnel_id)
        if last is None or last.issuer != self._issuer.name or last.revoked_at is not None:
            return None, False
        replaces = self._issuer.renewal_id(last.leaf_pem)
        life = Life(last.not_before, last.expires_at)
        known = replaces is not None or last.issuer == LOCAL
        return replaces, known and is_due(life, last.suggested_at, self._store.orders.now())

    def _ended(self, place: tuple[str, bytes], order: asyncio.Task[CertificateRow]) -> None:
        del self._orders[place]
        if order.cancelled() or (error := order.exception()) is None:
            return
        if not isinstance(error, ApiError | IssuerError):
            _log.error("certificate order failed", error)  # its callers may be gone


def _check_tunnel(row: TunnelRow) -> None:
    if row.tls_mode is not TlsMode.PASSTHROUGH:
        raise Conflict(409, 'the tunnel\'s tls_mode is "edge": it has no certificate of its own')
    if row.status not in (TunnelStatus.AWAITING_CERT, TunnelStatus.ACTIVE):
        # Words as in the other refusal, were it a tunnel's name, would tell clients of the wrong fault.
        raise Conflict(409, f"the tunnel is {row.status.value}: nothing is signed for it")


def _check_answer(issued: Issued, asked: Request) -> None:
    leaf = x509.load_pem_x509_certificate(issued.leaf_pem.encode())
    try:
        names = list(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        names = []
    right = names == [x509.DNSName(asked.hostname)] and csr.key_digest(leaf.public_key()) == asked.key_digest
    if not right:
        raise IssuerError("the issuer's certificate is for another name or key", reason="bad-answer")


def _for_the_caller(error: IssuerError) -> ApiError:
    wait = _RETRY_SECONDS if error.retry_after_seconds is None else error.retry_after_seconds
    if error.reason == "rate-limited":
        return RateLimited(429, f"certificate rate limit: {error}", retry_after_seconds=wait)
    return Unavailable(503, f"no certificate for now: {error}", retry_after_seconds=wait)
