"""Public certificates for the server's own names: the ACME issuer and the renewal, as one server has them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

from cryptography import x509

from wellhead import issued
from wellhead.control.acme_issuer import DIRECTORY, acme_issuer
from wellhead.control.challenges import EdgesChallenges
from wellhead.control.csr import key_digest
from wellhead.control.feed import Feed
from wellhead.control.renewal import Renewal
from wellhead.control.renewal_plan import own_names
from wellhead.control.store import Store
from wellhead.control.store.orders import Budget
from wellhead.control.store.tables import Outcome
from wellhead.control.suggestions import Suggestions
from wellhead.errors import IssuerError, LinkError
from wellhead.logs import Log
from wellhead.model.certificates import ServerCertificate
from wellhead.model.names import Public
from wellhead.model.records import TlsMode, TunnelStatus
from wellhead.settings import ServerSettings
from wellhead.wire.feed import CertificatePut, OrdersFailing
from wellhead.wire.path_form import PATH_LABEL

_log = Log("wellhead.control")


class TunnelGate:
    """A ``Gate``: names of active tunnels whose TLS ends at the edge, within the budget of all tunnels; and
    names of ours of which only a visitor shows that they are in the DNS: ``api.{domain}``, and where
    ``path_form`` is on its own.
    """

    def __init__(
        self, store: Store, public: Public, issuer: str, budget: Budget, *, path_form: bool = False
    ) -> None:
        self._ours = {"api", PATH_LABEL} if path_form else {"api"}
        self._store = store
        self._public = public
        self._issuer = issuer
        self._budget = budget

    def allows(self, hostname: str) -> bool:
        name, _, domain = hostname.partition(".")
        if name in self._ours and domain == self._public.domain:
            return True
        view = self._store.directory.tunnel(name) if domain == self._public.domain else None
        return view is not None and view.tls_mode is TlsMode.EDGE and view.status is TunnelStatus.ACTIVE

    async def begin(self, hostname: str) -> int:
        view = self._store.directory.tunnel(hostname.partition(".")[0])
        organization = None if view is None else view.organization_id
        return await self._store.orders.begin(hostname, self._issuer, self._budget, organization)

    async def end(self, order: int, error: IssuerError | None) -> None:
        away = Outcome.AWAY if error is not None and error.reason == "away" else Outcome.REFUSED
        await self._store.orders.end(order, Outcome.ISSUED if error is None else away)


class PublicNames:
    """``issuer`` is for tenants' requests too; ``renewing`` looks after the server's own names.

    Raises:
        LocalStateError: a file of the issuer's is missing, unsafe or unreadable.
        SettingsError: a package for the DNS provider is not installed.
    """

    def __init__(self, settings: ServerSettings, public: Public, feed: Feed) -> None:
        self.issuer = acme_issuer(settings, EdgesChallenges(feed.tell))
        self._settings = settings
        self._public = public
        self._feed = feed
        self._keys: dict[str, bytes] = {}  # of the server's own names
        self._renewal: Renewal | None = None  # while it is looked after

    def keys(self) -> set[bytes]:
        """Digests (``csr.key_digest``) of keys that no tenant may have: the account's, and of our names."""
        return {key_digest(self.issuer.account.public_key), *self._keys.values()}

    def certificates(self) -> list[ServerCertificate]:
        return [] if self._renewal is None else self._renewal.certificates()

    def renew(self, name: str) -> timedelta | None:
        """As ``Renewal.renew``."""
        if self._renewal is None:
            raise KeyError(name)
        return self._renewal.renew(name)

    @contextlib.asynccontextmanager
    async def renewing(self, store: Store, budget: Budget) -> AsyncIterator[None]:
        """The edge's names have certificates, and keep them, until it is left; then no order runs any more.

        Tunnels' agents are told meanwhile when the authority would have theirs renewed.

        Raises:
            LocalStateError: a directory is unsafe.
        """
        settings, domain, zone = self._settings, self._public.domain, self._public.zone
        try:
            renewal = Renewal(
                self.issuer,
                TunnelGate(
                    store, self._public, self.issuer.name, budget, path_form=settings.sandbox_path_form
                ),
                own_names(domain, zone, wildcard=settings.acme_challenge == "dns-01"),
                certificates=settings.data_dir / issued.DIRECTORY,
                directory=settings.data_dir / DIRECTORY,
                told=self._told,
                on_held=self._held,
                on_failing=lambda names: self._feed.note(OrdersFailing(names)),
            )
            self._renewal = renewal
            self._feed.on_wanted = renewal.want
            suggestions = Suggestions(self.issuer, store.certificates)
            tasks = [
                asyncio.create_task(renewal.run(), name="renewal"),
                asyncio.create_task(suggestions.run(), name="suggestions"),
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await self.issuer.close()

    async def _told(self, name: str) -> None:
        try:
            await self._feed.tell(CertificatePut([name]))
        except LinkError as error:  # it looks by itself, a while later
            _log.warning("the edge was not told of a certificate", name=name, reason=str(error))

    def _held(self, name: str, leaf: x509.Certificate) -> None:
        self._keys[name] = key_digest(leaf.public_key())
