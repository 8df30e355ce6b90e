"""Which runtime a machine has."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from wellhead.errors import HostError
from wellhead.host.runtime.process import ProcessRuntime
from wellhead.host.runtime.runtime import Runtime
from wellhead.host.runtime.terms import RuntimeTerms
from wellhead.logs import Log
from wellhead.settings.host import HostSettings

_log = Log("wellhead.host")


def runtime_name(settings: HostSettings) -> str:
    """The one that these settings choose here."""
    if settings.host_runtime != "auto":
        return settings.host_runtime
    return "namespace" if sys.platform == "linux" and os.geteuid() == 0 else "process"


@asynccontextmanager
async def started(settings: HostSettings, state: Path) -> AsyncIterator[Runtime]:
    """That runtime, ready to create; with ``auto`` the one without isolation where the other cannot be.

    Raises:
        HostError: it cannot be used on this machine.
    """
    runtime = _made(runtime_name(settings), settings, state)
    try:
        warnings = await runtime.start()
    except HostError as error:
        if settings.host_runtime != "auto" or runtime.name == "process":
            raise
        _log.warning("runtime cannot be used here", name=runtime.name, reason=error)
        runtime = _made("process", settings, state)
        warnings = await runtime.start()
    for sentence in warnings:
        _log.warning("runtime", name=runtime.name, says=sentence)
    try:
        yield runtime
    finally:
        await runtime.close()


def _made(name: str, settings: HostSettings, state: Path) -> Runtime:
    if name == "process":
        return ProcessRuntime(state)
    if sys.platform != "linux":
        raise HostError(f"runtime namespace needs Linux, this machine is {sys.platform}")
    # What it stands on is not there elsewhere.
    from wellhead.host.runtime.namespace import NamespaceRuntime

    terms = RuntimeTerms(
        egress=settings.host_egress,
        egress_private=settings.host_egress_private,
        network=settings.host_network,
        egress_bytes_per_second=settings.host_egress_bytes_per_second,
        egress_burst_bytes=settings.host_egress_burst_bytes,
    )
    return NamespaceRuntime(state, terms)
