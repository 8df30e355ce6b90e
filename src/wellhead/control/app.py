"""The control plane as an ASGI application."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wellhead.control import (
    audit,
    certificates,
    dialect,
    docs,
    events,
    hosts,
    identities,
    keys,
    port_links,
    problems,
    sandboxes,
    snapshots,
    testing,
    tunnels,
    usage,
    whoami,
)
from wellhead.control.access import KeyGate
from wellhead.control.certificates import NoServerNames, ServerNames
from wellhead.control.deadline import Deadline
from wellhead.control.dialect import API
from wellhead.control.fleet import Fleet
from wellhead.control.host_calls import nobody
from wellhead.control.intake import BodyGate
from wellhead.control.limits import Limits
from wellhead.control.local_issuer import Revocations
from wellhead.control.problems import Faults
from wellhead.control.settled import Settled
from wellhead.control.signing import Signing
from wellhead.control.spelling import OneSpelling
from wellhead.control.store.store import Store
from wellhead.logs import Log
from wellhead.model.links import LinkSigner
from wellhead.model.names import Public
from wellhead.settings import ServerSettings
from wellhead.version import VERSION

_log = Log("wellhead.control")


@dataclass(frozen=True, slots=True)
class Health:
    status: str
    version: str


def build(
    store: Store,
    public: Public,
    settings: ServerSettings,
    signing: Signing,
    revocations: Revocations,
    links: LinkSigner,
    settle: Callable[[], Awaitable[None]] | None = None,
    server_names: ServerNames | None = None,
    fleet: Fleet | None = None,
) -> FastAPI:
    """REST under ``/api/v1``, described at ``/api/docs`` and ``/api/openapi.json``, beside public pages.

    ``links`` signs those to ports of sandboxes. ``settle`` is awaited between a change and its answer.
    ``fleet`` None: no host can be asked.
    """
    app = FastAPI(
        title="Wellhead",
        version=VERSION,
        docs_url=None,  # FastAPI's page runs scripts from another site; ours is below
        redoc_url=None,
        openapi_url="/api/openapi.json",
        redirect_slashes=False,
    )
    problems.install(app)
    store.history.kept = timedelta(days=settings.history_days)
    store.certificates.hold = settings.name_hold

    v1 = APIRouter(prefix=API, responses=_refusals())
    v1.include_router(tunnels.router(store, public, settings))
    v1.include_router(certificates.router(store, signing))
    v1.include_router(certificates.server_router(store, server_names or NoServerNames()))
    v1.include_router(identities.router(store, public, settings))
    v1.include_router(keys.router(store, settings.keys_per_organization))
    v1.include_router(keys.official_router(store, settings.keys_per_organization))
    v1.include_router(audit.router(store))
    other = None
    if settings.testing_secret_sha256 is not None:
        other = testing.door(API, settings.testing_secret_sha256)
        v1.include_router(testing.router(store))
        _log.warning("whoever has the testing secret makes and ends organizations here")
    app.include_router(v1)
    app.include_router(
        _of_sandboxes(fleet or Fleet(store, nobody, settings, public), links, public, settings)
    )
    app.include_router(whoami.router(store), prefix="/api", responses=_refusals())

    @app.get("/healthz", tags=["server"], operation_id="healthz")
    async def healthz() -> Health:
        """Whether the server answers."""
        return Health("ok", VERSION)

    app.include_router(certificates.revocations_router(revocations))
    docs.describe(app, problems.Problem, problems.CodedProblem)

    @functools.cache  # strangers may ask for it as often as they like
    def page() -> str:
        return docs.page(app.openapi())

    @app.get("/api/docs", include_in_schema=False)
    async def docs_page() -> HTMLResponse:
        return HTMLResponse(page(), headers={"Content-Security-Policy": docs.POLICY})

    # The last added is the outermost: faults, fields of each answer, the key, the body, the time, the
    # spelling, the routes.
    app.add_middleware(OneSpelling, prefixes=("/api", dialect.LEGACY))
    app.add_middleware(Deadline, allowed=_Patience(settings, signing.terms.answer_seconds))
    if settle is not None:
        app.add_middleware(Settled, settle=settle)
    app.add_middleware(
        BodyGate,
        max_bytes=settings.max_api_body_bytes,
        longer={"/report": max(settings.max_api_body_bytes, hosts.REPORT_BYTES)},
    )
    app.add_middleware(
        KeyGate,
        prefixes=(API, dialect.LEGACY + API, "/api/whoami"),
        find=store.directory.key,
        used=store.uses.note,
        limits=Limits.of(settings),
        other=other,
        open_to_all=API + hosts.JOIN,
    )
    app.add_middleware(_Fields)
    app.add_middleware(Faults)
    return app


def _of_sandboxes(fleet: Fleet, links: LinkSigner, public: Public, settings: ServerSettings) -> APIRouter:
    """What is answered in the dialect of sandboxes' clients."""
    routes = APIRouter(prefix=API, responses=_refusals(problems.CodedProblem, 400, 502))
    routes.include_router(usage.router(fleet.store))
    routes.include_router(sandboxes.router(fleet, public, settings))
    routes.include_router(port_links.router(fleet.store, links, public, settings))
    routes.include_router(snapshots.router(fleet))
    routes.include_router(events.router(fleet.hub))
    routes.include_router(hosts.router(fleet, public, settings))
    return routes


class _Patience:
    """How long a request may take, in seconds, by its path."""

    def __init__(self, settings: ServerSettings, signing_seconds: float) -> None:
        self._records = settings.api_reply_seconds
        self._signing = self._records + signing_seconds
        self._host = self._records + settings.host_call_seconds
        self._snapshot = self._records + settings.host_snapshot_seconds

    def __call__(self, path: str) -> float:
        if not dialect.is_spoken(path):
            return self._signing if path.rstrip("/").endswith("/sign-csr") else self._records
        return self._snapshot if "/snapshots" in path else self._host


_STATUSES = {
    400: "An id is malformed",
    401: "No valid key",
    403: "The key's scope does not allow it",
    404: "None of that id",
    409: "The name is taken, or the status does not allow it",
    413: "The body is too long",
    415: "The body is not JSON by its type",
    422: "A field breaks a rule",
    429: "Too many requests; Retry-After says when to go on",
    502: "The host failed",
    503: "The database, or the host, does not answer",
}


def _refusals(model: type[object] = problems.Problem, *more: int) -> dict[int | str, dict[str, Any]]:
    """What every route may answer beside its success, for the OpenAPI document."""
    statuses = {status for status in _STATUSES if status not in (400, 502)} | {*more}
    # Not as a model: FastAPI would make a reader of it anew for each route and status, half a second in all.
    body = {"application/json": {"schema": {"$ref": docs.reference(model)}}}
    return {status: {"content": body, "description": _STATUSES[status]} for status in sorted(statuses)}


class _Fields:
    """Fields of every answer: nothing here is for a cache, and nothing is to be guessed at."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_fields(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"cache-control", b"no-store"),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        await self._app(scope, receive, with_fields)
