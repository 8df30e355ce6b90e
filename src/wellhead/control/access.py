"""Who is asking: the key in ``X-API-Key``, checked before anything else of a request is looked at."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wellhead.control import dialect
from wellhead.control.limits import Limits
from wellhead.control.problems import problem
from wellhead.errors import Forbidden, NotFound, RateLimited
from wellhead.model import access
from wellhead.model.access import Secret
from wellhead.model.names import address_group, is_loopback
from wellhead.model.rates import Rate
from wellhead.model.records import Actor, ApiKey, KeyId

# For the OpenAPI document; the check itself is KeyGate's.
_scheme = APIKeyHeader(name="X-API-Key", auto_error=False, description="An API key, `wh_…`.")


@dataclass(frozen=True, slots=True)
class OtherDoor:
    """At and under ``prefix`` no key is asked for, but the secret of this SHA-256, in ``header``."""

    prefix: str
    header: bytes  # lower case
    digest: bytes


class KeyGate:
    """Answers 401 to every path at or under ``prefixes`` without a live key, in one shape and one time.

    It stands before routing and before the body is read, so a stranger learns neither which paths there are
    nor what a body should hold. Who asks too often is answered 429: by address before the key is looked at,
    so that guessing keys is slow, then by key.
    ``used`` is told the id of each key that is let in. ``other``: paths for which another secret is asked.
    ``open_to_all``: a path whose route asks for a secret itself, by the body; its 401 counts as one of ours.
    """

    def __init__(
        self,
        app: ASGIApp,
        prefixes: Sequence[str],
        find: Callable[[Secret], ApiKey | None],
        used: Callable[[KeyId], None],
        limits: Limits,
        other: OtherDoor | None = None,
        open_to_all: str | None = None,
    ) -> None:
        self._app = app
        self._prefixes = tuple(prefix + "/" for prefix in prefixes)
        self._find = find
        self._used = used
        self._limits = limits
        self._other = other
        self._open_to_all = open_to_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (scope["path"] + "/").startswith(self._prefixes):
            address = caller_address(scope)
            state = scope.setdefault("state", {})
            state["address"] = address
            try:
                if not self._admit(scope, address):
                    await problem(401, "a valid API key is needed in X-API-Key")(scope, receive, send)
                    return
            except RateLimited as error:
                answer = problem(error.status, error.detail, error.retry_after_seconds, error.reason)
                await answer(scope, receive, send)
                return
            if self._is_open(scope):
                send = self._counting(send, address)
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope, address: str) -> bool:
        limits = self._limits
        counted = self._is_counted(address)
        group = address_group(address)
        if counted:
            _need_patience(limits.failures_of_address, group, "wrong keys from this address", "api-failures")
            _need_patience(
                limits.requests_of_address, group, "requests from this address", "api-address-rate"
            )
            limits.requests_of_address.count(group)
        if not self._opens(scope):
            if counted:
                limits.failures_of_address.count(group)
            return False
        return True

    def _is_counted(self, address: str) -> bool:
        return not (self._limits.loopback_exempt and (not address or is_loopback(address)))

    def _is_open(self, scope: Scope) -> bool:
        path: str = scope["path"]
        return path.rstrip("/") == self._open_to_all

    def _counting(self, send: Send, address: str) -> Send:
        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 401:
                if self._is_counted(address):
                    self._limits.failures_of_address.count(address_group(address))
            await send(message)

        return watch

    def _opens(self, scope: Scope) -> bool:
        if self._is_open(scope):
            return True
        other = self._other
        if other is not None and (scope["path"] + "/").startswith(other.prefix + "/"):
            return access.matches(_given(scope, other.header), other.digest)
        limits, key = self._limits, self._find(_key_in(scope))
        if key is None:
            return False
        _need_patience(limits.requests_of_key, key.id, "requests with this key", "api-key-rate")
        limits.requests_of_key.count(key.id)
        self._used(key.id)
        scope["state"]["api_key"] = key
        return True


def _given(scope: Scope, header: bytes) -> Secret:
    given = [value for name, value in scope["headers"] if name == header]
    return Secret(given[0].decode("latin-1") if len(given) == 1 else "")


def _key_in(scope: Scope) -> Secret:
    """The key of a request; the routes of sandboxes take it as a bearer's token too."""
    if dialect.is_spoken(scope["path"]) and all(name != b"x-api-key" for name, _ in scope["headers"]):
        kind, _, token = _given(scope, b"authorization").reveal().partition(" ")
        return Secret(token.strip() if kind.lower() == "bearer" else "")
    return _given(scope, b"x-api-key")


def _need_patience(rate: Rate, caller: str, what: str, reason: str) -> None:
    if wait := rate.wait(caller):
        raise RateLimited(429, f"too many {what}", retry_after_seconds=wait, reason=reason)


def caller_address(scope: Scope) -> str:
    """The IP address a request comes from, "" where it cannot be told.

    Behind the edge the control plane listens on a unix socket that only the edge may open, and the edge
    writes ``X-Forwarded-For`` itself; a caller on a port of our own can claim nothing.
    """
    if scope.get("client"):
        return str(scope["client"][0])
    given = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    try:
        return str(ipaddress.ip_address(given[-1].decode("latin-1").rpartition(",")[2].strip()))
    except (IndexError, ValueError):
        return ""


def _api_key(request: Request, _: Annotated[str | None, Security(_scheme)]) -> ApiKey:
    key: ApiKey = request.state.api_key
    return key


def _actor(request: Request, key: Annotated[ApiKey, Depends(_api_key)]) -> Actor:
    return Actor(key.id, key.last4, request.state.address or None)


Key = Annotated[ApiKey, Depends(_api_key)]
"""A route's parameter: the key that the gate let in."""

By = Annotated[Actor, Depends(_actor)]
"""A route's parameter: who asks, for the audit."""


def need_admin(key: ApiKey) -> None:
    """
    Raises:
        Forbidden: the key has not the scope ``admin``.
    """
    if not access.is_admin(key.scopes):
        raise Forbidden(403, "this key's scope does not allow it, admin is needed")


def need_host(key: ApiKey, host_id: str) -> None:
    """
    Raises:
        NotFound: the key is not this host's own; said as of one that does not exist.
    """
    if not access.may_use_host(key.scopes, host_id):
        raise NotFound(404, "no such host")


def need_tunnel(key: ApiKey, tunnel_id: str) -> None:
    """
    Raises:
        NotFound: the key's scopes do not reach this tunnel; said as of one that does not exist.
    """
    if not access.may_use_tunnel(key.scopes, tunnel_id):
        raise NotFound(404, "no such tunnel")
