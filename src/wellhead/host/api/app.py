"""What a host answers on its sessions, as one application."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from wellhead.errors import HostError
from wellhead.host.metrics import Metrics
from wellhead.host.sandboxes import Sandboxes


def build(sandboxes: Sandboxes, metrics: Metrics, more: Sequence[BaseRoute] = ()) -> Starlette:
    """The application; ``more`` are routes beside those of visitors."""
    return Starlette(routes=list(more), exception_handlers={HostError: _failed})


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HostError)
    answer = {"error": {"code": error.code, "message": str(error)}}
    return JSONResponse(answer, error.status)
