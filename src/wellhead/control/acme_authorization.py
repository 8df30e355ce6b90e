"""What an order wants shown: for each name a proof, put, answered, judged, and removed whatever comes of it.

Source: RFC 8555 section 7.5.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from typing import Final, NamedTuple

import josepy as jose
import requests
from acme import messages

from wellhead.control.acme_account import Account
from wellhead.control.acme_client import AcmeClient, problem, retry_after
from wellhead.control.acme_proof import Proof, Prover
from wellhead.errors import IssuerError
from wellhead.logs import Log

POLL_SECONDS: Final = (0.25, 5.0)  # first and longest pause, where the authority names none
REMOVE_SECONDS: Final = 30.0  # for a proof to be taken away

_log = Log("wellhead.control")


class _Asked(NamedTuple):
    url: str
    challenge: messages.ChallengeBody
    proof: Proof


class _Turn:
    """Of one name; ``users`` have it or wait for it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class Authorizations:
    """Proves names to one authority, all in one way."""

    def __init__(self, client: AcmeClient, account: Account, prover: Prover) -> None:
        self._client = client
        self._account = account
        self._prover = prover
        self._turns: dict[str, _Turn] = {}

    async def prove(self, what: str, urls: Iterable[str], names: Iterable[str]) -> None:
        """Return when every authorization is valid.

        Raises:
            IssuerError: a proof could not be put, or was not found good.
        """
        async with self._alone(names):
            asked = [one for url in urls if (one := await self._asked(what, url)) is not None]
            try:
                await _all(self._prover.put(one.proof) for one in asked)
                for one in asked:
                    if one.challenge.status == messages.STATUS_PENDING:
                        response = one.challenge.chall.response(self._account.key)
                        await self._client.post(what, one.challenge.uri, response)
                for one in asked:
                    await self._judged(what, one.url)
            finally:
                await asyncio.shield(_all(self._remove(one.proof) for one in asked))

    async def complaint(self, what: str, urls: Iterable[str]) -> IssuerError | None:
        """Why one of them is invalid, None where none says so."""
        for url in urls:
            try:
                _check(what, _body(await self._client.fetch(what, url)))
            except IssuerError as error:
                return error
        return None

    async def _asked(self, what: str, url: str) -> _Asked | None:
        """What is to be shown, None where it was shown before."""
        body = _body(await self._client.fetch(what, url))
        _check(what, body)
        if body.status == messages.STATUS_VALID:
            return None
        offered = {str(getattr(one.chall, "typ", "another")): one for one in body.challenges}
        if (chosen := offered.get(self._prover.kind)) is None:
            raise IssuerError(
                f"{self._client.host} offers {', '.join(sorted(offered))} for {body.identifier.value},"
                f" acme_challenge is {self._prover.kind}",
                reason="refused",
            )
        answer = chosen.chall.key_authorization(self._account.key)
        return _Asked(url, chosen, Proof(body.identifier.value, chosen.chall.encode("token"), answer))

    async def _judged(self, what: str, url: str) -> None:
        pauses = Pauses()
        while True:
            answer = await self._client.fetch(what, url)
            body = _body(answer)
            _check(what, body)
            if body.status == messages.STATUS_VALID:
                return
            await pauses.wait(retry_after(answer))

    async def _remove(self, proof: Proof) -> None:
        try:
            async with asyncio.timeout(REMOVE_SECONDS):
                await self._prover.remove(proof)
        except (IssuerError, TimeoutError) as error:
            _log.warning(
                "proof not removed", hostname=proof.hostname, challenge=self._prover.kind, reason=str(error)
            )

    @contextlib.asynccontextmanager
    async def _alone(self, names: Iterable[str]) -> AsyncIterator[None]:
        """One order at a time proves a name: for TLS-ALPN-01 it has one certificate to answer with."""
        async with contextlib.AsyncExitStack() as stack:
            for hostname in sorted({name.removeprefix("*.") for name in names}):
                await stack.enter_async_context(self._turn(hostname))
            yield

    @contextlib.asynccontextmanager
    async def _turn(self, hostname: str) -> AsyncIterator[None]:
        turn = self._turns.setdefault(hostname, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[hostname]


class Pauses:
    """Between two looks at something that takes its time: as long as was asked for, else ever longer."""

    def __init__(self) -> None:
        self._next = POLL_SECONDS[0]

    async def wait(self, asked: float | None) -> None:
        await asyncio.sleep(self._next if asked is None else max(asked, POLL_SECONDS[0]))
        self._next = min(2 * self._next, POLL_SECONDS[1])


def _body(answer: requests.Response) -> messages.Authorization:
    try:
        body: messages.Authorization = messages.Authorization.from_json(answer.json())
        return body
    except (ValueError, jose.DeserializationError) as error:
        raise IssuerError("an authorization that is no ACME", reason="bad-answer") from error


def _check(what: str, body: messages.Authorization) -> None:
    """
    Raises:
        IssuerError: it can no more become valid; with the authority's reason.
    """
    if body.status in (messages.STATUS_PENDING, messages.STATUS_PROCESSING, messages.STATUS_VALID):
        return
    for challenge in body.challenges:
        if challenge.error is not None:
            raise problem(f"{what} failed: {body.identifier.value} is not proved", challenge.error)
    raise IssuerError(
        f"{what} failed: the proof of {body.identifier.value} is {body.status}", reason="refused"
    )


async def _all(steps: Iterable[Coroutine[object, object, None]]) -> None:
    """Do them at once; when all are over, raise what the first of those that failed raised."""
    outcomes: Sequence[BaseException | None] = await asyncio.gather(*steps, return_exceptions=True)
    for outcome in outcomes:
        if outcome is not None:
            raise outcome
