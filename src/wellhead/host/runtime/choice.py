"""Which runtime a machine has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from wellhead.errors import HostError
from wellhead.host.runtime.process import ProcessRuntime
from wellhead.host.runtime.runtime import Runtime
from wellhead.logs import Log
from wellhead.settings.host import HostSettings

_log = Log("wellhead.host")


def runtime_name(settings: HostSettings) -> str:
    """The one that these settings choose here."""
    return "process" if settings.host_runtime == "auto" else settings.host_runtime


@asynccontextmanager
async def started(settings: HostSettings, state: Path) -> AsyncIterator[Runtime]:
    """That runtime, ready to create.

    Raises:
        HostError: it cannot be used on this machine.
    """
    if runtime_name(settings) != "process":
        raise HostError(f"runtime {settings.host_runtime} cannot be used on this machine")
    runtime: Runtime = ProcessRuntime(state)
    for sentence in await runtime.start():
        _log.warning("runtime", name=runtime.name, says=sentence)
    try:
        yield runtime
    finally:
        await runtime.close()
