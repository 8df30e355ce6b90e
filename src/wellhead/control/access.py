"""Who is asking: the key in ``X-API-Key``, checked before anything else of a request is looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader
from starlette.types import ASGIApp, Receive, Scope, Send

from wellhead.control.problems import problem
from wellhead.errors import Forbidden, NotFound
from wellhead.model import access
from wellhead.model.access import Secret
from wellhead.model.records import ApiKey

# For the OpenAPI document; the check itself is KeyGate's.
_scheme = APIKeyHeader(name="X-API-Key", auto_error=False, description="An API key, `wh_…`.")


class KeyGate:
    """Answers 401 to every path under ``prefix`` without a live key, in one shape and one time.

    It stands before routing and before the body is read, so a stranger learns neither which paths there are
    nor what a body should hold.
    """

    def __init__(self, app: ASGIApp, prefix: str, find: Callable[[Secret], ApiKey | None]) -> None:
        self._app = app
        self._prefix = prefix
        self._find = find

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (scope["path"] + "/").startswith(self._prefix + "/"):
            given = [value for name, value in scope["headers"] if name == b"x-api-key"]
            key = self._find(Secret(given[0].decode("latin-1") if len(given) == 1 else ""))
            if key is None:
                await problem(401, "a valid API key is needed in X-API-Key")(scope, receive, send)
                return
            scope.setdefault("state", {})["api_key"] = key
        await self._app(scope, receive, send)


def _api_key(request: Request, _: Annotated[str | None, Security(_scheme)]) -> ApiKey:
    key: ApiKey = request.state.api_key
    return key


Key = Annotated[ApiKey, Depends(_api_key)]
"""A route's parameter: the key that the gate let in."""


def need_admin(key: ApiKey) -> None:
    """
    Raises:
        Forbidden: the key has not the scope ``admin``.
    """
    if not access.is_admin(key.scopes):
        raise Forbidden(403, "this key's scope does not allow it, admin is needed")


def need_tunnel(key: ApiKey, tunnel_id: str) -> None:
    """
    Raises:
        NotFound: the key's scopes do not reach this tunnel; said as of one that does not exist.
    """
    if not access.may_use_tunnel(key.scopes, tunnel_id):
        raise NotFound(404, "no such tunnel")
