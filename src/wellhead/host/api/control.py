"""Orders of the control plane: ``/control/…``. The edge lets nobody else there.

Answers are JSON; failures are raised as ``HostError`` and shown by the application.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from wellhead.errors import HostInvalid, InputError
from wellhead.host.asked import Asked
from wellhead.host.entry import Entry
from wellhead.host.metrics import Metrics
from wellhead.host.report import sandbox_view
from wellhead.host.sandboxes import Sandboxes
from wellhead.host.snapshots import Templates
from wellhead.model.sandboxes import SandboxId, check_template_name, read_sandbox_id
from wellhead.model.text import escape

ENV_MAX = 256  # variables
M = TypeVar("M", bound=BaseModel)


class _Create(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    id: str
    template: str
    vcpus: float = 1.0
    memory_mb: int = 512
    disk_mb: int = 5120
    timeout_seconds: float = 0.0
    env: dict[str, str] = Field(default_factory=dict, max_length=ENV_MAX)


class _Snapshot(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: str
    overwrite: bool = False


class _Change(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    timeout_seconds: float


class _Drain(BaseModel):
    model_config = ConfigDict(extra="ignore")

    draining: bool = True


def control_routes(sandboxes: Sandboxes, metrics: Metrics, templates: Templates) -> list[BaseRoute]:
    """The routes, to be mounted at the root."""
    orders = _Orders(sandboxes, metrics, templates)
    one = "/control/sandboxes/{sandbox}"
    return [
        Route("/control/sandboxes", orders.create, methods=["POST"]),
        Route(one, orders.get, methods=["GET"]),
        Route(one, orders.change, methods=["PATCH"]),
        Route(one, orders.destroy, methods=["DELETE"]),
        Route(one + "/pause", orders.pause, methods=["POST"]),
        Route(one + "/resume", orders.resume, methods=["POST"]),
        Route(one + "/ping", orders.ping, methods=["POST"]),
        Route(one + "/snapshot", orders.snapshot, methods=["POST"]),
        Route("/control/inventory", orders.inventory, methods=["GET"]),
        Route("/control/templates", orders.templates, methods=["GET"]),
        Route("/control/templates/{name}", orders.remove_template, methods=["DELETE"]),
        Route("/control/drain", orders.drain, methods=["POST"]),
    ]


class _Orders:
    def __init__(self, sandboxes: Sandboxes, metrics: Metrics, templates: Templates) -> None:
        self._sandboxes = sandboxes
        self._table = sandboxes.table
        self._metrics = metrics
        self._templates = templates

    async def create(self, request: Request) -> Response:
        given = await _body(request, _Create)
        asked = Asked(
            SandboxId(_valid(read_sandbox_id, given.id)), _valid(check_template_name, given.template),
            given.vcpus, given.memory_mb, given.disk_mb, given.timeout_seconds, given.env,
        )  # fmt: skip
        return self._view(await self._sandboxes.create(asked), 201)

    async def get(self, request: Request) -> Response:
        return self._view(self._table.entry(request.path_params["sandbox"]))

    async def change(self, request: Request) -> Response:
        given = await _body(request, _Change)
        return self._view(
            await self._sandboxes.set_timeout(request.path_params["sandbox"], given.timeout_seconds)
        )

    async def destroy(self, request: Request) -> Response:
        await self._sandboxes.destroy(request.path_params["sandbox"])
        return Response(status_code=204)

    async def pause(self, request: Request) -> Response:
        return await self._after(self._sandboxes.pause, request)

    async def resume(self, request: Request) -> Response:
        return await self._after(self._sandboxes.resume, request)

    async def ping(self, request: Request) -> Response:
        entry = self._table.running(request.path_params["sandbox"])
        self._table.touch(entry.id)
        return Response(status_code=204)

    async def snapshot(self, request: Request) -> Response:
        given = await _body(request, _Snapshot)
        name = _valid(check_template_name, given.name)
        sandbox = request.path_params["sandbox"]
        size = await self._sandboxes.snapshot(sandbox, name, overwrite=given.overwrite)
        return JSONResponse({"name": name, "size_bytes": size})

    async def inventory(self, request: Request) -> Response:
        entries = self._table.all()
        return JSONResponse({"sandboxes": [self._shown(entry) for entry in entries]})

    async def templates(self, request: Request) -> Response:
        return JSONResponse({"templates": list(await asyncio.to_thread(self._templates.names))})

    async def remove_template(self, request: Request) -> Response:
        await asyncio.to_thread(self._templates.remove, request.path_params["name"])
        return Response(status_code=204)

    async def drain(self, request: Request) -> Response:
        """``{"draining": false}`` takes it back."""
        given = await _body(request, _Drain)
        self._sandboxes.draining = given.draining
        self._table.on_change()
        return JSONResponse({"draining": given.draining})

    async def _after(self, order: Callable[[str], Awaitable[Entry]], request: Request) -> Response:
        return self._view(await order(request.path_params["sandbox"]))

    def _view(self, entry: Entry, status: int = 200) -> Response:
        return JSONResponse(self._shown(entry), status)

    def _shown(self, entry: Entry) -> dict[str, Any]:
        return sandbox_view(self._table, self._metrics, entry)


async def _body(request: Request, kind: type[M]) -> M:
    """
    Raises:
        HostInvalid: it is not such an object.
    """
    try:
        return kind.model_validate_json(await request.body() or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise HostInvalid(f"{escape(where)}: {first['msg'].lower()}") from error


def _valid(check: Callable[[str], str], given: str) -> str:
    try:
        return check(given)
    except InputError as error:
        raise HostInvalid(str(error)) from error
