"""What runs in a sandbox: its processes, its ports, and what it takes.

Source: docs/reference/sandboxes-api.md, "Processes", "Ports" and "Metrics".
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from wellhead.host.api.bodies import check_selector, check_signal
from wellhead.host.api.context import Context

SPAN = "10m"  # of metrics, where none is named


class ProcessRoutes:
    def __init__(self, context: Context) -> None:
        self._context = context

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/sandboxes/{id}/processes", self._list),
            Route("/sandboxes/{id}/processes/{selector}", self._signal, methods=["DELETE"]),
            Route("/sandboxes/{id}/ports", self._ports),
            Route("/sandboxes/{id}/metrics", self._metrics),
        ]

    async def _list(self, request: Request) -> Response:
        context = self._context
        processes = await context.link(context.asked(request)).processes()
        return JSONResponse({"processes": [_shown(process) for process in processes]})

    async def _signal(self, request: Request) -> Response:
        context = self._context
        link = context.link(context.asked(request))
        signal = check_signal(request.query_params.get("signal", "KILL"))
        await link.signal(check_selector(request.path_params["selector"]), signal)
        return Response(status_code=204)

    async def _ports(self, request: Request) -> Response:
        # To look is no activity: who watches ports does not keep a sandbox from being paused.
        context = self._context
        link = context.way(context.sandboxes.running(context.asked(request)))
        return JSONResponse({"ports": await link.ports()})

    async def _metrics(self, request: Request) -> Response:
        context = self._context
        sandbox = context.asked(request)
        vcpus = context.sandboxes.entry(sandbox).spec.vcpus
        span = request.query_params.get("range", SPAN)
        points = [
            {
                "timestamp_unix": int(point.at),
                "cpu_pct": round(point.cpu_percent / vcpus, 3),
                "mem_bytes": point.memory_bytes,
                "disk_bytes": point.disk_bytes,
            }
            for point in context.metrics.points(sandbox, span)
        ]
        return JSONResponse({"sandbox_id": sandbox, "range": span, "points": points})


def _shown(process: Mapping[str, object]) -> dict[str, object]:
    """A process with wrenn's members beside ours."""
    argv = process.get("argv")
    words = argv if isinstance(argv, list) else []
    shown = {name: value for name, value in process.items() if value is not None}
    return shown | {"cmd": words[0] if words else "", "args": words[1:]}
