"""``wellhead demo``: a server, an app, an agent and a visitor on this machine, told step by step.

Everything is real but the distance: the agent dials the server over TLS, the visitor checks the
certificate of the public name, and what it gets is compared with what the app sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import ssl
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from wellhead import logs
from wellhead.agent import Status, TunnelListener, connect_async
from wellhead.cli.demo_app import EVENT_SECONDS, EVENTS, demo_app
from wellhead.cli.exchange_lines import milliseconds, size
from wellhead.cli.output import tell
from wellhead.embedded import embedded
from wellhead.errors import SessionLost, UpstreamError
from wellhead.model.names import suggest
from wellhead.net import loop
from wellhead.serve import Ready

ECHO_BYTES = 1 << 20
VISIT_SECONDS = 30.0


def run_demo(*, once: bool) -> None:
    """Show it; with ``once`` return after one verified round trip, else stay until Ctrl-C."""
    logs.configure("warning")
    with tempfile.TemporaryDirectory(prefix="wellhead-demo-", ignore_cleanup_errors=True) as home:
        loop.run(_demo(Path(home), once=once))


async def _demo(home: Path, *, once: bool) -> None:
    stop = loop.stop_event(asyncio.get_running_loop())
    mark = secrets.token_hex(8)
    with demo_app(mark) as port:
        _step("app", f"a small web app listens on http://127.0.0.1:{port}; nobody outside can reach it")
        async with embedded(home) as ready:
            _step(
                "server",
                f"edge and control plane accept TLS on {ready.https[0]} and plain HTTP on {ready.http[0]}",
            )
            _detail(f"database, local CA and admin key are in {ready.data_dir}, for as long as this runs")
            name = suggest()
            async with await _agent(name, port, ready, home) as listener:
                _step("agent", f"dialled the server over TLS and answers for the tunnel {name}")
                await _visit(listener.public_url, ready.ca_file, mark)
                _step("done", "every byte came back as it was sent")
                if not once:
                    _invite(listener, ready)
                    await stop.wait()


def _invite(listener: TunnelListener, ready: Ready) -> None:
    secure, *plain = listener.public_urls
    tell("\nOpen it in a browser:")
    for url in plain:
        tell(f"    {url}/")
    tell(f"or, with the certificate checked:\n    curl --cacert {ready.ca_file} {secure}/\n\nCtrl-C ends it.")


async def _agent(name: str, port: int, ready: Ready, home: Path) -> TunnelListener:
    """An agent as a user would start it, but with its state in ``home`` and silent about its secret."""
    listener = await connect_async(
        port,
        name=name,
        url=ready.api.removesuffix("/api/v1"),
        api_key=ready.key,
        ca_file=ready.ca_file,
        state_dir=home,
        print_secret=False,
    )
    if listener.status is not Status.CONNECTED:
        await listener.aclose()
        raise SessionLost("the agent did not get a session with the server")
    return listener


async def _visit(url: str, ca_file: Path | None, mark: str) -> None:
    """Be a visitor of the public URL, as a browser would be.

    Raises:
        UpstreamError: what came back is not what was sent.
    """
    # Names under localhost are this machine's (RFC 6761 section 6.3), but not every resolver knows.
    parts = urlsplit(url)
    context = ssl.create_default_context(cafile=ca_file)
    async with httpx.AsyncClient(
        base_url=f"https://127.0.0.1:{parts.port}",
        headers={"Host": parts.netloc},
        verify=context,
        trust_env=False,
        timeout=VISIT_SECONDS,
    ) as visitor:
        name = {"sni_hostname": parts.hostname}
        try:
            await _page(visitor, name, url, mark)
            await _echo(visitor, name)
            await _events(visitor, name)
        except httpx.HTTPError as error:
            raise UpstreamError(f"the visit to {url} failed: {type(error).__name__} {error}") from error


async def _page(visitor: httpx.AsyncClient, name: dict[str, str | None], url: str, mark: str) -> None:
    began = time.perf_counter()
    reply = await visitor.get("/", extensions=name)
    _compare("status of the page", reply.status_code, 200)
    _compare("mark on the page", mark in reply.text, True)
    _step("visitor", f"GET {url}/ -> {reply.status_code}, the app's page, {_since(began)}")


async def _echo(visitor: httpx.AsyncClient, name: dict[str, str | None]) -> None:
    body = os.urandom(ECHO_BYTES)
    began = time.perf_counter()
    reply = await visitor.post("/echo", content=body, extensions=name)
    _compare("status of the echo", reply.status_code, 200)
    sent, got = (hashlib.sha256(data).hexdigest() for data in (body, reply.content))
    _compare("SHA-256 of the echo", got, sent)
    _step(
        "visitor",
        f"POST of {size(ECHO_BYTES)} random bytes -> the same bytes, SHA-256 {sent[:12]}…, {_since(began)}",
    )


async def _events(visitor: httpx.AsyncClient, name: dict[str, str | None]) -> None:
    arrivals = []
    async with visitor.stream("GET", "/events", extensions=name) as reply:
        async for line in reply.aiter_lines():
            if line.startswith("data:"):
                arrivals.append(time.perf_counter())
    _compare("number of events", len(arrivals), EVENTS)
    apart = min(late - early for early, late in zip(arrivals, arrivals[1:], strict=False))
    _compare("events came one by one", apart > EVENT_SECONDS / 2, True)
    _step(
        "visitor",
        f"{EVENTS} server-sent events, each when the app sent it, {milliseconds(apart * 1000)} apart",
    )


def _compare(what: str, got: object, expected: object) -> None:
    if got != expected:
        raise UpstreamError(f"{what}: expected {expected!r}, got {got!r}")


def _since(began: float) -> str:
    return milliseconds((time.perf_counter() - began) * 1000)


def _step(who: str, what: str) -> None:
    tell(f"{who:<8} {what}")


def _detail(what: str) -> None:
    tell(f"{'':<8} {what}")
