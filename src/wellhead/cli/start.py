"""``wellhead start``: every tunnel of a file, each on its own; the file may change while they run.

::

    the file -> which are new, changed, gone -> a worker per tunnel -> connect, tell, forward
                                                     |
                      fails for now: again after a pause; fails for good: says so, the others go on
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from wellhead import logs
from wellhead.agent import TunnelListener, connect_async
from wellhead.cli.attending import StateLines
from wellhead.cli.exchange_lines import ExchangeLines
from wellhead.cli.http import probe
from wellhead.cli.output import tell, wants_colour
from wellhead.cli.progress import progress
from wellhead.cli.start_plan import Wanted, read_plan
from wellhead.errors import LinkError, Retry, SettingsError, StateError, WellheadError
from wellhead.lines import LineWriter
from wellhead.net import loop
from wellhead.net.backoff import Backoff
from wellhead.net.upstream_address import UpstreamAddress

GLANCE_SECONDS = 0.5  # between two looks at the file
_COLOURS = ("\x1b[36m", "\x1b[35m", "\x1b[34m", "\x1b[33m", "\x1b[32m")
_RESET = "\x1b[0m"


@dataclass(frozen=True, slots=True)
class StartOptions:
    """The command line of ``wellhead start``, not yet checked."""

    file: Path
    check: bool
    url: str | None
    api_key: str | None
    ca_file: Path | None
    quiet: bool = False  # no line per request


def run_start(options: StartOptions) -> None:
    """Forward until a signal; with ``check`` only say whether the file is good.

    Raises:
        SettingsError: the file is not.
        WellheadError: no tunnel is left that could be tried again; why the last one was given up.
    """
    try:
        plan = read_plan(options.file)
    except SettingsError as error:
        if not options.file.exists():
            error.add_note("a file with [tunnels.NAME] and forward_to = 8000 is enough to begin with")
        raise
    if options.check:
        where = ", ".join(f"{wanted.name} -> {wanted.upstream}" for wanted in plan.values())
        tell(f"{options.file} is valid: {where}")
        return
    logs.configure("error")  # what an agent has to say is told here in other words
    loop.run(_start(options, plan))


async def _start(options: StartOptions, plan: Mapping[str, Wanted]) -> None:
    running = asyncio.get_running_loop()
    stop = loop.stop_event(running)
    asked = asyncio.Event()
    running.add_signal_handler(signal.SIGHUP, asked.set)
    lines = LineWriter(sys.stdout)
    waiting = ExitStack()  # until the first line, which says more
    waiting.enter_context(progress("connecting"))

    def put(text: str) -> bool:
        waiting.close()
        return lines.put(text)

    fleet = Fleet(lambda wanted: Worker(wanted, options, put))
    watch = Watch(options.file)
    try:
        fleet.apply(plan)
        while not await _set_within(stop, GLANCE_SECONDS):
            if watch.changed() or asked.is_set():
                asked.clear()
                _reload(options.file, fleet, put)
            if (error := fleet.nothing_left()) is not None:
                raise error
    finally:
        waiting.close()
        await fleet.close()
        lines.close()


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


def _reload(path: Path, fleet: Fleet, put: Callable[[str], bool]) -> None:
    """Follow the file where it is good; where it is not, say why and go on as before."""
    try:
        put(f"{path} was read again: {fleet.apply(read_plan(path))}\n")
    except SettingsError as error:
        put("".join(f"error: {line}\n" for line in str(error).splitlines()))
        put(f"{path} is not followed until that is put right\n")


class Watch:
    """Tells that a file has changed, once it has kept still for two looks: an editor may write in pieces."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = self._seen = self._facts()

    def changed(self) -> bool:
        before, self._seen = self._seen, self._facts()
        if self._seen is None or self._seen != before or self._seen == self._known:
            return False
        self._known = self._seen
        return True

    def _facts(self) -> tuple[int, int, int] | None:
        try:
            facts = os.stat(self._path)
        except OSError:
            return None  # an editor may be putting a new one in its place
        return facts.st_ino, facts.st_mtime_ns, facts.st_size


class Worker:
    """One tunnel: connects, says how it does, forwards, until it is closed or given up."""

    def __init__(self, wanted: Wanted, options: StartOptions, put: Callable[[str], bool]) -> None:
        self.wanted = wanted
        self.error: WellheadError | None = None  # why it was given up
        self._options = options
        self._put = prefixed(put, wanted.name, colour=wants_colour())
        self._exchanges = ExchangeLines(self._put, colour=wants_colour())
        self._said = ""

    async def run(self, connected: Callable[[], None]) -> None:
        """``connected`` is called as soon as the tunnel is answered for, or has been given up."""
        try:
            listener, state = await self._open()
            self._exchanges.with_peer = listener.ends_tls
            try:
                connected()
                upstream = self.wanted.upstream
                state.opened(listener.public_urls, str(upstream), await self._probe(upstream))
                await listener.serve_forever()
            finally:
                await listener.aclose()
        except WellheadError as error:
            self.error = error
            self._say(f"given up: {error}")
        except Exception as error:  # a fault of ours in one tunnel is no reason to end the others
            self.error = StateError(f"tunnel {self.wanted.name} failed: {error!r}")
            self._say(f"given up: {error!r}")
        finally:
            connected()
            self._exchanges.flush()

    async def _open(self) -> tuple[TunnelListener, StateLines]:
        """
        Raises:
            WellheadError: trying again will not help.
        """
        backoff = Backoff()
        while True:
            state = StateLines(self._say)
            try:
                return await self._connect(state), state
            except WellheadError as error:
                if error.retry is Retry.NEVER:
                    raise
                pause = backoff.pause(error)
                self._say(f"no tunnel yet: {error}; trying again")
            await asyncio.sleep(pause)

    async def _probe(self, upstream: UpstreamAddress) -> LinkError | None:
        return await probe(upstream, self.wanted.upstream_ca_file, verify=self.wanted.verify_upstream)

    async def _connect(self, state: StateLines) -> TunnelListener:
        return await connect_async(
            self.wanted.forward_to,
            name=self.wanted.name,
            tls_mode=self.wanted.tls_mode,
            host_header=self.wanted.host_header,
            upstream_http=self.wanted.upstream_http,
            carrier=self.wanted.carrier,
            verify_upstream=self.wanted.verify_upstream,
            upstream_ca_file=self.wanted.upstream_ca_file,
            url=self._options.url,
            api_key=self._options.api_key,
            ca_file=self._options.ca_file,
            on_status=state.changed,
            on_request=None if self._options.quiet else self._exchanges.add,
            on_certificate=state.certificate,
            print_secret=False,  # a log is no place for it; the state file keeps it
        )

    def _say(self, text: str) -> None:
        self._exchanges.flush()  # what happened before is told before
        if text != self._said:  # the same news is no news
            self._said = text
            self._put(text + "\n")


def prefixed(put: Callable[[str], bool], name: str, *, colour: bool) -> Callable[[str], bool]:
    """``put`` for text whose every line begins with a tunnel's name."""
    mark = f"{name} | "
    if colour:
        mark = f"{_COLOURS[sum(name.encode()) % len(_COLOURS)]}{name} |{_RESET} "
    return lambda text: put("".join(mark + line for line in text.splitlines(keepends=True)))


class Hand(Protocol):
    """What a fleet needs of a worker."""

    @property
    def wanted(self) -> Wanted: ...
    @property
    def error(self) -> WellheadError | None: ...
    async def run(self, connected: Callable[[], None]) -> None: ...


class Fleet:
    """The workers that run, by the name of their tunnel."""

    def __init__(self, hire: Callable[[Wanted], Hand]) -> None:
        self._hire = hire
        self._workers: dict[str, tuple[Hand, asyncio.Task[None]]] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def apply(self, plan: Mapping[str, Wanted]) -> str:
        """Start what is new, replace what changed, end what is gone, touch nothing else; gives it in words.

        What changed is answered for by its new worker before the old one leaves. What had been given up is
        tried again.
        """
        news = {"new": 0, "changed": 0, "gone": 0, "as before": 0}
        for name in [name for name in self._workers if name not in plan]:
            self._end(self._workers.pop(name)[1])
            news["gone"] += 1
        for name, wanted in plan.items():
            before = self._workers.get(name)
            if before is not None and before[0].wanted == wanted and not before[1].done():
                news["as before"] += 1
                continue
            news["new" if before is None else "changed"] += 1
            self._workers[name] = self._begin(wanted, before[1] if before is not None else None)
        return ", ".join(f"{count} {what}" for what, count in news.items() if count)

    def nothing_left(self) -> WellheadError | None:
        """Why the last tunnel was given up, where none is left that runs."""
        if not self._workers or not all(task.done() for _, task in self._workers.values()):
            return None
        errors = [worker.error for worker, _ in self._workers.values() if worker.error is not None]
        return errors[-1] if errors else None

    async def close(self) -> None:
        """End them all, at the same time."""
        for _, task in self._workers.values():
            self._end(task)
        await asyncio.gather(*self._leaving, return_exceptions=True)

    def _begin(self, wanted: Wanted, before: asyncio.Task[None] | None) -> tuple[Hand, asyncio.Task[None]]:
        worker = self._hire(wanted)

        def connected() -> None:
            if before is not None:
                self._end(before)

        return worker, asyncio.create_task(worker.run(connected), name=f"tunnel {wanted.name}")

    def _end(self, task: asyncio.Task[None]) -> None:
        if task not in self._leaving and not task.done():
            task.cancel()
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
