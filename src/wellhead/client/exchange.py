"""What both clients share: how a call becomes a request, an answer a record, a failure one of our errors."""

from __future__ import annotations

import json
import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
from pydantic import ValidationError

from wellhead.client.calls import Call
from wellhead.client.patience import Attempts, Timeouts
from wellhead.errors import ApiError, DialError, InputError, LinkError, SettingsError, StateError, TrustError
from wellhead.logs import escape
from wellhead.model.access import Secret
from wellhead.model.names import base_url, is_loopback, join_authority, split_authority
from wellhead.net.distrust import certificate_flaw
from wellhead.version import VERSION

T = TypeVar("T")

API = "/api/v1"
_DETAIL_MAX = 1000  # characters of an error's detail that are kept


@dataclass(frozen=True, slots=True)
class Peer:
    """One control plane: how to reach it, and what to say about it."""

    url: str  # canonical base URL, for messages
    dialled: str  # base URL with the address to dial
    authority: str  # for Host
    hostname: str  # for SNI and the certificate's name
    api_key: Secret
    ca_file: Path | None
    timeouts: Timeouts

    @classmethod
    def of(
        cls,
        url: str,
        api_key: Secret | str,
        ca_file: Path | None = None,
        timeouts: Timeouts | None = None,
    ) -> Peer:
        """
        Raises:
            InputError: not a control plane's URL, or a key that cannot stand in a header.
        """
        url = base_url(url)
        api_key = Secret(api_key) if isinstance(api_key, str) else api_key
        scheme, _, authority = url.partition("://")
        hostname, port = split_authority(authority)
        if not all("!" <= c <= "~" for c in api_key.reveal()):
            raise InputError("the API key holds a character that no key has (a space or a line break?)")
        # No resolver is asked for a name under localhost: many do not know it. RFC 6761 section 6.3.
        local = hostname == "localhost" or hostname.endswith(".localhost")
        dialled = f"{scheme}://{join_authority('127.0.0.1' if local else hostname, port)}"
        return cls(url, dialled, authority, hostname, api_key, ca_file, timeouts or Timeouts())

    def options(self) -> dict[str, Any]:
        """Arguments for httpx's clients. Proxies come from the environment, never for this machine.

        Raises:
            SettingsError: the CA file cannot be read.
        """
        return {
            "base_url": self.dialled + API,
            "headers": {
                "Host": self.authority,
                **({"X-API-Key": self.api_key.reveal()} if self.api_key else {}),
                "User-Agent": f"wellhead-python/{VERSION}",
                "Accept": "application/json",
            },
            "verify": self._trust(),
            "trust_env": not is_loopback(self.hostname),
            "timeout": self._timeout(self.timeouts.reply_seconds),
            "follow_redirects": False,
        }

    def _timeout(self, reply_seconds: float) -> httpx.Timeout:
        return httpx.Timeout(reply_seconds, connect=self.timeouts.connect_seconds)

    def _trust(self) -> ssl.SSLContext:
        if self.ca_file is None:
            return ssl.create_default_context()  # the system's authorities, as an agent's dial has them
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:  # ssl.SSLError is one
            why = "not a PEM file" if isinstance(error, ssl.SSLError) else _why(error)
            raise SettingsError(f"cannot read the CA file {self.ca_file}: {why}") from error

    def attempts(self, call: Call[T]) -> Attempts:
        return Attempts(call.repeatable, call.seconds or self.timeouts.retry_seconds, time.monotonic())

    def request(self, call: Call[T]) -> dict[str, Any]:
        """Arguments for httpx's ``request``.

        Raises:
            InputError: the body cannot be JSON.
        """
        return {
            "method": call.method,
            "url": call.path,
            "params": call.query or None,
            **_body(call),
            "extensions": {"sni_hostname": self.hostname},
            **({} if call.seconds is None else {"timeout": self._timeout(call.seconds)}),
        }

    @contextmanager
    def failures(self, call: Call[T], closed: bool = False) -> Iterator[None]:
        """Maps what httpx raises for a call; ``closed``: nothing can be sent any more.

        Raises:
            DialError: nobody answers at the address.
            TrustError: the server's certificate is not trusted, or is for another name.
            LinkError: the connection broke, or the answer is late.
            StateError: the client is closed.
        """
        if closed:
            raise StateError(f"the client of {self.url} is closed")
        try:
            yield
        except httpx.ConnectTimeout as error:
            waited = f"{self.timeouts.connect_seconds:g} s"
            raise DialError(f"cannot reach {self.url}: no answer within {waited}") from error
        except (httpx.ConnectError, httpx.ProxyError) as error:
            raise self._dial_error(error) from error
        except httpx.TimeoutException as error:
            waited = f"{call.seconds or self.timeouts.reply_seconds:g} s"
            raise LinkError(f"{self.url} did not reply within {waited}") from error
        except httpx.TransportError as error:
            raise LinkError(f"{self.url} broke off: {escape(str(error)).lower()}") from error

    def _dial_error(self, error: httpx.TransportError) -> LinkError:
        causes = list(_causes(error))
        for cause in causes:
            if isinstance(cause, ssl.SSLCertVerificationError):
                if flaw := certificate_flaw(cause, self.hostname):
                    return TrustError(f"cannot trust {self.url}: its certificate {flaw}", issuer_known=True)
                why = cause.verify_message.rstrip(".").lower()
                return TrustError(
                    f"cannot trust {self.url}: {why} (give the CA that signed its certificate with --ca-file)"
                )
        for cause in reversed(causes):
            if isinstance(cause, ssl.SSLError):
                why = (cause.reason or "handshake failed").replace("_", " ").lower()
                return DialError(f"cannot reach {self.url}: no TLS there, {why}")
            if isinstance(cause, OSError) and cause.errno:
                return DialError(f"cannot reach {self.url}: {_why(cause)}")
        return DialError(f"cannot reach {self.url}: {escape(str(error)).lower()}")

    def answer(self, call: Call[T], response: httpx.Response) -> T:
        """The record in an answer.

        Raises:
            ApiError: the server says no, as the class of its status; or its answer is not of this API.
        """
        if not response.is_success:
            status, detail = response.status_code, _detail(response)
            kind = call.conflict(detail) if status == 409 else ApiError.by_status.get(status, ApiError)
            raise kind(status, detail, retry_after_seconds=_retry_after(response))
        try:
            return call.read(response.json() if response.content else None)
        except (ValidationError, ValueError) as error:
            # What was read is left out: the answer of a create holds a secret.
            raise ApiError(
                response.status_code,
                f"the answer of {self.url} to {call.method} {call.path} is not of this API",
            ) from None if isinstance(error, ValidationError) else error


def _body(call: Call[T]) -> dict[str, Any]:
    if call.body is None:
        return {"headers": call.headers}
    try:
        content = json.dumps(call.body, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"what is sent to {call.path} cannot be JSON: {escape(str(error)).lower()}"
        ) from error
    return {"content": content, "headers": {**call.headers, "Content-Type": "application/json"}}


def _why(error: OSError) -> str:
    # asyncio puts a sentence of its own into strerror; a resolver's number is none of the system's.
    if error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno).lower()
    return (error.strerror or str(error)).lower()


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _detail(response: httpx.Response) -> str:
    """What the server says, as one line that is safe to show."""
    try:
        body = response.json()
    except ValueError:
        body = response.text
    said = body.get("detail", body) if isinstance(body, dict) else body
    said = said.get("message", said) if isinstance(said, dict) else said
    text = said if isinstance(said, str) else str(said)
    return escape(text.strip()[:_DETAIL_MAX]) or response.reason_phrase.lower()


def _retry_after(response: httpx.Response) -> float | None:
    given = response.headers.get("retry-after", "")
    return float(given) if given.isascii() and given.isdigit() and len(given) < 10 else None
