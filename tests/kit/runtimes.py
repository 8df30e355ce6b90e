"""Sandboxes without processes: a runtime whose every call a test can hold up or have fail."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from wellhead.errors import HostConflict, HostError, HostNotFound
from wellhead.host.runtime.inward import connect_any
from wellhead.host.runtime.runtime import Running, SandboxSpec, Template, Usage
from wellhead.model.sandboxes import SandboxId
from wellhead.net.sockets import Address


@dataclass
class FakeRuntime:
    """``calls``: what was asked. ``fails``: what a call of that name raises; ``holds``: what it waits for."""

    state: Path
    name: str = "fake"
    calls: list[str] = field(default_factory=list)
    fails: dict[str, BaseException] = field(default_factory=dict)
    holds: dict[str, asyncio.Event] = field(default_factory=dict)
    there: dict[SandboxId, Running] = field(default_factory=dict)  # outlives a host that uses it
    dead: set[SandboxId] = field(default_factory=set)
    usages: dict[SandboxId, Usage] = field(default_factory=dict)
    asked: asyncio.Event = field(default_factory=asyncio.Event)  # a call that is held up has begun

    async def start(self) -> list[str]:
        await self._call("start")
        return ["sandboxes of this runtime are not there at all"]

    async def close(self) -> None:
        await self._call("close")

    async def recover(self, templates: Mapping[str, Template]) -> list[Running]:
        await self._call("recover")
        return list(self.there.values())

    async def create(self, spec: SandboxSpec) -> Running:
        await self._call("create")
        running = Running(spec, self.state / f"{spec.id}.sock", paused=False, address="10.12.0.1")
        self.there[spec.id] = running
        return running

    async def pause(self, sandbox: SandboxId) -> None:
        await self._call("pause")
        self.there[sandbox] = replace(self.there[sandbox], paused=True)

    async def resume(self, sandbox: SandboxId) -> None:
        await self._call("resume")
        self.there[sandbox] = replace(self.there[sandbox], paused=False)

    async def destroy(self, sandbox: SandboxId) -> None:
        await self._call("destroy")
        self.there.pop(sandbox, None)

    async def is_alive(self, sandbox: SandboxId) -> bool:
        return sandbox in self.there and sandbox not in self.dead

    async def usage(self, sandbox: SandboxId) -> Usage:
        if sandbox not in self.usages:
            raise HostError(f"sandbox {sandbox} cannot be measured")
        return self.usages[sandbox]

    async def connect_port(self, sandbox: SandboxId, port: int) -> socket.socket:
        """To that port of this machine, whichever sandbox it is."""
        await self._call("connect_port")
        return await connect_any([Address("127.0.0.1", port)])

    async def snapshot(self, sandbox: SandboxId, target: Path) -> None:
        await self._call("snapshot")
        _copy(target)

    async def _call(self, name: str) -> None:
        self.calls.append(name)
        if (hold := self.holds.get(name)) is not None:
            self.asked.set()
            await hold.wait()
        if (failure := self.fails.get(name)) is not None:
            raise failure


def _copy(target: Path) -> None:
    target.mkdir()
    (target / "file").write_bytes(bytes(5000))


class FakeTemplates:
    """Templates by name only: ``minimal`` at first."""

    def __init__(self, *names: str) -> None:
        self.kept = {name: Template(name) for name in names or ("minimal",)}

    def names(self) -> Sequence[str]:
        return sorted(self.kept)

    def get(self, name: str) -> Template:
        if name not in self.kept:
            raise HostNotFound(f"there is no template {name}")
        return self.kept[name]

    def add_snapshot(self, name: str, layer: Path, base: Template) -> Template:
        if name in self.kept:
            raise HostConflict(f"there is a template {name} already")
        self.kept[name] = replace(base, name=name)
        return self.kept[name]

    def remove(self, name: str) -> None:
        self.get(name)
        del self.kept[name]
