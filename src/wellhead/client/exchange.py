"""What both clients share: how a call becomes a request, an answer a record, a failure one of our errors."""

from __future__ import annotations

import json
import os
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx
from pydantic import ValidationError
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from wellhead.client.calls import Call, no_answer
from wellhead.client.patience import Attempts, Timeouts
from wellhead.errors import (
    ApiError,
    Conflict,
    DialError,
    InputError,
    LinkError,
    SandboxState,
    SessionLost,
    SettingsError,
    StateError,
    TrustError,
)
from wellhead.logs import escape
from wellhead.model.access import Secret
from wellhead.model.names import base_url, is_loopback, join_authority, split_authority
from wellhead.net.distrust import certificate_flaw
from wellhead.version import VERSION

T = TypeVar("T")

API = "/api/v1"
PULSE_SECONDS = 15.0
CLOSE_SECONDS = 2.0
MESSAGE_MAX = 4 * 1024 * 1024  # bytes
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

    def socket(
        self, path: str, query: Mapping[str, str], subprotocol: Subprotocol, tls: ssl.SSLContext
    ) -> dict[str, Any]:
        """Arguments for ``websockets``' clients, but for the address to dial.

        No compression: a keystroke is not to wait for it. A dead link is noticed after ``PULSE_SECONDS``.
        """
        scheme = "wss" if self.url.startswith("https://") else "ws"
        place = f"?{urlencode(query)}" if query else ""
        return {
            "uri": f"{scheme}://{self.authority}{API}{path}{place}",
            "subprotocols": [subprotocol],
            "additional_headers": {"X-API-Key": self.api_key.reveal()},
            "user_agent_header": f"wellhead-python/{VERSION}",
            "compression": None,
            "proxy": None if is_loopback(self.hostname) else True,
            "open_timeout": self.timeouts.connect_seconds + self.timeouts.reply_seconds,
            "ping_interval": PULSE_SECONDS / 2,
            "ping_timeout": PULSE_SECONDS,
            "close_timeout": CLOSE_SECONDS,
            "max_size": MESSAGE_MAX,
            **({"ssl": tls} if scheme == "wss" else {}),
        }

    @property
    def local_address(self) -> tuple[str, int] | None:
        """Where a connection for a name of this machine goes; None: where the name leads."""
        hostname, port = split_authority(self.dialled.partition("://")[2])
        if hostname != "127.0.0.1":
            return None
        return hostname, port or (443 if self.url.startswith("https://") else 80)

    @contextmanager
    def socket_failures(self) -> Iterator[None]:
        """Maps what ``websockets`` raises while a WebSocket is opened.

        Raises:
            ApiError, DialError, TrustError, LinkError: as a call.
        """
        try:
            yield
        except InvalidStatus as error:
            said = error.response
            response = httpx.Response(
                said.status_code, headers=list(said.headers.raw_items()), content=bytes(said.body or b"")
            )
            self.answer(Call("GET", "", no_answer), response)
            raise LinkError(f"{self.url} answered {said.status_code}, and opened no websocket") from error
        except TimeoutError as error:
            raise DialError(f"cannot reach {self.url}: no answer in time") from error
        except OSError as error:
            raise self._dial_error(error) from error
        except WebSocketException as error:
            raise LinkError(f"{self.url} opened no websocket: {escape(str(error)).lower()}") from error

    @contextmanager
    def socket_loss(self) -> Iterator[None]:
        """Maps the end of a WebSocket.

        Raises:
            SessionLost: it is over.
        """
        try:
            yield
        except ConnectionClosed as error:
            why = escape(error.rcvd.reason if error.rcvd is not None else "").strip()
            raise SessionLost(f"the connection with {self.url} broke off{why and ': '}{why}") from error

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
        once = call.content is not None and not isinstance(call.content, bytes)  # it is used up by then
        seconds = 0.0 if once else call.seconds or self.timeouts.retry_seconds
        return Attempts(call.repeatable, seconds, time.monotonic())

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

    def _dial_error(self, error: Exception) -> LinkError:
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
            status, (detail, reason) = response.status_code, _problem(response)
            kind = _kind(status, reason)
            if kind is Conflict:
                kind = call.conflict(detail)
            raise kind(status, detail, retry_after_seconds=_retry_after(response), reason=reason)
        try:
            return call.read(response.json() if response.content else None)
        except (ValidationError, ValueError) as error:
            # What was read is left out: the answer of a create holds a secret.
            raise ApiError(
                response.status_code,
                f"the answer of {self.url} to {call.method} {call.path} is not of this API",
            ) from None if isinstance(error, ValidationError) else error


def _body(call: Call[T]) -> dict[str, Any]:
    if call.content is not None:
        return {"content": call.content, "headers": call.headers}
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


def _problem(response: httpx.Response) -> tuple[str, str]:
    """What the server says, as one line that is safe to show, and its word for it where it has one."""
    try:
        body = response.json()
    except ValueError:
        body = response.text
    said: object = body
    if isinstance(body, dict):
        said = body.get("error", body.get("detail", body))
    reason = said.get("code") if isinstance(said, dict) else None
    said = said.get("message", said) if isinstance(said, dict) else said
    text = said if isinstance(said, str) else str(said)
    detail = escape(text.strip()[:_DETAIL_MAX]) or response.reason_phrase.lower()
    return detail, reason if isinstance(reason, str) else ""


def _kind(status: int, reason: str) -> type[ApiError]:
    if status == 409 and reason == "invalid_state":
        return SandboxState
    return ApiError.by_status.get(status, ApiError)


_STATUSES = {
    "invalid_request": 400,
    "invalid": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "conflict": 409,
    "exists": 409,
    "invalid_state": 409,
    "too_large": 413,
    "host_unavailable": 503,
    "no_hosts_available": 503,
    "busy": 503,
    "timeout": 504,
}


def told_error(code: str, message: str) -> ApiError:
    """The error that a message within a conversation tells of, as an answer with it would have been."""
    status = _STATUSES.get(code, 502)
    detail = escape(message.strip()[:_DETAIL_MAX]) or code
    return _kind(status, code)(status, detail, reason=code)


def _retry_after(response: httpx.Response) -> float | None:
    given = response.headers.get("retry-after", "")
    return float(given) if given.isascii() and given.isdigit() and len(given) < 10 else None
