"""A tunnel that a person watches: where it is, how its connection does, and a line per request."""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, Unpack

from wellhead.agent import Status, connect_async
from wellhead.agent.options import ForwardTo, ListenOptions
from wellhead.cli.exchange_lines import ExchangeLines
from wellhead.cli.hints import hints
from wellhead.cli.output import wants_colour
from wellhead.cli.progress import progress
from wellhead.errors import LinkError, TrustError, WellheadError
from wellhead.lines import LineWriter
from wellhead.net import loop

T = TypeVar("T")

Probe = Callable[[], Awaitable[LinkError | None]]


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """Which tunnel of which server, and how much to say of it; of a command line, not yet checked."""

    name: str | None = None
    tls_mode: str | None = None
    carrier: str = "auto"
    url: str | None = None
    api_key: str | None = None
    ca_file: Path | None = None
    quiet: bool = False


async def _nothing_to_complain_of() -> None:
    return None


def attend(
    forward_to: ForwardTo,
    shown: str,
    link: LinkOptions,
    probe: Probe = _nothing_to_complain_of,
    *,
    parent: int | None = None,
    **options: Unpack[ListenOptions],
) -> None:
    """Answer for the tunnel until a signal; ``shown`` is what its URLs lead to, for a person.

    ``probe`` tells what keeps requests from it. The end of the pipe ``parent`` is a signal too. ``options``
    are more of ``connect``'s.
    """
    with hints():
        loop.run(_attend(forward_to, shown, link, probe, parent, options))


async def _attend(
    forward_to: ForwardTo,
    shown: str,
    link: LinkOptions,
    probe: Probe,
    parent: int | None,
    options: ListenOptions,
) -> None:
    running = asyncio.get_running_loop()
    stop = loop.stop_event(running)
    if parent is not None:
        running.add_reader(parent, _left, running, parent, stop)
    lines = LineWriter(sys.stdout)
    exchanges = ExchangeLines(lines.put, colour=wants_colour())

    def say(text: str) -> None:
        exchanges.flush()  # what happened before is told before
        lines.put(text + "\n")

    state = StateLines(say, quiet=link.quiet)
    options["name"] = link.name
    options["tls_mode"] = link.tls_mode
    options["carrier"] = link.carrier
    options["on_status"] = state.changed
    options["on_request"] = None if link.quiet else exchanges.add
    options["on_certificate"] = state.certificate
    try:
        opening = asyncio.gather(
            connect_async(forward_to, url=link.url, api_key=link.api_key, ca_file=link.ca_file, **options),
            probe(),
        )
        with progress("connecting"):
            opened = await _unless(stop, opening)
        if opened is None:
            return
        listener, complaint = opened
        exchanges.with_peer = listener.ends_tls
        state.opened(listener.public_urls, shown, complaint)
        try:
            await _unless(stop, listener.serve_forever())
        finally:
            await listener.aclose()
    finally:
        exchanges.flush()
        lines.close()


def _left(running: asyncio.AbstractEventLoop, parent: int, stop: asyncio.Event) -> None:
    running.remove_reader(parent)
    stop.set()


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


class StateLines:
    """Tells where the tunnel is and, unless it is to be ``quiet``, how its connection does."""

    def __init__(self, say: Callable[[str], None], *, quiet: bool = False) -> None:
        self._say = say
        self._quiet = quiet
        self._early: list[tuple[Status, WellheadError | None]] = []
        self._open = False
        self._last = ""

    def opened(self, urls: Sequence[str], shown: str, complaint: LinkError | None = None) -> None:
        """The public ``urls`` of what is ``shown``, then what was heard before they were known."""
        if self._quiet:
            self._say("\n".join(urls))
            return
        self._say("\n".join(f"{url} -> {shown}" for url in urls))
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
