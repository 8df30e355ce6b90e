"""A certificate authority as it is asked by ACME: one signed request at a time, in a thread.

``acme`` stands on ``requests`` and blocks. What it cannot do is done here: a refused nonce is tried again
more than once, an answer's ``Retry-After`` is kept, and every failure becomes an IssuerError.

Source: RFC 8555.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import email.utils
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlsplit

import josepy as jose
import requests
from acme import errors, messages
from acme.client import ClientNetwork, ClientV2

from wellhead.control.threads import Threads
from wellhead.errors import IssuerError
from wellhead.model.text import escape
from wellhead.version import VERSION

REQUEST_SECONDS: Final = 20  # for a connection, and for each silence in an answer
NONCE_TRIES: Final = 10  # an authority that refuses half of all nonces fails one request in a thousand
DETAIL_MAX: Final = 400  # characters of what an authority says that we repeat
DIRECTORY_SECONDS: Final = 3600.0  # how long its directory is believed

T = TypeVar("T")


class AcmeClient:
    """``host`` names the authority in messages. Before anything is asked, ``use`` says who signs."""

    def __init__(self, url: str, ca_file: Path | None = None) -> None:
        self.url = url
        self.host = urlsplit(url).netloc
        self._ca_file = ca_file
        self._network: _Network | None = None
        self._directory: messages.Directory | None = None
        self._read_at = 0.0  # the loop's time
        self._turn = asyncio.Lock()  # the library's nonces are not made for several threads
        self._threads = Threads(1, "acme")

    def use(self, key: jose.JWKEC, account_url: str | None) -> None:
        """Sign with this key from now on, for the account of this URL."""
        self._network = _Network(key, account_url, self._ca_file)

    async def directory(self) -> messages.Directory:
        """What the authority offers, and where.

        Raises:
            IssuerError: it is away, or the URL leads to something else.
        """
        now = asyncio.get_running_loop().time()
        if self._directory is None or now - self._read_at > DIRECTORY_SECONDS:
            found = await self._call(
                "the directory", lambda network: ClientV2.get_directory(self.url, network)
            )
            try:
                for needed in ("newNonce", "newAccount", "newOrder", "revokeCert"):
                    found[needed]
            except KeyError as error:
                raise IssuerError(f"{self.url} is no ACME directory", reason="bad-answer") from error
            self._directory, self._read_at = found, now
        return self._directory

    async def post(
        self, what: str, url: str, body: jose.JSONDeSerializable, *, anonymous: bool = False
    ) -> requests.Response:
        """Send a signed request. ``what`` names it in messages; ``anonymous`` signs with the bare key.

        Raises:
            IssuerError: refused, or away.
        """
        nonces = (await self.directory())["newNonce"]
        return await self._call(what, lambda network: network.ask(url, body, nonces, anonymous))

    async def fetch(self, what: str, url: str) -> requests.Response:
        """Read what is at a URL: a POST as GET (RFC 8555 section 6.3).

        Raises:
            IssuerError: refused, or away.
        """
        nonces = (await self.directory())["newNonce"]
        return await self._call(what, lambda network: network.ask(url, None, nonces, False))

    async def renewal_time(self, leaf_pem: str) -> tuple[dt.datetime | None, dt.datetime]:
        """When the authority would have this certificate renewed, None where it does not say; and when to ask
        again. Both are aware.

        Raises:
            IssuerError: it offers this, but is away or answers something else.

        Source: RFC 9773 section 4.
        """
        directory = await self.directory()
        when, again = await self._call(
            "renewal information",
            lambda network: ClientV2(directory, network).renewal_time(leaf_pem.encode()),
        )
        return (None if when is None else when.astimezone(dt.UTC)), again.astimezone(dt.UTC)

    async def _call(self, what: str, call: Callable[[_Network], T]) -> T:
        if self._network is None:
            raise IssuerError(f"no account at {self.host} yet", reason="refused")
        network = self._network
        async with self._turn:
            try:
                return await self._threads.run(lambda: call(network))
            except Exception as error:
                raise self._mapped(what, error, network.retry_after) from error

    def _mapped(self, what: str, error: Exception, retry_after: float | None) -> IssuerError:
        if isinstance(error, errors.ARIError) and error.__cause__ is not None:
            error = cast(Exception, error.__cause__)
        if isinstance(error, messages.Error):
            return problem(f"{self.host} refused {what}", error, retry_after)
        if isinstance(error, requests.RequestException):
            return IssuerError(
                f"{self.host} is away: {_reason(error)}", reason="away", retry_after_seconds=retry_after
            )
        if (
            isinstance(error, errors.ClientError)
            and error.args
            and isinstance(error.args[0], requests.Response)
        ):
            status = error.args[0].status_code
            return IssuerError(
                f"{self.host} answered {status} to {what}",
                reason="away" if status >= 500 else "bad-answer",
                retry_after_seconds=retry_after,
            )
        if isinstance(error, errors.ConflictError):
            return IssuerError(f"{self.host} refused {what}: conflict", reason="refused")
        return IssuerError(
            f"{self.host} answered {what} with what is no ACME: {type(error).__name__}", reason="bad-answer"
        )


class _Network(ClientNetwork):
    """``retry_after``: seconds that the last answer asked for."""

    def __init__(self, key: jose.JWKEC, account_url: str | None, ca_file: Path | None) -> None:
        super().__init__(
            key,
            None if account_url is None else _account(account_url),
            alg=jose.ES256,
            # It is handed to requests as ``verify``, which takes a file's path as well.
            verify_ssl=True if ca_file is None else cast(bool, str(ca_file)),
            user_agent=f"wellhead/{VERSION}",
            timeout=REQUEST_SECONDS,
        )
        self.retry_after: float | None = None
        self.session.hooks["response"].append(self._look)

    def ask(
        self, url: str, body: jose.JSONDeSerializable | None, nonces: str, anonymous: bool
    ) -> requests.Response:
        account, self.account = self.account, None if anonymous else self.account
        try:
            for _ in range(NONCE_TRIES - 1):
                try:
                    return self.post(url, body, new_nonce_url=nonces)
                except messages.Error as error:
                    if error.code != "badNonce":
                        raise
            return self.post(url, body, new_nonce_url=nonces)
        finally:
            self.account = account

    def _look(self, response: requests.Response, **_: Any) -> None:
        self.retry_after = retry_after(response)


def _account(url: str) -> messages.RegistrationResource:
    return messages.RegistrationResource(uri=url, body=messages.Registration())


def retry_after(response: requests.Response) -> float | None:
    """Seconds that an answer asks to wait, by a number or a date; None where it does not.

    Source: RFC 9110 section 10.2.3.
    """
    asked = response.headers.get("Retry-After", "")
    if asked.isascii() and asked.isdigit():
        return float(asked)
    try:
        when = email.utils.parsedate_to_datetime(asked)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=dt.UTC)
    return max(0.0, (when - dt.datetime.now(dt.UTC)).total_seconds())


def problem(what: str, error: messages.Error, retry_after_seconds: float | None = None) -> IssuerError:
    """An authority's problem document (RFC 8555 section 6.7) as our error."""
    details = [error.detail or error.title or ""]
    details += [
        f"{part.identifier.value if part.identifier else '-'}: {part.detail}"
        for part in error.subproblems or ()
    ]
    code = str(error.typ).rpartition(":")[2]
    said = escape("; ".join(filter(None, details)))
    if len(said) > DETAIL_MAX:
        said = said[:DETAIL_MAX] + "…"
    return IssuerError(
        f"{what}: {escape(code)}: {said}",
        reason={"rateLimited": "rate-limited", "serverInternal": "away"}.get(code, "refused"),
        retry_after_seconds=retry_after_seconds,
    )


def is_problem(error: IssuerError, code: str) -> bool:
    """Whether an authority's problem document of this type was the cause."""
    return isinstance(error.__cause__, messages.Error) and error.__cause__.code == code


def _reason(error: requests.RequestException) -> str:
    """The innermost cause, in few words: requests wraps it three times."""
    inner: BaseException = error
    while (deeper := inner.__cause__ or inner.__context__) is not None:
        inner = deeper
    if isinstance(inner, OSError) and not isinstance(inner, socket.gaierror | ssl.SSLError) and inner.errno:
        return os.strerror(inner.errno).lower()
    return escape(str(inner))[:DETAIL_MAX].lower() or type(inner).__name__
