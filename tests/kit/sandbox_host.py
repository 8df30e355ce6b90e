"""A runtime of namespaces for tests: its own network and state, and nothing left afterwards. For root."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.kit.host_network import in_host_network
from tests.kit.sandbox_root import least_template
from wellhead.errors import HostError
from wellhead.host.cgroups import Cgroups, Hierarchies
from wellhead.host.runtime.kept import KeptSandboxes
from wellhead.host.runtime.namespace import NamespaceRuntime
from wellhead.host.runtime.runtime import Running, SandboxSpec, Template
from wellhead.host.runtime.terms import RuntimeTerms
from wellhead.model.sandboxes import SandboxId, new_sandbox_id

_GONE_SECONDS = 10.0


@functools.cache
def _why_not() -> str:
    if os.geteuid() != 0:
        return "needs root"
    if shutil.which("nft") is None or shutil.which("ip") is None:
        return "needs nft and ip"
    done = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "true"], capture_output=True, check=False
    )
    try:
        Cgroups(Hierarchies.found(Path("/proc/self/mountinfo").read_text())).start()
    except HostError as error:
        return str(error)
    if done.returncode != 0:
        return "needs root that may make namespaces"
    return ""


needs_namespaces = pytest.mark.skipif(bool(_why_not()), reason=f"sandboxes of namespaces: {_why_not()}")


@dataclass
class SandboxHost:
    state: Path
    template: Template
    runtime: NamespaceRuntime
    network: str  # for nsenter --net=/run/netns/...
    told: list[str]
    ids: list[SandboxId] = field(default_factory=list)

    @property
    def kept(self) -> KeptSandboxes:
        return KeptSandboxes(self.state)

    async def create(
        self, template: Template | None = None, vcpus: float = 1.0, memory_mb: int = 256, disk_mb: int = 64,
        pids_max: int = 256,
    ) -> Running:  # fmt: skip
        spec = SandboxSpec(
            new_sandbox_id(), template or self.template, vcpus=vcpus, memory_mb=memory_mb, disk_mb=disk_mb,
            pids_max=pids_max,
        )  # fmt: skip
        self.ids.append(spec.id)
        return await self.runtime.create(spec)

    def need_limit(self, what: str) -> None:
        """Skip the test where this machine cannot bound ``memory``, ``cpu``, ``pids`` or ``disk``."""
        for sentence in self.told:
            if f"no {what} controller" in sentence or (what == "disk" and "disks of sandboxes" in sentence):
                pytest.skip(sentence)

    def beside(self) -> SandboxHost:
        """Another host in the same network, with a state of its own; not started, and not looked after."""
        state = self.state.with_name("beside")
        return dataclasses.replace(self, state=state, runtime=NamespaceRuntime(state), ids=[])

    async def restart(self) -> list[Running]:
        """Another host program on the same state, as after a crash: the old one is told nothing."""
        self.runtime = NamespaceRuntime(self.state, RuntimeTerms())
        await self.runtime.start()
        return await self.runtime.recover({})


@contextlib.asynccontextmanager
async def sandbox_host(terms: RuntimeTerms | None = None) -> AsyncIterator[SandboxHost]:
    """Everything that was made on it is destroyed at the end, and looked for."""
    # Not pytest's directory, whose name may be too long for a socket.
    place = Path(tempfile.mkdtemp(prefix="wh-"))
    try:
        with in_host_network() as network, ThreadPoolExecutor() as threads:
            # Threads stay in the network namespace that they begin in, so they are to begin in this one.
            asyncio.get_running_loop().set_default_executor(threads)
            runtime = NamespaceRuntime(place / "state", terms)
            told = await runtime.start()
            host = SandboxHost(place / "state", least_template(place / "layer"), runtime, network, told)
            try:
                yield host
            finally:
                for sandbox in host.ids:
                    await host.runtime.destroy(sandbox)
                await runtime.close()
                await host.runtime.close()
                asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
        await asyncio.to_thread(_check_gone, host)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def free_all(state: Path) -> None:
    """End whatever a host's program left in ``state``, in this thread's network."""

    async def free() -> None:
        runtime = NamespaceRuntime(state)
        await runtime.start()
        for running in await runtime.recover({}):
            await runtime.destroy(running.spec.id)
        await runtime.close()

    asyncio.run(free())


def _check_gone(host: SandboxHost) -> None:
    end = time.monotonic() + _GONE_SECONDS
    while left := list(_left(host)):
        assert time.monotonic() < end, f"left behind: {left}"
        time.sleep(0.01)  # the kernel lets go of a dead sandbox's mounts on its own time


def _left(host: SandboxHost) -> Iterator[str]:
    """What there still is of a host's sandboxes: mounts, loop devices, control groups, processes,
    directories.
    """
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if str(host.state) in line:
            yield line
    for device in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if str(host.state) in device.read_text():
                yield str(device)
    found = Hierarchies.found(Path("/proc/self/mountinfo").read_text())
    for tree in {found.unified, *found.of.values()} - {None}:
        assert tree is not None
        yield from (str(tree / "wellhead" / each) for each in host.ids if (tree / "wellhead" / each).exists())
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = process.read_bytes().decode("utf-8", "replace")
            if any(each in line for each in [str(host.state), *host.ids]):
                yield f"{process} {line}"
    yield from (str(each) for each in (host.state / "sandboxes").glob("*"))


def with_layers(template: Template, *layers: Path) -> Template:
    """The same template with other layers, the topmost first."""
    return dataclasses.replace(template, layers=layers)
