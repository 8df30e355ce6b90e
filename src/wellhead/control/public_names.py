"""Public certificates for the server's own names: the ACME issuer and the renewal, as one server has them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from cryptography import x509

from wellhead import issued
from wellhead.control.acme_issuer import DIRECTORY, AcmeIssuer
from wellhead.control.csr import key_digest
from wellhead.control.feed import Feed
from wellhead.control.renewal import Renewal
from wellhead.control.renewal_plan import own_names
from wellhead.control.store import Store
from wellhead.control.store.orders import Budget
from wellhead.control.store.tables import Outcome
from wellhead.errors import IssuerError, LinkError, LocalStateError
from wellhead.logs import Log
from wellhead.model.names import Public
from wellhead.model.records import TlsMode, TunnelStatus
from wellhead.settings import ServerSettings
from wellhead.wire.feed import CertificatePut, OrdersFailing

_log = Log("wellhead.control")


class TunnelGate:
    """A ``Gate``: names of active tunnels whose TLS ends at the edge, within the budget of all tunnels."""

    def __init__(self, store: Store, public: Public, issuer: str, budget: Budget) -> None:
        self._store = store
        self._public = public
        self._issuer = issuer
        self._budget = budget

    def allows(self, hostname: str) -> bool:
        name, _, domain = hostname.partition(".")
        view = self._store.directory.tunnel(name) if domain == self._public.domain else None
        return view is not None and view.tls_mode is TlsMode.EDGE and view.status is TunnelStatus.ACTIVE

    async def begin(self, hostname: str) -> int:
        view = self._store.directory.tunnel(hostname.partition(".")[0])
        organization = None if view is None else view.organization_id
        return await self._store.orders.begin(hostname, self._issuer, self._budget, organization)

    async def end(self, order: int, error: IssuerError | None) -> None:
        away = Outcome.AWAY if error is not None and error.reason == "away" else Outcome.REFUSED
        await self._store.orders.end(order, Outcome.ISSUED if error is None else away)


def own_keys(acme: AcmeIssuer, settings: ServerSettings) -> set[bytes]:
    """Digests of the keys that no tenant's certificate may have: the account's, and those of our names."""
    found = {key_digest(acme.account.public_key)}
    for entry in (settings.data_dir / issued.DIRECTORY).glob("*"):
        with contextlib.suppress(LocalStateError, ValueError):
            if (files := issued.get(entry)) is not None:
                leaf = x509.load_pem_x509_certificate(files.chain_pem.encode())
                found.add(key_digest(leaf.public_key()))
    return found


@contextlib.asynccontextmanager
async def renewing(
    acme: AcmeIssuer, store: Store, feed: Feed, settings: ServerSettings, public: Public, budget: Budget
) -> AsyncIterator[None]:
    """The edge's names have certificates, and keep them, until it is left.

    Raises:
        LocalStateError: a directory is unsafe.
    """

    async def told(name: str) -> None:
        try:
            await feed.tell(CertificatePut([name]))
        except LinkError as error:  # it looks by itself, a while later
            _log.warning("the edge was not told of a certificate", name=name, reason=str(error))

    renewal = Renewal(
        acme,
        TunnelGate(store, public, acme.name, budget),
        own_names(public.domain, public.zone, wildcard=settings.acme_challenge == "dns-01"),
        certificates=settings.data_dir / issued.DIRECTORY,
        directory=settings.data_dir / DIRECTORY,
        told=told,
        on_failing=lambda names: feed.note(OrdersFailing(names)),
    )
    feed.on_wanted = renewal.want
    task = asyncio.create_task(renewal.run(), name="renewal")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
