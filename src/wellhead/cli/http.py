"""``wellhead http``: a local app on a public hostname, and a line per request."""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from wellhead import logs
from wellhead.agent import Exchange, Status, TunnelListener, connect_async
from wellhead.agent.carriers import alpn_of
from wellhead.cli.exchange_lines import ExchangeLines
from wellhead.cli.hints import hints
from wellhead.cli.output import wants_colour
from wellhead.cli.progress import progress
from wellhead.errors import InputError, LinkError, TrustError, WellheadError
from wellhead.lines import LineWriter
from wellhead.net import loop
from wellhead.net.upstream_address import UpstreamAddress, parse_upstream
from wellhead.net.upstream_dial import connect as dial
from wellhead.net.upstream_dial import upstream_contexts
from wellhead.wire.headers import HostPolicy

PROBE_SECONDS = 2.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """The command line of ``wellhead http``, not yet checked."""

    upstream: str
    name: str | None
    tls_mode: str | None
    host_header: str
    upstream_http: str
    upstream_ca_file: Path | None
    verify_upstream: bool
    carrier: str
    url: str | None
    api_key: str | None
    ca_file: Path | None
    quiet: bool = False


def run_http(options: HttpOptions) -> None:
    """Forward until a signal."""
    upstream = parse_upstream(options.upstream, options.upstream_http)
    HostPolicy(options.host_header, upstream)  # a wrong one is told before anything is dialled
    alpn_of(options.carrier)
    if not upstream.tls and (options.upstream_ca_file is not None or not options.verify_upstream):
        raise InputError(
            f"upstream {upstream} has no certificate to verify: write https://… where it has one"
        )
    logs.configure("error")  # what an agent has to say is told here in other words
    with hints():
        loop.run(_forward(options, upstream))


async def _forward(options: HttpOptions, upstream: UpstreamAddress) -> None:
    stop = loop.stop_event(asyncio.get_running_loop())
    lines = LineWriter(sys.stdout)
    exchanges = ExchangeLines(lines.put, colour=wants_colour())

    def say(text: str) -> None:
        exchanges.flush()  # what happened before is told before
        lines.put(text + "\n")

    state = StateLines(say, quiet=options.quiet)
    try:
        on_request = None if options.quiet else exchanges.add
        opening = asyncio.gather(
            _connect(options, state, on_request),
            probe(upstream, options.upstream_ca_file, verify=options.verify_upstream),
        )
        with progress("connecting"):
            opened = await _unless(stop, opening)
        if opened is None:
            return
        listener, complaint = opened
        exchanges.with_peer = listener.ends_tls
        state.opened(listener.public_urls, upstream, complaint)
        try:
            await _unless(stop, listener.serve_forever())
        finally:
            await listener.aclose()
    finally:
        exchanges.flush()
        lines.close()


async def _connect(
    options: HttpOptions, state: StateLines, on_request: Callable[[Exchange], None] | None
) -> TunnelListener:
    return await connect_async(
        options.upstream,
        name=options.name,
        tls_mode=options.tls_mode,
        url=options.url,
        api_key=options.api_key,
        ca_file=options.ca_file,
        host_header=options.host_header,
        upstream_http=options.upstream_http,
        carrier=options.carrier,
        verify_upstream=options.verify_upstream,
        upstream_ca_file=options.upstream_ca_file,
        on_status=state.changed,
        on_request=on_request,
        on_certificate=state.certificate,
    )


class StateLines:
    """Tells where the tunnel is and, unless it is to be ``quiet``, how its connection does."""

    def __init__(self, say: Callable[[str], None], *, quiet: bool = False) -> None:
        self._say = say
        self._quiet = quiet
        self._early: list[tuple[Status, WellheadError | None]] = []
        self._open = False
        self._last = ""

    def opened(self, urls: Sequence[str], upstream: UpstreamAddress, complaint: LinkError | None) -> None:
        """The public ``urls``, then what was heard before they were known."""
        if self._quiet:
            self._say("\n".join(urls))
            return
        self._say("\n".join(f"{url} -> {upstream}" for url in urls))
        if complaint is not None:
            self._say(complaint_line(complaint))
        self._open = True
        for status, error in self._early:
            self.changed(status, error)

    def changed(self, status: Status, error: WellheadError | None) -> None:
        if self._quiet:
            return
        if not self._open:
            self._early.append((status, error))
        elif line := state_line(status, error):
            self._news(line)

    def certificate(self, ends: dt.datetime, error: Exception | None) -> None:
        """A passthrough tunnel's certificate was renewed, or was not."""
        if not self._quiet:
            self._news(certificate_line(ends, error))

    def _news(self, line: str) -> None:
        if line != self._last:
            self._last = line  # every failed dial is heard of: the same news is no news
            self._say(line)


def certificate_line(ends: dt.datetime, error: Exception | None) -> str:
    """A line for a renewal, or for one that failed."""
    until = f"{ends:%Y-%m-%d %H:%M} UTC"
    if error is None:
        return f"certificate renewed, good until {until}"
    return f"certificate not renewed: {error}; the one in use ends on {until}; trying again"


def complaint_line(complaint: LinkError) -> str:
    """What keeps requests from the upstream, and what to do about it."""
    if isinstance(complaint, TrustError):
        remedy = "give its CA (upstream-ca-file), or do not verify it"
        return f"the upstream is not trusted ({complaint}); visitors get 502: {remedy}"
    return f"the upstream does not answer yet ({complaint}); visitors get 502 until it does"


def state_line(status: Status, error: WellheadError | None) -> str | None:
    """A line for a change of the connection; None where there is nothing that a person must know."""
    why = f": {error}" if error is not None else ""
    match status:
        case Status.CONNECTED:
            return "connected"
        case Status.RECONNECTING:
            return f"no connection{why}; trying again"
        case Status.DRAINING:
            return f"the server is leaving{why}; moving to a new connection"
        case Status.SUPERSEDED:
            return "another agent answers for the tunnel now"
        case Status.CONNECTING | Status.CLOSED:
            return None


async def probe(
    upstream: UpstreamAddress, ca_file: Path | None = None, *, verify: bool = True
) -> LinkError | None:
    """Why no request would get through to the upstream; None where it would.

    Raises:
        SettingsError: the CA file cannot be read.
    """
    contexts = upstream_contexts(upstream, ca_file=ca_file, verify=verify)
    try:
        transport = await dial(asyncio.Protocol, upstream, contexts.http2 or contexts.http1, PROBE_SECONDS)
    except LinkError as error:
        return error
    transport.close()
    return None


async def _unless(stop: asyncio.Event, work: Awaitable[T]) -> T | None:
    """What ``work`` gives; None where ``stop`` came first, and then ``work`` is cancelled."""
    doing = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return await doing if doing.done() else None
    finally:
        for task in (doing, stopping):
            task.cancel()
        await asyncio.gather(doing, stopping, return_exceptions=True)
