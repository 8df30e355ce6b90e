"""A host's program from its settings: ``join``, ``run``, ``status`` and ``leave``, as commands call them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wellhead import private
from wellhead.errors import LocalStateError
from wellhead.host.api.context import ApiTerms
from wellhead.host.app import DRAIN_SECONDS, Facts, HostProgram, HostTerms
from wellhead.host.capacity import Bounds, Capacity
from wellhead.host.join import JoinOptions, join
from wellhead.host.membership import Membership, alone
from wellhead.host.port_terms import PortTerms
from wellhead.host.runtime.choice import runtime_name, started
from wellhead.host.runtime.runtime import Runtime
from wellhead.host.template_build import ensure
from wellhead.host.templates import Templates
from wellhead.logs import Log
from wellhead.model.sandboxes import Lane
from wellhead.net import loop
from wellhead.settings import home
from wellhead.settings.host import HostSettings

_log = Log("wellhead.host")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """``state``: the host's directory. ``destroy_at_end`` and ``lanes``: as in ``HostTerms``."""

    settings: HostSettings
    state: Path
    drain_seconds: float = DRAIN_SECONDS
    destroy_at_end: bool = False
    lanes: tuple[Lane, ...] = tuple(Lane)


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What this machine is to a server. ``runs``: a program of it is there now."""

    membership: Membership
    runs: bool


def default_state() -> Path:
    """Where a host keeps what it has: ``$WELLHEAD_HOME/host``."""
    return home() / "host"


def run_join(options: JoinOptions, settings: HostSettings) -> Membership:
    """Make this machine a host.

    Raises:
        SettingsError, LocalStateError, ApiError, LinkError: see ``join``.
    """
    return loop.run(join_with(options, settings))


async def join_with(options: JoinOptions, settings: HostSettings) -> Membership:
    """As ``run_join``, in the running loop."""
    capacity = await asyncio.to_thread(_capacity, settings, options.state)
    return await join(options, runtime_name(settings), capacity)


def run(options: RunOptions, ready: Callable[[Facts], None]) -> None:
    """Be the host until SIGTERM or SIGINT. ``ready`` is called once, in the loop, when it is online.

    Raises:
        SettingsError: this machine is no host.
        LocalStateError: another program runs it, or its directory is unsafe.
        HostRemoved: it was deleted at its server; its sandboxes are ended.
        RefusedError, TrustError: its server does not let it in, or is not who it should be.
        HostError: this machine cannot run sandboxes.
    """
    loop.raise_file_limit()
    loop.run(_run(options, ready))


async def _run(options: RunOptions, ready: Callable[[Facts], None]) -> None:
    await serve(options, loop.stop_event(asyncio.get_running_loop()), ready)


async def serve(options: RunOptions, stop: asyncio.Event, ready: Callable[[Facts], None]) -> None:
    """As ``run``, in the running loop, until ``stop``."""
    membership = await asyncio.to_thread(Membership.need, options.state)
    with alone(options.state):
        async with started(options.settings, options.state) as runtime:
            templates = Templates(options.state, runtime.name)
            for sentence in await asyncio.to_thread(ensure, templates):
                _log.warning("template missing", says=sentence)
            await _program(options, membership, runtime, templates).run(stop, ready)


def status(state: Path) -> HostFacts | None:
    """None where this machine is no host.

    Raises:
        LocalStateError: its directory is unsafe, or damaged.
    """
    membership = Membership.load(state)
    if membership is None:
        return None
    try:
        with alone(state):
            return HostFacts(membership, runs=False)
    except LocalStateError:
        return HostFacts(membership, runs=True)


def leave(state: Path, settings: HostSettings) -> int:
    """End every sandbox of this machine and forget that it is a host; gives how many they were.

    The server's record of it stays, offline, until somebody deletes that.

    Raises:
        SettingsError: it is no host.
        LocalStateError: its program runs still.
        HostError: a sandbox cannot be ended.
    """
    return loop.run(leave_with(state, settings))


async def leave_with(state: Path, settings: HostSettings) -> int:
    """As ``leave``, in the running loop."""
    membership = await asyncio.to_thread(Membership.need, state)
    options = RunOptions(settings, state)
    with alone(state):
        async with started(settings, state) as runtime:
            return await _program(options, membership, runtime, Templates(state, runtime.name)).leave()


def _program(
    options: RunOptions, membership: Membership, runtime: Runtime, templates: Templates
) -> HostProgram:
    given = options.settings
    terms = HostTerms(
        _capacity(given, options.state),
        Bounds(given.host_max_vcpus, given.host_max_memory_mb, given.host_max_disk_mb, given.host_pids_max),
        ApiTerms(
            upload_bytes=given.host_upload_bytes, stream_upload_bytes=given.host_stream_upload_bytes,
            output_bytes=given.host_exec_output_bytes,
            outputs_bytes=given.host_exec_outputs_bytes,
        ),
        given.host_report_seconds, options.drain_seconds, options.destroy_at_end,
        ports=PortTerms(
            retry_seconds=given.host_port_retry_seconds, dial_seconds=given.host_port_dial_seconds,
            reply_seconds=given.host_port_reply_seconds, idle_seconds=given.host_port_idle_seconds,
            connections=given.host_port_connections, host_header=given.host_port_host_header,
        ),
        lanes=options.lanes,
    )  # fmt: skip
    return HostProgram(membership, options.state, runtime, templates, terms)


def _capacity(settings: HostSettings, state: Path) -> Capacity:
    private.make_directory(state)
    return Capacity.of_machine(state, settings.host_memory_mb, settings.host_max_sandboxes)
