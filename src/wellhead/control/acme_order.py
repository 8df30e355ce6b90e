"""Orders of certificates: one for each request, taken up again after a restart, proved, finalized, fetched.

::

    newOrder -> pending -> (proofs) -> ready -> finalize -> processing -> valid -> certificate

Whoever asks again with the same request, after a time-out, after a crash or at the same time, has the same
order.

Source: RFC 8555 section 7.4.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import josepy as jose
import requests
from acme import messages
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from wellhead.control.acme_account import Account
from wellhead.control.acme_authorization import Authorizations, Pauses
from wellhead.control.acme_client import AcmeClient, is_problem, problem, retry_after
from wellhead.control.acme_kept import Kept, KeptOrders
from wellhead.control.acme_proof import Prover
from wellhead.control.issuing import issued
from wellhead.errors import IssuerError
from wellhead.logs import Log
from wellhead.model.certificates import Issued

CLOSE_SECONDS: Final = 4.0  # the server does not wait much longer for its control plane

_log = Log("wellhead.control")


class Orders:
    """Orders at one authority, by one account and one way of proof; ``directory`` is for their files.

    Raises:
        LocalStateError: the directory is unsafe.
    """

    def __init__(
        self,
        client: AcmeClient,
        account: Account,
        prover: Prover,
        directory: Path,
        *,
        order_seconds: float,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._account = account
        self._parts = _Parts(
            client, account, Authorizations(client, account, prover), KeptOrders(directory), clock
        )
        self._seconds = order_seconds
        self._running: dict[str, asyncio.Task[Issued]] = {}

    async def certificate(
        self, request: x509.CertificateSigningRequest, names: Sequence[str], replaces: str | None = None
    ) -> Issued:
        """The certificate of a request, which was checked, for exactly these names.

        Who asks with the same request meanwhile waits for the same order; who stops waiting leaves
        it running. ``replaces`` names a certificate as RFC 9773 section 5 does.

        Raises:
            IssuerError: refused, away, or not there within the time for an order.
            LocalStateError: the order cannot be kept.
        """
        digest = hashlib.sha256(request.public_bytes(Encoding.DER)).hexdigest()
        if (task := self._running.get(digest)) is None:
            order = _Order(self._parts, digest, request, tuple(names), replaces)
            task = self._running[digest] = asyncio.create_task(self._in_time(order), name="order")
            task.add_done_callback(lambda done: self._over(digest, done))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Give up what runs, and take its proofs away, as far as that is done in CLOSE_SECONDS."""
        late = set(self._running.values())
        for seconds in (CLOSE_SECONDS, None):
            for task in late:
                task.cancel()
            if late:
                _, late = await asyncio.wait(late, timeout=seconds)
            if late:
                _log.warning("proofs not removed", orders=len(late), reason="the server stops")

    def _over(self, digest: str, task: asyncio.Task[Issued]) -> None:
        del self._running[digest]
        if not task.cancelled():
            task.exception()  # those who wait are told, and it may be that nobody does

    async def _in_time(self, order: _Order) -> Issued:
        try:
            async with asyncio.timeout(self._seconds):
                try:
                    return await order.certificate()
                except IssuerError as error:
                    if not is_problem(error, "accountDoesNotExist"):
                        raise
                    self._account.forget()
                    return await order.certificate()
        except TimeoutError as error:
            raise IssuerError(
                f"{order.what} took more than {self._seconds:g} s", reason="issuer-slow"
            ) from error


class _Parts(NamedTuple):
    client: AcmeClient
    account: Account
    authorizations: Authorizations
    kept: KeptOrders
    clock: Callable[[], dt.datetime]


class _Order:
    """``what`` names it in messages."""

    def __init__(
        self,
        parts: _Parts,
        digest: str,
        request: x509.CertificateSigningRequest,
        names: tuple[str, ...],
        replaces: str | None,
    ) -> None:
        self._client, self._account, self._authorizations, self._kept, self._clock = parts
        self._digest = digest
        self._request = request
        self._names = names
        self._replaces = replaces
        self.what = f"the order for {', '.join(names)} at {self._client.host}"

    async def certificate(self) -> Issued:
        await self._account.ready()
        if (found := await self._taken_up()) is not None:
            certificate = await self._finished(*found)
            # The same request again, late in its certificate's life, asks for another one.
            if certificate.expires_at - self._clock() > (certificate.expires_at - certificate.not_before) / 2:
                return certificate
            self._kept.forget(self._digest)
        return await self._finished(*await self._made())

    async def _finished(self, url: str, order: messages.Order) -> Issued:
        if order.status == messages.STATUS_PENDING:
            await self._authorizations.prove(self.what, order.authorizations or (), self._names)
            order = await self._settled(url, messages.STATUS_PENDING)
        if order.status == messages.STATUS_READY:
            await self._client.post(self.what, order.finalize, messages.CertificateRequest(csr=self._request))
            order = await self._settled(url, messages.STATUS_READY, messages.STATUS_PROCESSING)
        if order.status == messages.STATUS_PROCESSING:
            order = await self._settled(url, messages.STATUS_PROCESSING)
        if order.status != messages.STATUS_VALID or order.certificate is None:
            self._kept.forget(self._digest)
            raise await self._why_invalid(order)
        return issued((await self._client.fetch(self.what, order.certificate)).text)

    async def _taken_up(self) -> tuple[str, messages.Order] | None:
        """The order that this request has already, where it can still come to a certificate."""
        kept = self._kept.get(self._digest, self._clock())
        if kept is None or kept.directory != self._client.url or set(kept.names) != set(self._names):
            return None
        try:
            order = _body(await self._client.fetch(self.what, kept.url))
        except IssuerError as error:
            if error.reason not in ("refused", "bad-answer") or is_problem(error, "accountDoesNotExist"):
                raise
            return None  # the authority knows nothing of it any more
        if order.status == messages.STATUS_INVALID:
            return None
        _log.info("order taken up again", names=",".join(self._names), order=kept.url)
        return kept.url, order

    async def _made(self) -> tuple[str, messages.Order]:
        directory = await self._client.directory()
        identifiers = [messages.Identifier(typ=messages.IDENTIFIER_FQDN, value=name) for name in self._names]
        plain = _NewOrder(identifiers=identifiers)
        wanted = plain if self._replaces is None else plain.update(replaces=self._replaces)
        try:
            answer = await self._client.post(self.what, directory["newOrder"], wanted)
        except IssuerError as error:
            if self._replaces is None or error.reason != "refused":
                raise
            # It was replaced already, say (RFC 9773 section 5): no reason to go without.
            answer = await self._client.post(self.what, directory["newOrder"], plain)
        if (url := answer.headers.get("Location")) is None:
            raise IssuerError(f"{self.what} was made without a URL", reason="bad-answer")
        self._kept.put(self._digest, Kept(url, self._client.url, self._names, self._clock()))
        _log.info("order made", names=",".join(self._names), order=url)
        return url, _body(answer)

    async def _settled(self, url: str, *until_not: messages.Status) -> messages.Order:
        pauses = Pauses()
        while True:
            answer = await self._client.fetch(self.what, url)
            order = _body(answer)
            if order.status not in until_not:
                return order
            await pauses.wait(retry_after(answer))

    async def _why_invalid(self, order: messages.Order) -> IssuerError:
        if order.error is not None:
            return problem(f"{self.what} failed", order.error)
        told = await self._authorizations.complaint(self.what, order.authorizations or ())
        return told or IssuerError(f"{self.what} failed, and nothing says why", reason="refused")


class _NewOrder(messages.NewOrder):
    replaces: str | None = jose.field("replaces", omitempty=True)


def _body(answer: requests.Response) -> messages.Order:
    try:
        body: messages.Order = messages.Order.from_json(answer.json())
        return body
    except (ValueError, jose.DeserializationError) as error:
        raise IssuerError("an order that is no ACME", reason="bad-answer") from error
