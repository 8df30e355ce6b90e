"""The same small application in the agent's process, and behind a port of uvicorn's."""

from __future__ import annotations

from collections.abc import Callable

from bench import product
from bench.ground import Ground, Route
from bench.load import Door
from bench.processes import Child, free_port, wait_for_port

GROUP = "inprocess"
URL, ASGI, HANDLER = "uvicorn-url", "asgi-run", "handler-run"
_APP = "bench.inprocess_app"


def url(ground: Ground) -> Route:
    """``wellhead http`` to uvicorn with the application."""
    port = free_port()
    uvicorn = ["-m", "uvicorn", f"{_APP}:app", f"--port={port}", "--no-access-log", "--log-level=warning"]
    server = ground.python("inprocess-uvicorn", *uvicorn, "--loop=uvloop", "--http=httptools")
    wait_for_port(port, server)
    return _route(ground, URL, ["http", str(port)], server)


def asgi(ground: Ground) -> Route:
    """``wellhead run`` of the application."""
    return _route(ground, ASGI, ["run", f"{_APP}:app"])


def handler(ground: Ground) -> Route:
    """``wellhead run`` of a handler."""
    return _route(ground, HANDLER, ["run", f"{_APP}:handler"])


TARGETS: dict[str, Callable[[Ground], Route]] = {URL: url, ASGI: asgi, HANDLER: handler}


def _route(ground: Ground, name: str, words: list[str], *beside: Child) -> Route:
    """Whatever answers counts as the agent's: the figures are of the whole way to the application."""
    edge = product.start_edge(ground, f"inprocess-{name}")
    argv = ["-m", "wellhead", *words, "--name", product.TUNNEL]
    agent = ground.python(f"inprocess-{name}-agent", *argv, env=edge.env)
    door = Door(edge.http)
    product.until_it_answers(agent, door)
    return Route(name, "plain", "TLS", product.LIMITS, door, (edge.process,), (agent, *beside), (GROUP,))
