"""The host's routes, as one application."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from wellhead.host.api.context import ApiTerms, Context
from wellhead.host.api.errors import HANDLERS
from wellhead.host.api.exec import ExecRoutes
from wellhead.host.api.files import FileRoutes
from wellhead.host.api.processes import ProcessRoutes
from wellhead.host.api.pty import PtyRoutes
from wellhead.host.api.streams import StreamRoutes
from wellhead.host.metrics import Metrics
from wellhead.host.table import Table


def build(
    sandboxes: Table, metrics: Metrics, more: Sequence[BaseRoute] = (), terms: ApiTerms | None = None
) -> Starlette:
    """What visitors may ask of ``sandboxes``, and ``more``; a HostError of either is answered in one way."""
    context = Context(sandboxes, metrics, terms or ApiTerms())
    routes = [
        *more,
        *ExecRoutes(context).routes(),
        *StreamRoutes(context).routes(),
        *ProcessRoutes(context).routes(),
        *PtyRoutes(context).routes(),
        *FileRoutes(context).routes(),
    ]
    app = Starlette(routes=routes, exception_handlers=HANDLERS)
    app.router.redirect_slashes = False  # a redirect would name this host by an address that is nobody's
    return app
